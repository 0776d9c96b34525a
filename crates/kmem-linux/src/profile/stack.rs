//! The callers of an allocation.
//!
//! From frame to frame by the tables, and where code has none (a just-in-time compiler's) by frame
//! pointers. A walk reads the stack above the frames that it knows, and no further than it is sure that there is stack:
//! up to where the program's first stack began, and elsewhere page by page, for which the kernel is asked. (It is asked
//! by `madvise`, a call that allocations make as well, to bring the page in for reading: where that fails the walk
//! ends.) So the stack of a coroutine that ends at a page with no rights is walked to its end; and a frame pointer that
//! is none leads nowhere.
//!
//! What the tables say of an instruction does not change, so it is kept in a small table of our own. A walk of twenty
//! frames takes a microsecond by it.

use super::expression::evaluate;
use super::registers::{COUNT, FP, KEPT, RETURN, Registers, SP};
use super::tables::{self, Frame, Rule, Scratch};
use crate::os::geometry::page;
use crate::os::{libc, sys};

/// Callers that are noted at most, the innermost ones.
pub const DEPTH: usize = 64;
/// Frames that are walked at most.
const FRAMES: usize = 80;
/// Bytes of a frame at most that a frame pointer is believed to end.
const FRAME_MAX: usize = 1 << 20;
/// Bytes below the beginning of the first stack that are surely its own, if anything is mapped there: the kernel keeps
/// other mappings further away.
const FIRST_STACK: usize = 1 << 20;
/// What is kept of instructions.
pub(super) const KNOWN: usize = 1024;

/// What the tables say of an instruction, if it is simple.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Known {
    pc: usize,
    /// The frame's address is this register's value, and this many bytes more.
    register: u16,
    /// Where the registers of [`KEPT`] are: bytes from the frame's address; 0 is where none can be, and they are the
    /// same.
    kept: [i16; KEPT.len()],
    offset: i32,
}

impl Known {
    fn of(pc: usize, frame: &Frame) -> Option<Self> {
        let simple = frame.expression == 0 && !frame.is_signal && frame.rules[RETURN] == Rule::At(-8);
        if !simple || (frame.register as usize) >= COUNT || frame.rules[SP] != Rule::Same {
            return None;
        }
        let mut kept = [0; KEPT.len()];
        for (place, register) in kept.iter_mut().zip(KEPT) {
            *place = match frame.rules[register] {
                Rule::Same => 0,
                Rule::At(offset) => i16::try_from(offset).ok()?,
                _ => return None,
            };
        }
        Some(Self { pc, register: u16::from(frame.register), kept, offset: frame.offset })
    }
}

/// The stack above a frame, as far as it is known to be there.
struct Memory {
    from: usize,
    to: usize,
}

impl Memory {
    fn above(sp: usize) -> Self {
        let first = libc::initial_stack().addr();
        let to = if sp < first && first - sp < FIRST_STACK { first } else { (sp + 1).next_multiple_of(page()) };
        Self { from: sp, to }
    }

    fn read(&mut self, at: usize) -> Option<usize> {
        if at < self.from || !at.is_multiple_of(size_of::<usize>()) {
            return None;
        }
        while at >= self.to {
            if at - self.to >= FRAME_MAX || !sys::can_be_read(self.to, page()) {
                return None;
            }
            self.to += page();
        }
        // SAFETY: the page is there, and the stack of this thread; frames above the callee's do not go meanwhile.
        Some(unsafe { (at as *const usize).read() })
    }
}

/// What a walk needs: too much for a stack that is not ours.
pub(super) struct Walker {
    registers: Registers,
    known: [Known; KNOWN],
    scratch: Scratch,
    out: [usize; DEPTH],
}

impl Walker {
    /// # Safety
    /// The place is the caller's, zero and aligned.
    pub(super) unsafe fn begin(place: *mut Self) {
        // SAFETY: the caller's promise. Zero is what an instruction that is not known has.
        unsafe { (&raw mut (*place).scratch).write(Scratch::NEW) };
    }

    /// The callers of the one of whom these are the registers, the innermost first, as return addresses. Frames of
    /// `ours`, the functions of the allocator, are left out at the beginning.
    #[inline(never)]
    pub(super) fn walk(&mut self, registers: &Registers, ours: impl Fn(usize) -> bool) -> &[usize] {
        self.registers = *registers;
        let count = walk(self, ours);
        &self.out[..count]
    }
}

fn walk(walker: &mut Walker, ours: impl Fn(usize) -> bool) -> usize {
    let Walker { registers, known, scratch, out } = walker;
    let mut memory = Memory::above(registers.0[SP]);
    let (mut count, mut is_call) = (0, false);
    for _ in 0..FRAMES {
        let pc = registers.0[RETURN];
        // The instruction of a call comes before the return address, which may be another function's.
        let at = pc - usize::from(is_call);
        let Some(next_is_call) = step(registers, at, known, scratch, &mut memory) else { break };
        is_call = next_is_call;
        let pc = registers.0[RETURN];
        if pc < page() {
            break;
        }
        if count == 0 && ours(pc) {
            continue;
        }
        out[count] = if is_call { pc } else { pc + 1 };
        count += 1;
        if count == DEPTH {
            break;
        }
    }
    count
}

/// To the caller: its registers. Returns whether it is in a call (else a signal interrupted it); `None`: it has none.
fn step(
    registers: &mut Registers,
    pc: usize,
    known: &mut [Known; KNOWN],
    scratch: &mut Scratch,
    memory: &mut Memory,
) -> Option<bool> {
    let place = (pc.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % KNOWN;
    if known[place].pc != pc {
        if tables::frame_at(pc, scratch).is_none() {
            return by_frame_pointer(registers, memory);
        }
        match Known::of(pc, &scratch.frame) {
            Some(simple) => known[place] = simple,
            None => return by_rules(registers, &scratch.frame, memory),
        }
    }
    let simple = known[place];
    let callee = registers.0[SP];
    let address = registers.0[simple.register as usize].wrapping_add_signed(simple.offset as isize);
    let pc = memory.read(address.wrapping_sub(8))?;
    for (offset, register) in simple.kept.into_iter().zip(KEPT) {
        if offset != 0 {
            registers.0[register] = memory.read(address.wrapping_add_signed(offset as isize))?;
        }
    }
    (registers.0[RETURN], registers.0[SP]) = (pc, address);
    (address > callee).then_some(true)
}

/// The same by any rules.
#[cold]
#[inline(never)]
fn by_rules(registers: &mut Registers, frame: &Frame, memory: &mut Memory) -> Option<bool> {
    let callee = registers.0;
    let address = match frame.expression {
        0 => callee.get(frame.register as usize)?.wrapping_add_signed(frame.offset as isize),
        at => evaluate(at, None, &callee, |at| memory.read(at))?,
    };
    for (register, rule) in frame.rules.iter().enumerate() {
        let at = |offset: i32| address.wrapping_add_signed(offset as isize);
        registers.0[register] = match *rule {
            Rule::Same if register == SP => address,
            Rule::Same if register == RETURN => return None,
            Rule::Same => callee[register],
            Rule::Unknown if register == RETURN => return None,
            Rule::Unknown => 0,
            Rule::At(offset) => memory.read(at(offset))?,
            Rule::Is(offset) => at(offset),
            Rule::In(other) => *callee.get(other as usize)?,
            Rule::AtExpression(from) => {
                let at = evaluate(from, Some(address), &callee, |at| memory.read(at))?;
                memory.read(at)?
            }
            Rule::IsExpression(from) => evaluate(from, Some(address), &callee, |at| memory.read(at))?,
        };
    }
    // A handler may run on a stack of its own, so the interrupted frame may lie anywhere.
    if frame.is_signal {
        *memory = Memory::above(registers.0[SP]);
        return Some(false);
    }
    (registers.0[SP] > callee[SP]).then_some(true)
}

/// The same by the frame pointer, for code without tables.
#[cold]
fn by_frame_pointer(registers: &mut Registers, memory: &mut Memory) -> Option<bool> {
    let frame = registers.0[FP];
    if frame <= registers.0[SP] || frame - registers.0[SP] > FRAME_MAX {
        return None;
    }
    let (fp, pc) = (memory.read(frame)?, memory.read(frame + 8)?);
    (registers.0[FP], registers.0[RETURN], registers.0[SP]) = (fp, pc, frame + 16);
    Some(true)
}
