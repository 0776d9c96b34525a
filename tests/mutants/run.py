"""Disables essential lines, one at a time, and shows that a test fails for each.

`table.toml` lists them: each mutant replaces an anchor, which must occur exactly once in its file, and names the
narrowest test that then fails. If an anchor no longer matches, a mutant does not compile, or a named test does not
exist or does not pass without the mutant, the run fails, so the table cannot become stale.

A run tries a third of the table, in an order that the commit decides, so that each commit tries others; `--all` tries
every one, and a name those whose names contain it. Anchors are checked for the whole table.

Works on copies of the tree in target/mutants, one for each lane: two lanes run at a time, one of models
(`kmem-models`, under loom, built as .ci/loom builds them, with its dependencies), and one of all other tests.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ending import group
from tree import ROOT, copy_tree, head, rank

WORK = ROOT / "target" / "mutants"
# A copy of the tree for each lane.
TREES = {True: WORK / "models", False: WORK / "tree"}
# Seconds that a test may take with a mutant in place; a test that hangs has noticed it.
PATIENCE = 150
# Of how many rows a run tries one, unless all are asked for.
PARTS = 3
# Seconds that a run should take in CI on two CPUs.
BUDGET = 250


def stop(message):
    sys.exit(f"mutants: {message}")


class Test:
    """A test: its package, its target (`lib`, or a file of `tests`), its name."""

    def __init__(self, text):
        parts = text.split()
        if len(parts) != 3:
            stop(f"a test is 'package target name', not '{text}'")
        self.text, (self.package, self.target, self.name) = text, parts
        self.is_model = self.package == "kmem-models"
        self.tree = TREES[self.is_model]

    def environment(self):
        if self.is_model:
            flags = {"CARGO_TARGET_DIR": str(ROOT / "target" / "loom")}
        else:
            flags = {"CARGO_TARGET_DIR": str(WORK / "target"), "CARGO_PROFILE_DEV_DEBUG": "0", "KMEM_TEST_PATIENCE": "6"}
        return {**os.environ, "CARGO_INCREMENTAL": "1", "RUST_BACKTRACE": "0", **flags}

    def build(self):
        """The test's executable, or None and the compiler's message."""
        command = ["cargo", "test", "--quiet", "-p", self.package, "--no-run", "--message-format", "json"]
        command += ["--lib"] if self.target == "lib" else ["--test", self.target]
        if self.is_model:
            # Loom itself is optimised, as in .ci/loom; the engine, which is built for each mutant, only as far as that
            # saves time.
            command += ["--release", "--features", self.target, "--config", "profile.release.package.kmem-models.opt-level=1"]
        # The package's folder determines its workspace.
        folder = self.tree / "crates" / self.package
        done = subprocess.run(command, cwd=folder, env=self.environment(), capture_output=True, text=True)
        if done.returncode != 0:
            lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            errors = [line["message"]["rendered"] for line in lines if line.get("reason") == "compiler-message"]
            return None, "".join(errors) + done.stderr
        for line in done.stdout.splitlines():
            artifact = json.loads(line) if line.startswith("{") else {}
            # Not a program of the package, which its tests run.
            if artifact.get("reason") == "compiler-artifact" and artifact.get("executable") and artifact["profile"]["test"]:
                return artifact["executable"], ""
        return None, done.stderr

    def run(self, executable):
        """Whether the test passed, how it ended, and what it said."""
        options = {"cwd": self.tree / "crates" / self.package, "env": self.environment(), "text": True, "errors": "replace"}
        command = [executable, self.name, "--exact"]
        with group(command, PATIENCE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
            output, _ = process.communicate()
        if process.timed_out:
            return False, "hangs", output
        if process.returncode == 0 and "\nrunning 1 test\n" not in output:
            stop(f"there is no test '{self.text}'")
        if process.returncode == 0:
            return True, "passes", output
        return False, "fails" if process.returncode == 101 else f"dies ({signal_name(process.returncode)})", output


def signal_name(code):
    return signal.Signals(-code).name if code < 0 else f"code {code}"


def check_anchors(mutants):
    wrong = []
    for mutant in mutants:
        path = ROOT / mutant["file"]
        count = path.read_text().count(mutant["anchor"]) if path.is_file() else "no file, so"
        if count != 1:
            wrong.append(f"  {mutant['name']}: {count} times in {mutant['file']}: {mutant['anchor']!r}")
    if wrong:
        stop("anchors that do not occur exactly once (correct tests/mutants/table.toml):\n" + "\n".join(wrong))


def check_unmutated(tests):
    """Checks that every named test of a lane exists and passes without a mutant."""
    executables = {}
    for test in tests:
        place = (test.package, test.target)
        if place not in executables:
            executables[place], said = test.build()
            if executables[place] is None:
                stop(f"{test.package} {test.target} does not build:\n{said}")
        passed, how, output = test.run(executables[place])
        if not passed:
            stop(f"'{test.text}' {how} without any mutant:\n{output}")


def try_mutant(mutant, test):
    """How the test fails with the mutant in place; None if it passes."""
    path = test.tree / mutant["file"]
    original = path.read_text()
    path.write_text(original.replace(mutant["anchor"], mutant["mutated"]))
    try:
        executable, said = test.build()
        if executable is None:
            stop(f"'{mutant['name']}' does not compile:\n{said}")
        passed, how, _ = test.run(executable)
        return None if passed else how
    finally:
        # Written now, so that it is newer than the build of the mutant.
        path.write_text(original)


def run_lane(pairs):
    """Tries the mutants of a lane with their tests, and returns the names of those that survive."""
    begun = time.monotonic()
    tests = {test.text: test for _, test in pairs}
    copy_tree(pairs[0][1].tree)
    check_unmutated(tests.values())
    print(f"{len(tests)} tests pass without a mutant, {time.monotonic() - begun:.0f} s", flush=True)
    survivors = []
    # Tests of one target follow each other, so that their dependencies stay built.
    for mutant, test in sorted(pairs, key=lambda pair: (pair[1].package, pair[1].target)):
        since = time.monotonic()
        how = try_mutant(mutant, test)
        print(f"{time.monotonic() - since:5.1f} s  {mutant['name']}: {test.name} {how or 'PASSES'}", flush=True)
        if how is None:
            survivors.append(mutant["name"])
    return survivors


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("only", nargs="*", help="mutants whose names contain one of these")
    arguments.add_argument("--all", action="store_true", help="try the whole table")
    arguments.add_argument("--commit", default=head(), help="the commit that decides which are tried (default: HEAD)")
    arguments.add_argument("--anchors", action="store_true", help="only check that each anchor occurs exactly once")
    options = arguments.parse_args()
    table = tomllib.loads((Path(__file__).parent / "table.toml").read_text())
    mutants = table["mutant"]
    names = [mutant["name"] for mutant in mutants]
    if len(set(names)) != len(names):
        stop("two mutants have one name")
    check_anchors(mutants + table["unnoticed"])
    if options.anchors:
        return print(f"{len(mutants + table['unnoticed'])} anchors occur exactly once")
    if options.only:
        mutants = [mutant for mutant in mutants if any(part in mutant["name"] for part in options.only)]
    elif not options.all:
        ranked = sorted(mutants, key=lambda mutant: rank(options.commit, mutant["name"]))
        mutants = ranked[: -(-len(mutants) // PARTS)]
    begun = time.monotonic()
    pairs = [(mutant, Test(mutant["test"])) for mutant in mutants]
    lanes = [[pair for pair in pairs if pair[1].is_model == is_model] for is_model in TREES]
    with ThreadPoolExecutor(len(lanes)) as pool:
        survivors = [name for names in pool.map(run_lane, filter(None, lanes)) for name in names]
    seconds = time.monotonic() - begun
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants are noticed, {seconds:.0f} s (budget on two CPUs: {BUDGET} s)")
    if survivors:
        stop("no test notices: " + ", ".join(survivors))


main()
