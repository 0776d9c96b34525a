//! Handles: what the pointers to caches mean that C programs hold.
//!
//! ```text
//! 63        48 47                    16 15         0
//! the kind     generation               index
//! ```
//! A handle is not an address. It names an entry of a table, and the generation that the entry had when the cache was
//! created; the entry gets another one when the cache is destroyed (as the ids of caches do, I20). So a handle of a
//! cache that is gone, or a pointer to anything else, names nothing, and that is found without reading what it points
//! to. The kind tells the two interfaces apart, whose objects must not be mixed. It also makes a handle an address that
//! no memory is mapped at.
//!
//! # States of an entry
//! ```text
//! FREE -> BUSY (create) -> LIVE -> BUSY (destroy) -> FREE, with the next generation
//!                             ^-------- still in use
//! ```
//! Each step is one compare-exchange or store of the word that has the generation too. Of two threads that destroy a
//! cache one wins, and the other one's handle names nothing meanwhile. A thread that uses a cache while another one
//! destroys it breaks the rule of every cache; it finds nothing, unless it looked before. In a child of fork an entry
//! stays BUSY whose thread is not there: its cache can no longer be used.

use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::NonNull;

use kmem_core::sync::{AtomicPtr, AtomicUsize, Ordering};
use kmem_linux::{RawCache, general};

/// As many as the engine has caches.
const ENTRIES: usize = 16 << 10;

const FREE: usize = 0;
const BUSY: usize = 1;
const LIVE: usize = 2;
const STATE: usize = 3;

const KIND_AT: u32 = 48;
const GENERATION_AT: u32 = 16;
const GENERATIONS: usize = u32::MAX as usize;
const INDEX: usize = (1 << GENERATION_AT) - 1;

/// Which interface a handle is of.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(super) enum Kind {
    /// `kmem_cache`.
    Kmem = 0x6b6d,
    /// `umem_cache_t`.
    Umem = 0x756d,
}

/// A cache, and what its interface keeps beside it.
pub(super) struct Record<H> {
    cache: MaybeUninit<RawCache>,
    pub(super) hooks: H,
}

impl<H> Record<H> {
    pub(super) fn cache(&self) -> &RawCache {
        // SAFETY: a record is found by a handle, and there is one only after the cache was put in.
        unsafe { self.cache.assume_init_ref() }
    }
}

/// The generation and the state in one word, and the record.
struct Entry {
    word: AtomicUsize,
    record: AtomicPtr<()>,
}

// Large: see `os/bootstrap.rs` of kmem-linux.
#[unsafe(link_section = ".sbss")]
static TABLE: [Entry; ENTRIES] =
    [const { Entry { word: AtomicUsize::new(0), record: AtomicPtr::new(core::ptr::null_mut()) } }; ENTRIES];

/// Where the search for a free entry begins.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The entry that a handle names, and the word that it has if the cache is there.
fn named(kind: Kind, handle: usize) -> Option<(&'static Entry, usize)> {
    let entry = TABLE.get(handle & INDEX)?;
    let generation = handle >> GENERATION_AT & GENERATIONS;
    (handle >> KIND_AT == kind as usize).then_some((entry, generation << 2 | LIVE))
}

/// A free entry, taken; `None`: there are too many caches.
fn take() -> Option<(usize, &'static Entry, usize)> {
    let from = NEXT.fetch_add(1, Ordering::Relaxed);
    (from..from + ENTRIES).find_map(|at| {
        let entry = &TABLE[at % ENTRIES];
        let word = entry.word.load(Ordering::Relaxed);
        let busy = word & !STATE | BUSY;
        (word & STATE == FREE && entry.word.compare_exchange(word, busy, Ordering::Acquire, Ordering::Relaxed).is_ok())
            .then_some((at % ENTRIES, entry, word >> 2))
    })
}

/// Why there is no handle.
pub(super) enum NoHandle<E> {
    /// No memory for the record.
    Memory,
    /// As many caches as there can be.
    TooMany,
    /// The cache was refused.
    Refused(E),
}

/// Makes a cache by `make`, which gets the address where `hooks` will stay as long as the cache, and a handle for it.
///
/// # Safety
/// All handles of a kind have hooks of one type, `H`.
pub(super) unsafe fn create<H, E>(
    kind: Kind,
    hooks: H,
    make: impl FnOnce(*mut H) -> Result<RawCache, E>,
) -> Result<usize, NoHandle<E>> {
    let memory = general::alloc_aligned(size_of::<Record<H>>(), align_of::<Record<H>>());
    let record = memory.map_err(|_| NoHandle::Memory)?.cast::<Record<H>>();
    // SAFETY: the memory is new, long enough and aligned.
    let hooks = unsafe {
        record.write(Record { cache: MaybeUninit::uninit(), hooks });
        &raw mut (*record.as_ptr()).hooks
    };
    let made = match take() {
        Some(taken) => make(hooks).map(|cache| (taken, cache)).map_err(|error| {
            taken.1.word.store(taken.2 << 2 | FREE, Ordering::Release);
            NoHandle::Refused(error)
        }),
        None => Err(NoHandle::TooMany),
    };
    match made {
        Ok(((index, entry, generation), cache)) => {
            // SAFETY: no handle leads to the record yet. (The cache's constructor may, to the hooks alone.)
            unsafe { (&raw mut (*record.as_ptr()).cache).write(MaybeUninit::new(cache)) };
            entry.record.store(record.as_ptr().cast(), Ordering::Relaxed);
            entry.word.store(generation << 2 | LIVE, Ordering::Release);
            Ok((kind as usize) << KIND_AT | generation << GENERATION_AT | index)
        }
        Err(error) => {
            // SAFETY: there is no cache, so the hooks are called by none; the memory is ours.
            unsafe { general::free(record.cast()) };
            Err(error)
        }
    }
}

/// What a handle names; `None`: nothing that exists.
///
/// # Safety
/// `H` is the type of the kind's hooks. No thread destroys the cache as long as the result is used.
#[inline]
pub(super) unsafe fn find<'a, H>(kind: Kind, handle: usize) -> Option<&'a Record<H>> {
    let (entry, live) = named(kind, handle)?;
    if entry.word.load(Ordering::Acquire) != live {
        return None;
    }
    // SAFETY: the record was stored before the word; it is freed by a destroy only.
    unsafe { entry.record.load(Ordering::Relaxed).cast::<Record<H>>().as_ref() }
}

/// Why a cache is still there.
pub(super) enum Kept {
    /// The handle names none.
    NoSuchCache,
    /// Objects are in use.
    InUse,
    /// Called from inside a callback.
    InsideCallback,
}

/// Destroys what a handle names.
///
/// # Safety
/// `H` is the type of the kind's hooks, which need no drop. No other thread uses the cache.
pub(super) unsafe fn destroy<H: Copy>(kind: Kind, handle: usize) -> Result<(), Kept> {
    let (entry, live) = named(kind, handle).ok_or(Kept::NoSuchCache)?;
    let busy = live & !STATE | BUSY;
    if entry.word.compare_exchange(live, busy, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return Err(Kept::NoSuchCache);
    }
    let record = entry.record.load(Ordering::Relaxed).cast::<Record<H>>();
    // SAFETY: the entry is this thread's; what is read here is destroyed, or stays where it is.
    let cache = unsafe { (&raw const (*record).cache).read().assume_init() };
    match cache.destroy() {
        Ok(()) => {
            if let Some(record) = NonNull::new(record) {
                // SAFETY: the cache is gone, and its handle names nothing.
                unsafe { general::free(record.cast()) };
            }
            let generation = (live >> 2).wrapping_add(1) & GENERATIONS;
            entry.word.store(generation << 2 | FREE, Ordering::Release);
            Ok(())
        }
        Err(error) => {
            let kept = match error {
                kmem_linux::DestroyError::Busy { .. } => Kept::InUse,
                _ => Kept::InsideCallback,
            };
            // The record still has it.
            let _ = ManuallyDrop::new(error.into_cache());
            entry.word.store(live, Ordering::Release);
            Err(kept)
        }
    }
}
