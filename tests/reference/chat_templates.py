#!/usr/bin/env python3
"""Chat templates of real models over twelve conversations: transformers against ours.

    pip download --no-deps --no-binary :all: --no-build-isolation llama-cpp-python==0.3.36
    pip install transformers==5.23.0 jinja2==3.1.6          # and scikit-build-core for the download
    python3 tests/reference/chat_templates.py build/release/bin/chorus-router FOLDER [--write]

FOLDER holds *.jinja: vendor/llama.cpp/models/templates of that source package. The reference is
transformers' own render_jinja_template(), ours is `chorus-router text render`. Prints each
difference and exits 1 where there is one. Both failing counts as equal; a message given to
raise_exception must be the same. --write also writes chat_templates.json, the golden file that
tests/router/text/chat_templates_golden_test.cc holds ours against without Python: the templates, the
conversations, and of each text its length and hash.
"""
import datetime
import json
import pathlib
import subprocess
import sys

import jinja2
from transformers.utils import chat_template_utils

from conversations import TOOLS, SYSTEM, assistant, call, result, user

NOW = "2025-07-27T11:30:45"

CONVERSATIONS = {
    "plain": {"messages": [user("Hello!"), assistant(" Hi.\n"), user("2+2? <b>'\"&</b>")],
              "add_generation_prompt": True},
    "system": {"messages": [SYSTEM, user("Hi")], "add_generation_prompt": True},
    "developer": {"messages": [{"role": "developer", "content": "Be kind."}, user("Hi")],
                  "add_generation_prompt": True},
    "tools": {"messages": [SYSTEM, user("Weather in Zürich?")], "tools": TOOLS,
              "add_generation_prompt": True},
    "parallel calls": {"messages": [SYSTEM, user("Both?"), assistant(None, tool_calls=[
        call("get_weather", {"city": "Bern"}, "call00001"),
        call("search", {"query": "a'b\"c", "filters": []}, "call00002")]),
        result("21", "get_weather", "call00001"), result("none", "search", "call00002"),
        assistant("It is 21."), user("Thanks")], "tools": TOOLS, "add_generation_prompt": True},
    "tool results": {"messages": [user("Weather?"), assistant("", tool_calls=[
        call("get_weather", {"city": "Zürich", "days": 2, "deep": {"a": [1, None, True, 1.5]}})]),
        result('{"temp": 21.5}')], "tools": TOOLS, "add_generation_prompt": True},
    "content parts": {"messages": [
        {"role": "system", "content": [{"type": "text", "text": "Sys"}]},
        {"role": "user", "content": [{"type": "text", "text": "What is "},
                                     {"type": "text", "text": "this?"}]}],
        "add_generation_prompt": True},
    "images": {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is "}, {"type": "image"}, {"type": "text", "text": "this?"}]}],
        "add_generation_prompt": True},
    "reasoning": {"messages": [user("Why?"), assistant("Because.", reasoning_content="Hm.\nSo."),
                               user("Really?"), assistant("<think>\nHm\n</think>\n\nYes."),
                               user("Sure?")],
                  "add_generation_prompt": True, "enable_thinking": True},
    "continued": {"messages": [user("Count"), assistant("1, 2, ")],
                  "add_generation_prompt": False, "continue_final_message": True},
    "unicode, documents": {
        "messages": [SYSTEM, user("Grüße an 日本 😀\u200b\u0000\u001f\ufffd é")],
        "documents": [{"title": "Ünï", "text": "Første."}, {"title": "Two", "text": "Second."}],
        "add_generation_prompt": True, "enable_thinking": False, "thinking": False,
        "reasoning_effort": "low"},
    "errors": {"messages": [user("a"), user("b"), assistant("c"), SYSTEM, {"role": "bard"}]},
}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(NOW)


def variables(conversation):
    return {"bos_token": "<s>", "eos_token": "</s>", **conversation}


def reference(template, given):
    """The text, or None where transformers fails, and the failure."""
    chat_template_utils.datetime = Clock
    given = json.loads(json.dumps(given))
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[given.pop("messages")], chat_template=template, **given)
        texts[0].encode()
        return texts[0], None
    except Exception as failure:  # whatever Python raises is an error in ours
        return None, failure


def raised_message(failure):
    return str(failure) if type(failure) is jinja2.exceptions.TemplateError else None


class Ours:
    def __init__(self, program, template):
        self.process = subprocess.Popen(
            [program, "text", "render", "--template", template, "--now", NOW],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def render(self, given):
        self.process.stdin.write(json.dumps(given) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the template does not parse"}


def agrees(ours, text, failure):
    if failure is None:
        return ours.get("text") == text
    return "error" in ours and raised_message(failure) in (None, ours["error"])


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def golden_case(text, failure):
    if failure is None:
        return [len(text.encode()), fnv1a(text)]
    return {"raised": raised_message(failure)}


def main():
    program, folder = sys.argv[1:3]
    golden = {"now": NOW, "conversations": {n: variables(c) for n, c in CONVERSATIONS.items()},
              "templates": []}
    failing = different = 0
    for path in sorted(pathlib.Path(folder).glob("*.jinja")):
        template = path.read_text()
        ours = Ours(program, path)
        cases = {}
        for name, given in golden["conversations"].items():
            text, failure = reference(template, given)
            answer = ours.render(given)
            failing += failure is not None
            cases[name] = golden_case(text, failure)
            if not agrees(answer, text, failure):
                different += 1
                print(f"DIFFERENT {path.name}, {name}\n  reference: {text!r} {failure!r}\n"
                      f"  ours:      {answer}")
        golden["templates"].append({"name": path.name, "source": template, "cases": cases})
    count = len(golden["templates"]) * len(CONVERSATIONS)
    print(f"{len(golden['templates'])} templates, {count} renderings, {failing} of them errors in "
          f"the reference, {different} differences")
    if "--write" in sys.argv:
        target = pathlib.Path(__file__).with_name("chat_templates.json")
        target.write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")
    return 1 if different or not count else 0


if __name__ == "__main__":
    sys.exit(main())
