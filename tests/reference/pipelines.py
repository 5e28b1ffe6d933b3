"""Tokenizer pipelines for tests: small models of each kind, and pipelines around them that use each
component of Hugging Face's `tokenizers` with each of its settings.

`python3 tests/reference/pipelines.py` writes pipelines_golden.json, what that package makes of some
texts with each of them; `pipeline_compare.py` runs many more, with random pipelines.
    python3 -m pip install tokenizers==0.23.3
"""
import base64
import json
import pathlib
import random
import struct

from tokenizers import Tokenizer

from nasty_text import nasty_texts

BYTES = {}
_shifted = 0x100
for _byte in range(256):
    if 33 <= _byte <= 126 or (161 <= _byte and _byte != 173):
        BYTES[_byte] = chr(_byte)
    else:
        BYTES[_byte] = chr(_shifted)
        _shifted += 1
CORPUS = ("the hello world Tokenizer don't can't it's they've we're I'll 1998 12345 naïve straße été "
          "привет мир こんにちは 世界 中文字符 한국어 def f ( x ) : return x ** 2 # ok in on an er th ing ")


def spelled(text):
    return "".join(BYTES[byte] for byte in text.encode())


def merges_over(words, alphabet, count):
    """Byte-pair encoding as it is trained, over a few words."""
    vocabulary = list(dict.fromkeys(alphabet))
    split = [list(word) for word in words]
    merges = []
    for _ in range(count):
        pairs = {}
        for word in split:
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            break
        best = max(sorted(pairs), key=lambda pair: pairs[pair])
        merges.append(list(best))
        if "".join(best) not in vocabulary:
            vocabulary.append("".join(best))
        for word in split:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == best:
                    word[at:at + 2] = ["".join(best)]
                at += 1
    return vocabulary, merges


def numbered(tokens):
    return {token: index for index, token in enumerate(tokens)}


def byte_bpe(**settings):
    words = [spelled(" " + word) for word in CORPUS.split()]
    vocabulary, merges = merges_over(words, [BYTES[b] for b in range(256)], 120)
    # One token that merging does not arrive at, one that only ignore_merges finds.
    vocabulary += [spelled(" hellohello"), spelled("wor")]
    return {"type": "BPE", "vocab": numbered(vocabulary), "merges": merges, **settings}


def char_bpe(prefix="", suffix="", **settings):
    words = []
    for word in CORPUS.split():
        marked = [word[0]] + [prefix + char for char in word[1:]]
        marked[-1] += suffix
        words.append(marked)
    alphabet = ["<unk>"] + sorted({char for word in words for char in word})
    vocabulary, merges = list(alphabet), []
    for word in words:
        while len(word) > 1:
            joined = word[0] + word[1][len(prefix):]
            if [word[0], word[1]] not in merges:
                merges.append([word[0], word[1]])
            if joined not in vocabulary:
                vocabulary.append(joined)
            word[0:2] = [joined]
    if settings.get("byte_fallback"):
        vocabulary += [f"<0x{byte:02X}>" for byte in range(256)]
    extra = {"continuing_subword_prefix": prefix or None, "end_of_word_suffix": suffix or None}
    return {"type": "BPE", "vocab": numbered(vocabulary), "merges": merges, **extra, **settings}


def mark_bpe(**settings):
    """SentencePiece's manner: spaces are U+2581, characters without a token become bytes."""
    words = ["▁" + word for word in CORPUS.split()] + ["▁▁▁▁", "d▁a", "▁a▁b"]
    alphabet = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    alphabet += sorted(set("".join(words)))
    vocabulary, merges = merges_over(words, alphabet, 150)
    return {"type": "BPE", "vocab": numbered(vocabulary), "merges": merges, "byte_fallback": True,
            "fuse_unk": True, "unk_token": "<unk>", **settings}


def unigram(byte_fallback=False, unk=True):
    rng = random.Random(3)
    pieces = [["<unk>", 0.0]] if unk else []
    seen = set()
    for word in CORPUS.split():
        marked = "▁" + word
        for length in range(1, len(marked) + 1):
            for at in range(len(marked) - length + 1):
                if (length == 1 or rng.random() < 0.3) and marked[at:at + length] not in seen:
                    seen.add(marked[at:at + length])
                    score = -1.5 * rng.randint(2, 9) / length ** 0.5
                    pieces.append([marked[at:at + length], score])
    if byte_fallback:
        pieces += [[f"<0x{byte:02X}>", -12.0] for byte in range(256)]
    return {"type": "Unigram", "unk_id": 0 if unk else None, "vocab": pieces,
            "byte_fallback": byte_fallback}


def word_piece(prefix="##", longest=100):
    tokens = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    for word in CORPUS.lower().split():
        for cut in range(1, len(word)):
            tokens += [word[:cut], prefix + word[cut:]] if cut % 2 else [prefix + word[cut]]
        tokens.append(word)
    tokens += list("abcdehilorstw.,!?'-0123") + [prefix + char for char in "abcdefgilnorst019"]
    return {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": longest, "vocab": numbered(dict.fromkeys(tokens))}


def word_level():
    tokens = ["<unk>"] + list(dict.fromkeys(CORPUS.split() + list(".,!?'() ") + ["1", "2"]))
    return {"type": "WordLevel", "unk_token": "<unk>", "vocab": numbered(tokens)}


def charsmap(rules):
    """A charsmap as SentencePiece compiles it: a double-array trie, built naively."""
    texts, values = b"", {}
    for source, target in rules.items():
        values[source.encode()] = len(texts)
        texts += target.encode() + b"\0"
    units = {0: 0}
    used = {0}

    def place(prefix, position):
        children = sorted({key[len(prefix)] for key in values
                           if len(key) > len(prefix) and key.startswith(prefix)})
        labels = ([0] if prefix in values else []) + children
        if not labels:
            return
        offset = next(o for o in range(1, 1 << 20)
                      if all((position ^ o ^ label) not in used for label in labels))
        base = position ^ offset
        units[position] = units[position] | offset << 10 | ((1 << 8) if prefix in values else 0)
        for label in labels:
            used.add(base ^ label)
        for label in labels:
            units[base ^ label] = values[prefix] | 1 << 31 if label == 0 else label
        for label in children:
            place(prefix + bytes([label]), base ^ label)

    place(b"", 0)
    size = (max(units) | 0xFF) + 1
    blob = b"".join(struct.pack("<I", units.get(index, 0)) for index in range(size))
    return base64.b64encode(struct.pack("<I", len(blob)) + blob + texts).decode()


RULES = {"ﬁ": "fi", "Å": "å", "e\u0301": "é", "\r\n": "\n", "½": "1/2", "\u3000": " ", "\u00ad": "",
         "①": "(1)", "カ": "か", "x": "y", "\u0308": ""}
NORMALIZERS = [
    {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"},
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "Strip", "strip_left": True, "strip_right": False},
    {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "StripAccents"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    {"type": "Replace", "pattern": {"String": "e"}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": r"\s{2,}|\p{N}"}, "content": "-#"},
    {"type": "Replace", "pattern": {"Regex": r"(?<=a)b*"}, "content": "_"},
    {"type": "Prepend", "prepend": "▁"}, {"type": "Nmt"}, {"type": "ByteLevel"},
    {"type": "Precompiled", "precompiled_charsmap": charsmap(RULES)}] + [
    {"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese,
     "strip_accents": accents, "lowercase": lower}
    for clean, chinese, accents, lower in ((True, True, None, True), (True, True, None, False),
                                           (False, True, True, False), (True, False, False, True))]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
PATTERNS = [{"String": " "}, {"String": "th"}, {"String": ""}, {"Regex": r"\d+|\p{Han}"},
            {"Regex": r"[^\w\s]|\bt"}, {"Regex": r"(?i:'s|'t)|\p{Lu}?\p{Ll}+|[[:punct:]]"},
            {"Regex": r"a*"}, {"Regex": r"[\p{L}&&[^a-m]]++|\h{2}(?=\s)|\P{L}"},
            {"Regex": r"\W+|[\d\-x]"}, {"Regex": r"\p{Alphabetic}{1,3}|[^[:alnum:]]\B"},
            {"Regex": r"(?>\p{^N}+?)(?!\S)"}]
FAMILIES = [  # the patterns that Chorus has scanners for
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
DEEPSEEK = [r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True,
            "use_regex": regex}


def metaspace(scheme, cuts=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cuts}


def sequence(key, *members):
    return {"type": "Sequence", key: list(members)}


PRE_TOKENIZERS = [byte_level(), byte_level(True), byte_level(False, False), byte_level(True, False)]
PRE_TOKENIZERS += [metaspace(scheme, cuts) for scheme in ("always", "first", "never")
                   for cuts in (True, False)]
PRE_TOKENIZERS += [{"type": "Metaspace", "replacement": "▁", "add_prefix_space": True,
                    "str_rep": "▁"}]
PRE_TOKENIZERS += [{"type": "Digits", "individual_digits": single} for single in (True, False)]
PRE_TOKENIZERS += [{"type": "Punctuation", "behavior": behavior} for behavior in BEHAVIORS]
PRE_TOKENIZERS += [{"type": "Whitespace"}, {"type": "WhitespaceSplit"},
                   {"type": "BertPreTokenizer"}, {"type": "UnicodeScripts"},
                   {"type": "FixedLength", "length": 3},
                   {"type": "CharDelimiterSplit", "delimiter": "t"}]
SPLITS = [split(pattern, behavior, invert) for pattern in PATTERNS for behavior in BEHAVIORS
          for invert in (False, True)]
SPLITS += [split({"Regex": pattern}) for pattern in FAMILIES]
MODELS = {
    "bytes": byte_bpe(), "bytes-whole": byte_bpe(ignore_merges=True),
    "chars": char_bpe(unk_token="<unk>"), "chars-fused": char_bpe(unk_token="<unk>", fuse_unk=True),
    "chars-dropped": char_bpe(), "chars-suffix": char_bpe(suffix="</w>", unk_token="<unk>"),
    "chars-prefix": char_bpe(prefix="##", unk_token="<unk>", byte_fallback=True),
    "marks": mark_bpe(), "unigram": unigram(), "unigram-bytes": unigram(True),
    "words": word_piece(), "words-short": word_piece("@@", 5), "level": word_level()}
DECODERS = [byte_level(), {"type": "WordPiece", "prefix": "##", "cleanup": True},
            {"type": "WordPiece", "prefix": "@@", "cleanup": False},
            {"type": "BPEDecoder", "suffix": "</w>"}, metaspace("always"), metaspace("never"),
            {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True},
            {"type": "Fuse"}, {"type": "ByteFallback"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 1},
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "Replace", "pattern": {"Regex": "[aeiou]+"}, "content": "*"},
            sequence("decoders", {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                     {"type": "ByteFallback"}, {"type": "Fuse"},
                     {"type": "Strip", "content": " ", "start": 1, "stop": 0}),
            sequence("decoders", {"type": "Fuse"}, {"type": "Strip", "content": "h", "start": 0,
                                                    "stop": 1}, metaspace("always")), None]


def added(content, identity=0, special=False, **attributes):
    return {"id": identity, "content": content, "special": special, "single_word": False,
            "lstrip": False, "rstrip": False, "normalized": not special, **attributes}


ADDED = [added("<|end|>", special=True), added("<mask>", special=True, lstrip=True),
         added("<br>", rstrip=True), added("hell", single_word=True, normalized=False),
         added("the W"), added("  ", normalized=False), added("é", normalized=True),
         added("<|end|><|"), added("Ab C", special=True, normalized=True)]
POST = [None, byte_level(), byte_level(True), sequence("processors", byte_level(), {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "a", "type_id": 0}},
                       {"SpecialToken": {"id": "b", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "a", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"a": {"id": "a", "ids": [1], "tokens": ["a"]},
                               "b": {"id": "b", "ids": [2, 3], "tokens": ["b", "c"]}}}),
        {"type": "BertProcessing", "cls": ["x", 2], "sep": ["y", 3]},
        {"type": "RobertaProcessing", "cls": ["x", 2], "sep": ["y", 3], "trim_offsets": True,
         "add_prefix_space": False}]


def pipeline(model, normalizer=None, pre=None, post=None, decoder=None, tokens=()):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(tokens),
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post,
            "decoder": decoder, "model": model}


def handmade():
    """(name of the model, pipeline without it): each component at least once."""
    tokens = [added("<|end|>", special=True), added("<br>", rstrip=True)]
    yield from ((name, pipeline(None)) for name in MODELS)
    for normalizer in NORMALIZERS:
        yield "marks", pipeline(None, normalizer, tokens=tokens)
        yield "words", pipeline(None, normalizer, {"type": "BertPreTokenizer"})
    yield "chars", pipeline(None, sequence("normalizers", *NORMALIZERS[:5]), tokens=ADDED)
    for pre in PRE_TOKENIZERS:
        yield "unigram", pipeline(None, None, pre, tokens=tokens)
        yield "level", pipeline(None, NORMALIZERS[5], pre)
    for index, cut in enumerate(SPLITS):
        yield ("chars-fused", "marks")[index % 2], pipeline(None, None, cut)
    for family in FAMILIES:
        yield "bytes", pipeline(None, None, sequence("pretokenizers", split({"Regex": family}),
                                                     byte_level(False, False)), POST[2], byte_level())
    yield "bytes-whole", pipeline(None, None, sequence(
        "pretokenizers", *[split({"Regex": part}) for part in DEEPSEEK], byte_level(False, False)))
    yield "bytes", pipeline(None, None, sequence(
        "pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(),
        {"type": "Digits", "individual_digits": False}, split({"Regex": "[0-9][0-9][0-9]"})))
    yield "bytes", pipeline(None, None, sequence(
        "pretokenizers", {"type": "Digits", "individual_digits": True}, byte_level()), POST[1])
    yield "unigram", pipeline(None, NORMALIZERS[16], sequence(
        "pretokenizers", {"type": "WhitespaceSplit"}, metaspace("always")))
    yield "marks", pipeline(None, NORMALIZERS[5], metaspace("first", False), tokens=ADDED)
    for decoder in DECODERS:
        for name in ("marks", "words", "bytes"):
            yield name, pipeline(None, None, {"type": "Whitespace"}, POST[3], decoder, tokens)
    for post in POST:
        yield "bytes", pipeline(None, None, byte_level(True), post, None, ADDED)
    for token in ADDED:
        yield "marks", pipeline(None, sequence("normalizers", NORMALIZERS[13], NORMALIZERS[9]), None,
                                tokens=[token])
        yield "chars", pipeline(None, NORMALIZERS[4], tokens=[token])


def in_bytes(text, offsets):
    starts = [0]
    for char in text:
        starts.append(starts[-1] + len(char.encode()))
    return [starts[at] for pair in offsets for at in pair]


def reference(file, texts):
    """What `tokenizers` makes of the texts; None where it refuses the file or fails on one."""
    try:
        tokenizer = Tokenizer.from_str(json.dumps(file))
        answers = []
        for text in texts:
            plain = tokenizer.encode(text, add_special_tokens=False)
            special = tokenizer.encode(text, add_special_tokens=True).ids
            answers.append({"ids": plain.ids, "offsets": in_bytes(text, plain.offsets),
                            "special_ids": special,
                            "decoded": tokenizer.decode(special, skip_special_tokens=True),
                            "plain": tokenizer.decode(special, skip_special_tokens=False)})
        return answers
    except BaseException as error:  # a panic of Rust's is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return None


TEXTS = ["", "Hello world, it's the 2nd <br>  naïve\tTEST!", "  the Whell hello<|end|> <mask>x",
         "e\u0301te\u0301 ﬁ ½ 1998年 カタカナ 中文，don't", "a\u0000b\u00ad\u200b\r\n\r\n 🤖▁▁x  ",
         "\u1100\u1161\u11a8 Ⅷ ١٢٣ straße İ привет"]


def main():
    golden = {"models": MODELS, "pipelines": []}
    for name, file in handmade():
        answers = reference({**file, "model": MODELS[name]}, TEXTS)
        if answers is not None:
            golden["pipelines"].append({"model": name, "file": file, "answers": answers})
    golden["texts"] = TEXTS
    target = pathlib.Path(__file__).with_name("pipelines_golden.json")
    target.write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(len(golden["pipelines"]), "pipelines,", target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
