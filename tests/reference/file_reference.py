"""Hugging Face tokenizers made from SentencePiece, tiktoken and tekken files by transformers' own
converters. `tokenizer_class` is what tokenizer_config.json would say; None for no such file."""
import json
import pathlib
import shutil
import tempfile


def is_tiktoken(path):
    return not path.read_bytes().startswith(b"\n")


def reference(path, tokenizer_class=None):
    """The tokenizer, and the texts of its added tokens."""
    if path.suffix == ".json":
        from transformers.integrations.mistral.tokenizer import MistralConverter
        tokenizer = MistralConverter(str(path)).converted()
    elif is_tiktoken(path):
        from transformers.convert_slow_tokenizer import TikTokenConverter
        tokenizer = TikTokenConverter(str(path)).converted()
    else:
        from transformers import AutoTokenizer
        with tempfile.TemporaryDirectory() as folder:
            make_folder(path, tokenizer_class, folder)
            tokenizer = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    return tokenizer, [token.content for token in tokenizer.get_added_tokens_decoder().values()]


def make_folder(path, tokenizer_class, folder):
    """A model's folder with the file as tokenizer.model."""
    shutil.copy(path, pathlib.Path(folder) / "tokenizer.model")
    if tokenizer_class:
        settings = json.dumps({"tokenizer_class": tokenizer_class, "legacy": False})
        (pathlib.Path(folder) / "tokenizer_config.json").write_text(settings)
