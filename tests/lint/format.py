#!/usr/bin/env python3
"""Every C++ file of ours is formatted by clang-format 14 (Debian 12's) with .clang-format."""
import pathlib
import shutil
import subprocess
import sys

TOPS = ("process", "modelfile", "kernels", "shard", "router", "launcher", "tests", "bench")


def main():
    root = pathlib.Path(sys.argv[1])
    files = [f for top in TOPS for f in sorted((root / top).rglob("*"))
             if f.suffix in (".h", ".cc", ".cu", ".cuh")]
    program = shutil.which("clang-format-14") or shutil.which("clang-format")
    if program is None:
        print("clang-format is missing: run `make setup`")
        return 1
    fix = "--fix" in sys.argv
    mode = ["-i"] if fix else ["--dry-run", "--Werror"]
    result = subprocess.run([program, *mode, *map(str, files)], cwd=root, capture_output=True,
                            text=True)
    print(result.stderr[-6000:] or f"format: {len(files)} files, no finding")
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
