"""Restartable sequences in a binary: can each be aborted at any instruction?

The kernel aborts a section before its commit by jumping to the abort handler, which begins it anew with the registers as
they are. So a register that a section reads before it writes to it may not be written to at all: the second attempt would
begin with what the first left. A run finds that only where it is preempted at the right instruction. And the last
instruction of the range has to be the commit, to its last byte: one more, and an abort behind the commit would do it again.

    sections.py FILE...

Needs capstone (disassembly) and pyelftools.
"""

import struct
import sys
from pathlib import Path

import capstone
from capstone import x86
from elftools.elf.elffile import ELFFile

SIGNATURE = 0x5305_3053  # what the kernel wants before an abort handler
RELATIVE = 8  # R_X86_64_RELATIVE

WHOLE = {}
for a in "abcd":
    WHOLE |= dict.fromkeys([f"e{a}x", f"{a}x", f"{a}l", f"{a}h"], f"r{a}x")
for a in ["si", "di", "bp", "sp"]:
    WHOLE |= dict.fromkeys([f"e{a}", a, f"{a}l"], f"r{a}")
for a in range(8, 16):
    WHOLE |= dict.fromkeys([f"r{a}d", f"r{a}w", f"r{a}b"], f"r{a}")


class Binary:
    def __init__(self, path):
        self.elf = ELFFile(path.open("rb"))
        self.segments = [s for s in self.elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        self.decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.decoder.detail = True

    def read(self, address, count):
        for segment in self.segments:
            at = address - segment["p_vaddr"]
            if 0 <= at and at + count <= segment["p_filesz"]:
                return segment.data()[at : at + count]
        return b""

    def instructions(self, start, end):
        return list(self.decoder.disasm(self.read(start, end - start), start))

    def sections(self):
        """(start, end, abort handler) of each."""
        targets = {}
        for table in self.elf.iter_sections():
            if table["sh_type"] == "SHT_RELA":
                targets |= {r["r_offset"]: r["r_addend"] for r in table.iter_relocations() if r["r_info_type"] == RELATIVE}
        for place, start in sorted(targets.items()):
            abort = targets.get(place + 16)
            head, length = self.read(place - 8, 8), self.read(place + 8, 8)
            if abort is None or head != bytes(8) or len(length) < 8:
                continue
            if self.read(abort - 4, 4) == struct.pack("<I", SIGNATURE):
                yield start, start + struct.unpack("<Q", length)[0], abort


def whole(register, decoder):
    """The name of the register of 64 bits that this is a part of."""
    name = decoder.reg_name(register)
    return WHOLE.get(name, name)


def faults(binary, start, end, abort):
    """What is wrong with a section."""
    jump = binary.instructions(abort, abort + 5)[:1]
    if not jump or jump[0].mnemonic != "jmp" or jump[0].operands[0].type != x86.X86_OP_IMM:
        yield "its abort handler is no jump"
        return
    anew = jump[0].operands[0].imm
    path = binary.instructions(anew, end)
    if not path or not anew < start < end or path[-1].address + path[-1].size != end:
        yield f"no instructions from {anew:#x} to its end at {end:#x}"
        return
    commit = path[-1]
    if commit.mnemonic != "mov" or commit.operands[0].type != x86.X86_OP_MEM or commit.operands[0].size != 8:
        yield f"its last instruction is no commit: {commit.mnemonic} {commit.op_str}"
    kept, written = set(), {}
    for instruction in path:
        reads, writes = ({whole(r, binary.decoder) for r in some} for some in instruction.regs_access())
        if instruction.mnemonic == "xor" and len(writes - {"rflags"}) == 1 and reads <= writes:
            reads = set()  # a zero, whatever was there
        kept |= reads - written.keys()
        for register in writes:
            written.setdefault(register, instruction)
    for register in kept & written.keys() - {"rflags"}:
        by = written[register]
        yield f"an abort begins it anew with another {register}: {by.address:#x} {by.mnemonic} {by.op_str}"


def main(paths):
    failed = 0
    for path in paths:
        binary = Binary(Path(path))
        seen = 0
        for section in binary.sections():
            seen += 1
            for fault in faults(binary, *section):
                failed += 1
                print(f"{path}: section {section[0]:#x}: {fault}")
        print(f"sections: {path}: {seen}")
        failed += not seen
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
