"""Creates and drops millions of objects of different sizes, lifetimes and owners, and prints what it computed.

One of the programs of .ci/programs: its output must not depend on the allocator. Objects die young and old, in cycles,
in other threads than the one that created them, in forked children and in subprocesses; buffers grow by realloc.
Nothing printed depends on addresses, time or the order of threads. With PYTHONMALLOC=malloc each object is an
allocation of its own instead of a piece of Python's arenas.
"""

import collections
import decimal
import gc
import hashlib
import json
import os
import queue
import random
import re
import subprocess
import sys
import threading
import weakref
import zlib


class Node:
    __slots__ = ("left", "right", "value", "__weakref__")

    def __init__(self, depth, value):
        self.value = value
        self.left = Node(depth - 1, 2 * value) if depth else None
        self.right = Node(depth - 1, 2 * value + 1) if depth else None

    def total(self):
        return self.value + (self.left.total() if self.left else 0) + (self.right.total() if self.right else 0)


class Cycle:
    def __init__(self, number):
        self.number = number
        self.me = self
        self.payload = [number] * (number % 50)


def trees():
    kept = [Node(10, 1) for _ in range(20)]
    total = 0
    for turn in range(80):
        kept[turn % len(kept)] = Node(10, turn)
        total += kept[turn * 7 % len(kept)].total()
    return total


def dictionaries(rng):
    table = {}
    for i in range(250_000):
        key = rng.randrange(20_000)
        if key in table and i % 3 == 0:
            del table[key]
        else:
            table[key] = (i, str(i), [i, i + 1])
    return sum(value[0] + len(value[1]) for value in table.values()), len(table)


def buffers(rng):
    check = 0
    held = [b""] * 500
    for i in range(40_000):
        size = rng.choice((7, 30, 100, 511, 512, 513, 3000, 5000)) + rng.randrange(100)
        held[i % 500] = bytes([i & 255]) * size
        check = zlib.crc32(held[i * 13 % 500], check)
    for size in (32 << 10, 64 << 10, 1 << 20, 2 << 20, 20 << 20):
        for less in (size - 1, size, size + 1):
            block = bytearray(less)
            block[-1] = 1
            check = zlib.crc32(block, check)
    grown = bytearray()
    for i in range(100_000):
        grown += b"%d," % i
    text = ""
    for i in range(30_000):
        text += chr(97 + i % 26)
    return check, zlib.crc32(grown), hashlib.sha256(text.encode()).hexdigest()


def cycles():
    gc.disable()
    ghosts = []
    for i in range(60_000):
        cycle = Cycle(i)
        if i % 1000 == 0:
            ghosts.append(weakref.ref(cycle))
        if i % 20_000 == 19_999:
            del cycle
            gc.collect()
    gc.enable()
    gc.collect()
    return sum(ghost() is None for ghost in ghosts)


def texts(rng):
    words = ["".join(rng.choices("abcdefgh", k=rng.randrange(1, 12))) for _ in range(20_000)]
    counts = collections.Counter(re.findall(r"[a-d]+", " ".join(words)))
    document = json.dumps({word: {"n": n, "list": list(range(n % 30))} for word, n in sorted(counts.items())})
    back = json.loads(document)
    decimal.getcontext().prec = 200
    root = sum(decimal.Decimal(n).sqrt() for n in range(1, 500))
    big = 3**30_000 % (10**50)
    return hashlib.sha256(document.encode()).hexdigest(), len(back), str(root)[:60], big


def threads():
    """Producers create objects, consumers change them, and the last holder drops them."""
    todo, done = queue.Queue(50), queue.Queue()

    def produce(seed):
        rng = random.Random(seed)
        for i in range(600):
            todo.put([{"n": i, "text": "x" * rng.randrange(400)} for _ in range(40)])
        todo.put(None)

    def consume():
        total = 0
        while (batch := todo.get()) is not None:
            batch = [dict(item, more=list(range(item["n"] % 20))) for item in batch]
            total += sum(len(item["text"]) + len(item["more"]) for item in batch)
            if batch[0]["n"] % 10 == 0:
                done.put(batch)
        done.put(total)

    workers = [threading.Thread(target=produce, args=(seed,)) for seed in range(3)]
    workers += [threading.Thread(target=consume) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    total, batches = 0, 0
    while not done.empty():
        item = done.get()
        if isinstance(item, int):
            total += item
        else:
            batches += 1
    for _ in range(150):  # threads that come and go
        brief = threading.Thread(target=lambda: [str(i) * 3 for i in range(300)])
        brief.start()
        brief.join()
    return total, batches


def forked():
    """Children that inherit a heap, change it and leave."""
    kept = {i: [str(i)] * 5 for i in range(20_000)}
    answers = []
    for child in range(6):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            for key in range(child, 20_000, 3):
                kept[key] = "changed" + str(key)
            os.write(writer, b"%d" % sum(len(value) for value in kept.values()))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            answers.append(pipe.read())
        answers.append(os.waitpid(pid, 0)[1])
    return answers


def subprocesses():
    children = [
        subprocess.Popen([sys.executable, __file__, "child", str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(4)
    ]
    return [child.communicate()[0].strip() for child in children]


def child(seed):
    rng = random.Random(seed)
    print("child", seed, dictionaries(rng), Node(12, seed).total(), cycles())


def main():
    rng = random.Random(52930067)
    print("trees", trees())
    print("dictionaries", dictionaries(rng))
    print("buffers", buffers(rng))
    print("cycles", cycles())
    print("texts", texts(rng))
    print("threads", threads())
    print("forked", forked())
    for line in subprocesses():
        print(line)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "child":
        child(int(sys.argv[2]))
    else:
        main()
