"""The stack of a library: how much of its caller's stack does each entry point use at most, on any path?

The compiled library is analysed. The unwind information says how deep the stack is at each call; the instructions say
which calls follow each other. The figure of an entry point is its deepest chain of calls, whether or not a run can take
it, so no run uses more, except for code outside the library: libc (memcpy, sched_getcpu, a lock's key), which is
shallow, and foreign code (a listener, a constructor, a C++ handler). The measurement
(crates/kmem-malloc/tests/c/stack.c) includes these.

Entry points are the exported functions and all functions whose address is taken: those that libc calls at fork, at the
end of a thread and of the process. A call through a pointer calls the function that ends the program after a bad free,
or foreign code. Panics are not counted, because they end the program; nor is code that runs on a thread of the
library's own.

    stack.py LIBRARY [-v]        -v: the chain of each entry point

Needs capstone (disassembly) and pyelftools.
"""

import re
import sys
from bisect import bisect_right
from functools import cache
from pathlib import Path

import capstone
from capstone import x86
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile

LIMIT = 2048
WORD = 8
RELATIVE = 8  # R_X86_64_RELATIVE
RSP = 7  # in unwind tables

# The program ends in these, so their frames do not matter.
ENDS = re.compile(r"4core9panicking|\d+\w*_fail(ed)?(17h|$)|rust_begin_unwind")
# More is allowed while memory is checked or a profile is on: see crates/kmem-linux/src/watched.rs.
WATCHED = re.compile(r"10kmem_linux7watched|10kmem_linux6checks|7profile5write8at_start")
# Loads malloc's address, to compare it.
NO_CALL = re.compile(r"7profile6switch9find_ours")
# These begin on a thread of the library's own; or on the loader's stack, in a test that the environment asked for.
NOT_ON_A_CALLERS_STACK = re.compile(r"6upkeep6thread|5storm3run|8at_start")
BAD_FREE = re.compile(r"8instance8bad_free")
# Functions that call themselves, with the maximum depth: LINKS of sync/waiters.rs, plus the first call.
CALLS_ITSELF, TIMES = re.compile(r"7waiters.*8chain_of"), 11


def is_exempt(mangled):
    return ENDS.search(mangled) or WATCHED.search(mangled) or NO_CALL.search(mangled)


class Function:
    def __init__(self, name):
        self.name = readable(name)
        self.mangled = name
        self.most = WORD  # bytes below the caller's stack pointer, without what it calls
        self.calls = []  # (bytes at the call, callee; None: through a pointer)
        self.loads = set()  # functions whose address it loads from the loader's table, to call them


def readable(name):
    """A readable form of a Rust name."""
    if not name.startswith("_ZN"):
        return name
    at, parts = 3, []
    while digits := re.match(r"\d+", name[at:]):
        at += digits.end()
        parts.append(name[at : at + int(digits[0])])
        at += int(digits[0])
    text = "::".join(parts[:-1])
    for code, sign in (("$LT$", "<"), ("$GT$", ">"), ("$u20$", " "), ("$RF$", "&"), ("$u7b$", "{"), ("$u7d$", "}"), ("..", "::")):
        text = text.replace(code, sign)
    return text


class Library:
    def __init__(self, path):
        self.elf = ELFFile(path.open("rb"))
        self.decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.decoder.detail = True
        self.exported = {s.name: s["st_value"] for s in self.elf.get_section_by_name(".dynsym").iter_symbols()
                         if s["st_info"]["type"] == "STT_FUNC" and s["st_shndx"] != "SHN_UNDEF"}
        # Words that the loader relocates: those by which functions are called, and those that are data.
        self.table, self.taken = {}, set()
        got = self.elf.get_section_by_name(".got")
        for section in self.elf.iter_sections():
            if section["sh_type"] == "SHT_RELA":
                symbols = self.elf.get_section(section["sh_link"])
                for r in section.iter_relocations():
                    place, target = r["r_offset"], r["r_addend"]
                    if r["r_info_sym"]:
                        target = self.exported.get(symbols.get_symbol(r["r_info_sym"]).name)
                    elif not got["sh_addr"] <= place < got["sh_addr"] + got["sh_size"]:
                        self.taken.add(target)
                    self.table[place] = target
        self.read_unwind_tables()
        self.read_functions()

    def read_unwind_tables(self):
        """For each function, the places from which on its frame ends this many bytes above a register."""
        self.frames = []
        for entry in self.elf.get_dwarf_info().EH_CFI_entries():
            if isinstance(entry, FDE):
                start = entry["initial_location"]
                rows = [(row["pc"], row["cfa"].reg, row["cfa"].offset) for row in entry.get_decoded().table]
                self.frames.append((start, start + entry["address_range"], rows))
        self.frames.sort()
        self.starts = [frame[0] for frame in self.frames]

    def frame_at(self, address):
        """The register and the bytes from it to the frame's end, if the function has a frame."""
        at = bisect_right(self.starts, address) - 1
        if at >= 0 and address < self.frames[at][1]:
            rows = self.frames[at][2]
            row = bisect_right([pc for pc, _, _ in rows], address) - 1
            if row >= 0:
                return rows[row][1:]
        return RSP, WORD

    def read_functions(self):
        symbols = {s["st_value"]: (s.name, s["st_size"]) for s in self.elf.get_section_by_name(".symtab").iter_symbols()
                   if s["st_info"]["type"] == "STT_FUNC" and s["st_size"] > 0}
        self.functions = {address: Function(name) for address, (name, _) in symbols.items()}
        self.taken &= symbols.keys()
        for address, (_, size) in symbols.items():
            self.read_function(self.functions[address], address, self.code(address, size))

    def code(self, address, size):
        for section in self.elf.iter_sections():
            at = address - section["sh_addr"]
            if section["sh_flags"] & 4 and 0 <= at < section["sh_size"]:
                return section.data()[at : at + size]
        return b""

    def read_function(self, function, address, code):
        prologue, is_prologue = WORD, True
        for instruction in self.decoder.disasm(code, address):
            at, kind = instruction.address, instruction.mnemonic
            operand = instruction.operands[0] if instruction.operands else None
            is_call, is_jump = kind == "call", capstone.CS_GRP_JUMP in instruction.groups
            if is_prologue:
                is_prologue = not is_call
                prologue += self.grows_by(instruction)
            register, offset = self.frame_at(at)
            depth = offset if register == RSP else prologue
            function.most = max(function.most, depth + (WORD if kind == "push" else 0))
            if kind in ("lea", "mov") and instruction.operands[1].type == x86.X86_OP_MEM:
                target = self.near(instruction, instruction.operands[1])
                if kind == "lea" and target in self.functions:
                    self.taken.add(target)
                elif kind == "mov" and self.table.get(target) in self.functions.keys() - {address}:
                    function.loads.add(self.table[target])
            if not is_call and not is_jump:
                continue
            # A jump out of a function leaves no frame on the stack.
            depth -= WORD if is_jump else 0
            if operand.type == x86.X86_OP_IMM:
                if operand.imm in self.functions and (is_call or operand.imm != address):
                    function.calls.append((depth, operand.imm))
            elif (slot := self.near(instruction, operand)) is not None:
                if self.table.get(slot) in self.functions:
                    function.calls.append((depth, self.table[slot]))
            elif is_call:
                function.calls.append((depth, None))
        # When it calls them its frame has its full size.
        function.calls += [(function.most, callee) for callee in function.loads]

    @staticmethod
    def near(instruction, operand):
        """The address of an operand relative to the instruction pointer."""
        if operand.type == x86.X86_OP_MEM and operand.mem.base == x86.X86_REG_RIP:
            return instruction.address + instruction.size + operand.mem.disp
        return None

    @staticmethod
    def grows_by(instruction):
        """Bytes by which the stack grows; for an alignment, at most."""
        operands = instruction.operands
        if instruction.mnemonic == "push":
            return WORD
        if len(operands) == 2 and operands[0].type == x86.X86_OP_REG and operands[0].reg == x86.X86_REG_RSP:
            if instruction.mnemonic == "sub" and operands[1].type == x86.X86_OP_IMM:
                return operands[1].imm
            if instruction.mnemonic == "and":
                return -operands[1].imm - WORD
        return 0

    def deepest(self, start):
        """The most that a function uses with everything that it calls, and the chain of calls."""
        through_pointer = next((a for a, f in self.functions.items() if BAD_FREE.search(f.mangled)), None)
        on_the_way = []

        @cache
        def look(address):
            function = self.functions[address]
            times = TIMES if CALLS_ITSELF.search(function.mangled) else 1
            if address in on_the_way:
                if times > 1:
                    return 0, ()
                sys.exit(f"stack: {function.name} calls itself: no bound")
            on_the_way.append(address)
            before = function.most * (times - 1)
            best = (before + function.most, ())
            for depth, callee in function.calls:
                callee = through_pointer if callee is None else callee
                if callee is None or is_exempt(self.functions[callee].mangled):
                    continue
                below, chain = look(callee)
                best = max(best, (before + depth + below, chain))
            on_the_way.pop()
            return best[0], ((function.most, address), *best[1])

        return look(start)

    def entry_points(self):
        # Of several names of one function, the one without underscores.
        plain_last = sorted(self.exported.items(), key=lambda export: not export[0].startswith("_"))
        named = {address: name for name, address in plain_last}
        for address in self.taken:
            named.setdefault(address, self.functions[address].name)
        for address, name in named.items():
            function = self.functions.get(address)
            if function and not NOT_ON_A_CALLERS_STACK.search(function.mangled) and not is_exempt(function.mangled):
                yield name, address


def main(path, verbose):
    library = Library(Path(path))
    figures = sorted(((*library.deepest(address), name) for name, address in library.entry_points()), reverse=True)
    for depth, chain, name in figures:
        if verbose or depth > LIMIT:
            print(f"stack: {depth:6} {name}")
            for most, address in chain:
                print(f"stack:          {most:6} {library.functions[address].name}")
    names = {name: depth for depth, _, name in figures}
    told = ", ".join(f"{name} {names[name]}" for name in ("malloc", "free", "calloc", "realloc", "malloc_trim") if name in names)
    print(f"stack: {len(figures)} entry points, the deepest {figures[0][2]} with {figures[0][0]} of {LIMIT} bytes ({told})")
    return figures[0][0] > LIMIT or "malloc" not in names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "-v" in sys.argv))
