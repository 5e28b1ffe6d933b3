"""Seeded strings that tell tokenizers apart: scripts that are new in Unicode, marks that NFC moves,
odd spaces, contractions in odd case, digits, code, and text that looks like control tokens."""
import random

NEW_LETTERS = [0x105C0, 0x105D2, 0x10D4A, 0x10D70, 0x11380, 0x11392, 0x11BC0, 0x16D43, 0x16100,
               0x1E5D0, 0x13460, 0x11F04, 0x31350, 0x2EBF0, 0xA7CB, 0xA7DA, 0x1C89, 0x1C8A, 0x1DF25,
               0x10EC2, 0x1E4D0, 0x11240, 0x30000, 0x2B740]
NUMBERS = "0123456789" "\u0663\u06f4\u096a\u0be8\u2167\u00bd\u2460\u3007\U0001d7d8\U00010d40\U0001ccf0"
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\n ", "\u0085", "\u00a0", "\u3000",
          "\u2003", "\u2028", "\u200b", "\ufeff", "\x0b", "\x0c", "\x1f", "\r", "\t\t", "       ",
          " \u00a0 ", "\n\n\n", " \t \n  "]
CONTRACTIONS = ["'s", "'S", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'vE", "'m", "'M", "'ll", "'Ll",
                "'LL", "'d", "'D", "'\u017f", "\u2019s", "''s", "'x", "'", "'r", "'l", "'v"]
MARKS = "\u0301\u0327\u0300\u0308\u0338\u05b0\u05bc\u0651\u064e\u093c\u3099\u309a\u0345\u0897\u07fd"
MARKED = ["e\u0301", "a\u0327\u0301", "a\u0301\u0327", "q\u0307\u0323", "\u1100\u1161\u11a8",
          "\uac00\u11a8", "\u212b", "\u2126", "\u0958", "\u0344", "\u1e9b\u0323", "\ufb2c",
          "\u304b\u3099", "\u00c5", "A\u030a", "\u0f73", "\u1109\u1161", "\u2adc", "\U0001d15e",
          "\u0cca", "\u0cc6\u0cc2\u0cd5", "\U000105d2\u0307"]
WORDS = ["the", "The", "THE", "hello", "world", "Tokenizer", "naïve", "Straße", "İstanbul", "ﬁne",
         "don", "can", "John", "snake_case", "camelCase", "HTTPServer", "x86_64", "été", "Ǆ", "ǅ",
         "ʰ", "ª", "ﬀ", "привет", "Мир", "γειά", "שלום", "مرحبا", "नमस्ते", "สวัสดี", "こんにちは",
         "カタカナ", "世界", "中文字符", "한국어", "ქართული", "አማርኛ", "ᏣᎳᎩ", "unbelievable", "2024-11-24"]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "☺", "🧑🏿‍🚀", "🫨", "\U0001fae9", "1️⃣"]
SYMBOLS = ["!", "?", "...", "!!!", "—", "“", "”", "«", "¿", "$", "€", "^", "~", "`", "+=", "->", "//",
           "/*", "*/", "\\n", "#", "@", "&&", "||", "::", "<", ">", "</", "{", "}", "()", "[]", ";", "_",
           "__", "%", "�", "\u00ad", "\u200d", "\u202e", "\ue000", "\U0010ffff", "\u0378", "/",
           "\x00", "\x04", "\x7f"]
CODE = ["def f(x):\n    return x**2  # ok\n", "for (int i = 0; i < 10; ++i) {\n\tsum += a[i];\n}\n",
        "SELECT * FROM t WHERE a='b';\r\n", "<div class=\"a\">text</div>\n", "{\"key\": [1, 2.5e-3, null]}",
        "https://example.org/a/b?c=d&e=%20f#g", "if x:\n\tpass\n\n\n\nelse:\n        y = 0x1F\n",
        "\\begin{equation} \\alpha_{i}^{2} \\end{equation}", "a=>b<<=c>>>d", "#!/bin/sh\nset -e\n\n"]
PROSE = ["It's the best of times, it's the worst of times; don't you think they've seen it?",
         "In 1998, 1234567890 people paid $3.50 (or €2,99) for 12 eggs at 7:30pm.",
         "Der Bär läuft über die große Straße, während Österreich schläft.",
         "我今天去了北京，買了3本書。它們一共花了100元！", "吾輩は猫である。名前はまだ無い。",
         "الكتاب على الطاولة ٣٤٥ مرة.", "Съешь ещё этих мягких французских булок, да выпей чаю.",
         "हिन्दी में लिखा गया पाठ।", "ภาษาไทยไม่มีช่องว่างระหว่างคำ", "Tiếng Việt có nhiều dấu thanh"]


def piece(rng, specials):
    pick = rng.random()
    if pick < 0.25:
        return rng.choice(WORDS)
    if pick < 0.40:
        return rng.choice(SPACES)
    if pick < 0.47:
        return rng.choice(CONTRACTIONS)
    if pick < 0.54:
        return "".join(rng.choice(NUMBERS) for _ in range(rng.randint(1, 8)))
    if pick < 0.62:
        return rng.choice(MARKED) + "".join(rng.choice(MARKS) for _ in range(rng.randint(0, 3)))
    if pick < 0.68:
        return "".join(chr(rng.choice(NEW_LETTERS)) for _ in range(rng.randint(1, 4)))
    if pick < 0.74:
        return rng.choice(EMOJI)
    if pick < 0.88:
        return rng.choice(SYMBOLS)
    if pick < 0.92 or not specials:
        code = rng.randrange(0x110000 - 0x800)
        return chr(code if code < 0xD800 else code + 0x800)
    return rng.choice(specials)


def nasty_texts(seed, count, specials=()):
    """`count` strings; `specials` are texts of the vocabulary's added tokens, mixed in whole, cut
    and doubled."""
    rng = random.Random(seed)
    specials = list(specials)
    lookalikes = specials + [text[:-1] for text in specials] + [text + text[:3] for text in specials]
    lookalikes += ["<|im_end|", "<0x41>", "<0xE4>", "\u2581", "\u2581\u2581a", "<unk>", "</s>", "<s>"]
    texts = CODE + PROSE + ["", " ", "\n", "  a", "a  ", " a b  c   d    e", "\u0301", "\u0301a"]
    while len(texts) < count:
        texts.append("".join(piece(rng, lookalikes) for _ in range(rng.randint(1, 14))))
    return texts[:count]
