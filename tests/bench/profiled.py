"""What a heap profile costs: a program that allocates much, with a profile and without, by turns.

    profiled.py NAME=LIBRARY[,VARIABLE=VALUE]... [--rounds N] [--size N]

Each case is a library for LD_PRELOAD and variables of its environment (`+` in a value stands for a comma). The program
is Python with all of its objects from malloc: JSON written and read, and strings sorted, joined and split. Of each case
the median and the quickest of the user times are shown, in seconds. Of two cases that follow each other, the first
without a profile and the second with one, the difference is shown as well.

    profiled.py off=target/release/libkmem_malloc.so on=target/release/libkmem_malloc.so,KMEM_PROFILE=/dev/null
"""

import argparse
import os
import statistics
import subprocess
import sys

WORK = """
import json, resource
lists = {str(i): list(range(20)) for i in range(2000)}
for turn in range(%d):
    read = json.loads(json.dumps(lists))
    words = ' '.join(sorted(str(i) for i in range(20000))).split()
print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
"""


def case(text):
    name, _, rest = text.partition("=")
    library, *variables = rest.split(",")
    environment = {**os.environ, "PYTHONMALLOC": "malloc", "LD_PRELOAD": library}
    environment.update(variable.replace("+", ",").split("=", 1) for variable in variables)
    return name, environment


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("cases", nargs="+", type=case)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--size", type=int, default=60)
    given = arguments.parse_args()
    times = {name: [] for name, _ in given.cases}
    for turn in range(given.rounds):
        for name, environment in given.cases[:: 1 if turn % 2 else -1]:
            command = [sys.executable, "-c", WORK % given.size]
            output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            times[name].append(float(output))
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in times.items():
        print(f"{name:12} {medians[name]:.3f} median, {min(seconds):.3f} quickest")
    names = list(times)
    for off, on in zip(names[::2], names[1::2]):
        print(f"{off} -> {on}: {100 * (medians[on] / medians[off] - 1):+.1f} %")


if __name__ == "__main__":
    main()
