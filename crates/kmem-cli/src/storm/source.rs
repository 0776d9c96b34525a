//! The three kinds of caches that a module creates, behind one interface.
//!
//! - a [`kmem::RawCache`] of any size and alignment: memory, no type;
//! - a [`kmem::Cache<T>`]: a value is moved in at every allocation;
//! - a [`kmem::ObjectCache<T>`]: objects stay constructed between uses.
//!
//! All three hand out [`Held`] objects that any thread may free. A handle that borrows its cache cannot be stored next
//! to it, as a module's objects are. So it is taken apart (`into_raw`) or stored untyped (`Parcel`) when an object is
//! allocated, and restored when the object is freed, which is the reason for the unsafe code here. This is sound
//! because a `Held` names its source, is not `Clone`, and is consumed when it is freed.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use kmem::{AllocError, Bulk, Cache, CreateError, DestroyError, Object, ObjectCache, RawCache};

use super::object::{Held, Idle, Marking, Parcel, Verdict};
use super::totals::Tally;
use super::worker_ctx::WorkerCtx;

/// The allocator's own check of itself; the storm calls it while all its threads wait.
pub fn validate() -> Result<kmem::ValidReport, kmem::Violation> {
    // SAFETY: every thread that allocates in this process waits at the barrier: the workers and the driver are stopped,
    // and the main thread is the caller.
    unsafe { kmem::validate() }
}

/// A cache with its marking.
pub trait Source: Send + Sync {
    /// Bytes of an object.
    fn size(&self) -> usize;

    /// Allocates an object and marks it; `None` if there is no memory, or the object was held already.
    fn alloc(&self, ctx: &mut WorkerCtx) -> Option<Held>;

    /// Allocates `wanted` objects at once, from a cache that can do so; none from others, or without memory.
    fn alloc_bulk(&self, wanted: usize, ctx: &mut WorkerCtx, out: &mut Vec<Held>);

    /// Checks an object and frees it.
    fn free(&self, held: Held, tally: &mut Tally);

    /// How many objects are held, by the engine's count.
    fn live(&self) -> usize;

    /// Releases empty slabs.
    fn shrink(&self);

    /// Destroys the cache, or returns it with the number of held objects.
    fn destroy(self: Box<Self>) -> Result<(), Refusal>;
}

/// The objects that keep a cache from being destroyed, and the cache.
fn busy<C>(error: DestroyError<C>) -> (usize, C) {
    let live = if let DestroyError::Busy { live, .. } = &error { *live } else { 0 };
    (live, error.into_cache())
}

/// A cache whose destruction was refused.
pub struct Refusal {
    /// Objects that are held, by the engine's count.
    pub live: usize,
    /// The cache.
    pub source: Box<dyn Source>,
}

/// Most objects allocated at once.
const BULK: usize = 32;

/// How often constructors and destructors ran in caches of constructed objects.
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

/// Whether a cache could not be created because memory or the number of caches is exhausted, which is legal.
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

/// A kind of cache: allocates and frees memory of objects.
pub trait Kind: Send + Sync + Sized + 'static {
    /// Whether a value is moved in at allocation, over whatever was there.
    const OVERWRITES: bool;

    /// Allocates an object, with the parcel that is needed to free it.
    fn take(&self) -> Result<(NonNull<u8>, Parcel), AllocError>;

    /// Allocates up to `wanted` objects at once; nothing is moved into them.
    fn take_bulk(&self, wanted: usize, taken: &mut dyn FnMut(NonNull<u8>, Parcel)) -> Result<(), AllocError> {
        let _ = (wanted, taken);
        Ok(())
    }

    /// Frees an object.
    ///
    /// # Safety
    /// Both came from one `take` or `take_bulk` of this cache, and are freed once.
    unsafe fn give_back(&self, at: NonNull<u8>, parcel: Parcel);

    /// How many objects are held, by the engine's count.
    fn live(&self) -> usize;

    /// Releases empty slabs.
    fn shrink(&self);

    /// Destroys the cache, or returns it with the number of held objects.
    fn destroy(self) -> Result<(), (usize, Self)>;
}

/// A cache of kind `K`, its marking, and the number that its objects carry.
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

    /// Counts an object that was allocated.
    fn received(&self, verdict: Verdict, held: Held, tally: &mut Tally) -> Option<Held> {
        tally.allocs += 1;
        match verdict {
            Verdict::Whole => {}
            Verdict::Corrupt => tally.corrupt += 1,
            // Its other holder frees it; a second free would be our own error and damage the engine.
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

    fn alloc(&self, ctx: &mut WorkerCtx) -> Option<Held> {
        let sequence = ctx.next_sequence();
        let Ok((at, parcel)) = ctx.timed(sequence, || self.cache.take()) else {
            ctx.tally.alloc_failed += 1;
            return None;
        };
        // SAFETY: the engine allocated it to us; size and alignment are right by `create`.
        let verdict = unsafe {
            if K::OVERWRITES { self.marking.open_fresh(at, sequence) } else { self.marking.open(at, sequence) }
        };
        self.received(verdict, Held { at, sequence, source: self.id, parcel }, &mut ctx.tally)
    }

    fn alloc_bulk(&self, wanted: usize, ctx: &mut WorkerCtx, out: &mut Vec<Held>) {
        let taken = self.cache.take_bulk(wanted, &mut |at, parcel| {
            let sequence = ctx.next_sequence();
            // SAFETY: as in `alloc`.
            let verdict = unsafe { self.marking.open(at, sequence) };
            out.extend(self.received(verdict, Held { at, sequence, source: self.id, parcel }, &mut ctx.tally));
        });
        if taken.is_err() {
            ctx.tally.alloc_failed += 1;
        }
    }

    fn free(&self, held: Held, tally: &mut Tally) {
        assert_eq!(held.source, self.id, "an object was freed to a cache that is not its own");
        // SAFETY: `held` proves that `alloc` opened it here and that it was not freed since.
        match unsafe { self.marking.close(held.at, held.sequence) } {
            Verdict::Whole => {}
            Verdict::Corrupt => tally.corrupt += 1,
            Verdict::Doubled => {
                tally.doubled += 1;
                return;
            }
        }
        tally.frees += 1;
        // SAFETY: the same; `held` is consumed here, so it is not freed again.
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
        // SAFETY: the contract of `free` is that of this function.
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

/// The state word of a constructed object that is free.
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
