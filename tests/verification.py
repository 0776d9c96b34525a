"""Keeps docs/verification.md correct: the tests and files that it names exist, each invariant has a row, and so on.

`place::test` is a test: a function below `#[test]`, or a name that `in_each_mode!` makes tests of, in a file of some
crate whose path, without `.rs` and `/main.rs`, ends in the place. A name that contains a slash is a file or folder, or
the end of the path of one.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs/verification.md").read_text()
LISTED = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
FILES = [path for path in LISTED.stdout.splitlines() if (ROOT / path).is_file()]
FOLDERS = {str(parent) for path in FILES for parent in Path(path).parents}
EACH_MODE = re.compile(r"^in_each_mode!\((\w+),", re.M)
TEST = re.compile(r"#\[test\]\s*(?:(?:#\[.*\]|//.*)\s*)*(?:pub )?fn (\w+)")


def tests_of(path):
    text = (ROOT / path).read_text()
    return set(TEST.findall(text)) | set(EACH_MODE.findall(text))


PLACES = {path.removesuffix(".rs").removesuffix("/main"): tests_of(path) for path in FILES if path.endswith(".rs")}


def ends(path, end):
    return path == end or path.endswith("/" + end)


def is_test(place, name):
    return any(name in tests for path, tests in PLACES.items() if ends(path, place.removesuffix("/main")))


def main():
    wrong = []
    for span in re.findall(r"`([^`]+)`", TEXT):
        if match := re.fullmatch(r"([\w/-]+)::(\w+)", span):
            if not is_test(*match.groups()):
                wrong.append(f"there is no test {span}")
        elif "/" in span and not any(ends(path, span) for path in FILES) and not any(ends(path, span) for path in FOLDERS):
            wrong.append(f"there is no file {span}")
    invariants = re.findall(r"^- \*\*(I\d+)\*\*", (ROOT / "docs/invariants.md").read_text(), re.M)
    rows = re.findall(r"^\| (I\d+) \|", TEXT, re.M)
    wrong += [f"{number} has {rows.count(number)} rows" for number in invariants if rows.count(number) != 1]
    wrong += [f"the row {number} is of no invariant" for number in rows if number not in invariants]
    table = tomllib.loads((ROOT / "tests/mutants/table.toml").read_text())
    wrong += [f"the line '{line['name']}' is not named" for line in table["unnoticed"] if line["name"] not in TEXT]
    for mutant in table["mutant"]:
        package, target, name = mutant["test"].split()
        inside = "/".join(part for part in name.split("::")[:-1] if target != "lib" or part != "tests")
        folder = f"{package}/src" if target == "lib" else f"{package}/tests/{target}"
        places = folder, f"{folder}/{inside}"
        if not any(is_test(place.rstrip("/"), name.split("::")[-1]) for place in places):
            wrong.append(f"there is no test {mutant['test']}, which the mutant '{mutant['name']}' names")
    if wrong:
        sys.exit("docs/verification.md:\n  " + "\n  ".join(wrong))
    print(f"docs/verification.md: {len(rows)} invariants have a row, and everything that it names exists")


main()
