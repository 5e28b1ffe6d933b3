#!/usr/bin/env python3
"""Chorus's tokenizer and Hugging Face's `tokenizers` in turn on the same text: MB/s, one thread.

    python3 -m pip install tokenizers==0.23.3 gguf==0.19.0 numpy
    python3 bench/text_compare.py build/release/bin/text_bench TEXTFILE [NAME | tokenizer.json ...]

TEXTFILE may be the word "mixed": a megabyte of tests/reference/nasty_text.py's strings. A NAME is
one of the models in the cache folder (smollm2, ...), whose vocabulary both read from the GGUF file.
The ids are the same ones (tests/reference/), only their number is compared here.
"""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 5
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "reference"))
from nasty_text import nasty_texts  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402


def tokenizer_of(name):
    """The file that Chorus reads, and the reference tokenizer."""
    if name.endswith(".json"):
        tokenizer = Tokenizer.from_file(name)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return name, tokenizer
    from gguf_reference import Vocabulary, reference
    from tokenizer_ids import MODELS, cache_folder
    path = cache_folder() / MODELS[name]
    tokenizer, _ = reference(Vocabulary(path))
    return path, tokenizer


def text_file(path):
    if path != "mixed":
        return path
    file = pathlib.Path(tempfile.gettempdir()) / "chorus-mixed.txt"
    text = "\n".join(nasty_texts(5, 40000)).encode()[:1_000_000].decode(errors="ignore")
    file.write_bytes(text.encode())
    return str(file)


def main():
    program, text_path, names = sys.argv[1], text_file(sys.argv[2]), sys.argv[3:]
    text = pathlib.Path(text_path).read_bytes().decode()  # with its line ends as they are
    size = len(text.encode()) / 1e6
    for name in names or ["smollm2", "qwen2.5-coder", "gemma-3"]:
        path, tokenizer = tokenizer_of(name)
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
              f"{statistics.median(theirs):.2f} MB/s, "
              f"x {statistics.median(a / b for a, b in zip(ours, theirs)):.1f}, {tokens} tokens "
              f"(medians of {ROUNDS} rounds in turn, {size:.2f} MB)")


if __name__ == "__main__":
    main()
