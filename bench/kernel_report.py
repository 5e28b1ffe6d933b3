#!/usr/bin/env python3
"""One line per kernel and architecture, from its machine code: what it takes and how it reads.

    kernel_report.py --tables tests/kernels LIBRARY.a...            writes kernel_table_<arch>.txt
    kernel_report.py --tables tests/kernels --check LIBRARY.a...    fails where a table has changed

Fails too where a kernel has a stack or touches local memory (it spills, or indexes registers), and
where one never waits for its predecessor, which every kernel that is launched by launch() must.

The columns count instructions as they stand, not how often they run:
  LDL+STL   local memory: spills           LDG.16 / LDG   loads of 16 bytes / of fewer
  LDGSTS    cp.async                       TMA            tensor and bulk copies
  LDS       from shared memory             STG.16 / STG   stores of 16 bytes / of fewer
  HMMA, IMMA, HGMMA                        mma.sync, its integer kind, wgmma
  BAR, ATOM barriers, atomics              WAIT, EARLY    for the predecessor; lets the next start

cuobjdump and nvdisasm are looked for in PATH and in .venv-kernel-table (`make kernel-table`).
"""
import argparse
import collections
import concurrent.futures
import difflib
import glob
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS = [
    "regs", "stack", "shared", "LDL+STL", "LDG.16", "LDG", "LDGSTS", "TMA", "LDS", "STG.16", "STG", "HMMA", "IMMA",
    "HGMMA", "BAR", "ATOM", "WAIT", "EARLY",
]
OPCODES = {
    "LDL": "LDL+STL", "STL": "LDL+STL", "LDGSTS": "LDGSTS", "UTMALDG": "TMA", "UTMASTG": "TMA", "UBLKCP": "TMA",
    "LDS": "LDS", "LDSM": "LDS", "HMMA": "HMMA", "QMMA": "HMMA", "IMMA": "IMMA", "HGMMA": "HGMMA", "BAR": "BAR",
    "ATOM": "ATOM", "ATOMG": "ATOM", "ATOMS": "ATOM", "RED": "ATOM", "REDG": "ATOM", "ACQBULK": "WAIT",
    "PREEXIT": "EARLY",
}
NOT_LAUNCHED = {"is_built_kernel"}  # only asked for its image


def find_tool(name):
    places = glob.glob(str(ROOT / ".venv-kernel-table/lib/python3*/site-packages/nvidia/*/bin" / name))
    return shutil.which(name) or (places[0] if places else None)


def output_of(*command, folder=None):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout


def short_names(mangled):
    """kernel<arguments> by mangled name, without namespaces and parameters."""
    plain = subprocess.run(["c++filt"], input="\n".join(mangled), check=True, capture_output=True, text=True).stdout
    names = {}
    for before, name in zip(mangled, plain.splitlines()):
        name = re.sub(r"\(anonymous namespace\)::|\b_GLOBAL__N__\w+::|\([\w:]+\)(?=\d)|^void ", "", name)
        name = re.sub(r"\b(?:\w+::)+", "", name)
        names[before] = re.sub(r"\(.*", "", name).replace(", ", ",")
    return names


def resources(text, rows):
    kernel = None
    for line in text.splitlines():
        if match := re.match(r"\s*Function (\w+):", line):
            kernel = rows.setdefault(match[1], collections.Counter())
        elif match := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            kernel["regs"], kernel["stack"] = int(match[1]), int(match[2]) + int(match[4])
            kernel["shared"] = int(match[3])


def count_instructions(text, rows):
    kernel = None
    for line in text.splitlines():
        if match := re.match(r"\s*\.section\s+\.text\.(\w+)", line):
            kernel = rows.get(match[1])
            continue
        # "@!PT" never executes: ptxas pads LDGSTS with such loads.
        match = re.search(r"/\*[0-9a-f]{4,}\*/\s+(@!PT\s)?(?:@!?U?P\d\s+)?([A-Z0-9_.]+)", line)
        if kernel is None or not match or match[1]:
            continue
        base = match[2].split(".")[0]
        if base in ("LDG", "STG"):
            kernel[base + ".16" if ".128" in match[2] else base] += 1
        elif base in OPCODES:
            kernel[OPCODES[base]] += 1


def read_cubin(cubin, cuobjdump, nvdisasm):
    """(architecture, {(source, kernel): counts})"""
    source, arch = re.fullmatch(r"(.+?)(?:\.\d+)?\.sm_(\w+)\.cubin", cubin.name).groups()
    rows = {}
    resources(output_of(cuobjdump, "-res-usage", str(cubin)), rows)
    if rows:
        count_instructions(output_of(nvdisasm, "-c", str(cubin)), rows)
    names = short_names(list(rows))
    return arch, {(source, names[mangled]): row for mangled, row in rows.items()}


def read_libraries(libraries, cuobjdump, nvdisasm):
    """{architecture: {(source, kernel): counts}}"""
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        for library in libraries:
            output_of("ar", "x", str(library.resolve()), folder=folder)
        for member in sorted(pathlib.Path(folder).glob("*.o")):
            if b".nv_fatbin" in member.read_bytes():
                output_of(cuobjdump, "-xelf", "all", member.name, folder=folder)
        cubins = sorted(pathlib.Path(folder).glob("*.cubin"))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:  # the tools take most of the time
            for arch, table in pool.map(lambda cubin: read_cubin(cubin, cuobjdump, nvdisasm), cubins):
                tables.setdefault(arch, {}).update(table)
    return tables


def as_text(compiler, arch, table):
    width = max(len(name) for _, name in table)
    lines = [f"{compiler}, sm_{arch}: by bench/kernel_report.py, which says what the columns are"]
    lines.append("  ".join(["".ljust(width)] + [column.rjust(max(4, len(column))) for column in COLUMNS]))
    before = None
    for (source, name), row in sorted(table.items()):
        if source != before:
            lines.append(source)
        before = source
        lines.append("  ".join([name.ljust(width)] + [str(row[c]).rjust(max(4, len(c))) for c in COLUMNS]))
    return "\n".join(lines) + "\n"


def faults(arch, table):
    for (source, name), row in sorted(table.items()):
        if row["stack"] or row["LDL+STL"]:
            yield f"{source}: {name} uses local memory on sm_{arch}: {row['stack']} bytes, {row['LDL+STL']} accesses"
        if arch != "80" and not row["WAIT"] and name not in NOT_LAUNCHED:
            yield f"{source}: {name} never waits for its predecessor on sm_{arch}"


def changes(path, text):
    if not path.exists():
        print(f"{path.name} is not there: not compared; `make kernel-table` writes it")
        return []
    committed = path.read_text()
    if committed.split(",")[0] != text.split(",")[0]:
        print(f"{path.name} was made by another compiler ({committed.split(',')[0]}): not compared")
        return []
    difference = difflib.unified_diff(committed.splitlines(), text.splitlines(), path.name, "now", n=0, lineterm="")
    return list(difference)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", nargs="+", type=pathlib.Path)
    parser.add_argument("--tables", required=True, type=pathlib.Path)
    parser.add_argument("--compiler", default="nvcc", help="what made the libraries: 'nvcc 13.0.88'")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()

    tools = [find_tool(name) for name in ("cuobjdump", "nvdisasm")]
    if None in tools:
        print("chorus-skip: no cuobjdump and nvdisasm; `make kernel-table` fetches them")
        return 0
    found = []
    for arch, table in read_libraries(arguments.libraries, *tools).items():
        if not table:
            continue
        text = as_text(arguments.compiler, arch, table)
        path = arguments.tables / f"kernel_table_{arch}.txt"
        found += faults(arch, table)
        if arguments.check:
            found += changes(path, text)
        else:
            path.write_text(text)
        print(f"sm_{arch}: {len(table)} kernels")
    if not found:
        return 0
    print("\n".join(found[:60]))
    if arguments.check:
        print("Where the change is meant: `make kernel-table`, and commit the tables.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
