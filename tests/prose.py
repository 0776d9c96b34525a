"""Keeps documents readable and whole: no line of a Markdown file is longer than 100 columns, links lead somewhere, and
what is to be listed is listed: each gate in CONTRIBUTING.md, each variable of the environment in docs/tuning.md.

Rows of tables are excepted, and so is a line without a space to break it at. A link to a file leads to one of this
repository, and a link to a heading to one that is there.

No comment in Rust sources is longer than 120 columns either: rustfmt does not wrap them.

`--wrap FILE...` lays Markdown out anew: each sentence begins a line, and a long one is broken at spaces. So a change of
one sentence is a change of its lines only.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, RUST_COLUMNS = 100, 120
FENCE = re.compile(r"\s*(```|~~~)")
# A list item, a quotation, or nothing: what the lines of a paragraph are indented by.
ITEM = re.compile(r"(\s*(?:[-*+]|\d+\.)\s+|\s*>\s?|\s*)(.*)")
ALONE = re.compile(r"\s*(#|\||<!--|<|!\[|\[[^\]]+\]:|-{3,}$)")
SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z0-9`*\[(_])")
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")
ABBREVIATED = re.compile(r"\b(e\.g|i\.e|cf|vs|etc|pp?)\.$")


def listed(pattern):
    command = ["git", "ls-files", "-co", "--exclude-standard", pattern]
    paths = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [path for path in paths if (ROOT / path).is_file()]


def is_too_long(line):
    body = ITEM.match(line).group(2)
    return len(line) > COLUMNS and not line.lstrip().startswith("|") and " " in body


def anchors(path):
    """The headings of a file, as a host makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path):
    """The links of a file that lead nowhere."""
    for link in LINK.findall(re.sub(r"```.*?```", "", (ROOT / path).read_text(), flags=re.S)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / path).parent / name if name else ROOT / path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield f"{path}: the link {link} leads nowhere"


def unlisted():
    """Gates and variables that no table has."""
    gates = re.search(r"^for gate in (.*); do$", (ROOT / ".ci/run").read_text(), re.M).group(1).split()
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    yield from (f"CONTRIBUTING.md: no row for .ci/{gate}" for gate in gates[1:] if f"| `.ci/{gate}` |" not in contributing)
    settings = next(ROOT.glob("crates/*/src/*/settings.rs")).read_text()
    variables = re.findall(r'Variable \{ name: "(\w+)"', settings)
    assert variables, "the table of variables is not where it was"
    tuning = (ROOT / "docs/tuning.md").read_text()
    yield from (f"docs/tuning.md: no row for KMEM_{name}" for name in variables if f"| `KMEM_{name}` |" not in tuning)


def sentences(text):
    begun = ""
    for piece in SENTENCE.split(text):
        begun = f"{begun} {piece}" if begun else piece
        if not ABBREVIATED.search(begun):
            yield begun
            begun = ""
    if begun:
        yield begun


def laid_out(first, text):
    """The lines of a paragraph whose first is indented by `first`."""
    indent = first if ">" in first else " " * len(first)
    lines, lead = [], first
    for sentence in sentences(" ".join(text.split())):
        while len(lead + sentence) > COLUMNS and " " in sentence:
            end = break_of(sentence, COLUMNS - len(lead))
            lines.append(lead + sentence[:end])
            sentence, lead = sentence[end + 1 :], indent
        lines.append(lead + sentence)
        lead = indent
    return lines


def break_of(sentence, room):
    """The space to break at, outside of code: after a mark of punctuation, if one is far enough to the right; else the
    last that fits."""
    spaces = [index for index, letter in enumerate(sentence) if letter == " "]
    outside = [index for index in spaces if sentence[:index].count("`") % 2 == 0] or spaces
    fits = [index for index in outside if index <= room]
    if not fits:
        return outside[0]
    marks = [index for index in fits if sentence[index - 1] in ",;:" and index > room * 0.6]
    return (marks or fits)[-1]


def wrap(text):
    out, paragraph, fenced = [], None, False

    def close():
        nonlocal paragraph
        if paragraph:
            out.extend(laid_out(*paragraph))
        paragraph = None

    for line in text.splitlines():
        if FENCE.match(line):
            fenced = not fenced
            close()
            out.append(line)
        elif fenced or not line.strip() or ALONE.match(line):
            close()
            out.append(line)
        else:
            first, body = ITEM.match(line).groups()
            if paragraph is None or (first.strip() and first.strip() != ">"):
                close()
                paragraph = (first, body)
            else:
                paragraph = (paragraph[0], f"{paragraph[1]} {body}")
    close()
    return "\n".join(out) + "\n"


def main():
    if sys.argv[1:2] == ["--wrap"]:
        for path in map(Path, sys.argv[2:]):
            path.write_text(wrap(path.read_text()))
        return
    wrong = []
    for path in listed("*.md"):
        # A diagram has a step a line.
        text = re.sub(r"^```mermaid\n.*?^```", lambda fence: "\n" * fence.group().count("\n"), (ROOT / path).read_text(), flags=re.M | re.S)
        for number, line in enumerate(text.splitlines(), 1):
            if is_too_long(line):
                wrong.append(f"{path}:{number}: {len(line)} columns, of {COLUMNS}")
        # The words on a machine are a part of its page in docs/benchmarks, from where their links lead.
        wrong += [] if path.endswith("/losses.md") else broken(path)
    wrong += unlisted()
    for path in listed("*.rs"):
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            if len(line) > RUST_COLUMNS and line.lstrip().startswith("//"):
                wrong.append(f"{path}:{number}: a comment of {len(line)} columns, of {RUST_COLUMNS}")
    if wrong:
        sys.exit("\n".join(wrong) + "\nprose: `python3 tests/prose.py --wrap FILE` lays Markdown out")
    print(f"prose: no line of Markdown has more than {COLUMNS} columns, and no comment in Rust more than {RUST_COLUMNS}")


main()
