"""Restartable sequences in a binary: can each be aborted at any instruction?

The kernel aborts a section before its commit by moving the thread to the abort handler, with the registers as they are.
The handler is a miss: it must lead out of the section, not back into it. The surrounding code relies on the registers
that it passed to the section (the address to free, a slot, a batch), so a section must never write to a register that
it reads first. A test would find such a fault only if it is preempted at the right instruction. And the range must end
exactly after the commit: with one more instruction, an abort after the commit would undo it.

    sections.py FILE...

Needs capstone (disassembly) and pyelftools. unwind.py checks the unwind information of the same binaries.
"""

import struct
import sys
from pathlib import Path

import capstone
from capstone import x86
from elftools.elf.elffile import ELFFile

SIGNATURE = struct.pack("<I", 0x5305_3053)  # what the kernel requires before an abort handler
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
        """Each section as its descriptor's address, start, end, abort handler."""
        targets = {}
        for table in self.elf.iter_sections():
            if table["sh_type"] == "SHT_RELA":
                targets |= {r["r_offset"]: r["r_addend"] for r in table.iter_relocations() if r["r_info_type"] == RELATIVE}
        for place, start in sorted(targets.items()):
            abort = targets.get(place + 16)
            head, length = self.read(place - 8, 8), self.read(place + 8, 8)
            if abort is None or head != bytes(8) or len(length) < 8:
                continue
            if self.read(abort - 4, 4) == SIGNATURE:
                yield place - 8, start, start + struct.unpack("<Q", length)[0], abort


def whole(register, decoder):
    """The name of the 64-bit register that this is a part of."""
    name = decoder.reg_name(register)
    return WHOLE.get(name, name)


def bind(binary, descriptor, start):
    """Where the three instructions before the range begin: those of the offset, the descriptor's address, and the store
    that binds it."""
    for length in (19, 20):
        found = binary.instructions(start - length, start)
        if [i.mnemonic for i in found] == ["mov", "lea", "mov"] and found[1].address + found[1].size + found[1].disp == descriptor:
            return start - length
    return None


def leads(binary, abort):
    """Where an abort handler leads to: a jump's target, or what follows the single instruction that returns 'a miss'."""
    first = binary.instructions(abort, abort + 15)[0]
    if first.mnemonic == "jmp" and first.operands[0].type == x86.X86_OP_IMM:
        return first.operands[0].imm
    is_constant = first.mnemonic == "mov" and first.operands[1].type == x86.X86_OP_IMM
    is_zero = first.mnemonic == "xor" and first.operands[0].reg == first.operands[1].reg
    return first.address + first.size if is_constant or is_zero else None


def faults(binary, descriptor, start, end, abort):
    """The faults of a section."""
    begin = bind(binary, descriptor, start)
    if begin is None:
        yield "no bind of its descriptor before it"
        return
    target = leads(binary, abort)
    if target is None or begin <= target < end or begin <= abort < end:
        yield f"its abort handler at {abort:#x} does not lead out of it"
    path = binary.instructions(begin, end)
    if not path or not start < end or path[-1].address + path[-1].size != end:
        yield f"no instructions from {begin:#x} to its end at {end:#x}"
        return
    commit = path[-1]
    if commit.mnemonic != "mov" or commit.operands[0].type != x86.X86_OP_MEM or commit.operands[0].size != 8:
        yield f"its last instruction is no commit: {commit.mnemonic} {commit.op_str}"
    kept, written = set(), {}
    for instruction in path:
        reads, writes = ({whole(r, binary.decoder) for r in some} for some in instruction.regs_access())
        if instruction.mnemonic == "xor" and len(writes - {"rflags"}) == 1 and reads <= writes:
            reads = set()  # clears the register, without reading it
        kept |= reads - written.keys()
        for register in writes:
            written.setdefault(register, instruction)
    for register in kept & written.keys() - {"rflags"}:
        by = written[register]
        yield f"an abort changes {register}, which was passed to it: {by.address:#x} {by.mnemonic} {by.op_str}"


def main(paths):
    failed = 0
    for path in paths:
        binary = Binary(Path(path))
        seen = 0
        for section in binary.sections():
            seen += 1
            for fault in faults(binary, *section):
                failed += 1
                print(f"{path}: section {section[1]:#x}: {fault}")
        print(f"sections: {path}: {seen}")
        failed += not seen
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
