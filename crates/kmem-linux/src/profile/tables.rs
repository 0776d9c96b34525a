//! Unwind tables: what `.eh_frame` says of the frame that an instruction runs in.
//!
//! Compilers for x86-64 emit these tables for every function, whether it has a frame pointer or not, so they are what
//! finds a caller exactly. libc finds the table of an address by `_dl_find_object` (glibc 2.35), which takes no lock,
//! allocates nothing and may be called in a signal handler: it was made for unwinding. Where libc lacks it there are no
//! tables for us, because `dl_iterate_phdr` takes the loader's lock, which a thread may hold that allocates.
//!
//! The tables are the program's own, mapped and relocated; they are believed.

use core::ffi::c_void;

use super::reader::Reader;
use super::registers::{COUNT, SP};
use crate::__weak_address as weak;

/// Rules that were remembered and not yet restored.
const REMEMBERED: usize = 4;

/// How the value of a register in the caller is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// It is what it is in the callee.
    Same,
    /// It is unknown; the return address's: there is no caller.
    Unknown,
    /// It is in memory, so many bytes from the frame's address.
    At(i32),
    /// It is that address.
    Is(i32),
    /// It is in another register.
    In(u8),
    /// It is in memory at the address that an expression leads to, whose length stands at this address.
    AtExpression(usize),
    /// It is what the expression leads to.
    IsExpression(usize),
}

/// What is known of a frame.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    /// The frame's address: a register, and bytes more.
    pub(super) register: u8,
    pub(super) offset: i32,
    /// Or an expression, if not 0.
    pub(super) expression: usize,
    pub(super) rules: [Rule; COUNT],
    /// The frame is a signal's: the caller was interrupted, and not in a call.
    pub(super) is_signal: bool,
}

impl Frame {
    const UNKNOWN: Self = Self { register: 0, offset: 0, expression: 0, rules: [Rule::Same; COUNT], is_signal: false };
}

/// What reading the tables needs beside a stack that is not ours, and is too short for it.
pub(super) struct Scratch {
    /// What [`frame_at`] found.
    pub(super) frame: Frame,
    /// The rules at the beginning of a function.
    first: [Rule; COUNT],
    remembered: [Frame; REMEMBERED],
}

impl Scratch {
    pub(super) const NEW: Self =
        Self { frame: Frame::UNKNOWN, first: [Rule::Same; COUNT], remembered: [Frame::UNKNOWN; REMEMBERED] };
}

/// What libc says of the object that an address is in.
#[repr(C)]
struct Object {
    flags: u64,
    start: usize,
    end: usize,
    map: usize,
    /// The table's index, sorted by address.
    eh_frame: usize,
    /// More than any version has.
    reserved: [usize; 16],
}

/// Where the index of the table is that has the function at `pc`, and the object's first and last address.
pub(super) fn object_of(pc: usize) -> Option<(usize, usize, usize)> {
    let find = weak!("_dl_find_object");
    if find.is_null() {
        return None;
    }
    let mut object = Object { flags: 0, start: 0, end: 0, map: 0, eh_frame: 0, reserved: [0; 16] };
    // SAFETY: libc's function, of this type; the structure is longer than the one it writes.
    let found = unsafe {
        let find: unsafe extern "C" fn(*const c_void, *mut Object) -> i32 = core::mem::transmute(find);
        find(pc as *const c_void, &mut object)
    };
    (found == 0).then_some((object.eh_frame, object.start, object.end))
}

/// The description of the function at `pc`, in the table whose index is at `index`.
fn description(index: usize, pc: usize) -> Option<usize> {
    let mut reader = Reader(index);
    let [version, start, count, table] = reader.get::<[u8; 4]>();
    // What every linker writes: a sorted table of pairs, four bytes each, from the index on.
    if (version, table) != (1, 0x3b) || count != 0x03 {
        return None;
    }
    reader.encoded(start)?;
    let count = reader.get::<u32>() as usize;
    let first = reader.0;
    let pair = |number: usize| Reader(first + number * 8).get::<[i32; 2]>();
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if index.wrapping_add_signed(pair(middle)[0] as isize) <= pc {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Some(index.wrapping_add_signed(pair(low.checked_sub(1)?)[1] as isize))
}

/// What a function's common part says.
struct Common {
    code: usize,
    data: isize,
    encoding: u8,
    has_data: bool,
    is_signal: bool,
    program: usize,
    end: usize,
}

fn common(at: usize) -> Option<Common> {
    let mut reader = Reader(at);
    let len = reader.get::<u32>() as usize;
    let end = reader.0 + len;
    let (id, version): (u32, u8) = (reader.get(), reader.get());
    if id != 0 || !matches!(version, 1 | 3) {
        return None;
    }
    let letters = reader.0;
    while reader.get::<u8>() != 0 {}
    let (code, data) = (reader.unsigned(), reader.signed());
    let _return = if version == 1 { reader.get::<u8>() as usize } else { reader.unsigned() };
    let mut this = Common { code, data, encoding: 0, has_data: false, is_signal: false, program: 0, end };
    let mut letter = Reader(letters);
    let mut after = None;
    loop {
        match letter.get::<u8>() {
            0 => break,
            b'z' => {
                let len = reader.unsigned();
                after = Some(reader.0 + len);
                this.has_data = true;
            }
            b'R' => this.encoding = reader.get(),
            b'L' => _ = reader.get::<u8>(),
            b'P' => {
                let encoding: u8 = reader.get();
                // Where it is does not matter here, but how long it is.
                reader.encoded(encoding & 0x0f)?;
            }
            b'S' => this.is_signal = true,
            b'B' => {}
            _ => return None,
        }
    }
    this.program = after.unwrap_or(reader.0);
    Some(this)
}

/// Finds what the tables say of the frame of the function at `pc`; `None`: nothing.
#[cold]
#[inline(never)]
pub(super) fn frame_at(pc: usize, scratch: &mut Scratch) -> Option<()> {
    let (index, ..) = object_of(pc)?;
    if index == 0 {
        return None;
    }
    let mut reader = Reader(description(index, pc)?);
    let len = reader.get::<u32>() as usize;
    if len == 0 || len == u32::MAX as usize {
        return None;
    }
    let end = reader.0 + len;
    let here = reader.0;
    let common = common(here - reader.get::<u32>() as usize)?;
    let start = reader.encoded(common.encoding)?;
    let range = reader.encoded(common.encoding & 0x0f)?;
    if pc.wrapping_sub(start) >= range {
        return None;
    }
    if common.has_data {
        let len = reader.unsigned();
        reader.0 += len;
    }
    scratch.frame = Frame { is_signal: common.is_signal, ..Frame::UNKNOWN };
    scratch.first = Frame::UNKNOWN.rules;
    run(scratch, &common, common.program..common.end, usize::MAX)?;
    scratch.first = scratch.frame.rules;
    run(scratch, &common, reader.0..end, pc - start)
}

/// Runs a program of the tables up to what it says of the instruction `want` bytes into the function.
fn run(scratch: &mut Scratch, common: &Common, program: core::ops::Range<usize>, want: usize) -> Option<()> {
    let Scratch { frame, first, remembered } = scratch;
    let mut reader = Reader(program.start);
    let (mut depth, mut at) = (0, 0);
    while reader.0 < program.end {
        let code: u8 = reader.get();
        let low = code as usize & 0x3f;
        let mut set = |register: usize, rule: Rule| {
            if let Some(place) = frame.rules.get_mut(register) {
                *place = rule;
            }
        };
        let scaled = |factor: isize| i32::try_from(factor * common.data).ok();
        let mut advance = |by: usize| {
            at += by * common.code;
            at > want
        };
        let is_over = match code {
            0x40..=0x7f => advance(low),
            0x02 => advance(reader.get::<u8>() as usize),
            0x03 => advance(reader.get::<u16>() as usize),
            0x04 => advance(reader.get::<u32>() as usize),
            _ => false,
        };
        if is_over {
            return Some(());
        }
        match code {
            0x40..=0x7f | 0x00 | 0x02..=0x04 => {}
            0x80..=0xbf => set(low, Rule::At(scaled(reader.unsigned() as isize)?)),
            0xc0..=0xff => set(low, first.get(low).copied().unwrap_or(Rule::Same)),
            0x05 => set(reader.unsigned(), Rule::At(scaled(reader.unsigned() as isize)?)),
            0x06 => {
                let register = reader.unsigned();
                set(register, first.get(register).copied().unwrap_or(Rule::Same));
            }
            0x07 => set(reader.unsigned(), Rule::Unknown),
            0x08 => set(reader.unsigned(), Rule::Same),
            0x09 => set(reader.unsigned(), Rule::In(u8::try_from(reader.unsigned()).ok()?)),
            0x0a => {
                *remembered.get_mut(depth)? = *frame;
                depth += 1;
            }
            0x0b => {
                depth = depth.checked_sub(1)?;
                *frame = remembered[depth];
            }
            0x0c => {
                frame.register = u8::try_from(reader.unsigned()).ok()?;
                (frame.offset, frame.expression) = (i32::try_from(reader.unsigned()).ok()?, 0);
            }
            0x0d => (frame.register, frame.expression) = (u8::try_from(reader.unsigned()).ok()?, 0),
            0x0e => frame.offset = i32::try_from(reader.unsigned()).ok()?,
            0x0f => {
                frame.expression = reader.0;
                let len = reader.unsigned();
                reader.0 += len;
            }
            0x10 | 0x16 => {
                let register = reader.unsigned();
                let at = reader.0;
                set(register, if code == 0x10 { Rule::AtExpression(at) } else { Rule::IsExpression(at) });
                let len = reader.unsigned();
                reader.0 += len;
            }
            0x11 => set(reader.unsigned(), Rule::At(scaled(reader.signed())?)),
            0x12 => {
                frame.register = u8::try_from(reader.unsigned()).ok()?;
                (frame.offset, frame.expression) = (scaled(reader.signed())?, 0);
            }
            0x13 => frame.offset = scaled(reader.signed())?,
            0x14 => set(reader.unsigned(), Rule::Is(scaled(reader.unsigned() as isize)?)),
            0x15 => set(reader.unsigned(), Rule::Is(scaled(reader.signed())?)),
            0x2e => _ = reader.unsigned(),
            _ => return None,
        }
    }
    Some(())
}

const _: () = assert!(SP < COUNT);
