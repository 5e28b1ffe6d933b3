"""Hugging Face tokenizers made from GGUF vocabularies, as the models' own tokenizer.json have it:
what GGUF loses (normalizer, patterns, attributes of added tokens) is written out here, family by
family. Nothing is shared with Chorus' own tables: the patterns are the original ones.

    python3 -m pip install tokenizers==0.23.3 gguf==0.19.0 numpy
"""
import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
REST_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
LLAMA3 = CONTRACTIONS + "|" + WORD + r"|\p{N}{1,3}" + REST
QWEN2 = CONTRACTIONS + "|" + WORD + r"|\p{N}" + REST
QWEN35 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = r"[^\r\n\p{L}\p{N}]?%s*%s+%%s|[^\r\n\p{L}\p{N}]?%s+%s*%%s" % (UPPER, LOWER, UPPER, LOWER)
O200K = CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?") + r"|\p{N}{1,3}" + REST_SLASH
YOUTU = CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?") + r"|\p{N}" + REST_SLASH
TEKKEN = CASED % ("", "") + r"|\p{N}" + REST_SLASH
PUNCTUATED = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
DEEPSEEK3 = PUNCTUATED + r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPARK = PUNCTUATED + r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"
HAN_UPPER, HAN_LOWER = UPPER[:-1] + r"&&[^\p{Han}]]", LOWER[:-1] + r"&&[^\p{Han}]]"
KIMI = "|".join([r"[\p{Han}]+",
                 r"[^\r\n\p{L}\p{N}]?" + HAN_UPPER + "*" + HAN_LOWER + "+" + CONTRACTIONS + "?",
                 r"[^\r\n\p{L}\p{N}]?" + HAN_UPPER + "+" + HAN_LOWER + "*" + CONTRACTIONS + "?",
                 r"\p{N}{1,3}"]) + REST
# As escapes: some of these letters change under NFC.
DEEPSEEK_LETTERS = (
    r"\s?["
    r"A-Za-z\x{00B5}\x{00C0}-\x{00D6}\x{00D8}-\x{00F6}\x{00F8}-\x{01BA}\x{01BC}-\x{01BF}"
    r"\x{01C4}-\x{0293}\x{0295}-\x{02AF}\x{0370}-\x{0373}\x{0376}\x{0377}\x{037B}-\x{037D}"
    r"\x{037F}\x{0386}\x{0388}-\x{038A}\x{038C}\x{038E}-\x{03A1}\x{03A3}-\x{03F5}"
    r"\x{03F7}-\x{0481}\x{048A}-\x{052F}\x{0531}-\x{0556}\x{10A0}-\x{10C5}"
    r"\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}"
    r"\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}"
    r"\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}"
    r"\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}"
    r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}"
    r"\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}"
    r"\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}"
    r"\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}"
    r"\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}"
    r"\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}"
    r"\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}"
    r"\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}"
    r"\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}"
    r"]+")
BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
ASIAN = (r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{F900}-\x{FAFF}\x{3040}-\x{309F}\x{30A0}-\x{30FF}"
         r"\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF}\x{0E40}-\x{0E7F}\x{0E80}-\x{0EFF}\x{1780}-\x{17FF}"
         r"\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+")


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def splits(*patterns):
    return [split(pattern) for pattern in patterns] + [byte_level(False)]


def gpt2():
    return [byte_level(True)]


def digits_gpt2():
    return [pre_tokenizers.Digits(individual_digits=True), byte_level(True)]


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


# One name of each pipeline: (pre-tokenizer, NFC, ignore_merges).
PIPELINES = {
    "llama-bpe": (lambda: splits(LLAMA3), False, True),
    "dbrx": (lambda: splits(LLAMA3), False, False),
    "glm4": (lambda: splits(LLAMA3), False, True),
    "jais-2": (lambda: splits(LLAMA3.replace(r"\s+(?!\S)|\s+", "|".join(
        [r"\s{%d}(?!\S)" % n for n in (512, 256, 128, 64, 32, 16, 8, 4)] + [r"\s{1,2}(?!\S)", r"\s{1}"]))),
        False, False),
    "qwen2": (lambda: splits(QWEN2), True, False),
    "hunyuan": (lambda: splits(QWEN2), False, False),
    "qwen35": (lambda: splits(QWEN35), True, False),
    "gpt-4o": (lambda: splits(O200K), False, False),
    "granite-embed-multi-97m": (lambda: splits(O200K), False, True),
    "tiny_aya": (lambda: splits(r"\d{1,3}(?=(?:\d{3})*\b)", O200K), True, False),
    "tekken": (lambda: splits(TEKKEN), False, True),
    "deepseek-v3": (lambda: splits(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3), False, False),
    "deepseek-llm": (lambda: [split("[\r\n]"), split(DEEPSEEK_LETTERS), split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
                              split(r"\s+$"), split("[一-龥ࠀ-一가-퟿]+"), digits(), byte_level(False)],
                     False, False),
    "deepseek-coder": (lambda: [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"),
                                split("[一-龥ࠀ-一가-퟿]+"), digits(), byte_level(False)], False, False),
    "spark2_5": (lambda: splits(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", SPARK, r"\p{N}"), False, False),
    "youtu": (lambda: splits("[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", YOUTU), False, True),
    "falcon": (lambda: [pre_tokenizers.Punctuation("contiguous"), byte_level(True),
                        pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]")], False, False),
    "gpt-2": (gpt2, False, False),
    "mpt": (gpt2, True, False),
    "starcoder": (digits_gpt2, False, False),
    "command-r": (digits_gpt2, True, False),
    "bloom": (lambda: splits(BLOOM), False, False),
    "viking": (lambda: [split(BLOOM), digits(), byte_level(False)], False, False),
    "chameleon": (lambda: [split("<sentinel:[0-9]+>"), split("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
                           split("([\t\n]|    |  )"), digits(), pre_tokenizers.Punctuation("isolated"),
                           byte_level(True)], False, False),
    "kimi-k2": (lambda: splits(KIMI), False, True),
    "superbpe": (lambda: splits(r"\p{N}+", r"(?=(\d{3})+(?!\d))"), False, False),
    "bailingmoe": (lambda: splits(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"),
        False, False),
    "seed-coder": (lambda: splits(
        CONTRACTIONS + "|" + WORD + r"|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"), False, False),
    "ufakzeka": (lambda: splits(WORD + r"|\p{N}" + REST), False, False),
    "afmoe": (lambda: splits(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", ASIAN, DEEPSEEK3), False, False),
    "laguna": (lambda: splits(r"[^\n]+|[\n]+", QWEN2), False, False),
    "exaone-moe": (lambda: splits(
        CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"), False, False),
    "minicpm5": (lambda: splits(r"\p{N}{1,3}", CONTRACTIONS + "|" + WORD + r"|\p{N}+" + REST), False, True),
}
SAME = {"llama3": "llama-bpe", "smollm": "starcoder", "refact": "starcoder", "olmo": "mpt",
        "deepseek-r1-qwen": "qwen2", "llama4": "gpt-4o", "phi-2": "gpt-2"}


class Vocabulary:
    """What a GGUF file says about its tokens. `pre` may be set to another name before use."""

    def __init__(self, path):
        fields = gguf.GGUFReader(path).fields

        def value(key, default=None):
            name = key if "." in key else "tokenizer.ggml." + key
            return fields[name].contents() if name in fields else default

        self.path = path
        self.model, self.pre = value("model"), value("pre", "")
        self.tokens, self.kinds = value("tokens"), value("token_type")
        self.kinds = self.kinds or [NORMAL] * len(self.tokens)
        self.merges, self.scores = value("merges"), value("scores")
        self.unknown = value("unknown_token_id")
        self.space_prefix = value("add_space_prefix")
        self.charsmap = bytes(value("precompiled_charsmap", []))
        self.architecture, self.name = value("general.architecture", ""), value("general.name", "")

    def is_filler(self, i):
        return self.kinds[i] == UNUSED or self.tokens[i] == f"[PAD{i}]"

    def ids(self):
        return {text: i for i, text in enumerate(self.tokens) if not self.is_filler(i)}

    def added(self):
        kinds = (CONTROL, USER_DEFINED) + ((UNKNOWN,) if self.model in ("llama", "t5") else ())
        return [(text, kind) for i, (text, kind) in enumerate(zip(self.tokens, self.kinds))
                if kind in kinds and text and not self.is_filler(i)]


def merges_by_score(ids, scores):
    """transformers' generate_merges with scores: each way to cut a token in two, the best first."""
    merges = []
    for text, i in ids.items():
        cuts = [(text[:cut], text[cut:], scores[i]) for cut in range(1, len(text))
                if text[:cut] in ids and text[cut:] in ids]
        merges.extend(sorted(cuts, key=lambda cut: (ids[cut[0]], ids[cut[1]])))
    merges.sort(key=lambda merge: (merge[2], len(merge[0]), len(merge[1])), reverse=True)
    return [(left, right) for left, right, _ in merges]


def byte_level_bpe(vocabulary):
    pre = SAME.get(vocabulary.pre, vocabulary.pre)
    if pre not in PIPELINES:
        raise ValueError(f"the file's pre-tokenizer is {pre!r}")
    steps, nfc, ignore_merges = PIPELINES[pre]
    merges = [tuple(merge.split(" ")) for merge in vocabulary.merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary.ids(), merges=merges, ignore_merges=ignore_merges))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps())
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def marked_bpe(ids, merges, unknown, prefix):
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True,
                                     byte_fallback=True))
    steps = [normalizers.Prepend("\u2581")] if prefix else []
    tokenizer.normalizer = normalizers.Sequence(steps + [normalizers.Replace(" ", "\u2581")])
    last = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(),
                                           decoders.Fuse()] + last)
    return tokenizer


def gemma4(vocabulary):
    merges = [(merge[:merge.index(" ", 1)], merge[merge.index(" ", 1) + 1:]) for merge in vocabulary.merges]
    tokenizer = marked_bpe(vocabulary.ids(), merges, "<unk>", False)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return tokenizer


def sentence_piece(vocabulary):
    scores = list(vocabulary.scores)
    if vocabulary.architecture.startswith("gemma"):
        # As transformers reads it: runs of spaces are tokens of U+2581, and places are the order.
        vocabulary.tokens = ["\u2581" * len(text) if " " in text and not text.strip(" ") else text
                             for text in vocabulary.tokens]
        vocabulary.kinds = [NORMAL if set(text) == {"\u2581"} else kind
                            for text, kind in zip(vocabulary.tokens, vocabulary.kinds)]
        scores = [-i for i in range(len(scores))]
    unknown = vocabulary.unknown if vocabulary.unknown is not None else vocabulary.kinds.index(UNKNOWN)
    ids = vocabulary.ids()
    prefix = vocabulary.space_prefix is not False
    return marked_bpe(ids, merges_by_score(ids, scores), vocabulary.tokens[unknown], prefix)


def unigram(vocabulary):
    size = max(i for i in range(len(vocabulary.tokens)) if not vocabulary.is_filler(i)) + 1
    pieces = list(zip(vocabulary.tokens, vocabulary.scores))[:size]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=vocabulary.unknown))
    if vocabulary.charsmap:
        tokenizer.normalizer = normalizers.Precompiled(vocabulary.charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("\u2581", prepend_scheme="always")])
    tokenizer.decoder = decoders.Metaspace("\u2581", prepend_scheme="always")
    return tokenizer


def word_piece(vocabulary):
    def spelled(text, kind):
        if kind != NORMAL:
            return text
        return text[1:] if text.startswith("\u2581") else "##" + text

    vocabulary.tokens = [spelled(text, kind) for text, kind in zip(vocabulary.tokens, vocabulary.kinds)]
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary.ids(), unk_token="[UNK]",
                                           max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


MAKERS = {"gpt2": byte_level_bpe, "gemma4": gemma4, "llama": sentence_piece, "t5": unigram, "bert": word_piece}
PHI3_BARE = ("<unk>", "<s>", "<|endoftext|>")


def reference(vocabulary):
    """The tokenizer, and the texts of its added tokens."""
    tokenizer = MAKERS[vocabulary.model](vocabulary)
    phi3 = vocabulary.architecture == "phi3"
    for text, kind in vocabulary.added():
        token = AddedToken(text, special=kind != USER_DEFINED, normalized=False,
                           rstrip=phi3 and text not in PHI3_BARE,
                           lstrip=text == "<mask>" and vocabulary.model == "t5")
        if kind == USER_DEFINED:
            tokenizer.add_tokens([token])
        else:
            tokenizer.add_special_tokens([token])
    return tokenizer, [text for text, _ in vocabulary.added()]
