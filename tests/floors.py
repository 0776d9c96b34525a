"""Holds every import of kmem-core against the floors: a module uses only what stands below it.

The floors are the table in the head of `crates/kmem-core/src/lib.rs`, from top to bottom; modules that share a row may use
each other. What counts as use is a path of code (`use crate::..`, `use super::..`, `crate::x::y`), not a link of a comment.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "crates/kmem-core/src"
LIB = (SOURCE / "lib.rs").read_text()
ROWS = re.findall(r"^//! \| ((?:\[?`\w+`\]?(?:, )?)+) \| ", LIB, re.M)
# 0 is the top.
FLOOR = {module: floor for floor, row in enumerate(ROWS) for module in re.findall(r"\w+", row)}
MODULES = set(re.findall(r"^(?:pub )?mod (\w+);", LIB, re.M))
COMMENT_OR_TEXT = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\])*\"", re.S)
PATH = re.compile(r"(?<![\w:$])((?:crate|super)(?:::super)*)::(\{|\w+)")


def blank(match):
    """Lines stay where they are."""
    return re.sub(r"[^\n]", " ", match.group())


def first_names(text, start):
    """The first name of each path in the braces that open before `start`."""
    depth, begins = 1, True
    for token in re.finditer(r"[{},]|\w+", text[start:]):
        if token.group() == "{":
            depth += 1
        elif token.group() == "}":
            depth -= 1
            if depth == 0:
                return
        elif token.group() == ",":
            begins = begins or depth == 1
        elif begins:
            begins = False
            yield token.group(), start + token.start()


def uses(text, inside):
    """What the code of a module uses of the crate's root, and where. `inside` is the module's path."""
    text = COMMENT_OR_TEXT.sub(blank, text)
    for path in PATH.finditer(text):
        words = path.group(1).split("::")
        # `super` in a file of tests inside a file leads to that file at most.
        base = [] if words[0] == "crate" else inside[: max(len(inside) - len(words), 0)]
        if base:
            continue
        if words[0] != "crate" and len(words) > len(inside):
            continue
        names = first_names(text, path.end()) if path.group(2) == "{" else [(path.group(2), path.start(2))]
        for name, at in names:
            yield name, text.count("\n", 0, at) + 1


def home_of(name):
    """The module that a name of the crate's root comes from."""
    if name in FLOOR:
        return name
    exported = re.search(rf"^pub use (\w+)::(?:\{{[^}}]*)?\b{name}\b", LIB, re.M)
    return exported and exported.group(1)


def main():
    wrong = [f"crates/kmem-core/src/lib.rs: {module} has no floor" for module in sorted(MODULES ^ set(FLOOR))]
    count = 0
    for file in sorted(SOURCE.rglob("*.rs")):
        if file == SOURCE / "lib.rs":
            continue
        inside = list(file.relative_to(SOURCE).with_suffix("").parts)
        if inside[-1] == "mod":
            inside.pop()
        for name, line in uses(file.read_text(), inside):
            count += 1
            place, home = f"{file.relative_to(ROOT)}:{line}", home_of(name)
            if home is None:
                wrong.append(f"{place}: {name} is no module of the crate")
            elif home != inside[0] and FLOOR[home] < FLOOR.get(inside[0], 0):
                wrong.append(f"{place}: {inside[0]} uses {home}, which is above it")
    if wrong:
        sys.exit("floors:\n  " + "\n  ".join(wrong))
    print(f"{count} imports between {len(MODULES)} modules, on {len(ROWS)} floors: none leads up")


if __name__ == "__main__":
    main()
