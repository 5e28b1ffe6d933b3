#!/usr/bin/env python3
"""Generated snippets of the template language, rendered by Python's Jinja and by ours.

    pip install jinja2==3.1.6
    ninja -C build/release jinja_render
    python3 tests/reference/jinja_property.py build/release/bin/jinja_render [COUNT [SEED]]
Snippets grow from a grammar of expressions and statements over the variables of jinja_snippets.py,
well typed often enough to give text. Prints each difference with its seed and exits 1 where there
is one. Both failing counts as equal; a message given to raise_exception must be the same. Not compared: what ours
refuses on purpose (see REFUSED) and what Python prints by its address.
"""
import json
import random
import re
import subprocess
import sys

import jinja2

import jinja_reference
from jinja_snippets import VARIABLES

NOW = 1753617845
# Integers beyond 128 bits and complex numbers; slices of a constant that has none, which Python's
# optimiser turns into undefined; bytes; `x in loop`, which uses the loop up.
REFUSED = ("beyond 128 bits", "complex numbers", "is not subscriptable", "no attribute 'encode'",
           "argument of type 'LoopContext'")
STRINGS = ["s", "e", "u", "ws", "html", "quote", "both", "control", "'x'", "'a,b,c'", "' pad '",
           "\"it's\"", "'%s-%d'", "'{}:{x}'", "'Äß'", "'\\n'", "'10'", "'3.5'", "'-7'", "'_'", "''"]
NUMBERS = ["n", "neg", "0", "1", "2", "-3", "10", "255", "9223372036854775807", "xs[0]"]
FLOATS = ["f", "big", "tiny", "0.5", "-1.5", "2.0", "1e3"]
LISTS = ["xs", "mixed", "pairs", "empty", "users", "messages", "[1, 'a', none]", "[[1], [2, 3]]",
         "range(4)", "('t', 1)", "[true, 0, 1.0]", "s.split()", "'abc'|list", "d.keys()|list"]
DICTS = ["d", "nested", "{'k': 1, 'j': [2]}", "{}", "users[0]", "{1: 'a', 'b': {'c': none}}",
         "dict(a=1)", "messages[0]"]
OTHERS = ["t", "no", "none_value", "none", "true", "false", "missing", "tools", "loop"]
TEXT_FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "string", "reverse",
                "first", "last", "list", "e", "escape", "safe", "int", "float", "wordcount", "tojson",
                "replace('a', 'b')", "replace('', '-')", "replace('l', 'L', 1)", "indent", "indent(2)",
                "indent(4, true)", "indent(2, blank=true)", "truncate(5)", "truncate(5, true)",
                "truncate(4, true, '')", "center(20)", "default('d')", "default('d', true)",
                "urlencode", "format(1, 2)", "batch(2)|list", "slice(2)|list",
                "int(5)", "int(base=16)", "float(1.5)", "join('-')", "sort|join", "unique|join",
                "tojson(indent=2)", "tojson(ensure_ascii=true)", "count", "xmlattr"]
NUMBER_FILTERS = ["abs", "round", "round(1)", "round(0, 'floor')", "round(1, 'ceil')", "int", "float",
                  "string", "tojson", "filesizeformat", "default(3)", "format", "length", "list"]
LIST_FILTERS = ["length", "first", "last", "join", "join(', ')", "join('-', attribute='name')", "sort",
                "sort(reverse=true)", "sort(attribute='age')|map(attribute='name')", "reverse|list",
                "unique|list", "unique(attribute='age')|list", "map('string')|list", "map('upper')|list",
                "map(attribute='role')|list", "map(attribute='name', default='?')|list",
                "select|list", "reject|list", "select('string')|list", "reject('none')|list",
                "select('>', 1)|list", "selectattr('age', 'equalto', 30)|list",
                "rejectattr('tags')|list", "selectattr('name')|list", "sum", "sum(start=10)",
                "sum(attribute='age')", "min", "max", "batch(2)|list", "batch(2, 'x')|list",
                "slice(2)|list", "slice(3, 'y')|list", "groupby('age')", "groupby('role')|length", "list",
                "tojson", "tojson(indent=1)", "string", "map('first')|list",
                "items|list", "map('length')|list", "sort(case_sensitive=true)", "min(attribute='age')",
                "max(attribute='name')", "tojson(separators=(',', ':'))", "default([])", "count"]
DICT_FILTERS = ["items|list", "dictsort", "dictsort(by='value')", "dictsort(reverse=true)", "length",
                "list", "tojson", "tojson(sort_keys=true, indent=2)", "string", "first", "xmlattr",
                "join(',')", "default({})", "keys", "map('string')|list", "urlencode", "sort"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping",
         "sequence", "iterable", "true", "false", "odd", "even", "lower", "upper", "callable",
         "divisibleby(3)", "divisibleby 2", "equalto(1)", "eq 1", "ne 'x'", "gt 2", "lt(3)", "ge 1", "le 0",
         "in([1, 2])", "in 'abc'", "sameas none", "sameas(true)", "escaped", "filter", "test"]
TEXT_METHODS = ["strip()", "lstrip()", "rstrip('x ')", "strip('ab')", "split()", "split(',')",
                "split(' ', 1)", "rsplit(' ', 1)", "splitlines()", "splitlines(true)", "upper()", "lower()",
                "title()", "capitalize()", "swapcase()", "casefold()", "startswith('h')",
                "endswith(('d', 'x'))", "find('o')", "rfind('o')", "index('o')", "count('l')",
                "replace('l', 'L')", "replace('o', '0', 1)", "join(['a', 'b'])", "join(mixed)",
                "isdigit()", "isalpha()", "isalnum()", "isspace()", "isupper()", "islower()", "istitle()",
                "isnumeric()", "isdecimal()", "isprintable()", "isascii()", "zfill(8)",
                "center(9, '*')", "ljust(9)", "rjust(9, '.')", "partition(' ')", "rpartition('o')",
                "removeprefix('he')", "removesuffix('ld')", "expandtabs(4)", "format(1, x=2)",
                "encode() is defined", "format_map({'x': 1})"]
LIST_METHODS = ["index(1)", "count(1)", "append(1)", "copy()", "pop()"]
DICT_METHODS = ["items()|list", "keys()|list", "values()|list", "get('a')", "get('zz', 'dflt')",
                "get('zz')", "copy()", "update({})", "pop('a')", "items()|length", "keys()|string",
                "values()|string", "items()|string"]


class Grammar:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, options):
        return self.random.choice(options)

    def text(self, depth):
        if depth <= 0 or self.random.random() < 0.3:
            return self.pick(STRINGS)
        return self.pick([
            lambda: f"({self.text(depth - 1)} ~ {self.any(depth - 1)})",
            lambda: f"({self.text(depth - 1)} + {self.text(depth - 1)})",
            lambda: f"({self.text(depth - 1)} * {self.pick(['0', '2', '3', 'neg'])})",
            lambda: f"({self.text(depth - 1)})|{self.pick(TEXT_FILTERS)}",
            lambda: f"{self.text_atom(depth - 1)}.{self.pick(TEXT_METHODS)}",
            lambda: f"{self.text_atom(depth - 1)}[{self.slice()}]",
            lambda: f"{self.text_atom(depth - 1)}[{self.number(0)}]",
            lambda: f"({self.text(depth - 1)} % {self.pick(['n', '(s, n)', 'f', 'd', '(1, 2)', 'u'])})",
            lambda: f"({self.text(depth - 1)} if {self.test(depth - 1)} else {self.any(depth - 1)})",
        ])()

    def text_atom(self, depth):
        return f"({self.text(depth)})"

    def slice(self):
        part = lambda: self.pick(["", "", "0", "1", "2", "-1", "-2", "n", "100", "none"])
        step = self.pick(["", "", ":", ":1", ":2", ":-1", ":-2"])
        return f"{part()}:{part()}{step}"

    def number(self, depth):
        if depth <= 0 or self.random.random() < 0.4:
            return self.pick(NUMBERS + FLOATS)
        return self.pick([
            lambda: f"({self.number(depth - 1)} {self.pick(['+', '-', '*', '/', '//', '%'])} "
                    f"{self.number(depth - 1)})",
            lambda: f"({self.number(depth - 1)} ** {self.pick(['2', '-1', '0.5', '3', '0'])})",
            lambda: f"(-{self.number(depth - 1)})",
            lambda: f"({self.number(depth - 1)})|{self.pick(NUMBER_FILTERS)}",
            lambda: f"({self.list(depth - 1)})|length",
        ])()

    def list(self, depth):
        if depth <= 0 or self.random.random() < 0.4:
            return self.pick(LISTS)
        return self.pick([
            lambda: f"({self.list(depth - 1)} + {self.list(depth - 1)})",
            lambda: f"({self.list(depth - 1)})[{self.slice()}]",
            lambda: f"[{self.any(depth - 1)}, {self.any(depth - 1)}]",
            lambda: f"({self.list(depth - 1)})|{self.pick(LIST_FILTERS)}",
            lambda: f"({self.list(depth - 1)}).{self.pick(LIST_METHODS)}",
            lambda: f"({self.any(depth - 1)}, {self.any(depth - 1)})",
        ])()

    def dict(self, depth):
        if depth <= 0 or self.random.random() < 0.4:
            return self.pick(DICTS)
        return self.pick([
            lambda: f"({self.dict(depth - 1)})|{self.pick(DICT_FILTERS)}",
            lambda: f"({self.dict(depth - 1)}).{self.pick(DICT_METHODS)}",
            lambda: f"({self.dict(depth - 1)})[{self.pick(['1', repr('a'), repr('zz'), 's', 'xs', 'd'])}]",
            lambda: f"({self.dict(depth - 1)}).{self.pick(['a', 'items', 'get', 'zz', 'k', 'x.y'])}",
            lambda: f"{{{self.text(0)}: {self.any(depth - 1)}, 'z': {self.any(depth - 1)}}}",
        ])()

    def test(self, depth):
        return self.pick([
            lambda: f"{self.any(depth)} is {self.pick(['', 'not '])}{self.pick(TESTS)}",
            lambda: f"{self.any(depth)} {self.pick(['==', '!=', '<', '>=', 'in', 'not in'])} "
                    f"{self.any(depth)}",
            lambda: f"{self.number(depth)} {self.pick(['==', '<', '<=', '>'])} {self.number(depth)}",
            lambda: f"not {self.any(depth)}",
            lambda: f"{self.any(depth)} {self.pick(['and', 'or'])} {self.any(depth)}",
        ])()

    def any(self, depth):
        return self.pick([self.text, self.text, self.number, self.list, self.dict,
                          lambda _: self.pick(OTHERS), lambda d: f"({self.test(d - 1)})" if d > 0
                          else self.pick(OTHERS)])(depth)

    def gap(self):
        return self.pick(["", "", " ", "\n", "  \n", "x", "\n  ", "\t"])

    def tag(self, text):
        return "{%" + self.pick(["", "", "-", "+"]) + f" {text} " + self.pick(["", "", "-"]) + "%}"

    def output(self):
        return "{{" + self.pick(["", "", "-"]) + f" {self.any(2)} " + self.pick(["", "", "-"]) + "}}"

    def loop_value(self):
        return self.pick(["loop.index", "loop.index0", "loop.revindex", "loop.revindex0", "loop.first",
                          "loop.last", "loop.length", "loop.previtem", "loop.nextitem", "loop.depth",
                          "loop.cycle('a', 'b')", "loop.changed(i)", "i", "i.name", "i|string", "v.x"])

    def statement(self, depth):
        body = lambda: self.body(depth - 1)
        target = self.pick(["x", "y", "v", "i", "s", "ns.v"])
        return self.pick([
            lambda: self.output(), lambda: self.output(),
            lambda: self.tag(f"set {target} = {self.any(2)}"),
            lambda: self.tag(f"set v{self.pick(['', '|upper', '|trim'])}") + body() + self.tag("endset"),
            lambda: (self.tag(f"if {self.test(1)}") + body() + self.tag(f"elif {self.any(1)}") + body()
                     + self.tag("else") + body() + self.tag("endif")),
            lambda: (self.tag(f"for i in {self.list(1)}" + self.pick(["", f" if {self.test(1)}", " if i"]))
                     + "{{ " + self.loop_value() + " }}" + body()
                     + self.pick(["", self.tag(f"if {self.test(0)}") + self.tag(
                         self.pick(["break", "continue"])) + self.tag("endif")])
                     + self.pick(["", self.tag("else") + body()]) + self.tag("endfor")),
            lambda: (self.tag(f"for i, v in {self.pick(['d.items()', 'pairs', 'd|dictsort', 'xs'])}")
                     + body() + "{{ i }}={{ v }}" + self.tag("endfor")),
            lambda: (self.tag("for i in [[1, [2]], [3]] recursive") + "{{ loop.depth }}{{ i }}"
                     + self.pick(["", "{{ loop(i[1]) if i is iterable and i|length > 1 }}"])
                     + self.tag("endfor")),
            lambda: (self.tag(f"macro m(a, b={self.any(1)})") + "{{ a }}{{ b }}"
                     + self.pick(["", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller }}"]) + body()
                     + self.tag("endmacro") + "{{ " + self.pick(["m(1)", "m(s, n)", "m()", "m(1, 2, 3)",
                                                                  "m(b=2)", "m(1, c=3)", "m.name",
                                                                  "m(a=d)", "m(*xs)"]) + " }}"),
            lambda: (self.tag("macro w()") + "<{{ caller(" + self.pick(["", "1"]) + ") }}>"
                     + self.tag("endmacro") + self.tag("call" + self.pick(["", "(p)", "(p=2)"]) + " w()")
                     + body() + "{{ p }}" + self.tag("endcall")),
            lambda: self.tag(f"filter {self.pick(TEXT_FILTERS)}") + body() + self.tag("endfilter"),
            lambda: self.tag(f"with x = {self.any(1)}, y = {self.any(1)}") + body() + self.tag("endwith"),
            lambda: self.tag("generation") + body() + self.tag("endgeneration"),
            lambda: "{#" + self.pick(["", "-"]) + " c " + self.pick(["", "-"]) + "#}",
            lambda: self.tag("raw") + "{{ x }}{% if %}" + self.tag("endraw"),
            lambda: self.tag("set ns = namespace(v=1)") + body() + "{{ ns.v }}{{ v }}{{ x }}",
            lambda: "{{ raise_exception(" + self.text(1) + ") }}",
            lambda: "{{ strftime_now(" + self.pick(["'%d %b %Y'", "'%H:%M:%S'", "'%A %B %j %%'", "'%f %z %Z'",
                                                    "'%-d %y'", "''", "s"]) + ") }}",
        ])()

    def body(self, depth):
        count = self.random.randrange(1, 4) if depth > 0 else self.random.randrange(0, 2)
        pieces = [self.gap()]
        for _ in range(count):
            pieces += [self.statement(depth) if depth > 0 else self.output(), self.gap()]
        return "".join(pieces)


def without_addresses(text):
    """Python prints functions and generators by their address: not to be compared."""
    return text is not None and re.search(r" at 0x[0-9a-f]+|<built-in method|<bound method", text)


def agrees(ours, text, failure):
    if failure is None:
        return ours.get("text") == text
    raised = type(failure) is jinja2.exceptions.TemplateError
    return "error" in ours and (not raised or ours["error"] == str(failure))


def main():
    program = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20000
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    different = failing = 0
    for seed in range(first, first + count):
        template = Grammar(seed).body(2)
        text, failure = jinja_reference.render(template, VARIABLES, NOW)
        if without_addresses(text):
            continue
        failing += failure is not None
        process.stdin.write(json.dumps({"template": template, "variables": VARIABLES, "now": NOW}) + "\n")
        process.stdin.flush()
        ours = json.loads(process.stdout.readline())
        if any(refusal in ours.get("error", "") for refusal in REFUSED):
            continue
        if not agrees(ours, text, failure):
            different += 1
            print(f"DIFFERENT, seed {seed}\n  {template!r}\n  python: {text!r} {failure!r}\n"
                  f"  ours:   {ours.get('text')!r} {ours.get('error')!r}")
    print(f"{count} snippets, {failing} of them errors in Python, {different} differences")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
