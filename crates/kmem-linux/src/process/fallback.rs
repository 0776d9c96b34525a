//! Sections without restartable sequences: a word a CPU that is tried, never waited for.
//!
//! ```text
//! section:  k = a CPU number (a hint); try to take word[k]; taken already -> miss; area = TABLE[k]; work; free word[k]
//! fence(S): for each k in S: take word[k], waiting for it; free it
//! ```
//! The number is only a hint: nothing pins the thread to the CPU, and nothing has to. A thread that works on the area
//! of CPU k holds `word[k]`, whichever CPU it runs on by now (I4, I37). The table is read after the word is taken, so
//! after the fence every section either has committed, and taking the word has made that visible, or will read the
//! table anew (I36, I38).
//!
//! CPUs share a word if their ids are equal modulo the number of words: two areas, one lock, which is only slower.
//!
//! Another section in the way is a miss, so a section never waits: not for a thread that was preempted in one, and not
//! for itself, in a signal handler that interrupted one. Fences wait, yielding and then sleeping: a holder needs some
//! twenty instructions.
//!
//! # Fork
//! The child has one thread. A word that another thread held would stay taken for ever, and its slot may be half
//! changed. So a fork takes all words, after the engine's locks, and frees them, in the parent and in the child. They
//! are [words of locks](Word), which say whose they are: one that a signal handler's own thread holds further up in its
//! stack is left to it, and the sections of a fork handler that allocates pass.

use core::ffi::c_int;
use core::ptr::NonNull;

use kmem_core::cpu::CpuSet;
use kmem_core::hint::cold_path;
use kmem_core::percpu::{Area, CpuTable, SlotIndex, section};
use kmem_core::platform::Park;
use kmem_core::sync::{AtomicUsize, OtherFirst, Why, Word};

use crate::rseq::thread_data;

/// A power of two; more than most machines have CPUs.
const WORDS: usize = 128;

/// A cache line each, and the neighbour that the CPU prefetches with it.
#[repr(align(128))]
struct Line(Word);

// Large: see `os/bootstrap.rs`.
#[unsafe(link_section = ".sbss")]
static TABLE: [Line; WORDS] = [const { Line(Word(AtomicUsize::new(0))) }; WORDS];

#[link(name = "c")]
unsafe extern "C" {
    safe fn sched_getcpu() -> c_int;
}

/// Sections for which a thread goes by the CPU number that it once asked for: asking costs more than a section.
const HINT_LASTS: u8 = 100;

/// The CPU that the thread was on some sections ago; 0 where that is not known.
pub(crate) fn current_cpu() -> usize {
    // SAFETY: the block is the calling thread's own.
    let block = unsafe { &*thread_data::block() };
    let left = block.hint_left.get();
    if left > 0 {
        block.hint_left.set(left - 1);
        return block.cpu_hint.get() as usize;
    }
    ask()
}

/// The CPU that the thread is on now; the sections to come go by it.
#[cold]
pub(crate) fn ask() -> usize {
    let cpu = u16::try_from(sched_getcpu()).unwrap_or(0);
    // SAFETY: as above.
    let block = unsafe { &*thread_data::block() };
    block.cpu_hint.set(cpu);
    block.hint_left.set(HINT_LASTS);
    cpu as usize
}

fn word(cpu: usize) -> &'static Word {
    &TABLE[cpu % WORDS].0
}

/// Runs `work` on the area of a CPU, kept apart from all other sections on it; `None` where another one is in the way.
fn section<R>(table: &CpuTable, work: impl FnOnce(Area) -> R) -> Option<R> {
    let cpu = current_cpu();
    let (word, me) = (word(cpu), thread_data::pointer());
    if word.value() == 0 && word.take_free(me) {
        let answer = work(table.get(cpu));
        word.free();
        return Some(answer);
    }
    cold_path();
    if word.is_mine_for_fork(me) {
        return Some(work(table.get(cpu)));
    }
    // Two threads go by the same number: the next section asks where it is.
    ask();
    None
}

// The four are calls of their own, so that what chooses between the modes is small enough to stand in its callers.

/// [`Sections::pop`](kmem_core::platform::Sections::pop).
///
/// # Safety
/// As there.
#[inline(never)]
pub(crate) unsafe fn pop(table: &CpuTable, slot: SlotIndex) -> Option<NonNull<u8>> {
    // SAFETY: the word keeps other sections on this area away; the slot is the caller's promise.
    section(table, |area| unsafe { section::pop(area, slot) })?
}

/// [`Sections::push`](kmem_core::platform::Sections::push).
///
/// # Safety
/// As there.
#[inline(never)]
pub(crate) unsafe fn push(table: &CpuTable, slot: SlotIndex, object: NonNull<u8>) -> bool {
    // SAFETY: as in `pop`; the object is the caller's (I7).
    section(table, |area| unsafe { section::push(area, slot, object) }).unwrap_or(false)
}

/// [`Sections::pop_batch`](kmem_core::platform::Sections::pop_batch).
///
/// # Safety
/// As there.
#[inline(never)]
pub(crate) unsafe fn pop_batch(table: &CpuTable, slot: SlotIndex, out: &mut [usize]) -> usize {
    // SAFETY: as in `pop`.
    section(table, |area| unsafe { section::pop_batch(area, slot, out) }).unwrap_or(0)
}

/// [`Sections::push_batch`](kmem_core::platform::Sections::push_batch).
///
/// # Safety
/// As there.
#[inline(never)]
pub(crate) unsafe fn push_batch(table: &CpuTable, slot: SlotIndex, objects: &[usize]) -> usize {
    // SAFETY: as in `pop`; the objects are the caller's (I7).
    section(table, |area| unsafe { section::push_batch(area, slot, objects) }).unwrap_or(0)
}

/// Waits until no section that began before can still commit on these CPUs.
pub(crate) fn fence(park: &impl Park, cpus: &CpuSet) {
    cpus.iter().for_each(|cpu| wait_for(park, word(cpu)));
}

/// Takes the word, and frees it. Its holder does not know that a thread waits, so this looks again and again.
fn wait_for(park: &impl Park, word: &Word) {
    let (me, mut note, mut tries) = (thread_data::pointer(), None, 0);
    while !word.take_free(me) {
        if word.is_mine_for_fork(me) {
            return;
        }
        // SAFETY: the word is one of a static table.
        note = note.or_else(|| unsafe { park.waiters()?.note(park, word, Why::Operation) });
        park.rest(tries);
        tries += 1;
    }
    word.free();
}

/// Calls `visit` with every word.
///
/// # Safety
/// As for [`Park::for_each_word`].
pub(crate) unsafe fn for_each_word(visit: impl FnMut(&Word) -> Result<(), OtherFirst>) -> Result<(), OtherFirst> {
    TABLE.iter().map(|line| &line.0).try_for_each(visit)
}
