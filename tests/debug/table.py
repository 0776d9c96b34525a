#!/usr/bin/env python3
"""Who finds which of the planted bugs (planted.cc), and whether the report names the planted line.

`python3 tests/debug/table.py` runs each bug under `kmem run`, valgrind and the address sanitizer of g++, and prints
the table of docs/debugging.md; with `--write` it puts it there. kmem is built before (`cargo build`). A cell has what
the tool says in its first line, and then

    line      the report names the marked line
    no line   it reports, but names other lines only
    not found the program ends as if nothing were wrong
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests/debug/planted.cc"
PAGE = ROOT / "docs/debugging.md"
BEGIN, END = "<!-- tests/debug/table.py begins -->\n", "<!-- tests/debug/table.py ends -->\n"

# What each bug is called, and the option of `kmem run` that finds it.
BUGS = [
    ("double free", "--debug=FZPU"),
    ("free of an object's middle", "--debug=FZPU"),
    ("free of the stack", "--debug=FZPU"),
    ("overflow by a byte", "--debug=FZPU"),
    ("overflow by a string's null", "--debug=FZPU"),
    ("underflow", "--debug=FZPU"),
    ("write after free", "--debug=FZPU"),
    ("read after free", "--guard=1"),
    ("read of what was not written", "--debug=FZPU"),
    ("wrong size at delete", "--debug=FZPU"),
    ("realloc of what is free", "--debug=FZPU"),
    ("write beyond a large object", "--debug=FZPU"),
    ("write to an object of no bytes", "--debug=FZPU"),
    ("leak", "--leaks"),
    ("`new`, then `free`", "--debug=FZPU"),
    ("`new`, then `delete[]`", "--debug=FZPU"),
    ("`new[]`, then `delete`", "--debug=FZPU"),
    ("malloc, then `delete`", "--debug=FZPU"),
]

# What a report begins with, and the words of it that say what was found.
KMEM = re.compile(
    r"kmem: (?:BUG .*\((?P<kind>[^)]*)\)|BUG .*, which is (?P<part>inside of the object)|LEAK: (?P<leak>not reachable))"
)
VALGRIND = re.compile(
    r"==\d+== (?P<kind>Invalid (?:read|write|free)[^/\n]*|Mismatched[^\n]*|Conditional jump[^\n]*|[^\n]*definitely lost)"
)
SANITIZER = re.compile(
    r"ERROR: (?:AddressSanitizer|LeakSanitizer): (?P<kind>attempting double-free|attempting free[^\n]*?which was not malloc|[\w-]+(?: memory leaks)?)"
)


def compiled(folder, name, *options):
    program = folder / name
    subprocess.run(["g++", "-g", "-O0", "-w", *options, "-o", program, SOURCE], check=True)
    return str(program)


def line_of(number):
    lines = SOURCE.read_text().splitlines()
    return next(at for at, line in enumerate(lines, 1) if line.endswith(f"// planted {number}"))


def said(command, **environment):
    clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD" and not name.startswith("KMEM_")}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env={**clean, **environment}, timeout=300)
    return done.stdout + done.stderr


def cell(text, report, number):
    found = report.search(text)
    if not found or "definitely lost: 0 bytes" in text and "ERROR SUMMARY: 0 errors" in text:
        return "shown by poison: 5a" if "read 5a5a5a5a" in text else "not found"
    kind = next(value for value in found.groupdict().values() if value)
    kind = re.sub(r"[\d,]+ bytes? in .*are definitely lost", "definitely lost", kind).strip().lower()
    kind = re.sub(r"conditional jump.*", "jump that depends on it", kind.split(" / ")[0])
    kind = re.sub(r"attempting free.*", "free of what was not malloc'ed", kind).removeprefix("attempting ")
    return f"{kind}: {'line' if f'planted.cc:{line_of(number)}' in text else 'no line'}"


def rows(folder):
    plain, checked = compiled(folder, "planted"), compiled(folder, "sanitized", "-fsanitize=address")
    kmem = os.environ.get("KMEM", str(ROOT / "target/debug/kmem"))
    for number, (name, option) in enumerate(BUGS, 1):
        bug = str(number)
        yield name, [
            f"`{option}`",
            cell(said([kmem, "run", "--quiet", option, "--", plain, bug]), KMEM, number),
            cell(said(["valgrind", "--leak-check=full", plain, bug]), VALGRIND, number),
            # It would name the memory of each bug as lost, too.
            cell(said([checked, bug], ASAN_OPTIONS=f"detect_leaks={int(name == 'leak')}"), SANITIZER, number),
        ]


def main():
    with tempfile.TemporaryDirectory() as folder:
        table = "| bug | option | kmem | valgrind | address sanitizer |\n|---|---|---|---|---|\n"
        for name, cells in rows(Path(folder)):
            table += f"| {name} | {' | '.join(cells)} |\n"
    if "--write" in sys.argv[1:]:
        text = PAGE.read_text()
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}")
    else:
        print(table, end="")


if __name__ == "__main__":
    main()
