//! A modelled section, as the hardware runs one: it reads, may be interrupted at any point, and commits only if neither
//! another section on its CPU nor a fence intervened; otherwise it restarts.
//!
//! The model is an epoch per CPU, a number under a lock, which commits and fences advance. Each half of a section is
//! one step under that lock: inside a half, loads and stores of the slot are the engine's own atomics with the engine's
//! own orderings, and whatever may come between the halves (an interrupt, another thread's turn, a fence) comes with
//! the lock free. So the epochs order the sections of one CPU, as the CPU itself does, order them with a fence, as the
//! fence promises, and order them with nothing else.
//!
//! This is the one model of a section: the fake platform uses it with the locks of `std`, and the platform of loom and
//! shuttle (`kmem-models`, which includes this file) with those of its checker.

use std::cell::RefCell;
use std::ops::DerefMut;

use kmem_core::percpu::{Area, CpuTable, SlotIndex, section};

/// Takes up to `out.len()` objects in one section on `cpu`, the newest first, and returns how many. `lock` locks the
/// CPU's epoch; `between` is what happens between the halves.
///
/// # Safety
/// As for `Sections::pop_batch`; every other section on `cpu`, and every fence of it, locks the same epoch.
pub(crate) unsafe fn pop_batch<G: DerefMut<Target = u64>>(
    lock: impl Fn() -> G,
    between: impl Fn(),
    (table, cpu): (&CpuTable, usize),
    slot: SlotIndex,
    out: &mut [usize],
) -> usize {
    let out = RefCell::new(out);
    // SAFETY: the epoch keeps sections on this CPU apart and ends them at a fence; areas stay readable.
    let read = |area| unsafe { section::peek(area, slot, &mut out.borrow_mut()) };
    let commit = |area, (cursor, count)| {
        // SAFETY: as above.
        unsafe { section::commit_pop(area, slot, cursor, count) };
        count
    };
    run(lock, between, (table, cpu), read, commit)
}

/// Puts the first objects in, as many as fit, in one section on `cpu`, and returns how many.
///
/// # Safety
/// As for `Sections::push_batch`, and as for [`pop_batch`].
pub(crate) unsafe fn push_batch<G: DerefMut<Target = u64>>(
    lock: impl Fn() -> G,
    between: impl Fn(),
    (table, cpu): (&CpuTable, usize),
    slot: SlotIndex,
    objects: &[usize],
) -> usize {
    // SAFETY: as for `pop_batch`.
    let read = |area| unsafe { section::room(area, slot) };
    // SAFETY: as above.
    let commit = |area, room| unsafe { section::commit_push(area, slot, room, objects) };
    run(lock, between, (table, cpu), read, commit)
}

fn run<G: DerefMut<Target = u64>, T, R>(
    lock: impl Fn() -> G,
    between: impl Fn(),
    (table, cpu): (&CpuTable, usize),
    read: impl Fn(Area) -> T,
    commit: impl Fn(Area, T) -> R,
) -> R {
    loop {
        let (begun, area, seen) = {
            let epoch = lock();
            let area = table.get(cpu);
            (*epoch, area, read(area))
        };
        between();
        let mut epoch = lock();
        if *epoch == begun {
            *epoch += 1;
            return commit(area, seen);
        }
    }
}
