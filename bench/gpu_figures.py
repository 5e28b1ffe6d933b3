#!/usr/bin/env python3
"""What bench/gpu_check ends with: the share of the hardware's peak, and what has become slower.

    bench/gpu_figures.py FILE.jsonl [--from LINE]

The lines from LINE (0) on are one run's. Each that has GB/s or TFLOPS is given `of_peak`, its share
of what the same run measured: of the read ceiling, or of the fastest product of bf16 matrices,
whoever computed it; a run that did not measure the one has no shares of it. Prints the ten worst
shares of our own kernels, and every figure that takes over 3 % longer than in the file of
bench/results/ that is of the same kind of GPU. A line that is no JSON (a program cut, a NaN) is
left as it is.
"""
import argparse
import json
import os
import pathlib

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
SLOWER = 1.03
PRODUCTS = ("matmul", "cublaslt", "torch matmul")
PEERS = ("cublaslt", "torch")


def parse(text):
    try:
        return json.loads(text)
    except ValueError:
        return {}


def peaks(lines):
    """The largest value of each unit that this run measured at best."""
    read = [line["gb_s"] for line in lines if line.get("kernel") == "read ceiling"]
    products = [line["tflops"] for line in lines
                if "tflops" in line and line["kernel"].startswith(PRODUCTS)]
    return {unit: max(values) for unit, values in (("gb_s", read), ("tflops", products)) if values}


def share(line, best):
    """Of the peak; None for what has none, or has it: ceilings, times alone, unknown peaks."""
    if line.get("kernel", "").endswith("ceiling") or "of_peak" in line:
        return None
    return next((round(line[unit] / peak, 3) for unit, peak in best.items() if unit in line), None)


def with_shares(texts):
    best = peaks([parse(text) for text in texts])
    for text in texts:
        of_peak = share(parse(text), best)
        if of_peak is not None:
            text = f'{text.rstrip().removesuffix("}")}, "of_peak": {of_peak}}}'
        yield text


def name_of(line, model):
    of = [model] if line["kernel"] in ("decode", "prefill") else []
    tile = [f"tile {line['tile']}"] if line["kernel"].endswith("(not chosen)") else []
    dtype = [line["dtype"]] if "dtype" in line else []
    return ", ".join([line["kernel"], *of, line["shape"], *dtype, *tile])


def times(lines):
    """Microseconds by name; of a figure that was measured twice, the less."""
    model, taken = "", {}
    for line in lines:
        if line.get("kernel") == "start":
            model = line["shape"]
        if "us_median" in line:
            name = name_of(line, model)
            taken[name] = min(line["us_median"], taken.get(name, line["us_median"]))
    return taken


def slower(now, before):
    """(factor, name, before, now) of what takes longer than before, the worst first."""
    both = [(now[name] / before[name], name, before[name], now[name])
            for name in now if before.get(name, 0) > 0 and "(not chosen)" not in name]
    return sorted((row for row in both if row[0] > SLOWER), reverse=True)


def worst(lines, count=10):
    ours = [line for line in lines if "of_peak" in line and "(not chosen)" not in line["kernel"]
            and not line["kernel"].startswith(PEERS)]
    return sorted(ours, key=lambda line: line["of_peak"])[:count]


def device_of(lines):
    """'NVIDIA H200', or '' where no line says."""
    shapes = (line["shape"] for line in lines if line.get("kernel") == "device")
    return next(shapes, "").split(",")[0]


def committed(device, folder):
    """The file of this kind of GPU and its lines, or None."""
    for path in sorted(folder.glob("*.jsonl")):
        lines = [parse(text) for text in path.read_text().splitlines()]
        if device and device_of(lines) == device:
            return path, lines
    return None


def print_worst(lines):
    print("-- the worst shares of the peak")
    for line in worst(lines):
        rate = f"{line['gb_s']} GB/s" if "gb_s" in line else f"{line['tflops']} TFLOPS"
        print(f"  {line['of_peak']:.3f}  {name_of(line, '')}: {rate}")


def print_slower(lines):
    device = device_of(lines)
    found = committed(device, RESULTS)
    if found is None:
        print(f"-- no figures in bench/results/ of {device or 'an unknown GPU'} to compare with")
        return
    path, before = found
    now, before = times(lines), times(before)
    print(f"-- over {SLOWER - 1:.0%} slower than in bench/results/{path.name}, "
          f"of {len(now.keys() & before.keys())} figures that both have")
    for factor, name, then, us in slower(now, before):
        print(f"  {factor - 1:+.1%}  {name}: {then} -> {us} us")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--from", dest="first", type=int, default=0)
    options = parser.parse_args()
    texts = options.file.read_text().splitlines()
    texts[options.first:] = with_shares(texts[options.first:])
    whole = options.file.with_suffix(".new")
    whole.write_text("".join(text + "\n" for text in texts))
    os.replace(whole, options.file)
    lines = [parse(text) for text in texts[options.first:]]
    print_worst(lines)
    print_slower(lines)


if __name__ == "__main__":
    main()
