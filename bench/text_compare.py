#!/usr/bin/env python3
"""Chorus's tokenizer and Hugging Face's `tokenizers` in turn on the same text: MB/s, one thread.

    python3 -m pip install tokenizers==0.23.3 gguf==0.19.0 numpy
    python3 bench/text_compare.py build/release/bin/text_bench TEXTFILE [smollm2 ...]

Both read the vocabulary from the GGUF file in the cache folder; the ids are the same ones
(tests/reference/tokenizer_ids.py), only their number is compared here.
"""
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROUNDS = 5
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "reference"))
from tokenizer_ids import MODELS, cache_folder, reference  # noqa: E402


def main():
    program, text_path, names = sys.argv[1], sys.argv[2], sys.argv[3:] or list(MODELS)
    text = pathlib.Path(text_path).read_text()
    size = len(text.encode()) / 1e6
    for name in names:
        file, make = MODELS[name]
        path = cache_folder() / file
        tokenizer, _ = reference(path, make)
        tokenizer.encode_special_tokens = True
        ours, theirs = [], []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)
            theirs.append(size / (time.perf_counter() - start))
            words = subprocess.run([program, path, text_path, "3"], check=True, text=True,
                                   capture_output=True).stdout.split()
            ours.append(statistics.median(map(float, words[1:4])))
            assert int(words[5]) == tokens, (words, tokens)
        print(f"{name}: chorus {statistics.median(ours):.1f} MB/s, tokenizers "
              f"{statistics.median(theirs):.2f} MB/s, {tokens} tokens "
              f"(medians of {ROUNDS} rounds in turn, {size:.2f} MB)")


if __name__ == "__main__":
    main()
