#!/usr/bin/env python3
"""Who may include whom. Reads every #include "..." line against the table below.

The table is docs/contributing.md's, and the only place where an exception can be made: each
program's main.cc, where the objects meet, may include across its whole program.
"""
import pathlib
import re
import sys

ALLOWED = {
    "process": [],
    "modelfile": [],
    "kernels": [],
    "kernels/reference": ["kernels"],
    "kernels/cpu": ["kernels"],
    "kernels/cuda": ["kernels", "kernels/emulate"],
    "kernels/emulate": ["kernels", "kernels/cuda"],
    "shard/comm": ["kernels"],
    "shard/weights": ["modelfile", "kernels"],
    "shard/models": ["shard/weights", "shard/comm", "modelfile", "kernels"],
    "shard/step": ["shard/models", "shard/weights", "shard/comm", "kernels"],
    "shard/service": ["shard/step", "shard/models", "shard/comm", "process", "proto"],
    "router/text": ["modelfile"],
    "router/text_commands": ["router/text", "modelfile", "process"],
    "router/shards": ["proto", "process"],
    "router/engine": ["router/shards/link.h", "process"],
    "router/api": ["router/text", "router/engine", "router/shards/link.h", "modelfile", "process"],
    "router/http": ["router/api", "process"],
    "launcher": ["process", "modelfile"],
}
TOPS = {path.split("/")[0] for path in ALLOWED} | {"proto"}
# System headers that belong to one layer (DESIGN.md: protobuf is seen by the two service folders,
# a test or benchmark can run a model without gRPC or Boost).
LIMITED = {
    r"grpc|google/protobuf": ["router/shards", "shard/service"],
    r"boost/": ["router"],
    r"CLI/": ["process"],
    r"curl/": ["launcher/hub"],
    r"spdlog/": ["process"],
    r"nlohmann/": ["modelfile", "router", "launcher", "tests", "bench"],
    r"prometheus/": ["router/api"],
    r"openssl/": ["router", "launcher/hub"],
}


def folder_of(path):
    parts = path.split("/")[:-1]
    while parts:
        if "/".join(parts) in ALLOWED:
            return "/".join(parts)
        parts.pop()
    return None


def check(root, file):
    path = file.relative_to(root).as_posix()
    folder = folder_of(path)
    if folder is None or file.name == "main.cc":
        return
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if quoted := re.match(r'\s*#\s*include\s+"([^"]+)"', line):
            target = quoted[1]
            if target.split("/")[0] not in TOPS:
                yield f"{path}:{number}: {target}: includes are rooted at the repository"
                continue
            home = "proto" if target.startswith("proto/") else folder_of(target)
            own = home == folder
            if not own and home not in ALLOWED[folder] and target not in ALLOWED[folder]:
                yield f"{path}:{number}: {folder}/ may not include {target}"
        elif angled := re.match(r"\s*#\s*include\s+<([^>]+)>", line):
            for pattern, homes in LIMITED.items():
                if re.match(pattern, angled[1]) and not any(path.startswith(h) for h in homes):
                    yield f"{path}:{number}: <{angled[1]}> belongs to {', '.join(homes)}"


def main():
    root = pathlib.Path(sys.argv[1])
    files = [f for top in sorted(TOPS) for f in sorted((root / top).rglob("*"))
             if f.suffix in (".h", ".cc", ".cu", ".cuh")]
    findings = [finding for file in files for finding in check(root, file)]
    print("\n".join(findings) or f"includes: {len(files)} files, no finding")
    return 1 if findings or not files else 0


if __name__ == "__main__":
    sys.exit(main())
