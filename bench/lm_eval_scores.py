#!/usr/bin/env python3
"""Scores of one float checkpoint by lm-eval, through Chorus and through transformers, side by side.

    make bench-lm-eval            # makes the Python environment (torch: some GB), then runs this

The checkpoint is the default model, converted to f32 once and kept beside it. Both tasks are made
of English text that Python itself ships (pydoc_data.topics), so nothing is downloaded: choosing the
true continuation of a sentence among four (accuracy), and the perplexity of whole passages. Ends
with 1 where a score differs by more than 1e-2.
"""
import argparse
import contextlib
import json
import pathlib
import pydoc_data.topics
import random
import re
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from conftest import CACHE, SMOLLM2, serving  # noqa: E402

TOLERANCE = 1e-2

CHOICE_TASK = """\
task: continuation
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choices.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{start}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
target_delimiter: ""
metric_list:
  - metric: acc
  - metric: acc_norm
"""
PASSAGE_TASK = """\
task: passages
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/passages.jsonl}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
"""


def make_checkpoint(folder):
    """The default model's GGUF file as a Hugging Face folder in f32."""
    if (folder / "tokenizer_config.json").exists():
        return
    import torch
    import transformers
    source = dict(pretrained_model_name_or_path=SMOLLM2.parent, gguf_file=SMOLLM2.name)
    transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32) \
        .save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def sentences():
    text = " ".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    text = re.sub(r"[*`\"_]|\s+", lambda match: " " if match[0].isspace() else "", text)
    found = re.findall(r"(?<=[.!?] )[A-Z][a-z]+ [^.!?:;|=<>\[\]{}]{60,160}[.!?](?= )", text)
    return list(dict.fromkeys(found))


def make_tasks(folder, questions, passages):
    chosen = random.Random(5)
    pool = chosen.sample(sentences(), questions)
    halves = []
    for sentence in pool:
        words = sentence.split(" ")
        halves.append((" ".join(words[:len(words) // 2]), " " + " ".join(words[len(words) // 2:])))
    with open(folder / "choices.jsonl", "w") as out:
        for i, (start, end) in enumerate(halves):
            others = [halves[j][1] for j in chosen.sample(range(questions), 4) if j != i][:3]
            label = chosen.randrange(4)
            choices = others[:label] + [end] + others[label:]
            out.write(json.dumps({"start": start, "choices": choices, "label": label}) + "\n")
    with open(folder / "passages.jsonl", "w") as out:
        for i in range(passages):
            out.write(json.dumps({"text": " ".join(pool[i * 8:i * 8 + 8])}) + "\n")
    (folder / "continuation.yaml").write_text(CHOICE_TASK.format(folder=folder))
    (folder / "passages.yaml").write_text(PASSAGE_TASK.format(folder=folder))


def evaluate(tasks, client, **model_args):
    """The scores by name, and the log-likelihood of each answer or passage."""
    import lm_eval
    import lm_eval.tasks
    manager = lm_eval.tasks.TaskManager(include_path=str(tasks), include_defaults=False)
    result = lm_eval.simple_evaluate(
        model=client, model_args=model_args, tasks=["continuation", "passages"], batch_size=1,
        task_manager=manager, bootstrap_iters=0, device="cpu")
    scores = {f"{task} {name.split(',')[0]}": value
              for task, values in result["results"].items() for name, value in values.items()
              if isinstance(value, float) and "stderr" not in name}
    likelihoods = []
    for task in ("continuation", "passages"):
        for sample in sorted(result["samples"][task], key=lambda sample: sample["doc_id"]):
            for answer in sample["resps"]:
                value = answer[0]
                likelihoods.append(float(value[0] if isinstance(value, (tuple, list)) else value))
    return scores, likelihoods


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=pathlib.Path, default=CACHE / "SmolLM2-135M-f32")
    parser.add_argument("--questions", type=int, default=150)
    parser.add_argument("--passages", type=int, default=10)
    args = parser.parse_args()
    make_checkpoint(args.checkpoint)
    with contextlib.ExitStack() as stack:
        tasks = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_tasks(tasks, args.questions, args.passages)
        server = stack.enter_context(serving(model=args.checkpoint))
        ours, our_values = evaluate(
            tasks, "local-completions", base_url=server.url + "/v1/completions", model="tgi",
            tokenizer=str(args.checkpoint), tokenizer_backend="huggingface", num_concurrent=8,
            add_bos_token=False)  # said to both, since their defaults differ
        server.stop()
        theirs, their_values = evaluate(tasks, "hf", pretrained=str(args.checkpoint),
                                        dtype="float32", add_bos_token=False)
    print(f"{'':28}{'Chorus':>12}{'transformers':>14}{'difference':>12}")
    for name in theirs:
        print(f"{name:28}{ours[name]:12.5f}{theirs[name]:14.5f}{ours[name] - theirs[name]:12.5f}")
    apart = [abs(a - b) for a, b in zip(our_values, their_values, strict=True)]
    print(f"{len(apart)} log-likelihoods: median difference {statistics.median(apart):.2g}, "
          f"largest {max(apart):.2g}")
    # A perplexity is compared by its ratio, a share as it is.
    same = all(abs(ours[name] - theirs[name]) <= TOLERANCE * max(1, abs(theirs[name]))
               for name in theirs)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
