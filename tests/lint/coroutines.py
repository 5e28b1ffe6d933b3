#!/usr/bin/env python3
"""Inside a co_await expression no braces and no capturing lambda, and no co_await in a condition.

g++ 12 miscompiles such temporaries (use after free, double free); the fix is to name the object
first and move it in. In the condition of an `if` or `while` inside a loop g++ 12 lays the frame out
wrong (the handle points 8 bytes beside it: the first resume crashes); the fix is to name the result
first. Also refused: asio::detached, which drops exceptions, and a capturing lambda
coroutine called on the spot, which dangles under every compiler.
"""
import pathlib
import re
import sys


def expression_end(text, start):
    depth = 0
    for index in range(start, len(text)):
        char = text[index]
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth < 0:
                return index
        elif char == ";" and depth == 0:
            return index
    return len(text)


def strip(text):
    """Blanks comments and string literals, keeping line numbers."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def check(path, text):
    text = strip(text)
    for match in re.finditer(r"\bco_await\b|\bco_spawn\s*\(\s*co_await\b", text):
        expression = text[match.end():expression_end(text, match.end())]
        line = text.count("\n", 0, match.start()) + 1
        if "{" in expression:
            yield f"{path}:{line}: braces or a lambda inside co_await: name the object first"
    for match in re.finditer(r"\b(?:if|while|switch)\s*\(", text):
        condition = text[match.end():expression_end(text, match.end())]
        if re.search(r"\bco_await\b", condition):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path}:{line}: co_await in a condition: name its result first"
    for match in re.finditer(r"\basio::detached\b", text):
        yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}: asio::detached drops exceptions"


def main():
    root = pathlib.Path(sys.argv[1])
    files = sorted(f for top in ("router", "shard", "launcher") for f in (root / top).rglob("*")
                   if f.suffix in (".h", ".cc"))
    findings = [x for f in files for x in check(f.relative_to(root), f.read_text())]
    print("\n".join(findings) or f"coroutines: {len(files)} files, no finding")
    return 1 if findings or not files else 0


if __name__ == "__main__":
    sys.exit(main())
