#!/usr/bin/env python3
"""Chorus beside a peer's server on the same model and threads, alternating in one run.

    bench/compare.py --peer PATH/llama-server [--model FILE] [--threads 2] [--rounds 5]

Both servers stay up (idle, they use no CPU) and take turns, so that a noisy machine hits both
alike; what counts is the ratio of medians. Standard library only, whole answers instead of streams,
so that the load generator costs next to nothing.

  one stream    tokens/s of a greedy answer of 160 tokens, without its first token's time
  16 streams    tokens/s over 16 answers of 96 tokens at once, without the first tokens' time
  prefill       prompt tokens/s of a prompt of about 512 tokens (never seen before), one token out
  start         from the command to ready, model in the page cache
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEFAULT_MODEL = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / \
    "chorus/SmolLM2-135M-Instruct.Q4_1.gguf"
WORDS = ("river stone cloud window garden letter music winter bridge morning silver forest "
         "mountain candle ocean paper voice market engine travel").split()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, name, command):
        self.name, self.port = name, free_port()
        self.command = [str(part).replace("PORT", str(self.port)) for part in command]
        self.process = None

    def start(self):
        began = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        while True:
            assert self.process.poll() is None, f"{self.name} ended: {' '.join(self.command)}"
            try:
                if self.get("/health") == 200:
                    return time.monotonic() - began
            except OSError:
                pass
            time.sleep(0.002)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
        return status

    def chat(self, content, max_tokens):
        """(seconds, prompt tokens, completion tokens)"""
        body = {"model": "x", "messages": [{"role": "user", "content": content}],
                "temperature": 0, "max_tokens": max_tokens, "cache_prompt": False}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        began = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(body),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        seconds = time.monotonic() - began
        connection.close()
        assert answer.status == 200, f"{self.name}: {answer.status} {data[:300]}"
        usage = json.loads(data)["usage"]
        return seconds, usage["prompt_tokens"], usage["completion_tokens"]


# Both servers keep counting until they are stopped.
COUNT = "Write the numbers from 1 to {}, separated by commas."


def one_stream(server, seed):
    first = server.chat(COUNT.format(900 + seed), 1)[0]
    seconds, _, tokens = server.chat(COUNT.format(900 + seed), 160)
    return (tokens - 1) / (seconds - first)


def sixteen_streams(server, seed):
    def run(max_tokens):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            began = time.monotonic()
            answers = list(pool.map(
                lambda i: server.chat(COUNT.format(900 + seed + i), max_tokens), range(16)))
            return time.monotonic() - began, sum(answer[2] for answer in answers)

    first, tokens_first = run(1)
    seconds, tokens = run(96)
    assert tokens > 0.8 * 16 * 96, f"{server.name}: answers ended early ({tokens} tokens)"
    return (tokens - tokens_first) / (seconds - first)


def prefill(server, seed):
    words = random.Random(seed)
    prompt = " ".join(words.choice(WORDS) for _ in range(470))
    seconds, tokens, _ = server.chat(prompt, 1)
    return tokens / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="the peer's server (llama-server)")
    parser.add_argument("--model", default=DEFAULT_MODEL, type=pathlib.Path)
    parser.add_argument("--threads", default=os.cpu_count(), type=int)
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    parser.add_argument("--peer-args", default="-fa on", help="further flags of the peer")
    args = parser.parse_args()

    ours = Server("chorus", [ROOT / "build/release/bin/chorus-launcher", "--model-id", args.model,
                             "--threads", args.threads, "--hostname", "127.0.0.1", "--port", "PORT"])
    peer = Server("peer", [args.peer, "-m", args.model, "-t", args.threads, "-tb", args.threads,
                           "-np", 16, "-c", 16 * 1024, "--host", "127.0.0.1", "--port", "PORT",
                           *args.peer_args.split()])
    servers = (ours, peer)
    args.model.read_bytes()  # into the page cache
    starts = {server.name: [] for server in servers}
    for _ in range(3):
        for server in servers:
            starts[server.name].append(server.start())
            server.stop()
    for server in servers:
        server.start()
    figures = {"start, seconds": starts}
    try:
        for name, measure in (("one stream, tokens/s", one_stream),
                              ("16 streams, tokens/s", sixteen_streams),
                              ("prefill of 512, tokens/s", prefill)):
            for server in servers:
                measure(server, 7)  # warm-up
            results = figures[name] = {server.name: [] for server in servers}
            for round_ in range(args.rounds):
                for server in servers if round_ % 2 else reversed(servers):
                    results[server.name].append(measure(server, 100 + round_))
    finally:
        for server in servers:
            server.stop()

    print(f"{args.model.name}, {args.threads} threads, medians of {args.rounds} alternating rounds")
    summary = {}
    for name, results in figures.items():
        mine, theirs = (statistics.median(results[s.name]) for s in servers)
        ratio = theirs / mine if "seconds" in name else mine / theirs
        summary[name] = {"chorus": mine, "peer": theirs, "ratio": ratio}
        print(f"  {name:28} chorus {mine:9.2f}   peer {theirs:9.2f}   {ratio:5.2f} x the peer")
    if args.json:
        args.json.write_text(json.dumps(
            {"model": args.model.name, "threads": args.threads, "rounds": args.rounds,
             "figures": summary, "samples": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
