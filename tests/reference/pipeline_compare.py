#!/usr/bin/env python3
"""Chorus's tokenizer against Hugging Face's `tokenizers` on random pipelines and nasty strings:
ids, offsets, ids with special tokens, decoded text. Prints the differences.

    python3 -m pip install tokenizers==0.23.3
    cmake --build --preset release --target tokenizer_run
    python3 tests/reference/pipeline_compare.py build/release/bin/tokenizer_run [PIPELINES] [SEED]
"""
import json
import random
import subprocess
import sys

import pipelines as p
from nasty_text import nasty_texts

FIELDS = ("ids", "offsets", "special_ids", "decoded", "plain")


def choose(rng, options, count, key):
    members = [rng.choice(options) for _ in range(count)]
    if not members:
        return None
    return members[0] if len(members) == 1 else p.sequence(key, *members)


def random_pipeline(rng):
    pre = p.PRE_TOKENIZERS + rng.sample(p.SPLITS, 12)
    return p.pipeline(
        p.MODELS[rng.choice(list(p.MODELS))],
        choose(rng, p.NORMALIZERS, rng.choice((0, 0, 1, 1, 2, 3)), "normalizers"),
        choose(rng, pre, rng.choice((0, 1, 1, 2, 3)), "pretokenizers"), rng.choice(p.POST),
        rng.choice(p.DECODERS), rng.sample(p.ADDED, rng.choice((0, 0, 1, 3))))


def short(file):
    return json.dumps({key: value for key, value in file.items() if value} |
                      {"model": {key: value for key, value in file["model"].items()
                                 if key not in ("vocab", "merges")}}, ensure_ascii=False)


def main():
    program = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    texts = nasty_texts(seed=rng.randrange(1 << 30), count=60, specials=["<|end|>", "<br>", " hell "])
    files = [({**file, "model": p.MODELS[name]}) for name, file in p.handmade()]
    files += [random_pipeline(rng) for _ in range(count)]
    compared = refused = differing = 0
    kinds = {}
    for file in files:
        expected = p.reference(file, texts + p.TEXTS)
        request = {"tokenizer": json.dumps(file), "texts": texts + p.TEXTS}
        program.stdin.write(json.dumps(request).encode() + b"\n")
        program.stdin.flush()
        answers = json.loads(program.stdout.readline())
        if expected is None:
            refused += 1
            continue
        compared += 1
        found = None
        for text, want, got in zip(texts + p.TEXTS, expected, answers):
            bad = ["error"] if "error" in got else [f for f in FIELDS if got[f] != want[f]]
            if "error" not in got and not got["same"]:
                bad.append("same")
            if bad:
                found = found or (bad, text, want, got)
                for field in bad:
                    kinds[field] = kinds.get(field, 0) + 1
        if found:
            differing += 1
            if differing <= 25:
                bad, text, want, got = found
                print(bad, short(file))
                print("   text", ascii(text))
                field = bad[0]
                print("   want", ascii(want.get(field)))
                print("   got ", ascii(got.get(field)))
    print(f"{compared} pipelines compared, {refused} that the reference refuses or fails on, "
          f"{differing} differ: {kinds}")


if __name__ == "__main__":
    main()
