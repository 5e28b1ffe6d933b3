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

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from nasty_text import nasty_texts

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CASES = 240
# [unit, count]: pieces so long that merging them must not be quadratic.
RUNS = [["a", 3000], [" ", 2000], ["\n", 500], ["0", 700], ["ab", 1500], ["=", 1000], ["\u4e00", 400],
        ["\u0301", 300], ["😀", 200], ["x ", 500], ["\t", 100], ["'s", 200], ["\u3000", 90]]


def read(path):
    fields = gguf.GGUFReader(path).fields

    def value(key):
        return fields["tokenizer.ggml." + key].contents() if "tokenizer.ggml." + key in fields else None

    return {key: value(key) for key in ("tokens", "token_type", "merges", "scores")}


def merges_by_score(tokens, kinds, scores):
    """What transformers makes of a SentencePiece vocabulary: each way to cut a token into two."""
    ids = {text: i for i, text in enumerate(tokens) if kinds[i] == NORMAL}
    merges = []
    for text, i in ids.items():
        for cut in range(1, len(text)):
            if text[:cut] in ids and text[cut:] in ids:
                merges.append((-scores[i], -cut, text[:cut], text[cut:]))
    return [(left, right) for _, _, left, right in sorted(merges, key=lambda merge: merge[:2])]


def byte_level(vocabulary):
    merges = [tuple(merge.split(" ")) for merge in vocabulary["merges"]]
    return Tokenizer(models.BPE(vocab=ids_of(vocabulary), merges=merges))


def ids_of(vocabulary):
    return {text: i for i, text in enumerate(vocabulary["tokens"])}


def smollm2(vocabulary):
    tokenizer = byte_level(vocabulary)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return tokenizer


def qwen2(vocabulary):
    tokenizer = byte_level(vocabulary)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN2), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


def gemma3(vocabulary):
    merges = merges_by_score(vocabulary["tokens"], vocabulary["token_type"], vocabulary["scores"])
    tokenizer = Tokenizer(models.BPE(vocab=ids_of(vocabulary), merges=merges, unk_token="<unk>",
                                     fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return tokenizer


MODELS = {"smollm2": ("SmolLM2-135M-Instruct.Q4_1.gguf", smollm2),
          "qwen2.5-coder": ("Qwen2.5-Coder-0.5B-Instruct.gguf", qwen2),
          "gemma-3": ("gemma-3-270m.Q4_K_M.gguf", gemma3)}


def reference(path, make):
    """The reference tokenizer, and the texts of its added tokens."""
    vocabulary = read(path)
    tokenizer = make(vocabulary)
    added = [(text, kind) for text, kind in zip(vocabulary["tokens"], vocabulary["token_type"])
             if kind in (CONTROL, USER_DEFINED)]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False)
                                  for text, kind in added if kind == CONTROL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False)
                          for text, kind in added if kind == USER_DEFINED])
    return tokenizer, [text for text, _ in added]


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
        file, make = MODELS[name]
        tokenizer, added = reference(cache_folder() / file, make)
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
