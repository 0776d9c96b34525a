//! The three kinds of caches that a module makes, behind one interface.
//!
//! - a [`kmem::RawCache`] of any size and alignment: memory, no type;
//! - a [`kmem::Cache<T>`]: a value is moved in at every hand-out;
//! - a [`kmem::ObjectCache<T>`]: objects stay constructed between uses.
//!
//! All three hand out [`Held`] objects that may be given back by any thread. A handle that borrows its cache
//! cannot lie beside it, as a module's objects do. So it is taken apart (`into_raw`) or put away (`Parcel`) when
//! an object is handed out, and put together again when it comes back, which is the reason for the unsafe code
//! here. What makes it right: a `Held` names its source, is not `Clone`, and is parted with when it comes back.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use kmem::{AllocError, Bulk, Cache, CreateError, DestroyError, Object, ObjectCache, RawCache};

use super::object::{Held, Idle, Marking, Parcel, Verdict};
use super::totals::Tally;
use super::worker::Hand;

/// The allocator's own view of itself; the storm calls it while all its threads wait.
pub fn validate() -> Result<kmem::ValidReport, kmem::Violation> {
    // SAFETY: whoever allocates in this process waits at the meeting: the workers and the driver stand still, and the
    // main thread is the one that asks.
    unsafe { kmem::validate() }
}

/// A cache with its marking.
pub trait Source: Send + Sync {
    /// Bytes of an object.
    fn size(&self) -> usize;

    /// An object, marked; `None` if there is no memory or the object was somebody's already.
    fn alloc(&self, hand: &mut Hand) -> Option<Held>;

    /// `wanted` objects at once, of a cache that can do that; of others and without memory, none.
    fn alloc_bulk(&self, wanted: usize, hand: &mut Hand, out: &mut Vec<Held>);

    /// Checks an object and gives it back.
    fn free(&self, held: Held, tally: &mut Tally);

    /// How many objects the engine says are held.
    fn live(&self) -> usize;

    /// Gives empty slabs back.
    fn shrink(&self);

    /// Destroys the cache, or says how many objects are held and hands it back.
    fn destroy(self: Box<Self>) -> Result<(), Refusal>;
}

/// The objects that keep a cache from being destroyed, and the cache.
fn busy<C>(error: DestroyError<C>) -> (usize, C) {
    let live = if let DestroyError::Busy { live, .. } = &error { *live } else { 0 };
    (live, error.into_cache())
}

/// A cache that would not be destroyed.
pub struct Refusal {
    /// Objects that are held, in the engine's opinion.
    pub live: usize,
    /// The cache.
    pub source: Box<dyn Source>,
}

/// Most objects taken at once.
const BULK: usize = 32;

/// Constructors and destructors that ran in caches of constructed objects.
pub struct Lives {
    /// Objects constructed.
    pub constructed: u64,
    /// Constructed objects dropped.
    pub dropped: u64,
}

static CONSTRUCTED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The balance of constructors and destructors so far.
pub fn lives() -> Lives {
    Lives { constructed: CONSTRUCTED.load(Relaxed), dropped: DROPPED.load(Relaxed) }
}

/// Whether a cache could not be created because memory or places for caches are used up: a legal answer.
pub fn for_want_of_room(error: &CreateError) -> bool {
    matches!(error, CreateError::NoMemory | CreateError::TooManyCaches { .. })
}

/// Creates a cache of a kind, size and alignment drawn from `rng`.
pub fn create(name: &str, tag: u64, rng: &mut fastrand::Rng) -> Result<Box<dyn Source>, CreateError> {
    match rng.u32(..10) {
        0 => typed::<5>(name, tag, 8),
        1 => typed::<16>(name, tag, 64),
        2 => typed::<75>(name, tag, 16),
        3 => constructed::<6>(name, tag),
        4 => constructed::<24>(name, tag),
        5 => constructed::<190>(name, tag),
        _ => {
            let layout = layout(rng);
            let marking = Marking::new(tag, layout.size(), Idle::Unknown);
            Ok(Marked::source(RawCache::new(name, layout)?, marking))
        }
    }
}

fn typed<const N: usize>(name: &str, tag: u64, align: usize) -> Result<Box<dyn Source>, CreateError> {
    let cache = Cache::<Words<N>>::builder(name).align(align).build()?;
    Ok(Marked::source(cache, Marking::new(tag, size_of::<Words<N>>(), Idle::Unknown)))
}

fn constructed<const N: usize>(name: &str, tag: u64) -> Result<Box<dyn Source>, CreateError> {
    let cache = Cache::<Fixture<N>>::builder(name).constructed_by(Fixture::construct).build()?;
    Ok(Marked::source(cache, Marking::new(tag, size_of::<Fixture<N>>(), Idle::Constructed(READY))))
}

/// A layout from 8 bytes to 32 KiB: as many of 16 to 32 bytes as of 1 to 2 KiB, odd sizes among them.
fn layout(rng: &mut fastrand::Rng) -> Layout {
    let magnitude = if rng.u32(..16) == 0 { rng.u32(12..15) } else { rng.u32(3..12) };
    let size = (1_usize << magnitude) + rng.usize(..=1 << magnitude);
    let align = match rng.u32(..16) {
        0 => 4096,
        1..=3 => 64,
        4..=5 => 256,
        6..=9 => 16,
        _ => 8,
    };
    Layout::from_size_align(size, align).expect("the largest size and alignment are far from isize::MAX")
}

/// A kind of cache: hands out memory of its objects and takes it back.
pub trait Kind: Send + Sync + Sized + 'static {
    /// Whether a value is moved in when an object is handed out, over whatever stood there.
    const OVERWRITES: bool;

    /// An object, and the parcel that is to come back with it.
    fn take(&self) -> Result<(NonNull<u8>, Parcel), AllocError>;

    /// Up to `wanted` objects at once; nothing is moved into them.
    fn take_bulk(&self, wanted: usize, taken: &mut dyn FnMut(NonNull<u8>, Parcel)) -> Result<(), AllocError> {
        let _ = (wanted, taken);
        Ok(())
    }

    /// Takes an object back.
    ///
    /// # Safety
    /// Both came from one `take` or `take_bulk` of this cache, and are given back once.
    unsafe fn give_back(&self, at: NonNull<u8>, parcel: Parcel);

    /// How many objects the engine says are held.
    fn live(&self) -> usize;

    /// Gives empty slabs back.
    fn shrink(&self);

    /// Destroys the cache, or says how many objects are held and hands it back.
    fn destroy(self) -> Result<(), (usize, Self)>;
}

/// A cache of kind `K`, its marking, and the number that its objects bear.
pub struct Marked<K> {
    id: u32,
    cache: K,
    marking: Marking,
}

impl<K: Kind> Marked<K> {
    /// The two together.
    pub fn source(cache: K, marking: Marking) -> Box<dyn Source> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Box::new(Self { id: NEXT.fetch_add(1, Relaxed), cache, marking })
    }

    /// Counts what was handed out.
    fn received(&self, verdict: Verdict, held: Held, tally: &mut Tally) -> Option<Held> {
        tally.allocs += 1;
        match verdict {
            Verdict::Whole => {}
            Verdict::Corrupt => tally.corrupt += 1,
            // Its holder gives it back; giving it back twice would harm the engine for our own fault.
            Verdict::Doubled => {
                tally.doubled += 1;
                return None;
            }
        }
        Some(held)
    }
}

impl<K: Kind> Source for Marked<K> {
    fn size(&self) -> usize {
        self.marking.size()
    }

    fn alloc(&self, hand: &mut Hand) -> Option<Held> {
        let sequence = hand.next_sequence();
        let Ok((at, parcel)) = hand.timed(sequence, || self.cache.take()) else {
            hand.tally.alloc_failed += 1;
            return None;
        };
        // SAFETY: the engine handed it out to us; size and alignment are right by `create`.
        let verdict = unsafe {
            if K::OVERWRITES { self.marking.open_fresh(at, sequence) } else { self.marking.open(at, sequence) }
        };
        self.received(verdict, Held { at, sequence, source: self.id, parcel }, &mut hand.tally)
    }

    fn alloc_bulk(&self, wanted: usize, hand: &mut Hand, out: &mut Vec<Held>) {
        let taken = self.cache.take_bulk(wanted, &mut |at, parcel| {
            let sequence = hand.next_sequence();
            // SAFETY: as in `alloc`.
            let verdict = unsafe { self.marking.open(at, sequence) };
            out.extend(self.received(verdict, Held { at, sequence, source: self.id, parcel }, &mut hand.tally));
        });
        if taken.is_err() {
            hand.tally.alloc_failed += 1;
        }
    }

    fn free(&self, held: Held, tally: &mut Tally) {
        assert_eq!(held.source, self.id, "an object came back to a cache that is not its own");
        // SAFETY: `held` says that `alloc` opened it here and that it was not given back since.
        match unsafe { self.marking.close(held.at, held.sequence) } {
            Verdict::Whole => {}
            Verdict::Corrupt => tally.corrupt += 1,
            Verdict::Doubled => {
                tally.doubled += 1;
                return;
            }
        }
        tally.frees += 1;
        // SAFETY: the same; `held` ends here, so nobody gives it back again.
        unsafe { self.cache.give_back(held.at, held.parcel) };
    }

    fn live(&self) -> usize {
        self.cache.live()
    }

    fn shrink(&self) {
        self.cache.shrink();
    }

    fn destroy(self: Box<Self>) -> Result<(), Refusal> {
        let Self { id, cache, marking } = *self;
        cache.destroy().map_err(|(live, cache)| Refusal { live, source: Box::new(Self { id, cache, marking }) })
    }
}

/// Untyped memory.
impl Kind for RawCache {
    const OVERWRITES: bool = false;

    fn take(&self) -> Result<(NonNull<u8>, Parcel), AllocError> {
        Ok((self.alloc()?, Parcel::empty()))
    }

    unsafe fn give_back(&self, at: NonNull<u8>, _: Parcel) {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.free(at) };
    }

    fn live(&self) -> usize {
        self.stats().live
    }

    fn shrink(&self) {
        let _ = RawCache::shrink(self);
    }

    fn destroy(self) -> Result<(), (usize, Self)> {
        RawCache::destroy(self).map_err(busy)
    }
}

/// A value of `N` words that is moved in.
#[repr(C)]
struct Words<const N: usize>([u64; N]);

impl<const N: usize> Kind for Cache<Words<N>> {
    const OVERWRITES: bool = true;

    fn take(&self) -> Result<(NonNull<u8>, Parcel), AllocError> {
        Ok((kmem::CacheBox::into_raw(self.alloc(Words([0; N]))?).cast(), Parcel::empty()))
    }

    fn take_bulk(&self, wanted: usize, taken: &mut dyn FnMut(NonNull<u8>, Parcel)) -> Result<(), AllocError> {
        let mut bulk = Bulk::<_, BULK>::new();
        self.alloc_bulk(wanted.min(BULK), &mut bulk)?;
        while let Some(object) = bulk.pop() {
            taken(kmem::CacheBox::into_raw(object).cast(), Parcel::empty());
        }
        Ok(())
    }

    unsafe fn give_back(&self, at: NonNull<u8>, _: Parcel) {
        // SAFETY: the pointer came from `Box::into_raw` in `take`, once (the caller's promise).
        drop(unsafe { kmem::CacheBox::from_raw(self, at.cast::<Words<N>>()) });
    }

    fn live(&self) -> usize {
        self.stats().live
    }

    fn shrink(&self) {
        let _ = Cache::shrink(self);
    }

    fn destroy(self) -> Result<(), (usize, Self)> {
        Cache::destroy(self).map_err(busy)
    }
}

/// The state word of a constructed object that nobody holds.
const READY: u64 = 0x7265_6164_7920_3a29;

/// A value of `N` words that its constructor makes and its holders restore.
#[repr(C)]
struct Fixture<const N: usize>([u64; N]);

impl<const N: usize> Fixture<N> {
    fn construct() -> Self {
        CONSTRUCTED.fetch_add(1, Relaxed);
        let mut words = [0; N];
        words[0] = READY;
        Self(words)
    }
}

impl<const N: usize> Drop for Fixture<N> {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Relaxed);
    }
}

impl<const N: usize> Kind for ObjectCache<Fixture<N>> {
    const OVERWRITES: bool = false;

    fn take(&self) -> Result<(NonNull<u8>, Parcel), AllocError> {
        let mut object = self.alloc()?;
        Ok((NonNull::from(&mut *object).cast(), Parcel::with(object)))
    }

    unsafe fn give_back(&self, _: NonNull<u8>, parcel: Parcel) {
        // SAFETY: `take` put an object of this cache, which we borrow, into the parcel.
        drop(unsafe { parcel.open::<Object<'_, Fixture<N>>>() });
    }

    fn live(&self) -> usize {
        self.stats().live
    }

    fn shrink(&self) {
        let _ = ObjectCache::shrink(self);
    }

    fn destroy(self) -> Result<(), (usize, Self)> {
        ObjectCache::destroy(self).map_err(busy)
    }
}
