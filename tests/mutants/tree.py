"""A copy of the tree in which mutants are tried, with a target directory of its own for incremental builds; and the
commit that decides which of them are."""

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def copy_tree(tree):
    """Updates the copy; unchanged files keep their time stamps, so that their builds stay valid."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    wanted = {path for path in listed.split("\0") if path and (ROOT / path).is_file()}
    for path in wanted:
        source, copy = ROOT / path, tree / path
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            # Given the current time, not the source's, so that it is newer than the build of the previous mutant.
            copy.write_bytes(source.read_bytes())
    for copy in [path for path in tree.rglob("*") if path.is_file()]:
        if str(copy.relative_to(tree)) not in wanted:
            copy.unlink()


def head():
    """The commit that is checked out."""
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def rank(commit, mutant):
    """Where a mutant stands in the order that a commit decides."""
    return hashlib.sha256(f"{commit} {mutant}".encode()).digest()
