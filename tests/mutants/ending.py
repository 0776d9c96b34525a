"""Running a program that may hang: when its time is up, it is ended together with everything that it started."""

import contextlib
import os
import signal
import subprocess
import threading


@contextlib.contextmanager
def group(command, patience, **options):
    """Starts a command in a process group of its own, which is killed after `patience` seconds, or when the block ends.
    Yields the process; `process.timed_out` says whether its time was up."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    process.timed_out = False

    def end():
        process.timed_out = True
        kill(process)

    timer = threading.Timer(patience, end)
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        if process.poll() is None:
            kill(process)
            process.wait()


def kill(process):
    """Kills a process of [`group`] and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
