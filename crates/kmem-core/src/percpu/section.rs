//! The four operations of a section, written plainly, each as what it reads and what it commits.
//!
//! Called whole, these are right wherever something else keeps sections on one CPU apart: a lock (Linux without
//! restartable sequences) or interrupts off (bare metal). The restartable sequences of Linux are the same operations in
//! assembly. The simulator calls the halves, to put an interrupt between them. Every operation ends in its commit, the
//! store to the cursor.
//!
//! # Safety (all functions)
//! The area was read from the table inside the section, `slot` is below its number of slots, and nothing else changes
//! the slot between the first half and the end of the second.

use core::ptr::NonNull;

use super::area::{Area, SlotIndex, WORD};
use crate::sync::Ordering;

/// What a push saw.
#[derive(Clone, Copy)]
pub struct Room {
    cursor: usize,
    end: usize,
}

/// First half of a pop: reads the newest objects, the newest first, and answers the cursor behind which they end, and
/// how many they are.
///
/// # Safety
/// See the module.
#[inline]
pub unsafe fn peek(area: Area, slot: SlotIndex, out: &mut [usize]) -> (usize, usize) {
    // SAFETY: the word before a cursor is an object, the magazine's mark, or the area's mark (I3); a mark ends the
    // walk.
    unsafe {
        // Acquire: who sees the cursor of a slot that was just enabled sees the mark in front of it.
        let mut cursor = area.slot(slot).cursor.load(Ordering::Acquire);
        let mut count = 0;
        while count < out.len() {
            let word = area.word(cursor.wrapping_sub(WORD)).load(Ordering::Relaxed);
            if word & 1 != 0 {
                break;
            }
            out[count] = word;
            count += 1;
            cursor = cursor.wrapping_sub(WORD);
        }
        (cursor, count)
    }
}

/// Second half of a pop: the objects are the caller's.
///
/// A cursor that did not move is not stored: a slot is enabled without a fence, and a store of the old value could undo
/// that.
///
/// # Safety
/// See the module; `cursor` and `count` are what [`peek`] answered.
#[inline]
pub unsafe fn commit_pop(area: Area, slot: SlotIndex, cursor: usize, count: usize) {
    if count > 0 {
        // SAFETY: passed on.
        unsafe { area.slot(slot) }.cursor.store(cursor, Ordering::Relaxed);
    }
}

/// First half of a push: reads how much room there is. The end comes first: see [`super`].
///
/// # Safety
/// See the module.
#[inline]
pub unsafe fn room(area: Area, slot: SlotIndex) -> Room {
    // SAFETY: passed on.
    let slot = unsafe { area.slot(slot) };
    let end = slot.end.load(Ordering::Acquire);
    Room { cursor: slot.cursor.load(Ordering::Relaxed), end }
}

/// Second half of a push: puts in the first objects, as many as there is room for, and answers how many.
///
/// # Safety
/// See the module; the objects are the caller's (I7).
#[inline]
pub unsafe fn commit_push(area: Area, slot: SlotIndex, room: Room, objects: &[usize]) -> usize {
    let mut cursor = room.cursor;
    let mut put = 0;
    // SAFETY: the words from cursor to end belong to the magazine.
    unsafe {
        while put < objects.len() && cursor < room.end {
            area.word(cursor).store(objects[put], Ordering::Relaxed);
            put += 1;
            cursor = cursor.wrapping_add(WORD);
        }
        if put > 0 {
            area.slot(slot).cursor.store(cursor, Ordering::Release);
        }
    }
    put
}

/// Takes the newest objects, the newest first.
///
/// # Safety
/// See the module.
pub unsafe fn pop_batch(area: Area, slot: SlotIndex, out: &mut [usize]) -> usize {
    // SAFETY: passed on.
    unsafe {
        let (cursor, count) = peek(area, slot, out);
        commit_pop(area, slot, cursor, count);
        count
    }
}

/// Takes up to `out.len()` objects out of a slot of a private area, if it is enabled.
///
/// # Safety
/// `slot` is below the area's number of slots. The area is private: its CPU is stopped, or was never published (I36, I38).
pub unsafe fn take(area: Area, slot: SlotIndex, out: &mut [usize]) -> usize {
    // SAFETY: nobody else touches the area, which is more than a section asks for; an enabled slot is one of its.
    unsafe { if area.is_enabled(slot) { pop_batch(area, slot, out) } else { 0 } }
}

/// Puts the first objects in, as many as fit.
///
/// # Safety
/// See the module; the objects are the caller's (I7).
pub unsafe fn push_batch(area: Area, slot: SlotIndex, objects: &[usize]) -> usize {
    // SAFETY: passed on.
    unsafe { commit_push(area, slot, room(area, slot), objects) }
}

/// Takes the newest object.
///
/// # Safety
/// See the module.
#[inline]
pub unsafe fn pop(area: Area, slot: SlotIndex) -> Option<NonNull<u8>> {
    let mut object = [0];
    // SAFETY: passed on; an object's address is not 0.
    unsafe { (pop_batch(area, slot, &mut object) == 1).then(|| NonNull::new_unchecked(object[0] as *mut u8)) }
}

/// Puts an object in.
///
/// # Safety
/// See the module; the object is the caller's (I7).
#[inline]
pub unsafe fn push(area: Area, slot: SlotIndex, object: NonNull<u8>) -> bool {
    // SAFETY: passed on.
    unsafe { push_batch(area, slot, &[object.as_ptr() as usize]) == 1 }
}
