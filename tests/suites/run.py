"""Third-party suites, with and without kmem: what passes without it must pass with it.

Each suite is a function of a module in this folder. It returns a summary, or raises `Skipped` if something is missing,
or `Failed`. Servers listen on loopback or on a Unix socket, and end with their suite.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import interpreters
import servers
from common import LIBRARY, Failed, Skipped

SUITES = {
    "cpython": interpreters.cpython,
    "fork": interpreters.fork_with_a_heap,
    "php": interpreters.php,
    "sshd": servers.sshd,
    "postgres": servers.postgres,
    "redis": servers.redis,
    "setpriv": servers.setpriv,
}


def attempt(name):
    """The verdict in a word, and whether it is good."""
    with tempfile.TemporaryDirectory(prefix="kmem-") as scratch:
        # Servers that do not run as root must be able to enter.
        Path(scratch).chmod(0o755)
        try:
            return "passed", SUITES[name](Path(scratch))
        except Skipped as why:
            return "skipped", why
        except Failed as why:
            return "FAILED", why


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("suites", nargs="*", help=f"some of {', '.join(SUITES)}; all, if none is given")
    options = arguments.parse_args()
    if not LIBRARY.exists():
        sys.exit(f"suites: {LIBRARY} is missing: cargo build --release -p kmem-malloc")
    failed = 0
    for name in options.suites or SUITES:
        begun = time.monotonic()
        verdict, said = attempt(name)
        failed += verdict == "FAILED"
        print(f"suites: {name:9} {verdict:8} {time.monotonic() - begun:5.1f} s  {said}", flush=True)
    sys.exit(failed and f"suites: {failed} failed")


main()
