#!/usr/bin/env python3
"""Makes tokenizer_ids_<model>.json: token ids by Hugging Face's `tokenizers` for a few hundred nasty
strings, from the vocabulary in the model's GGUF file and the components that the model's own
tokenizer.json has (GGUF does not carry them).

    python3 -m pip install tokenizers==0.23.3 gguf==0.19.0 numpy
    python3 tests/reference/tokenizer_ids.py [smollm2|qwen2.5-coder|gemma-3 ...]

The GGUF files are looked for in the cache folder ($XDG_CACHE_HOME or ~/.cache)/chorus.
"plain" ids are those of text from outside (encode_special_tokens, so no control token is matched),
"template" ids those of text that the template wrote, given where they differ.
"""
import json
import os
import pathlib
import sys

from gguf_reference import Vocabulary, reference
from nasty_text import nasty_texts

CASES = 240
# [unit, count]: pieces so long that merging them must not be quadratic.
RUNS = [["a", 3000], [" ", 2000], ["\n", 500], ["0", 700], ["ab", 1500], ["=", 1000], ["\u4e00", 400],
        ["\u0301", 300], ["😀", 200], ["x ", 500], ["\t", 100], ["'s", 200], ["\u3000", 90]]


MODELS = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
          "qwen2.5-coder": "Qwen2.5-Coder-0.5B-Instruct.gguf",
          "gemma-3": "gemma-3-270m.Q4_K_M.gguf"}


def run_lengths(ids):
    runs = []
    for token in ids:
        if runs and runs[-1][0] == token:
            runs[-1][1] += 1
        else:
            runs.append([token, 1])
    return runs


def encode(tokenizer, text, as_text):
    tokenizer.encode_special_tokens = as_text
    return tokenizer.encode(text, add_special_tokens=False).ids


def cache_folder():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "chorus"


def main():
    for name in sys.argv[1:] or MODELS:
        file = MODELS[name]
        tokenizer, added = reference(Vocabulary(cache_folder() / file))
        cases = []
        for text in nasty_texts(name, CASES, added):
            case = {"text": text, "plain": encode(tokenizer, text, True)}
            template = encode(tokenizer, text, False)
            if template != case["plain"]:
                case["template"] = template
            cases.append(case)
        for unit, count in RUNS:
            ids = encode(tokenizer, unit * count, True)
            cases.append({"unit": unit, "count": count, "runs": run_lengths(ids)})
        target = pathlib.Path(__file__).with_name(f"tokenizer_ids_{name}.json")
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        target.write_text(f'{{"file":"{file}","cases":[\n{lines}\n]}}\n')
        differing = sum("template" in case for case in cases)
        print(f"{target.name}: {len(cases)} cases, {differing} with control tokens, "
              f"{target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
