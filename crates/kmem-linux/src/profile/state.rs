//! What a profile has: its head, its sites, the samples that live; and the lock around them.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut, Range};
use core::ptr::{NonNull, null_mut};

use kmem_core::sync::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::chunks::Chunks;
use super::hash::Map;
use super::layout::{head, site};
use super::stack::Walker;
use crate::os::{pages, sys};
use crate::rseq::thread_data;

/// Counters of the filter.
const FILTER: usize = 1 << 15;

/// The head. Written under the lock, read from outside at any time.
pub(super) static HEAD: [AtomicU64; head::WORDS] = [const { AtomicU64::new(0) }; head::WORDS];

pub(super) fn set_head(word: usize, value: usize) {
    HEAD[word].store(value as u64, Ordering::Release);
}

pub(super) fn get_head(word: usize) -> usize {
    HEAD[word].load(Ordering::Acquire) as usize
}

/// How many live samples have an address of this number: for frees, which look here first, without the lock. The thread
/// that frees an object is the only one that could make its sample come or go.
static COUNTS: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());

fn count_of(address: usize) -> Option<&'static AtomicU32> {
    let number = (address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % FILTER;
    // SAFETY: the mapping has so many counters, and stays.
    NonNull::new(COUNTS.load(Ordering::Acquire)).map(|counts| unsafe { counts.add(number).as_ref() })
}

/// Whether there may be a live sample at this address.
#[inline]
pub(super) fn may_be_sampled(address: usize) -> bool {
    count_of(address).is_some_and(|count| count.load(Ordering::Relaxed) != 0)
}

/// What the lock guards.
pub(super) struct State {
    /// Address of a live sample -> its site. And for each granule with live samples of a general cache: twice its
    /// number, plus 1 -> how many.
    pub(super) live: Map,
    /// A hash -> the site.
    sites: Map,
    walker: *mut Walker,
    chunks: Chunks,
    /// A table in which every CPU has the empty area.
    pub(super) nowhere: *mut AtomicPtr<u8>,
    /// The number of the profile, from 1 to 255, as threads note it.
    pub(super) session: u8,
}

/// The address of a site.
pub(super) type Site = NonNull<u64>;

impl State {
    /// Maps what a profile needs. What was mapped once stays.
    pub(super) fn prepare(&mut self) -> bool {
        if self.walker.is_null() {
            let Some(memory) = pages::map(size_of::<Walker>()) else { return false };
            self.walker = memory.as_ptr().cast();
            // SAFETY: the mapping is ours, zero, and long enough.
            unsafe { Walker::begin(self.walker) };
        }
        if COUNTS.load(Ordering::Relaxed).is_null() {
            let Some(memory) = pages::map(FILTER * size_of::<AtomicU32>()) else { return false };
            COUNTS.store(memory.as_ptr().cast(), Ordering::Release);
        }
        true
    }

    /// Forgets the sites of the profile before.
    pub(super) fn forget_sites(&mut self) {
        self.chunks.forget();
        self.sites.clear();
    }

    /// Forgets the samples that live.
    pub(super) fn forget_live(&mut self) {
        self.live.for_each(|key, _| {
            if key & 1 == 0
                && let Some(count) = count_of(key)
            {
                count.store(0, Ordering::Relaxed);
            }
        });
        self.live.clear();
    }

    /// The walk from these registers, and the site that it leads to, made now if it is new; `None`: no memory.
    #[inline(never)]
    pub(super) fn site(
        &mut self,
        registers: &super::registers::Registers,
        ours: Range<usize>,
        object: [usize; 3],
        name: &str,
    ) -> Option<Site> {
        let [requested, usable, class] = object;
        // SAFETY: it was mapped when the profile began, and is the lock's; the callers are in it, and it is not
        // used otherwise meanwhile.
        let callers = unsafe { (*self.walker).walk(registers, |pc| ours.contains(&pc)) };
        let of_cache = name.bytes().fold(class, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte as usize));
        let mut hash = [requested, usable, of_cache]
            .iter()
            .chain(callers)
            .fold(0usize, |hash, word| (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29))
            | 1;
        while let Some(found) = self.sites.get(hash) {
            let found = NonNull::new(found as *mut u64)?;
            // SAFETY: sites stay while the profile does, and the lock is held.
            let [had, uses, depth] =
                unsafe { [site::REQUESTED, site::USABLE, site::DEPTH].map(|word| found.add(word).read() as usize) };
            // SAFETY: as above; callers follow, as many as it says.
            let others =
                unsafe { core::slice::from_raw_parts(found.add(site::CALLERS).cast::<usize>().as_ptr(), depth) };
            if (had, uses) == (requested, usable) && others == callers {
                return Some(found);
            }
            hash = hash.wrapping_add(2);
        }
        let words = site::CALLERS + callers.len();
        let made = self.chunks.room(words)?;
        if !self.sites.set(hash, made.as_ptr() as usize) {
            return None;
        }
        // SAFETY: the site is new, so all of it is zero, and it has room for as many words.
        unsafe {
            for (word, value) in [
                (site::REQUESTED, requested),
                (site::USABLE, usable),
                (site::CLASS, class),
                (site::DEPTH, callers.len()),
            ] {
                made.add(word).write(value as u64);
            }
            let (to, most) = (made.add(site::NAME).cast::<u8>(), site::NAME_WORDS * size_of::<u64>());
            to.copy_from_nonoverlapping(NonNull::from(name.as_bytes()).cast(), name.len().min(most));
            made.add(site::CALLERS)
                .cast::<usize>()
                .copy_from_nonoverlapping(NonNull::from(callers).cast(), callers.len());
        }
        self.chunks.filled(words);
        Some(made)
    }

    /// Notes that a live sample of a site is at this address.
    pub(super) fn note(&mut self, address: usize, site: Site) -> bool {
        if !self.live.set(address, site.as_ptr() as usize) {
            return false;
        }
        if let Some(count) = count_of(address) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Takes a live sample out.
    pub(super) fn take(&mut self, address: usize) -> Option<Site> {
        let site = self.live.take(address)?;
        if let Some(count) = count_of(address) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        NonNull::new(site as *mut u64)
    }

    /// Counts one more in a word of a site.
    pub(super) fn count(site: Site, word: usize) {
        // SAFETY: sites stay while the profile does; the lock is held, and others only read.
        unsafe { AtomicU64::from_ptr(site.add(word).as_ptr()) }.fetch_add(1, Ordering::Relaxed);
    }

    /// A word of a site.
    pub(super) fn word(site: Site, word: usize) -> usize {
        // SAFETY: as above.
        unsafe { site.add(word).read() as usize }
    }
}

/// The lock: a leaf, because nothing is called under it but the kernel for memory.
///
/// All of its state is one word, so that a step that a thread takes can only be from what that thread made of it:
/// ```text
/// 0           free
/// p           held by the thread whose pointer is p
/// p | KEPT    held by it for a fork, and between two handlers of that; the state is whole, and p may use it
/// p | USED    the same, while p uses it
/// ```
struct Place {
    word: AtomicUsize,
    state: UnsafeCell<State>,
}

// SAFETY: the thread that made `word` its own has the state alone.
unsafe impl Sync for Place {}

static PLACE: Place = Place {
    word: AtomicUsize::new(0),
    state: UnsafeCell::new(State {
        live: Map::new(),
        sites: Map::new(),
        walker: null_mut(),
        chunks: Chunks::new(),
        nowhere: null_mut(),
        session: 0,
    }),
};

const KEPT: usize = 1;
const USED: usize = 2;
/// A thread pointer is aligned so far at least.
const POINTER: usize = !(KEPT | USED);

/// 1 in a child that was forked while another thread held the lock for good: its state may be unfinished.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// How often a fork, or a sample, looks again for the lock before it goes on without it.
const LOOKS: u32 = 1000;

/// A step of the lock; whether it was taken.
fn step(from: usize, to: usize) -> bool {
    PLACE.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Having this is having the state.
pub(super) struct Held {
    is_of_fork: bool,
}

impl Held {
    /// Takes the lock; `None` if this thread has it, further down in its stack (a signal handler that allocates).
    pub(super) fn take() -> Option<Self> {
        Self::take_within(u32::MAX, |_| sys::sched_yield())
    }

    /// The same, or `None` if another thread keeps the lock: a signal may have interrupted that thread, and its handler
    /// may wait for this one.
    pub(super) fn take_soon() -> Option<Self> {
        Self::take_within(LOOKS, |_| sys::sched_yield())
    }

    /// The same for a fork, which may sleep by `rest`.
    pub(super) fn take_for_fork(rest: impl Fn(u32)) -> Option<Self> {
        Self::take_within(LOOKS, rest)
    }

    fn take_within(looks: u32, rest: impl Fn(u32)) -> Option<Self> {
        let (own, mut tries) = (thread_data::pointer(), 0);
        while LOST.load(Ordering::Relaxed) == 0 {
            match PLACE.word.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Self { is_of_fork: false }),
                // Between the handlers of a fork the state is whole, and the thread may use it.
                Err(word) if word & POINTER == own => {
                    return step(own | KEPT, own | USED).then_some(Self { is_of_fork: true });
                }
                Err(_) if tries == looks && looks != u32::MAX => return None,
                Err(_) => rest(tries),
            }
            tries = tries.saturating_add(1);
        }
        None
    }

    /// Keeps the lock for a fork.
    pub(super) fn keep_for_fork(self) {
        let own = thread_data::pointer();
        step(if self.is_of_fork { own | USED } else { own }, own | KEPT);
        core::mem::forget(self);
    }

    /// Releases the lock that this thread kept for a fork; `false` if it kept none. Another thread may fork at the same
    /// time, where each of the two left a lock of the other's. So may a signal handler of this thread, while it holds
    /// the lock, or uses the state between the handlers of its fork: that lock is not the inner fork's to release.
    pub(super) fn end_fork() -> bool {
        step(thread_data::pointer() | KEPT, 0)
    }

    /// In a child: whether a thread has the lock that does not exist here. From here on no thread obtains it.
    pub(super) fn is_lost() -> bool {
        let is_lost = ![0, thread_data::pointer()].contains(&(PLACE.word.load(Ordering::Relaxed) & POINTER));
        if is_lost {
            LOST.store(1, Ordering::Relaxed);
            COUNTS.store(null_mut(), Ordering::Release);
        }
        is_lost
    }
}

impl Deref for Held {
    type Target = State;
    fn deref(&self) -> &State {
        // SAFETY: the state is the holder's.
        unsafe { &*PLACE.state.get() }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut State {
        // SAFETY: as above, and this is borrowed uniquely.
        unsafe { &mut *PLACE.state.get() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let own = thread_data::pointer();
        if self.is_of_fork {
            step(own | USED, own | KEPT)
        } else {
            step(own, 0)
        };
    }
}
