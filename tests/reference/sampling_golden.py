#!/usr/bin/env python3
"""Makes tests/reference/sampling_cases.bin: what transformers leaves of logits before it draws.

    apt-get install python3-torch
    python3 -m venv --system-site-packages v; v/bin/pip install transformers==4.45.2 'numpy<2'
    v/bin/python tests/reference/sampling_golden.py

Each case is a row of random logits, what a request asks, and the probabilities behind transformers'
own processors in the order of its generate(): bias, repetition penalty, minimal new tokens,
temperature, top_k, top_p, min_p, typical_p. Frequency and presence penalty, which transformers does
not have, are OpenAI's formula, between repetition penalty and minimal new tokens.

File, little endian, 4-byte words: magic "CSC1"; cases; tokens n of the vocabulary; for each case:
f32 temperature, top_p, min_p, typical_p, repetition, frequency, presence; i32 top_k, min_tokens;
then lists, each with its length first: prompt ids, output ids, biased ids, biases f32, late ids;
logits f32[n], probabilities f32[n].
"""
import pathlib
import random
import struct

import torch
from transformers.generation import logits_process as hf

VOCABULARY = 80
CASES = 96


def wanted(pick, number):
    """What a request asks; every parameter stands alone in some case and with others in most."""
    asked = dict(temperature=1.0, top_p=1.0, min_p=0.0, typical_p=1.0, repetition=1.0,
                 frequency=0.0, presence=0.0, top_k=0, min_tokens=0, biases={}, late=[])
    ranges = {
        "temperature": lambda: pick.choice([0.3, 0.7, 1.4, 2.5]),
        "top_p": lambda: pick.choice([0.3, 0.8, 0.95]),
        "min_p": lambda: pick.choice([0.01, 0.1, 0.4]),
        "typical_p": lambda: pick.choice([0.2, 0.6, 0.95]),
        "repetition": lambda: pick.choice([0.8, 1.1, 1.5]),
        "frequency": lambda: pick.choice([-0.5, 0.3, 1.2]),
        "presence": lambda: pick.choice([-0.8, 0.5, 1.5]),
        "top_k": lambda: pick.choice([1, 5, 30, 70]),
        "min_tokens": lambda: 100,
        "biases": lambda: {pick.randrange(VOCABULARY): pick.uniform(-4, 4) for _ in range(8)},
    }
    names = list(ranges)
    chosen = [names[number]] if number < len(names) else pick.sample(names, pick.randint(2, 6))
    for name in chosen:
        asked[name] = ranges[name]()
    if asked["min_tokens"]:
        asked["late"] = sorted(pick.sample(range(VOCABULARY), 10))
    return asked


def remaining(asked, logits, prompt, output):
    ids = torch.tensor([prompt + output])
    scores = logits[None, :].clone()
    if asked["biases"]:
        bias = {(token,): value for token, value in asked["biases"].items()}
        scores = hf.SequenceBiasLogitsProcessor(bias)(ids, scores)
    if asked["repetition"] != 1:
        scores = hf.RepetitionPenaltyLogitsProcessor(asked["repetition"])(ids, scores)
    for token in set(output):
        scores[0, token] -= output.count(token) * asked["frequency"] + asked["presence"]
    if asked["min_tokens"]:
        shortest = hf.MinNewTokensLengthLogitsProcessor(
            len(prompt), asked["min_tokens"], asked["late"], device="cpu")
        scores = shortest(ids, scores)
    if asked["temperature"] != 1:
        scores = hf.TemperatureLogitsWarper(asked["temperature"])(ids, scores)
    if asked["top_k"]:
        scores = hf.TopKLogitsWarper(asked["top_k"])(ids, scores)
    if asked["top_p"] < 1:
        scores = hf.TopPLogitsWarper(asked["top_p"])(ids, scores)
    if asked["min_p"]:
        scores = hf.MinPLogitsWarper(asked["min_p"])(ids, scores)
    if asked["typical_p"] < 1:
        scores = hf.TypicalLogitsWarper(asked["typical_p"])(ids, scores)
    return torch.softmax(scores, dim=-1)[0]


def main():
    pick = random.Random(20)
    out = bytearray(b"CSC1" + struct.pack("<2i", CASES, VOCABULARY))

    def ints(values):
        out.extend(struct.pack(f"<{len(values)}i", *values))

    def floats(values):
        out.extend(struct.pack(f"<{len(values)}f", *values))

    for number in range(CASES):
        asked = wanted(pick, number)
        prompt = [pick.randrange(VOCABULARY) for _ in range(20)]
        output = [pick.randrange(VOCABULARY // 4) for _ in range(15)]
        logits = torch.tensor([pick.gauss(0, 2) for _ in range(VOCABULARY)])
        floats([asked[name] for name in ("temperature", "top_p", "min_p", "typical_p",
                                         "repetition", "frequency", "presence")])
        ints([asked["top_k"], asked["min_tokens"]])
        biases = sorted(asked["biases"].items())
        ints([len(prompt), *prompt, len(output), *output])
        ints([len(biases), *[token for token, _ in biases]])
        floats([value for _, value in biases])
        ints([len(asked["late"]), *asked["late"]])
        floats(logits.tolist())
        floats(remaining(asked, logits, prompt, output).tolist())
    path = pathlib.Path(__file__).with_name("sampling_cases.bin")
    path.write_bytes(out)
    print(f"{path}: {CASES} cases, {len(out)} bytes")


if __name__ == "__main__":
    main()
