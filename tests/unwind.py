"""Unwind information in a binary: is it right at each instruction?

A profiler, a debugger or a crash reporter finds the caller of a function by the unwind information for the instruction
that the thread is at: where the frame is (a register and an offset), and where in it the return address and the
caller's registers are. If it is written by hand, or for code that is, it may be missing, or wrong for a single
instruction. And a signal in a restartable sequence finds the thread at the abort handler, because the kernel aborts
first, so the handler needs the same information as the sequence.

So each instruction is checked against those that follow it: the frame stated for the one, and what it does to the stack
pointer, determine the frame that must be stated for the other. At a return, and at a jump out of the function, the
frame must be that of a function's first instruction. A register that belongs to the caller must not be written to
before its place on the stack is stated.

    unwind.py [--sections] FILE...

checks all functions that a file has symbols for, or (--sections) only those with restartable sequences. Needs capstone
and pyelftools.
"""

import bisect
import sys
from pathlib import Path

from capstone import x86
from elftools.dwarf.callframe import FDE

from sections import SIGNATURE, Binary, whole

# Numbers of the registers in unwind information.
NUMBERS = {"rbx": 3, "rbp": 6, "rsp": 7, "r12": 12, "r13": 13, "r14": 14, "r15": 15}
CALLERS = NUMBERS.keys() - {"rsp"}
RSP, RIP = 7, 16
TRAP = bytes([0x0F, 0xB9, 0x3D]) + SIGNATURE  # precedes an abort handler; capstone does not know this instruction
ENDS = {"ret", "ud2", "int3", "hlt"}


class Function:
    """A description of the unwind information, with the instructions that it covers."""

    def __init__(self, binary, fde):
        self.binary = binary
        self.start = fde["initial_location"]
        self.end = self.start + fde["address_range"]
        self.rows = fde.get_decoded().table
        self.from_ = [row["pc"] for row in self.rows]

    def row(self, address):
        return self.rows[max(bisect.bisect_right(self.from_, address) - 1, 0)]

    def frame(self, address):
        """Register and offset; `None` for the register if it is an expression."""
        cfa = self.row(address)["cfa"]
        return (None if cfa.expr else cfa.reg), cfa.offset

    def instructions(self):
        at = self.start
        while at < self.end:
            found = self.binary.instructions(at, self.end)
            yield from found
            at = found[-1].address + found[-1].size if found else at
            if self.binary.read(at, len(TRAP)) == TRAP:
                at += len(TRAP)
            elif at < self.end:
                raise ValueError(f"no instruction at {at:#x}")

    def contains(self, address):
        return self.start <= address < self.end

    def has_caller(self):
        """False at the beginning of a thread, whose unwind information says that there is no return address."""
        return self.rows[0].get(RIP) is None or self.rows[0][RIP].type != "UNDEFINED"

    def faults(self, covering):
        instructions = list(self.instructions())
        jumps = {target(i) for i in instructions if is_jump(i)}
        for i in instructions:
            after = i.address + i.size
            frame = self.frame(i.address)
            said = f"{i.address:#x} {i.mnemonic} {i.op_str}"
            if frame[0] is None:
                yield f"{said}: a frame that is an expression"
                continue
            if self.has_caller():
                yield from (f"{said}: {fault}" for fault in return_address(self.row(i.address), frame))
            to = target(i) if is_jump(i) else None
            begins = to is not None and (other := covering(to)) is not None and not other.has_caller()
            leaves = i.mnemonic == "ret" or to is not None and not self.contains(to) and not begins
            if leaves and frame != (RSP, 8):
                yield f"{said}: leaves the function with {frame}"
            if to is not None and self.contains(to) and self.frame(to) != frame:
                yield f"{said}: {frame} here, {self.frame(to)} there"
            if i.mnemonic in ENDS or i.mnemonic == "jmp" or after >= self.end:
                continue
            expected, then = follows(i, frame, self.binary), self.frame(after)
            # After a call that does not return, and padding, comes code that other instructions jump to.
            if then not in expected and not (i.mnemonic in ("call", "nop") and after in jumps):
                yield f"{said}: {frame} here, {then} afterwards"
            for register in written(i, self.binary):
                if self.has_caller() and NUMBERS[register] not in self.row(after):
                    yield f"{said}: it is not said where the caller's {register} is"


def is_jump(i):
    return i.mnemonic.startswith("j")


def target(i):
    return i.operands[0].imm if i.operands[0].type == x86.X86_OP_IMM else None


def return_address(row, frame):
    rule = row.get(RIP)
    in_frame = rule is not None and rule.type == "OFFSET" and rule.arg == -8 and not (frame[0] == RSP and frame[1] < 8)
    in_register = rule is not None and rule.type == "REGISTER"
    if not in_frame and not in_register:
        yield f"no return address in {frame}"


def written(i, binary):
    """Registers of the caller that an instruction writes to, unless it restores them from the stack."""
    if i.mnemonic in ("pop", "leave"):
        return set()
    return {whole(register, binary.decoder) for register in i.regs_access()[1]} & CALLERS


def follows(i, frame, binary):
    """The possible frames after an instruction."""
    register, offset = frame
    operands = i.operands
    changes = "rsp" in {whole(r, binary.decoder) for r in i.regs_access()[1]} and i.mnemonic != "call"
    if i.mnemonic == "mov" and i.op_str == "rbp, rsp":
        return {frame, (NUMBERS["rbp"], offset)} if register == RSP else {frame}
    if i.mnemonic == "leave" or (i.mnemonic == "pop" and i.op_str == "rbp" and register == NUMBERS["rbp"]):
        return {(RSP, 8)} if register == NUMBERS["rbp"] else set()
    if register != RSP or not changes:
        return {frame}
    if i.mnemonic == "push":
        return {(RSP, offset + 8)}
    if i.mnemonic == "pop":
        return {(RSP, offset - 8)}
    if i.mnemonic in ("sub", "add") and operands[1].type == x86.X86_OP_IMM:
        return {(RSP, offset + (operands[1].imm if i.mnemonic == "sub" else -operands[1].imm))}
    if i.mnemonic == "lea" and operands[1].mem.base == x86.X86_REG_RSP and not operands[1].mem.index:
        return {(RSP, offset - operands[1].mem.disp)}
    return set()


def symbols(binary):
    """Functions of the file itself, by address. Exported ones are found without a symbol table."""
    found = {}
    for name in (".symtab", ".dynsym"):
        table = binary.elf.get_section_by_name(name)
        for symbol in table.iter_symbols() if table else ():
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_size"]:
                found.setdefault(symbol["st_value"], symbol.name)
    # The functions of the C compiler's start files are not ours.
    start_files = {"_start", "_init", "_fini", "__libc_csu_init", "_dl_relocate_static_pie"}
    return {address: name for address, name in found.items() if name not in start_files}


def main(arguments):
    failed = 0
    for path in (a for a in arguments if a != "--sections"):
        binary = Binary(Path(path))
        entries = binary.elf.get_dwarf_info().EH_CFI_entries()
        functions = sorted((Function(binary, e) for e in entries if isinstance(e, FDE)), key=lambda f: f.start)
        starts = [f.start for f in functions]

        def covering(address):
            at = bisect.bisect_right(starts, address) - 1
            return functions[at] if at >= 0 and functions[at].contains(address) else None

        faults, looked_at, sections = [], {}, list(binary.sections())
        for _, start, end, abort in sections:
            function = covering(start)
            if function is None or covering(abort) is not function:
                faults.append(f"section {start:#x}: its abort handler at {abort:#x} is not covered by what covers it")
                continue
            looked_at[function.start] = function
            rows = [{k: str(v) for k, v in function.row(at).items() if k != "pc"} for at in (start, end - 1, abort)]
            if any(row != rows[0] for row in rows):
                faults.append(f"section {start:#x}: another frame at its abort handler: {rows}")
        names = symbols(binary)
        if "--sections" not in arguments:
            for address, name in names.items():
                function = covering(address)
                if function is None or function.start != address:
                    faults.append(f"{name}: no unwind information")
                else:
                    looked_at[function.start] = function
        for start, function in sorted(looked_at.items()):
            faults += (f"{names.get(start, hex(start))}: {fault}" for fault in function.faults(covering))
        for fault in faults:
            print(f"{path}: {fault}")
        print(f"unwind: {path}: {len(looked_at)} functions, {len(sections)} sections")
        failed += len(faults) + (not looked_at or not sections)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
