//! Slots by concurrency id (`KMEM_RSEQ=cid`): for few threads on many CPUs.
//!
//! The kernel (Linux 6.3 and newer) gives each thread of a process that runs at the moment a number that no other one
//! of them has, as small as it can, and writes it into the rseq area, beside the CPU number. With ids for CPU numbers a
//! process with two threads that wander over 64 CPUs has a few areas and not 64, and finds what it cached wherever it
//! goes. In this mode all that the engine calls a CPU is an id: the table, states, transitions and the page have a row
//! an id.
//!
//! # Why a section owns its slot
//! - *Nobody else has the id while the thread runs*, by the kernel's word. Two sections on one slot are therefore two
//!   runs of threads, one after the other (I38).
//! - *The id does not change hands under a section.* A thread has its id from when it is switched to until it is
//!   switched from. What was switched from inside a section goes on at its abort handler: the kernel sees to that, and
//!   only then writes the id of the new run, both before the thread executes anything.
//! - *What the one committed, the other sees.* The id goes from one to the other by atomic operations of the kernel,
//!   and x86 keeps stores in order: the commit comes before the first, and the next section after the last.
//! - *A child made by fork* has another address space and so ids of its own, written before it executes anything.
//!
//! # Threads that are not registered
//! Their id reads 0, which is a slot, and some other thread's; nothing would abort them. Their CPU number is negative.
//! So a section that goes by id looks at both, and misses where the CPU number is negative. Both words are read after
//! the bind: a thread that registers in between is in a section already.
//!
//! # The fence
//! A slot's thread may be on any CPU, so a fence is one for all CPUs that run the process, also for one slot. Nothing
//! else changes: a section that had begun on an id that was withdrawn is interrupted where it runs, or was switched
//! from, and is aborted. This is what the mode costs: a magazine that grows, or a cache that is destroyed, interrupts
//! every running thread of the process. Isolated CPUs cannot be spared one by one; see `undisturbed`.
//!
//! # Which ids are in use
//! They are below the number of possible CPUs, so the table has an entry for each (I5). From Linux 6.13 on there are no
//! more of them than threads, or CPUs that they may run on; before, a CPU kept its id for a tenth of a second after the
//! last thread was there, and threads that wander fast have more. Which ones cannot be known, because the kernel likes
//! to give a CPU the id that it had. So an id that went out of use is known by being idle: its slots are emptied like
//! all that were not used for a period (`Engine::age`), and if there are more ids in use than there can be, those that
//! hold nothing are taken down (`follow`). A thread that gets such an id after all brings it up again, at the cost of a
//! miss.
//!
//! # When it can be had
//! On x86-64, whose order of stores is part of the argument above. The kernel says in the auxiliary vector how many
//! bytes of an area it fills. It takes none of less than 32 bytes, which is more than are filled up to the id; so
//! libc's area has room for it, also where libc says (`__rseq_size`) that it knows of 20 bytes only. An area of our own
//! would do as well, and is not asked for: who has it has an old libc, or switched libc's off. Where the mode is not
//! available slots go by CPU number, and `kmem info` says so.
//!
//! # Why it is not the default
//! What it gains: one thread, or two, that go to another of 16 CPUs every 2 ms and allocate 400 objects there at a time
//! (`tests/bench/wander.c`; an emulated machine, upkeep on, three looks each):
//!
//! ```text
//!                       by CPU number                by concurrency id
//! Linux 6.18, 1 thread  16 areas, 2.4 to 2.8 MiB     3 areas, 0.8 MiB cached
//! Linux 6.18, 2         16 areas, 1.9 to 3.1 MiB     4 areas, 0.6 to 1.2 MiB
//! Linux 6.12, 1         16 areas, 2.5 to 3.6 MiB     4 to 6 areas, 0.4 to 1.7 MiB
//! Linux 6.12, 2         16 areas, 1.9 to 4.5 MiB     12 to 15 areas, 3.0 to 3.3 MiB
//! ```
//! That is a tenth of a MiB or two a CPU; resident memory was within 1 MiB of each other most of the time. And it costs
//! everybody: a pair of malloc and free takes 8.2 to 8.8 ns instead of 6.2 to 6.5 (`.ci/pair`'s program, a virtual
//! machine with two CPUs, the quickest of many runs), for it has more instructions. Fences interrupt every CPU that the
//! process runs on, and no thread can be a proxy for one. Typed caches and `Kmalloc` have no section in line for it:
//! they take the slow path's. So the mode is for who has measured that he needs it: few threads, very many CPUs.

use core::ptr::NonNull;

use kmem_core::cpu::{CpuSet, MAX_CPUS};
use kmem_core::percpu::{CpuTable, SlotIndex};
use kmem_core::sync::Ordering;

use super::hot;
use super::thread_data::RseqArea;
use super::{IDS, given_by_id};
use crate::os::environment::auxiliary;
use crate::os::fault::{self, Call};

/// Bytes of an area up to the end of its id.
const AREA_WITH_ID: usize = core::mem::offset_of!(RseqArea, mm_cid) + size_of::<u32>();
/// AT_RSEQ_FEATURE_SIZE: bytes of an area that the kernel fills.
const FEATURE_SIZE: usize = 27;

/// Whether the kernel writes ids into areas that are registered, and there are sections for them.
pub(crate) fn exist() -> bool {
    IDS && !fault::refused(Call::Ids) && auxiliary(FEATURE_SIZE).is_some_and(|filled| filled >= AREA_WITH_ID)
}

/// [`Sections::pop`](kmem_core::platform::Sections::pop). Like the three below it is not in line, which would make
/// slow paths in other modes longer.
///
/// # Safety
/// As there.
#[inline(never)]
pub(crate) unsafe fn pop(table: &CpuTable, slot: SlotIndex) -> Option<NonNull<u8>> {
    // SAFETY: passed on.
    unsafe { given_by_id::pop(table.entries().as_ptr(), slot) }
}

/// [`Sections::push`](kmem_core::platform::Sections::push).
///
/// # Safety
/// As there.
#[inline(never)]
pub(crate) unsafe fn push(table: &CpuTable, slot: SlotIndex, object: NonNull<u8>) -> bool {
    // SAFETY: passed on.
    unsafe { given_by_id::push(table.entries().as_ptr(), slot, object) }
}

/// [`Sections::pop_batch`](kmem_core::platform::Sections::pop_batch).
///
/// # Safety
/// As there.
#[inline(never)]
pub(crate) unsafe fn pop_batch(table: &CpuTable, slot: SlotIndex, out: &mut [usize]) -> usize {
    // SAFETY: passed on.
    unsafe { given_by_id::pop_batch(table.entries().as_ptr(), slot, out) }
}

/// [`Sections::push_batch`](kmem_core::platform::Sections::push_batch).
///
/// # Safety
/// As there.
#[inline(never)]
pub(crate) unsafe fn push_batch(table: &CpuTable, slot: SlotIndex, objects: &[usize]) -> usize {
    // SAFETY: passed on.
    unsafe { given_by_id::push_batch(table.entries().as_ptr(), slot, objects) }
}

/// The id of the calling thread; out of range where it is not registered (I4, I5).
pub(crate) fn current() -> usize {
    let area = hot::area_by_id();
    let cpu = area.cpu_id.load(Ordering::Relaxed) as i32;
    if cpu < 0 { cpu as usize } else { area.mm_cid.load(Ordering::Relaxed) as usize }
}

/// The node that the calling thread is on, which is as good a guess as any for a slot that has no place of its own.
pub(crate) fn node() -> usize {
    hot::area_by_id().node_id.load(Ordering::Relaxed) as usize
}

/// How many ids can be in use where so many threads (`None`: not known) may run on so many CPUs.
pub(crate) fn most(cpus: usize, threads: Option<usize>) -> usize {
    cpus.min(threads.unwrap_or(MAX_CPUS)).max(1)
}

/// The slots that must be left alone so that none of the `isolated` CPUs is interrupted: all, if the process may run on
/// one of them. `allowed`: none where that is not known.
pub(crate) fn undisturbed(isolated: &CpuSet, allowed: &CpuSet) -> CpuSet {
    let may_be_used = |cpu| allowed.is_empty() || allowed.contains(cpu);
    if isolated.iter().any(may_be_used) { CpuSet::first(MAX_CPUS) } else { CpuSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_ids_as_threads_and_cpus() {
        for (cpus, threads, ids) in [(64, Some(2), 2), (2, Some(64), 2), (64, None, 64), (0, Some(0), 1)] {
            assert_eq!(most(cpus, threads), ids);
        }
    }

    #[test]
    fn where_an_isolated_cpu_may_be_used_all_slots_are_left_alone() {
        let (isolated, others) = (CpuSet::of(3), CpuSet::first(3));
        assert!(undisturbed(&isolated, &others).is_empty());
        assert_eq!(undisturbed(&isolated, &CpuSet::first(4)).len(), MAX_CPUS);
        assert_eq!(undisturbed(&isolated, &CpuSet::new()).len(), MAX_CPUS, "nobody knows");
        assert!(undisturbed(&CpuSet::new(), &CpuSet::new()).is_empty());
    }
}
