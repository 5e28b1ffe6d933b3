#!/usr/bin/env python3
"""Writes tables.cc: the Unicode 16 facts that the tokenizers need.

Source: the Unicode Character Database 16.0 as the PyPI package `unicodedataplus` carries it.
    python3 -m pip install unicodedataplus==16.0.0.post1
    python3 router/text/unicode/generate.py
writes the same bytes each time.

Two versions on purpose. The general categories are Unicode 16's, as in the Oniguruma that Hugging
Face's `tokenizers` carries. Its NFC however comes from a library with the data of Unicode 9:
characters younger than that are left alone by it, so they have no decomposition and no combining
class here either. tests/reference/unicode_facts.py holds these tables against `tokenizers`.
"""
import pathlib

import unicodedataplus as ucd

CODES = 0x110000
NFC_AGE = (9, 0)
# Each byte of the class table is an index into this list; unicode.h names the bits of its members.
CATEGORIES = ["other", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S", "White_Space"]
# PropList.txt's White_Space: 25 code points; none of them is a letter, mark, number or symbol.
WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
               0x202F, 0x205F, 0x3000}


def category_index(code):
    if code in WHITE_SPACE:
        return CATEGORIES.index("White_Space")
    category = ucd.category(chr(code))
    if category in CATEGORIES:
        return CATEGORIES.index(category)
    return CATEGORIES.index(category[0]) if category[0] in "MNPS" else 0


def in_nfc_data(code):
    age = ucd.age(chr(code))
    return age != "Unassigned" and tuple(map(int, age.split("."))) <= NFC_AGE


def combining_class(code):
    return ucd.combining(chr(code)) if in_nfc_data(code) else 0


def decompositions():
    """code -> (first, second), second 0 for a singleton; one step, canonical only."""
    found = {}
    for code in range(CODES):
        text = ucd.decomposition(chr(code))
        if text and not text.startswith("<") and in_nfc_data(code):
            parts = [int(part, 16) for part in text.split()]
            assert len(parts) <= 2, hex(code)
            found[code] = (parts[0], parts[1] if len(parts) == 2 else 0)
    return found


def compositions(decomposed):
    """(first, second) -> code: the pairs that NFC puts together again."""
    return {pair: code for code, pair in decomposed.items()
            if pair[1] and ucd.normalize("NFC", chr(code)) == chr(code)}


def nfc_table(decomposed, composed):
    """Per code point: its combining class and what finding it says about the text being NFC."""
    seconds = {second for _, second in composed} | set(range(0x1161, 0x1176))
    seconds |= set(range(0x11A8, 0x11C3))
    kept = set(composed.values())

    def fact(code):
        if code in decomposed and code not in kept:
            return combining_class(code), 2  # never in NFC
        return combining_class(code), 1 if code in seconds else 0  # 1: depends on what stands before

    return [fact(code) for code in range(CODES)]


def two_stages(values, block):
    """Equal blocks are stored once: (block numbers, the distinct blocks one after another)."""
    numbers, seen, stored = [], {}, []
    for start in range(0, len(values), block):
        piece = tuple(values[start:start + block])
        if piece not in seen:
            seen[piece] = len(seen)
            stored.extend(piece)
        numbers.append(seen[piece])
    return numbers, stored


def array(kind, name, values, show=str):
    lines, line = [], ""
    for value in values:
        text = show(value) + ","
        if len(line) + len(text) > 100:
            lines.append(line)
            line = ""
        line += text
    lines.append(line)
    return f"extern const {kind} {name}[{len(values)}] = {{\n" + "\n".join(lines) + "\n};\n"


def main():
    decomposed = decompositions()
    composed = compositions(decomposed)
    class_blocks, classes = two_stages([category_index(code) for code in range(CODES)], 128)
    facts = nfc_table(decomposed, composed)
    distinct = sorted(set(facts))
    number_of = {fact: index for index, fact in enumerate(distinct)}
    nfc_blocks, nfc = two_stages([number_of[fact] for fact in facts], 128)
    assert max(class_blocks + nfc_blocks) < 1 << 16 and len(distinct) < 256

    def fields(entry):
        return "{" + ",".join(map(str, entry)) + "}"

    parts = [
        "// Made by router/text/unicode/generate.py from the Unicode Character Database "
        f"{ucd.unidata_version}; do not edit.\n// What the arrays mean stands in unicode_tables.h.\n"
        "// clang-format off\n"
        '#include "router/text/unicode/unicode_tables.h"\n\nnamespace chorus::text::unicode {\n',
        array("uint16_t", "kClassBlocks", class_blocks),
        array("uint8_t", "kClasses", classes),
        array("uint16_t", "kNfcBlocks", nfc_blocks),
        array("uint8_t", "kNfcNumbers", nfc),
        array("NfcFact", "kNfcFacts", distinct, fields),
        array("Decomposition", "kDecompositions",
              [(code, *pair) for code, pair in sorted(decomposed.items())], fields),
        f"extern const int32_t kDecompositionCount = {len(decomposed)};\n",
        array("Composition", "kCompositions",
              [(*pair, code) for pair, code in sorted(composed.items())], fields),
        f"extern const int32_t kCompositionCount = {len(composed)};\n",
        "}  // namespace chorus::text::unicode\n",
    ]
    target = pathlib.Path(__file__).with_name("tables.cc")
    target.write_text("\n".join(parts))
    print(f"{target.name}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
