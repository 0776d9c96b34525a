"""Breaks lines of the engine that were not chosen by hand, one at a time, and checks whether a test notices.

`cargo mutants --list` says what can be broken: operators that are exchanged, functions that return something else, arms
that are missing. Each mutant is applied to a copy of the tree and built with the tests of the engine's modules, and
with all others in one executable (`crates/kmem-core/tests/together.rs`). The quick ones run first, then the model and
the threads, and the first failure ends the run. A survivor must be listed in `equivalent.toml`, with the reason why it
changes nothing that a test could see; otherwise a test is missing, and the run fails. It also fails if an entry there
matches no mutant.

A run tries a sample, in an order that the commit decides (`--commit`), for `--seconds` seconds, so that each commit
tries others; `--all` tries every one, which takes hours. FILES lists the files that are mutated. Nine of ten mutants
must be noticed: a sample fails if it has more survivors than a sample of such a program would have by chance in one of
a hundred cases. Survivors are listed in any case, so that the next test can be written. With `--all`, or if mutants are
named, none may survive.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from ending import group
from tree import ROOT, copy_tree, head, rank

WORK = ROOT / "target" / "mutation"
TREE = WORK / "tree"
SOURCE = "crates/kmem-core/src"
# The engine except for its past, which is wrong on purpose and has a gate of its own.
FILES = [f"{SOURCE}/{place}" for place in ("cache/*.rs", "cpu/*.rs", "engine/*.rs", "engine/reclaim/*.rs", "percpu/*.rs", "slab/*.rs", "pages/*.rs", "depot.rs")]
NOT = f"{SOURCE}/engine/past/*.rs"
# Slow tests, for the mutants that no other test notices.
SLOW = ["model::", "threads::"]
# Target and arguments.
PHASES = [("kmem_core", []), ("together", [part for name in SLOW for part in ("--skip", name)]), ("together", SLOW)]
# Tests that take this many times as long as without a mutant count as hanging, and so as noticing: in processor time
# (threads that wait for each other poll), and in seconds, because the machine may be busy.
PROCESSOR, PATIENCE = 4, 10
# The address space that tests may have, in bytes.
MEMORY = 24 << 30


def stop(message):
    sys.exit(f"mutation: {message}")


class Mutant:
    def __init__(self, listed):
        self.file = listed["file"]
        self.span = listed["span"]
        self.replacement = listed["replacement"]
        # Without the line number, which changes with every line above it.
        self.change = listed["name"].split(": ", 1)[1]
        text = (ROOT / self.file).read_text().splitlines()
        self.line = text[self.span["start"]["line"] - 1].strip()

    def __str__(self):
        return f"{self.file.removeprefix(SOURCE + '/')}:{self.span['start']['line']}: {self.change}: {self.line}"

    def applied_to(self, text):
        lines = text.splitlines(keepends=True)

        def offset(place):
            return sum(map(len, lines[: place["line"] - 1])) + place["column"] - 1

        return text[: offset(self.span["start"])] + self.replacement + text[offset(self.span["end"]) :]


def list_mutants():
    command = ["cargo", "mutants", "--list", "--json", "--package", "kmem-core", "--exclude", NOT]
    command += [part for file in FILES for part in ("--file", file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        stop(f"cargo mutants --list fails:\n{done.stderr}")
    mutants = [Mutant(listed) for listed in json.loads(done.stdout)]
    # What a structure prints of itself is nobody's promise.
    return [mutant for mutant in mutants if "<impl fmt::Debug" not in mutant.change and "<impl Debug" not in mutant.change]


def check_together():
    """Checks that the one executable has all tests that `cargo test` runs; models of the checkers are built separately."""
    tests = ROOT / "crates" / "kmem-core" / "tests"
    named = (tests / "together.rs").read_text()
    missing = [path.name for path in tests.glob("*.rs") if path.stem != "together" and f'"{path.name}"' not in named]
    if missing:
        stop(f"crates/kmem-core/tests/together.rs lacks {', '.join(missing)}")


class Equivalents:
    """Mutants that change nothing, by file, line and change."""

    def __init__(self):
        path = Path(__file__).parent / "equivalent.toml"
        self.entries = tomllib.loads(path.read_text()).get("equivalent", [])
        for entry in self.entries:
            if not entry["why"].strip():
                stop(f"no reason is given for {entry}")

    @staticmethod
    def fits(entry, mutant):
        return (
            mutant.file == f"{SOURCE}/{entry['file']}"
            and mutant.line == entry["line"]
            and any(mutant.change.startswith(change) for change in entry["changes"])
        )

    def why(self, mutant):
        return next((entry["why"] for entry in self.entries if self.fits(entry, mutant)), None)

    def check(self, mutants):
        rotten = [entry for entry in self.entries if not any(self.fits(entry, mutant) for mutant in mutants)]
        if rotten:
            stop("entries of equivalent.toml that fit no mutant:\n" + "\n".join(map(str, rotten)))


def environment():
    flags = {"CARGO_TARGET_DIR": str(WORK / "target"), "CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_INCREMENTAL": "1"}
    return {**os.environ, **flags, "RUST_BACKTRACE": "0", "RUSTFLAGS": "--cap-lints allow"}


def build():
    """The executables by the names of their targets, or None and the compiler's message."""
    command = ["cargo", "test", "--quiet", "-p", "kmem-core", "--lib", "--test", "together", "--no-run"]
    command += ["--message-format", "json"]
    done = subprocess.run(command, cwd=TREE, env=environment(), capture_output=True, text=True)
    if done.returncode != 0:
        return None, done.stdout + done.stderr
    artifacts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {one["target"]["name"]: one["executable"] for one in artifacts if one.get("executable")}, ""


class Phase:
    """Tests that run together, with the time they take without a mutant."""

    def __init__(self, target, arguments, executables):
        self.target, self.arguments, self.processor, self.patience = target, arguments, 600, 600
        before, begun = processor_time(), time.monotonic()
        how = self.run(executables)
        if how:
            stop(f"without a mutant: {how}")
        self.processor = max(5, int(PROCESSOR * (processor_time() - before)))
        self.patience = max(20, int(PATIENCE * (time.monotonic() - begun)))

    def limit(self):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (self.processor, self.processor))

    def run(self, executables):
        """The first failure in words, or None. Tests after it are not waited for."""
        options = {"cwd": TREE / "crates" / "kmem-core", "env": environment(), "text": True, "errors": "replace"}
        command = [executables[self.target], *self.arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with group(command, self.patience, preexec_fn=self.limit, **streams, **options) as process:
            for line in process.stdout:
                if line.startswith("test ") and line.rstrip().endswith("FAILED"):
                    return f"{line.split()[1]} fails"
            code = process.wait()
        if process.timed_out:
            return "hangs"
        return None if code == 0 else f"dies (code {code})"


def processor_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def try_mutant(mutant, phases):
    """'unviable', how the mutant was noticed, or None."""
    path = TREE / mutant.file
    original = path.read_text()
    path.write_text(mutant.applied_to(original))
    try:
        executables, _ = build()
        if not executables:
            return "unviable"
        return next(filter(None, (phase.run(executables) for phase in phases)), None)
    finally:
        # Written now, so that it is newer than the build of the mutant.
        path.write_text(original)


def allowed(tried):
    """The most survivors that a sample has in 99 of 100 cases, if nine of ten mutants are noticed."""
    chances = [math.comb(tried, n) * 0.1**n * 0.9 ** (tried - n) for n in range(tried + 1)]
    return next(n for n in range(tried + 1) if sum(chances[: n + 1]) >= 0.99)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("only", nargs="*", help="mutants whose place, change or line contains one of these")
    arguments.add_argument("--all", action="store_true", help="try every mutant, which takes hours")
    arguments.add_argument("--list", action="store_true", help="only list the mutants, and check equivalent.toml")
    arguments.add_argument("--commit", default=head(), help="the commit that decides the sample (default: HEAD)")
    arguments.add_argument("--seconds", type=int, default=240, help="how long to try a sample")
    options = arguments.parse_args()
    check_together()
    mutants, equivalents = list_mutants(), Equivalents()
    equivalents.check(mutants)
    if options.only:
        mutants = [mutant for mutant in mutants if any(part in str(mutant) for part in options.only)]
    if options.list:
        return print("\n".join(map(str, mutants)), f"\n{len(mutants)} mutants")
    begun = time.monotonic()
    copy_tree(TREE)
    executables, said = build()
    if not executables:
        stop(f"the tests do not build:\n{said}")
    phases = [Phase(target, arguments, executables) for target, arguments in PHASES]
    print(f"{len(mutants)} mutants; without one the tests pass, {time.monotonic() - begun:.0f} s", flush=True)
    tried, unviable, equivalent, survivors = 0, 0, 0, []
    for mutant in sorted(mutants, key=lambda mutant: rank(options.commit, mutant)):
        if not options.all and time.monotonic() - begun > options.seconds:
            break
        why = equivalents.why(mutant)
        if why:
            equivalent += 1
            continue
        since = time.monotonic()
        how = try_mutant(mutant, phases)
        print(f"{time.monotonic() - since:5.1f} s  {mutant}: {how or 'SURVIVES'}", flush=True)
        tried, unviable = tried + (how != "unviable"), unviable + (how == "unviable")
        if how is None:
            survivors.append(mutant)
    print(
        f"{tried - len(survivors)} of {tried} mutants are noticed; {unviable} do not compile, {equivalent} are listed as"
        f" changing nothing; {time.monotonic() - begun:.0f} s"
    )
    if survivors and (options.all or options.only or len(survivors) > allowed(tried)):
        stop("no test notices (write one, or say in tests/mutants/equivalent.toml why none could):\n" + "\n".join(map(str, survivors)))


main()
