//! The heap profile: where the memory was allocated that a program holds, and all that it ever allocated, by samples.
//!
//! One byte in so many is chosen ([`interval`]), and the object that it belongs to is a *sample*: its callers are noted
//! ([`stack`]), and that it lives, until it is freed. A profile is switched on and off while the program runs.
//!
//! # Off, it costs nothing
//! Fast paths have no test for it. While a profile is on, allocations are made to miss, by words that fast paths load
//! in any case:
//!
//! ```text
//! malloc, operator new         the limits of sizes that have a class are 0, as before there is an engine
//! sections in line             the table that they go by is one in which every CPU has the empty area (I3)
//! ```
//! A slow path that was made to miss takes its object out of the slot by a section of its own, and counts: `account`.
//! Each thread counts by itself, in its 64 bytes.
//!
//! # Why every allocation counts
//! Counting refills instead, and choosing one object of the batch, would cost a hit nothing, but it is not what a
//! program allocates: an object that is freed and allocated again comes from its magazine, and a loop that allocates
//! and frees one object a million times refills once. All that a hit changes is the cursor, and a free changes it back,
//! so nothing tells afterwards how many hits there were.
//!
//! # How a free of a sample is noticed
//! A sample is an ordinary object in its ordinary place, so that nothing has to be undone when the profile is switched
//! off. Its free comes by one of these ways:
//!
//! ```text
//! free(p), operator delete     the class map says 0 for the granule of a sample: a miss (and one for its neighbours)
//! a typed cache, a sized free  these do not look at the address; they are sections in line, which miss
//! a large object               takes the slow path in any case
//! ```
//! A slow path of free looks into a filter, without a lock, whether there can be a sample at the address. One that
//! frees a neighbour in such a granule finds none, and the class in another table, and goes on at the slot (`watch`).
//! When the last sample of a granule is freed, the granule's class is set again.
//!
//! # What a sample may do
//! It runs on a stack that may have 4 KiB, in a process that may be in a sandbox, for a caller that holds locks
//! of libc's. So the walk works in memory of ours, under a lock that is a leaf; it takes no lock of the loader's
//! (`tables`); and makes no system call but those that allocations make (mmap, munmap, madvise, sched_yield).
//!
//! # Fork
//! The child goes on with its copy. The lock is taken before a fork and released after it, unless that thread has it
//! already, further down in its stack. Between the two that thread uses the profile as usual, in fork handlers of the
//! program. A fork waits a limited time for the lock, because its holder may have been interrupted by a signal, and
//! fork in the handler: then the child has no profile.
//!
//! # `KMEM_PROFILE=FILE`
//! switches a profile on when the program starts, and writes it to FILE when it ends (`write`), in the
//! format of pprof. `%p` in FILE is the number of the process. Without it a child of fork writes nothing, because it
//! would write over its parent's.

mod chunks;
mod document;
mod expression;
mod hash;
pub mod interval;
pub mod layout;
mod objects;
mod pprof;
mod quick;
mod reader;
mod realloc;
mod registers;
pub mod stack;
mod state;
mod switch;
mod tables;
mod watch;
mod write;

use core::ops::Range;
use core::ptr::NonNull;

use kmem_core::Engine;
use kmem_core::cache::CacheDesc;
use kmem_core::classes::CLASSES;
use kmem_core::pages::GRANULE;
use kmem_core::sync::{AtomicU32, Ordering};

use crate::platform::Linux;
use crate::rseq::thread_data;

use layout::{head, site};
use registers::Registers;
use state::{HEAD, Held, State, get_head};

pub(crate) use quick::{pop, push};
pub(crate) use realloc::realloc;
pub use switch::{Refused, switch_off, switch_on};
pub(crate) use switch::{after_fork, after_fork_in_child, before_fork};
pub(crate) use watch::freed;
pub use write::at_end;
pub(crate) use write::at_start;

/// Bytes from one sample to the next, on average, if nothing else is said.
pub const RATE: usize = 512 << 10;
/// The largest rate: intervals are counted in 32 bits, and are hardly ever 20 times as long.
pub const RATE_MAX: usize = 128 << 20;

/// The number of the profile that is on; 0: none is.
static ON: AtomicU32 = AtomicU32::new(0);

/// Whether allocations are counted.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Acquire) != 0
}

/// What an object is one of.
#[derive(Clone, Copy)]
pub(crate) enum Of<'a> {
    /// A cache.
    Cache(&'a CacheDesc),
    /// A run of granules.
    Large,
}

/// Counts an object that was just allocated, and is nobody else's yet; if its sample is due, takes it.
///
/// # Safety
/// The object is one of these, the caller's, and was not counted before.
#[inline]
pub(crate) unsafe fn account(engine: &Engine<Linux>, object: NonNull<u8>, requested: usize, of: Of<'_>) {
    let usable = match of {
        Of::Cache(cache) => cache.layout().size,
        Of::Large => requested.max(1).next_multiple_of(GRANULE),
    };
    // SAFETY: the block lives as long as the thread, whose own it is.
    let block = unsafe { &*thread_data::block() };
    let (session, left) = (ON.load(Ordering::Relaxed), block.left.get());
    if u32::from(block.session.get()) == session && usable < left as usize {
        block.left.set(left - usable as u32);
        return;
    }
    // SAFETY: passed on.
    unsafe { due(engine, object, [requested, usable], of) }
}

/// The same where the thread has counted nothing yet, or the sample is due.
#[cold]
#[inline(never)]
unsafe fn due(engine: &Engine<Linux>, object: NonNull<u8>, [requested, usable]: [usize; 2], of: Of<'_>) {
    // SAFETY: as in `account`.
    let block = unsafe { &*thread_data::block() };
    let (session, rate) = (ON.load(Ordering::Relaxed), get_head(head::RATE));
    if session == 0 {
        return;
    }
    if u32::from(block.session.replace(session as u8)) != session {
        let left = interval::draw(rate);
        if usable < left as usize {
            return block.left.set(left - usable as u32);
        }
    }
    block.left.set(interval::draw(rate));
    sample(engine, object, [requested, usable], of, &Registers::here());
}

/// Notes an object, and who allocated it.
#[inline(never)]
fn sample(engine: &Engine<Linux>, object: NonNull<u8>, sizes: [usize; 2], of: Of<'_>, registers: &Registers) {
    let Some(mut held) = Held::take_soon() else {
        HEAD[head::LOST].fetch_add(1, Ordering::Relaxed);
        return;
    };
    if !is_on() {
        return;
    }
    let (name, class) = match of {
        // The index of a general cache is its class.
        Of::Cache(cache) => {
            (cache.name(), Some(cache.slot().0 as usize).filter(|class| *class <= CLASSES).unwrap_or(0))
        }
        Of::Large => ("large", 0),
    };
    let address = object.as_ptr() as usize;
    let noted = held.site(registers, ours(), [sizes[0], sizes[1], class], name).filter(|site| {
        State::count(*site, site::SAMPLED);
        held.note(address, *site)
    });
    match noted {
        None => _ = HEAD[head::LOST].fetch_add(1, Ordering::Relaxed),
        Some(_) if class != 0 => watch::begin(&mut held, engine, address, class as u8),
        Some(_) => {}
    }
}

/// Where the functions of the allocator are, if they are an object of their own.
fn ours() -> Range<usize> {
    get_head(head::OURS)..get_head(head::OURS_END)
}

/// The head of the profile, for a reader outside: see [`layout`].
pub fn head_address() -> usize {
    state::HEAD.as_ptr() as usize
}
