#!/usr/bin/env python3
"""Writes jinja_golden.json: what Python's Jinja, set up as in transformers, makes of templates.

    pip install jinja2==3.1.6 gguf==0.19.0
    python3 tests/reference/jinja_golden.py MODEL.gguf...
The snippets of jinja_snippets.py, and the chat templates of the models over the conversations of
conversations.py. tests/router/text/jinja_golden_test.cc holds ours against it. Each case is
[template, text], or [template, null, message of raise_exception or null] where rendering fails.
Known differences are left out: see DIFFERENT.
"""
import json
import pathlib
import sys

import gguf
import jinja2

import conversations
import jinja_reference
import jinja_snippets

NOW = conversations.NOW
# Wanted differences: objects that Python prints by their address, and bytes.
DIFFERENT = {"{{ s.encode('utf-8') is defined }}", "{{ n.bit_length is defined }}", "{{ '\\N{BULLET}' }}",
             "{{ nested.items }}", "{{ nested.get }}", "{{ xs|map }}"}


def case(template, variables):
    text, failure = jinja_reference.render(template, variables, NOW)
    if failure is None:
        return [template, text]
    raised = type(failure) is jinja2.exceptions.TemplateError
    return [template, None, str(failure) if raised else None]


def model_template(path):
    field = gguf.GGUFReader(path).fields.get("tokenizer.chat_template")
    return field.contents() if field else None


def main():
    golden = {"now": NOW, "variables": jinja_snippets.VARIABLES, "models": []}
    golden["snippets"] = [case(snippet, jinja_snippets.VARIABLES)
                          for snippet in jinja_snippets.snippets() if snippet not in DIFFERENT]
    golden["conversations"] = {name: conversations.variables(conversation)
                               for name, conversation in conversations.CONVERSATIONS.items()}
    for path in sys.argv[1:]:
        if template := model_template(path):
            cases = {name: case(template, variables)[1:]
                     for name, variables in golden["conversations"].items()}
            golden["models"].append({"name": pathlib.Path(path).stem, "template": template,
                                     "cases": cases})
    target = pathlib.Path(__file__).with_name("jinja_golden.json")
    target.write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")
    print(f"{len(golden['snippets'])} snippets, {len(golden['models'])} models")


if __name__ == "__main__":
    main()
