#!/usr/bin/env python3
"""Writes tables.cc: the Unicode facts that the tokenizers need.

Sources: the Unicode Character Database 16.0 as the PyPI package `unicodedataplus` carries it, and
for sets that only Hugging Face's `tokenizers` knows, that package itself.
    python3 -m pip install unicodedataplus==16.0.0.post1 tokenizers==0.23.3
    python3 router/text/unicode/generate.py
writes the same bytes each time.

Several versions on purpose, since `tokenizers` is made of libraries of several ages. The general
categories and scripts are Unicode 16's, as in the Oniguruma that it carries. Its normal forms come
from a library with the data of Unicode 9: characters younger than that are left alone by it, so
they have no decomposition and no combining class here either; the UnicodeScripts pre-tokenizer is
as old. Its punctuation, control characters and accents are of other ages still, and its lower case
and its numbers are the Rust compiler's: those are asked of the package, code point by code point.
tests/reference/unicode_facts.py holds these tables against `tokenizers`.
"""
import pathlib

import unicodedataplus as ucd
from tokenizers import Regex, normalizers, pre_tokenizers

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


def full_compatible(code):
    """NFKD of a code point that NFD leaves alone or takes apart differently; else nothing."""
    if not in_nfc_data(code):
        return None
    text = chr(code)
    full = ucd.normalize("NFKD", text)
    return None if full == ucd.normalize("NFD", text) else list(map(ord, full))


SCALARS = [code for code in range(CODES) if not 0xD800 <= code < 0xE000]
ALL_TEXT = "".join(map(chr, SCALARS))
# General categories by number, and Script's values; unicode.cc knows both by these names.
GENERAL = ["Cn", "Cc", "Cf", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu", "Mc", "Me", "Mn", "Nd", "Nl",
           "No", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs"]
BREAKS = ["Other", "CR", "LF", "Control", "Extend", "ZWJ", "Regional_Indicator", "Prepend",
          "SpacingMark", "L", "V", "T", "LV", "LVT"]


def matched(pattern):
    """What the package's regex engine counts to a class."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(char) for piece, _ in split.pre_tokenize_str(ALL_TEXT) for char in piece}


def removed_by(normalizer):
    return {code for code in SCALARS if normalizer.normalize_str("a" + chr(code)) == "a"}


def bert(**steps):
    every = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False,
             "lowercase": False}
    return normalizers.BertNormalizer(**{**every, **steps})


def numeric():
    pieces = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(
        "".join("a" + chr(code) for code in SCALARS))
    return {ord(piece) for piece, _ in pieces if len(piece) == 1} - {ord("a")}


def punctuation():
    pieces = pre_tokenizers.Punctuation("removed").pre_tokenize_str(ALL_TEXT)
    return set(SCALARS) - {ord(char) for piece, _ in pieces for char in piece}


def trait_sets():
    """In the order of unicode.h's bits."""
    return [matched("[[:alpha:]]"), matched("[[:upper:]]"), matched("[[:lower:]]"), numeric(),
            punctuation(), removed_by(normalizers.StripAccents()),
            removed_by(bert(strip_accents=True)), removed_by(bert(clean_text=True)),
            {code for code in SCALARS if full_compatible(code)},
            {code for code in SCALARS if in_nfc_data(code)}]


def lowered():
    """code -> what the package makes of it, where that is something else."""
    pairs = ((code, normalizers.Lowercase().normalize_str("a" + chr(code))[1:]) for code in SCALARS)
    return {code: list(map(ord, text)) for code, text in pairs if text != chr(code)}


def details(scripts):
    """Per code point: general category, script, grapheme cluster break, traits."""
    sets = trait_sets()

    def detail(code):
        text = chr(code)
        traits = sum(1 << bit for bit, members in enumerate(sets) if code in members)
        return (GENERAL.index(ucd.category(text)), scripts.index(ucd.script(text)),
                BREAKS.index(ucd.grapheme_cluster_break(text)), traits)

    return [detail(code) for code in range(CODES)]


def script_names():
    """(name, script's number), lower case, underscores left out, aliases too; sorted."""
    scripts = sorted({ucd.script(chr(code)) for code in range(CODES)})
    aliases = ucd.property_value_aliases["script"]
    names = sorted((name.lower().replace("_", ""), index) for index, script in enumerate(scripts)
                   for name in {script, *aliases.get(script, [])})
    return scripts, names


def nfc_table(decomposed, composed):
    """Per code point: its combining class and what finding it says about the text being NFC."""
    seconds = {second for _, second in composed} | set(range(0x1161, 0x1176))
    seconds |= set(range(0x11A8, 0x11C3))
    kept = set(composed.values())

    def fact(code):
        apart = 4 if code in decomposed or 0xAC00 <= code < 0xAC00 + 11172 else 0
        if code in decomposed and code not in kept:
            return combining_class(code), apart | 2  # never in NFC
        # 1: depends on what stands before
        return combining_class(code), apart | (1 if code in seconds else 0)

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
    scripts, names = script_names()
    every_detail = details(scripts)
    distinct_details = sorted(set(every_detail))
    detail_number = {detail: index for index, detail in enumerate(distinct_details)}
    detail_blocks, detail_numbers = two_stages([detail_number[d] for d in every_detail], 128)
    compatible = {code: full_compatible(code) for code in SCALARS if full_compatible(code)}
    compatible_pool = [part for _, parts in sorted(compatible.items()) for part in parts]
    lower = lowered()
    assert max(map(len, lower.values())) <= 2 and max(map(len, compatible.values())) < 256
    assert max(class_blocks + nfc_blocks + detail_blocks) < 1 << 16 and len(distinct) < 256

    def fields(entry):
        return "{" + ",".join(map(str, entry)) + "}"

    def compatible_entries():
        start = 0
        for code, made in sorted(compatible.items()):
            yield code, start, len(made)
            start += len(made)

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
        array("Compatible", "kCompatibles", list(compatible_entries()), fields),
        f"extern const int32_t kCompatibleCount = {len(compatible)};\n",
        array("uint32_t", "kCompatiblePool", compatible_pool),
        array("Lowering", "kLowerings",
              [(code, *made, *[0] * (2 - len(made))) for code, made in sorted(lower.items())],
              fields),
        f"extern const int32_t kLoweringCount = {len(lower)};\n",
        array("uint16_t", "kDetailBlocks", detail_blocks),
        array("uint16_t", "kDetailNumbers", detail_numbers),
        array("Detail", "kDetails", distinct_details, fields),
        array("ScriptName", "kScriptNames", names, lambda entry: f'{{"{entry[0]}",{entry[1]}}}'),
        f"extern const int32_t kScriptNameCount = {len(names)};\n",
        "}  // namespace chorus::text::unicode\n",
    ]
    target = pathlib.Path(__file__).with_name("tables.cc")
    target.write_text("\n".join(parts))
    print(f"{target.name}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
