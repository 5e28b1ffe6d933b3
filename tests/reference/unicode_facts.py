#!/usr/bin/env python3
"""Makes unicode_facts.json and pretokenizer_pieces.json from Hugging Face's `tokenizers`: what its
regex engine and its NFC think of every code point, and where its pre-tokenizers cut.

    python3 -m pip install tokenizers==0.23.3
    python3 tests/reference/unicode_facts.py

Facts about all code points are kept as FNV-1a sums, one per 4096 code points: small, and a failure
still says where to look.
"""
import json
import pathlib

from tokenizers import Regex, normalizers, pre_tokenizers

from nasty_text import nasty_texts

BLOCK = 4096
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
# In the order of the bits of unicode.h's ClassMask.
CLASSES = [r"\p{Lu}", r"\p{Ll}", r"\p{Lt}", r"\p{Lm}", r"\p{Lo}", r"\p{M}", r"\p{N}", r"\p{P}",
           r"\p{S}", r"\s"]
REST = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cased_words(ending):
    prefix = r"[^\r\n\p{L}\p{N}]?"
    return f"{prefix}{UPPER}*{LOWER}+{ending}|{prefix}{UPPER}+{LOWER}*{ending}"


LLAMA3 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + REST
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = (CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + REST)
O200K = (cased_words(CONTRACTION + "?") + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + REST)
TEKKEN = cased_words("") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + REST
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


# By a name that the pre-tokenizer goes by in GGUF files.
PRE_TOKENIZERS = {
    "gpt-2": GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]),
    "llama-bpe": split(LLAMA3), "qwen2": split(QWEN2), "qwen35": split(QWEN35),
    "gpt-4o": split(O200K), "tekken": split(TEKKEN),
}


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def members(pattern):
    """The code points that the regex engine counts to a class."""
    text = "".join(map(chr, CODES))
    pieces = pre_tokenizers.Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(text)
    return {ord(character) for piece, _ in pieces for character in piece}


def class_sums():
    masks = [0] * 0x110000
    for bit, pattern in enumerate(CLASSES):
        for code in members(pattern):
            masks[code] |= 1 << bit
    return [fnv(b"".join(mask.to_bytes(2, "little") for mask in masks[start:start + BLOCK]))
            for start in range(0, 0x110000, BLOCK)]


def nfc_sums():
    """NFC of each code point: alone, after a letter between marks of four classes, decomposed."""
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    sums = []
    for start in range(0, 0x110000, BLOCK):
        out = []
        for code in range(start, start + BLOCK):
            if 0xD800 <= code < 0xE000:
                continue
            character = chr(code)
            for text in (character, "a" + character + "\u0334\u0316\u0301", "e\u0345\u0301" + character,
                         nfd.normalize_str(character), "\u1100\u1161" + character):
                out.append(nfc.normalize_str(text))
        sums.append(fnv("".join(out).encode()))
    return sums


def spans(pre_tokenizer, text):
    """The pieces' lengths in characters."""
    return [end - begin for _, (begin, end) in pre_tokenizer.pre_tokenize_str(text)]


def main():
    folder = pathlib.Path(__file__).parent
    facts = {"block": BLOCK, "classes": class_sums(), "nfc": nfc_sums()}
    (folder / "unicode_facts.json").write_text(json.dumps(facts, indent=0) + "\n")
    texts = nasty_texts("pieces", 260)
    cases = [{"text": text, **{name: spans(pre, text) for name, pre in PRE_TOKENIZERS.items()}}
             for text in texts]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (folder / "pretokenizer_pieces.json").write_text(f"[\n{lines}\n]\n")
    for name in ("unicode_facts.json", "pretokenizer_pieces.json"):
        print(name, (folder / name).stat().st_size, "bytes")


if __name__ == "__main__":
    main()
