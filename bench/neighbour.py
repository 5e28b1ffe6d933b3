#!/usr/bin/env python3
"""What decoding keeps of its speed while another program loops on one of the cores.

    bench/neighbour.py [--model FILE] [--peer PATH/llama-server] [--rounds 5]

Alternates one stream alone and one stream beside a busy loop pinned to the last core, and prints
the medians' ratio; with --peer the same for the peer's server.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys

from compare import DEFAULT_MODEL, ROOT, Server, one_stream


def measure(server, rounds):
    speeds = {False: [], True: []}
    server.start()
    try:
        one_stream(server, 7)
        for round_ in range(2 * rounds):
            busy = round_ % 2 == 1
            hog = subprocess.Popen(["taskset", "-c", str(os.cpu_count() - 1), sys.executable, "-c",
                                    "while True: pass"]) if busy else None
            try:
                speeds[busy].append(one_stream(server, 100 + round_))
            finally:
                if hog:
                    hog.kill()
                    hog.wait()
    finally:
        server.stop()
    alone, beside = statistics.median(speeds[False]), statistics.median(speeds[True])
    print(f"  {server.name:8} alone {alone:8.2f} tokens/s   beside a busy loop {beside:8.2f}   "
          f"keeps {100 * beside / alone:.0f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, type=pathlib.Path)
    parser.add_argument("--peer")
    parser.add_argument("--rounds", default=5, type=int)
    args = parser.parse_args()
    threads = os.cpu_count()
    print(f"{args.model.name}, {threads} threads on {threads} cores, one of them taken")
    measure(Server("chorus", [ROOT / "build/release/bin/chorus-launcher", "--model-id", args.model,
                              "--threads", threads, "--hostname", "127.0.0.1", "--port", "PORT"]),
            args.rounds)
    if args.peer:
        measure(Server("peer", [args.peer, "-m", args.model, "-t", threads, "--host", "127.0.0.1",
                                "-np", 1, "-c", 4096, "--port", "PORT"]), args.rounds)


if __name__ == "__main__":
    main()
