//! Sections: what a platform promises of them, and the four operations written plainly, each as what it reads and what
//! it commits.
//!
//! Called whole, the functions are right wherever something else keeps sections on one CPU apart: a lock (Linux without
//! restartable sequences) or interrupts off (bare metal). The restartable sequences of Linux are the same operations in
//! assembly. The simulator calls the halves, to put an interrupt between them. Every operation ends in its commit, the
//! store to the cursor.
//!
//! # Safety (of each function)
//! The area was read from the table inside the section, `slot` is below its number of slots, and nothing else changes
//! the slot between the first half and the end of the second.

use core::ptr::NonNull;

use super::CpuTable;
use super::area::{Area, SlotIndex, WORD};
use crate::host::CpuSet;
use crate::sync::Ordering;

/// CPU-local critical sections on the slot of the CPU that the thread happens to run on, and the fence that ends them.
///
/// Each section reads `table[cpu]` inside itself, works on that area's slot, and takes effect by one last store (its
/// commit), or not at all. A section may serve from any CPU's slot (a stale CPU number is harmless, I4) as long as it
/// obeys the fence.
///
/// # Safety
/// Implementers guarantee: (1) sections on one CPU take effect one after another; (2) when `fence(S)` returns, every
/// section on a CPU of S that had read the table before the call has either committed, visibly to the caller, or will
/// never commit, and a `fence_here(k)` that returns `true` is `fence({k})`; (3) a section writes only magazine words at
/// or above the cursor, and the cursor.
pub unsafe trait Sections {
    /// Takes the newest object of the slot; `None` on every unusual case (empty, disabled, stopped, unregistered
    /// thread). By default it is a batch of one.
    ///
    /// # Safety
    /// `slot` is below the table's number of slots, and the table lives as long as the platform.
    unsafe fn pop(&self, table: &CpuTable, slot: SlotIndex) -> Option<NonNull<u8>> {
        let mut object = [0];
        // SAFETY: passed on.
        let count = unsafe { self.pop_batch(table, slot, &mut object) };
        if count == 1 { NonNull::new(object[0] as *mut u8) } else { None }
    }

    /// Puts `object` into the slot; `false` on every unusual case (full, disabled, stopped, unregistered thread). By
    /// default it is a batch of one.
    ///
    /// # Safety
    /// As for [`pop`](Self::pop); the object belongs to the slot's cache and to the caller (I7).
    unsafe fn push(&self, table: &CpuTable, slot: SlotIndex, object: NonNull<u8>) -> bool {
        // SAFETY: passed on.
        unsafe { self.push_batch(table, slot, &[object.as_ptr() as usize]) == 1 }
    }

    /// Moves up to `out.len()` of the newest objects into `out` in one section, and returns how many.
    ///
    /// # Safety
    /// As for [`pop`](Self::pop).
    unsafe fn pop_batch(&self, table: &CpuTable, slot: SlotIndex, out: &mut [usize]) -> usize;

    /// Moves the first objects of `objects` into the slot in one section, as many as fit, and returns how many.
    ///
    /// # Safety
    /// As for [`push`](Self::push), for each object.
    unsafe fn push_batch(&self, table: &CpuTable, slot: SlotIndex, objects: &[usize]) -> usize;

    /// Waits until no section that began before the call can still commit on any CPU of `cpus`.
    fn fence(&self, cpus: &CpuSet);

    /// Fences `cpu` for free if the calling thread is on it. Where preemption aborts sections, being on a CPU proves
    /// that no other thread is inside a section there, and that those that were will not commit. Returns `false`, and
    /// fences nothing, if the thread is not on `cpu`, or if the platform gives no such guarantee.
    ///
    /// It costs nothing, waits for no other thread and cannot fail, so any slow path may call it.
    fn fence_here(&self, _cpu: usize) -> bool {
        false
    }

    /// Fences one CPU if that needs no system call: for work that can be done another time as well. Returns `false`,
    /// and fences nothing, otherwise.
    fn fence_quietly(&self, cpu: usize) -> bool {
        self.fence_here(cpu)
    }

    /// How many times to look whether a thread on a stopped CPU has called [`fence_here`](Self::fence_here), before the
    /// CPU is fenced from afar. 0 if a fence costs no more than a look.
    fn patience(&self) -> u32 {
        0
    }

    /// Whether a fence is possible at this moment. Asked before a fence that could be done without.
    fn can_fence(&self) -> bool {
        true
    }

    /// The CPU that the thread runs on, as far as is known: a hint, which may be stale, out of range or a lie (I4, I5).
    fn current_cpu(&self) -> usize;

    /// Whether the thread may run on `cpu` at this moment. Asked before a CPU comes up because a thread runs there: a
    /// platform whose [`current_cpu`](Self::current_cpu) may be long out of date checks here.
    fn is_on(&self, _cpu: usize) -> bool {
        true
    }
}

/// What a push saw.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    cursor: usize,
    end: usize,
}

/// First half of a pop: reads the newest objects, the newest first, and returns the cursor after which they end, and
/// how many they are.
///
/// # Safety
/// See the module.
#[inline]
pub unsafe fn peek(area: Area, slot: SlotIndex, out: &mut [usize]) -> (usize, usize) {
    // SAFETY: the word before a cursor is an object, the magazine's mark, or the area's mark (I3); a mark ends the
    // walk.
    unsafe {
        // Acquire: a section that sees the cursor of a slot that was just enabled sees the mark before it.
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
/// See the module; `cursor` and `count` are what [`peek`] returned.
#[inline]
pub unsafe fn commit_pop(area: Area, slot: SlotIndex, cursor: usize, count: usize) {
    if count > 0 {
        // SAFETY: the caller's promise.
        unsafe { area.slot(slot) }.cursor.store(cursor, Ordering::Relaxed);
    }
}

/// First half of a push: reads how much room there is. The end comes first: see [`super`].
///
/// # Safety
/// See the module.
#[inline]
pub unsafe fn room(area: Area, slot: SlotIndex) -> Room {
    // SAFETY: the caller's promise.
    let slot = unsafe { area.slot(slot) };
    let end = slot.end.load(Ordering::Acquire);
    Room { cursor: slot.cursor.load(Ordering::Relaxed), end }
}

/// Second half of a push: puts in the first objects, as many as there is room for, and returns how many.
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
    // SAFETY: the caller's promise.
    unsafe {
        let (cursor, count) = peek(area, slot, out);
        commit_pop(area, slot, cursor, count);
        count
    }
}

/// Takes up to `out.len()` objects out of a slot of a private area, if it is enabled.
///
/// # Safety
/// `slot` is below the area's number of slots. The area is private: its CPU is stopped, or was never published (I36,
/// I38).
pub unsafe fn take(area: Area, slot: SlotIndex, out: &mut [usize]) -> usize {
    // SAFETY: no other thread touches the area, which is more than a section asks for; an enabled slot is one of its.
    unsafe { if area.is_enabled(slot) { pop_batch(area, slot, out) } else { 0 } }
}

/// Puts the first objects in, as many as fit.
///
/// # Safety
/// See the module; the objects are the caller's (I7).
pub unsafe fn push_batch(area: Area, slot: SlotIndex, objects: &[usize]) -> usize {
    // SAFETY: the caller's promise.
    unsafe { commit_push(area, slot, room(area, slot), objects) }
}

/// Takes the newest object.
///
/// # Safety
/// See the module.
#[inline]
pub unsafe fn pop(area: Area, slot: SlotIndex) -> Option<NonNull<u8>> {
    let mut object = [0];
    // SAFETY: the caller's promise; an object's address is not 0.
    unsafe { (pop_batch(area, slot, &mut object) == 1).then(|| NonNull::new_unchecked(object[0] as *mut u8)) }
}

/// Puts an object in.
///
/// # Safety
/// See the module; the object is the caller's (I7).
#[inline]
pub unsafe fn push(area: Area, slot: SlotIndex, object: NonNull<u8>) -> bool {
    // SAFETY: the caller's promise.
    unsafe { push_batch(area, slot, &[object.as_ptr() as usize]) == 1 }
}
