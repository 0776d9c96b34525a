"""What the suites share: running a program with and without kmem, servers that end with their suite, and skipping."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
LIBRARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release" / "libkmem_malloc.so"
# An unprivileged user, for servers and for setpriv.
NOBODY = 65534


class Skipped(Exception):
    """Something that the suite needs is missing."""


class Failed(Exception):
    """The suite's result differs from that without kmem."""


def need(*commands):
    for command in commands:
        if not find(command):
            raise Skipped(f"{command} is not installed")


def find(command):
    # Servers are often in folders that are only on root's path.
    return shutil.which(command, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def need_root():
    if os.geteuid() != 0:
        raise Skipped("only root can switch to another user")


def environment(kmem, **variables):
    """The environment of a program, with kmem preloaded or not."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("KMEM_") and name != "LD_PRELOAD"}
    return {**plain, "LC_ALL": "C", **({"LD_PRELOAD": str(LIBRARY)} if kmem else {}), **variables}


def run(command, kmem=False, patience=120, variables=None, **options):
    """Runs a command to its end, or kills it and everything that it started."""
    process = subprocess.Popen(
        [find(command[0]) or command[0], *map(str, command[1:])],
        env=environment(kmem, **(variables or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        **options,
    )
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Failed(f"{command[0]} hangs: it was ended after {patience} s") from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def succeed(command, **options):
    """The same for a command that must succeed; returns what it printed."""
    done = run(command, **options)
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).strip()[-600:]
        raise Failed(f"{' '.join(map(str, command))[:200]}: exit code {done.returncode}: {tail}")
    return done.stdout


def same(command, **options):
    """Checks that a command ends in the same way with kmem as without it, and prints the same."""
    results = {}
    for kmem in (False, True):
        done = run(command, kmem=kmem, **options)
        results[kmem] = (done.returncode, done.stdout, done.stderr)
    if results[False][0] != 0:
        raise Skipped(f"it fails without kmem: {results[False][2].strip()[-300:]}")
    if results[False] != results[True]:
        raise Failed(f"{' '.join(map(str, command))[:200]}: with kmem {str(results[True])[-600:]}, without {str(results[False])[-300:]}")
    return results[True][1]


@contextlib.contextmanager
def server(command, kmem, log, **options):
    """A server that runs in the background, and is ended by its process id."""
    with open(log, "wb") as written:
        process = subprocess.Popen(
            [find(command[0]), *map(str, command[1:])],
            env=environment(kmem),
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            **options,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready, process, log, seconds=20):
    """Waits until a server accepts connections."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"the server does not accept connections: {Path(log).read_text(errors='replace')[-600:]}")
        time.sleep(0.05)


def expect_served(process):
    """Checks that the library really is in the process."""
    if str(LIBRARY) not in Path(f"/proc/{process.pid}/maps").read_text():
        raise Failed(f"kmem is not in process {process.pid}")


def become_nobody():
    """Options for a program that must not run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
