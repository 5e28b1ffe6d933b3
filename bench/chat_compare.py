#!/usr/bin/env python3
"""Renders a chat of twenty messages with chat_bench and with Python's Jinja as transformers sets it up.

    pip install transformers==5.23.0 jinja2==3.1.6
    python3 bench/chat_compare.py build/release/bin/chat_bench TEMPLATE.jinja...
Prints for each template the median time of both and their ratio; the texts have to be equal in
length. Without arguments for templates: ChatML.
"""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from transformers.utils.chat_template_utils import render_jinja_template

CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content']"
          " + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|im_start|>assistant\\n' }}{% endif %}")
WORDS = ("The quick brown fox jumps over the lazy dog while the engineers measure how long a chat of "
         "twenty messages takes to become one prompt. ")


def conversation():
    messages = [{"role": "system", "content": "You are a helpful assistant. " + WORDS}]
    for turn in range(19):
        role = "assistant" if turn % 2 else "user"
        messages.append({"role": role, "content": f"Turn {turn}: " + WORDS * (1 + turn % 3)})
    return {"messages": messages}


def python_micros(template, messages, rounds=300):
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        texts, _ = render_jinja_template(conversations=[messages], chat_template=template,
                                         add_generation_prompt=True, bos_token="<s>",
                                         eos_token="</s>")
        times.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(times), len(texts[0].encode())


def main():
    program, *paths = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        chat = pathlib.Path(folder) / "chat.json"
        chat.write_text(json.dumps(conversation()))
        if not paths:
            paths = [str(pathlib.Path(folder) / "chatml.jinja")]
            pathlib.Path(paths[0]).write_text(CHATML)
        slow = 0
        for path in paths:
            line = subprocess.run([program, str(chat), path], capture_output=True, text=True,
                                  check=True).stdout.split()
            ours, size = float(line[2]), int(line[-1])
            python, expected = python_micros(pathlib.Path(path).read_text(),
                                             conversation()["messages"])
            note = "" if size == expected else f"  DIFFERENT: {expected} bytes in Python"
            slow += ours >= 200 or size != expected
            print(f"{pathlib.Path(path).name:45} {ours:8.1f} us   Python {python:8.1f} us   "
                  f"x{python / ours:.1f}   {size} bytes{note}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
