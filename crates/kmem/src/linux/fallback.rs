//! Sections without restartable sequences: a word a CPU that is tried, never waited for.
//!
//! ```text
//! section:  k = a CPU number (a hint); try to take word[k]; taken already -> miss; area = TABLE[k]; work; give word[k] back
//! fence(S): for each k in S: take word[k], waiting for it; give it back
//! ```
//! The number is only a hint: nothing pins the thread to the CPU, and nothing has to. Whoever works on the area of CPU
//! k holds `word[k]`, whichever CPU it runs on by now (I4, I37). The table is read behind the word, so after the fence
//! every section either has committed, and taking the word has made that visible, or will read the table anew (I36,
//! I38).
//!
//! CPUs share a word if their ids are equal modulo the number of words: two areas, one lock, which is only slower.
//!
//! Another section in the way is a miss, so a section never waits: not for a thread that was preempted in one, and not
//! for itself, in a signal handler that interrupted one. Fences wait, yielding and then sleeping: a holder needs some
//! twenty instructions.
//!
//! # Fork
//! The child has one thread. A word that another thread held would stay taken for ever, and its slot may be half
//! changed. So [`before_fork`] takes all words, and [`after_fork`] gives them back, in the parent and in the child.

use core::ffi::c_int;
use core::ptr::NonNull;

use kmem_core::cpu::CpuSet;
use kmem_core::percpu::{Area, CpuTable, SlotIndex, section};
use kmem_core::sync::{AtomicU32, Ordering};

use super::{hot, sys};

/// A power of two; more than most machines have CPUs.
const WORDS: usize = 128;
const FREE: u32 = 0;
const HELD: u32 = 1;
/// Yields before a fence sleeps: a holder of lower priority on the same CPU gets no turn by yielding.
const YIELDS: u32 = 200;
const NAP: u64 = 50_000;

/// A cache line each, and the neighbour that the CPU prefetches with it.
#[repr(align(128))]
struct Word(AtomicU32);

static TABLE: [Word; WORDS] = [const { Word(AtomicU32::new(FREE)) }; WORDS];

#[link(name = "c")]
unsafe extern "C" {
    safe fn sched_getcpu() -> c_int;
}

/// Sections for which a thread goes by the CPU number that it once asked for: asking costs more than a section.
const HINT_LASTS: u8 = 100;

/// The CPU that the thread was on some sections ago; 0 where nobody knows.
pub fn current_cpu() -> usize {
    // SAFETY: the block is the calling thread's own.
    let block = unsafe { &*hot::thread_block() };
    let left = block.hint_left.get();
    if left > 0 {
        block.hint_left.set(left - 1);
        return block.cpu_hint.get() as usize;
    }
    ask()
}

/// The CPU that the thread is on now; the sections to come go by it.
#[cold]
pub fn ask() -> usize {
    let cpu = u16::try_from(sched_getcpu()).unwrap_or(0);
    // SAFETY: as above.
    let block = unsafe { &*hot::thread_block() };
    block.cpu_hint.set(cpu);
    block.hint_left.set(HINT_LASTS);
    cpu as usize
}

/// The word of a CPU is held; dropping this gives it back.
struct Held(&'static AtomicU32);

impl Held {
    fn try_take(cpu: usize) -> Option<Self> {
        let word = &TABLE[cpu % WORDS].0;
        let free = word.load(Ordering::Relaxed) == FREE;
        (free && word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()).then(|| Self(word))
    }

    fn take(cpu: usize) -> Self {
        let mut tries = 0;
        loop {
            if let Some(held) = Self::try_take(cpu) {
                return held;
            }
            tries += 1;
            if tries < YIELDS {
                sys::sched_yield();
            } else {
                let _ = sys::futex_wait(TABLE[cpu % WORDS].0.as_ptr(), HELD, Some(NAP));
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(FREE, Ordering::Release);
    }
}

/// Runs `work` on the area of a CPU, kept apart from all other sections on it; `None` where another one is in the way.
fn section<R>(table: &CpuTable, work: impl FnOnce(Area) -> R) -> Option<R> {
    let cpu = current_cpu();
    let Some(_held) = Held::try_take(cpu) else {
        // Two threads go by the same number: the next section asks where it is.
        ask();
        return None;
    };
    Some(work(table.get(cpu)))
}

/// [`Sections::pop`](kmem_core::platform::Sections::pop).
///
/// # Safety
/// As there.
pub unsafe fn pop(table: &CpuTable, slot: SlotIndex) -> Option<NonNull<u8>> {
    // SAFETY: the word keeps other sections on this area away; the slot is the caller's promise.
    section(table, |area| unsafe { section::pop(area, slot) })?
}

/// [`Sections::push`](kmem_core::platform::Sections::push).
///
/// # Safety
/// As there.
pub unsafe fn push(table: &CpuTable, slot: SlotIndex, object: NonNull<u8>) -> bool {
    // SAFETY: as in `pop`; the object is the caller's (I7).
    section(table, |area| unsafe { section::push(area, slot, object) }).unwrap_or(false)
}

/// [`Sections::pop_batch`](kmem_core::platform::Sections::pop_batch).
///
/// # Safety
/// As there.
pub unsafe fn pop_batch(table: &CpuTable, slot: SlotIndex, out: &mut [usize]) -> usize {
    // SAFETY: as in `pop`.
    section(table, |area| unsafe { section::pop_batch(area, slot, out) }).unwrap_or(0)
}

/// [`Sections::push_batch`](kmem_core::platform::Sections::push_batch).
///
/// # Safety
/// As there.
pub unsafe fn push_batch(table: &CpuTable, slot: SlotIndex, objects: &[usize]) -> usize {
    // SAFETY: as in `pop`; the objects are the caller's (I7).
    section(table, |area| unsafe { section::push_batch(area, slot, objects) }).unwrap_or(0)
}

/// Waits until no section that began before can still commit on these CPUs.
pub fn fence(cpus: &CpuSet) {
    cpus.iter().for_each(|cpu| drop(Held::take(cpu)));
}

/// Takes all words. Called with all locks of the engine held, so no fence is under way.
pub fn before_fork() {
    (0..WORDS).for_each(|word| core::mem::forget(Held::take(word)));
}

/// Gives back what [`before_fork`] took.
///
/// # Safety
/// It took them, and nobody gave them back since: no section is under way.
pub unsafe fn after_fork() {
    TABLE.iter().for_each(|word| word.0.store(FREE, Ordering::Release));
}
