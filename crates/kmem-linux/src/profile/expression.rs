//! Expressions of [unwind tables](super::tables): programs for a small stack of words.
//!
//! They occur in the entries of procedure linkage tables and of signal frames, and are evaluated as far as those need.

use super::reader::Reader;
use super::registers::COUNT;

/// What an expression leads to: its length stands at `at`; `first` is on the stack when it begins. `read` reads a word
/// of memory, where that is possible.
pub(super) fn evaluate(
    at: usize,
    first: Option<usize>,
    registers: &[usize; COUNT],
    mut read: impl FnMut(usize) -> Option<usize>,
) -> Option<usize> {
    let mut reader = Reader(at);
    let len = reader.unsigned();
    let end = reader.0 + len;
    let (mut stack, mut depth) = ([0usize; 8], 0usize);
    if let Some(first) = first {
        (stack[0], depth) = (first, 1);
    }
    while reader.0 < end {
        let code: u8 = reader.get();
        if matches!(code, 0x1a | 0x1c | 0x1e | 0x21 | 0x22 | 0x24 | 0x25 | 0x27 | 0x29..=0x2e) {
            depth = depth.checked_sub(2)?;
            let (a, b) = (stack[depth], stack[depth + 1]);
            stack[depth] = match code {
                0x1a => a & b,
                0x1c => a.wrapping_sub(b),
                0x1e => a.wrapping_mul(b),
                0x21 => a | b,
                0x22 => a.wrapping_add(b),
                0x24 => a.checked_shl(b as u32).unwrap_or(0),
                0x25 => a.checked_shr(b as u32).unwrap_or(0),
                0x27 => a ^ b,
                0x29 => usize::from(a == b),
                0x2a => usize::from(a as isize >= b as isize),
                0x2b => usize::from(a as isize > b as isize),
                0x2c => usize::from(a as isize <= b as isize),
                0x2d => usize::from((a as isize) < b as isize),
                _ => usize::from(a != b),
            };
            depth += 1;
            continue;
        }
        let value = match code {
            0x06 => {
                depth = depth.checked_sub(1)?;
                read(stack[depth])?
            }
            0x23 => {
                depth = depth.checked_sub(1)?;
                stack[depth].wrapping_add(reader.unsigned())
            }
            0x08 => reader.get::<u8>() as usize,
            0x09 => reader.get::<i8>() as usize,
            0x0a => reader.get::<u16>() as usize,
            0x0b => reader.get::<i16>() as usize,
            0x0c => reader.get::<u32>() as usize,
            0x0d => reader.get::<i32>() as usize,
            0x03 | 0x0e | 0x0f => reader.get(),
            0x10 => reader.unsigned(),
            0x11 => reader.signed() as usize,
            0x12 => *stack.get(depth.checked_sub(1)?)?,
            0x30..=0x4f => code as usize - 0x30,
            0x70..=0x8f => registers.get(code as usize - 0x70)?.wrapping_add_signed(reader.signed()),
            0x96 => continue,
            _ => return None,
        };
        *stack.get_mut(depth)? = value;
        depth += 1;
    }
    depth.checked_sub(1).map(|top| stack[top])
}
