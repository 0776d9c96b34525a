#!/usr/bin/env python3
"""Makes a copy of a static arm64 program in which no section binds: the store of the descriptor's address before each
section is a nop. In such a program a thread that is preempted within a section goes on there, which must show.

usage: unbound.py PROGRAM COPY
"""
import struct
import sys

SIGNATURE = 0xD428BC00
NOP = 0xD503201F
# str Xt, [Xn, #8], without the registers
STORE = 0xF9000400

program, copy = sys.argv[1:]
image = bytearray(open(program, "rb").read())
assert image[:4] == b"\x7fELF" and struct.unpack_from("<H", image, 18)[0] == 183, f"{program} is no program for arm64"
offset, size, count = struct.unpack_from("<Q", image, 32)[0], *struct.unpack_from("<HH", image, 54)
segments = [struct.unpack_from("<IIQQQQ", image, offset + index * size) for index in range(count)]


def place(address):
    """Where an address is in the file."""
    for kind, _, at, begin, _, length in segments:
        if kind == 1 and begin <= address < begin + length:
            return at + address - begin
    return None


def word(at):
    return struct.unpack_from("<I", image, at)[0]


unbound = 0
for at in range(0, len(image) - 32, 8):
    version, flags, start, length, abort = struct.unpack_from("<IIQQQ", image, at)
    if version or flags or not 0 < length < 4096:
        continue
    begin, handler = place(start), place(abort)
    if begin is None or handler is None or word(handler - 4) != SIGNATURE:
        continue
    assert word(begin - 4) & 0xFFFFFC00 == STORE, f"no bind before the section at {start:#x}"
    struct.pack_into("<I", image, begin - 4, NOP)
    unbound += 1
assert unbound >= 4, f"{unbound} sections found: is {program} linked to a fixed address?"
open(copy, "wb").write(image)
print(f"unbound: {unbound} sections of {program} no longer bind")
