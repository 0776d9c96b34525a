//! Typed caches.

use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use kmem_core::stats::CacheStats;
use kmem_core::{AllocError, CreateError, TuneError};

use crate::raw::RawCache;
use crate::{Box, Bulk, Busy, ConstructedBuilder};

/// A cache of objects of type `T`.
///
/// ```
/// # fn main() -> Result<(), std::boxed::Box<dyn std::error::Error>> {
/// let numbers = kmem::Cache::<[u32; 20]>::new("doc_numbers")?;
/// let a = numbers.alloc([7; 20])?;
/// let b = std::thread::scope(|scope| scope.spawn(|| numbers.alloc([8; 20])).join().unwrap())?;
/// assert_eq!(a[0] + b[19], 15);
/// drop((a, b));
/// numbers.destroy()?;
/// # Ok(())
/// # }
/// ```
///
/// Objects may be allocated and freed by any thread (a [`Box`] may change threads if `T` may). The cache borrows: it
/// cannot be destroyed or dropped while a [`Box`] of it is in use, and a use after that does not compile. Objects that
/// were leaked ([`Box::leak`], [`Box::into_raw`]) keep it busy: `destroy` gives it back with their number, and dropping
/// it leaves it (and its name) in place for ever.
///
/// A type without size has no objects to cache: creating such a cache is [`CreateError::ZeroSize`].
pub struct Cache<T> {
    raw: RawCache,
    /// Takes and gives values of `T`, holds none.
    _values: PhantomData<fn(T) -> T>,
}

/// What a new cache shall be.
#[must_use]
pub struct Builder<'n, T> {
    pub(crate) name: &'n str,
    align: usize,
    _values: PhantomData<fn(T) -> T>,
}

impl<'n, T> Builder<'n, T> {
    /// Aligns objects to `align` bytes, a power of two up to 64 KiB (or to the type's own alignment, if that is more).
    pub fn align(mut self, align: usize) -> Self {
        self.align = align;
        self
    }

    /// Keeps objects constructed between uses: see [`ObjectCache`](crate::ObjectCache). `construct` runs when an object
    /// is first handed out, without a lock held; the value is dropped when its memory goes back.
    pub fn constructed_by<F: Fn() -> T + Send + Sync + 'static>(self, construct: F) -> ConstructedBuilder<'n, T, F>
    where
        T: Send + 'static,
    {
        ConstructedBuilder::new(self, construct)
    }

    pub(crate) fn layout(&self) -> Result<Layout, CreateError> {
        let own = Layout::new::<T>();
        if !self.align.is_power_of_two() {
            return Err(CreateError::AlignNotPowerOfTwo { align: self.align });
        }
        let error = CreateError::AlignTooLarge { align: self.align, max: kmem_core::slab::MAX_ALIGN };
        Layout::from_size_align(own.size(), own.align().max(self.align)).map_err(|_| error)
    }

    /// Creates the cache.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing of the cache is left.
    pub fn build(self) -> Result<Cache<T>, CreateError> {
        Ok(Cache { raw: RawCache::new(self.name, self.layout()?)?, _values: PhantomData })
    }
}

impl<T> Cache<T> {
    /// Creates a cache with the defaults. The name has 1 to 63 bytes and is no other cache's.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing of the cache is left.
    pub fn new(name: &str) -> Result<Self, CreateError> {
        Self::builder(name).build()
    }

    /// Begins a cache.
    pub fn builder(name: &str) -> Builder<'_, T> {
        Builder { name, align: 1, _values: PhantomData }
    }

    /// Puts `value` into an object of the cache.
    ///
    /// # Errors
    /// There is no memory; the value is dropped.
    #[inline]
    pub fn alloc(&self, value: T) -> Result<Box<'_, T>, AllocError> {
        Ok(self.alloc_uninit()?.write(value))
    }

    /// Takes an object and puts in it what `make` answers. If `make` panics, the object goes back.
    ///
    /// # Errors
    /// There is no memory; `make` was not called.
    #[inline]
    pub fn alloc_with(&self, make: impl FnOnce() -> T) -> Result<Box<'_, T>, AllocError> {
        let object = self.alloc_uninit()?;
        Ok(object.write(make()))
    }

    /// Takes an object whose content is not defined yet.
    ///
    /// # Errors
    /// There is no memory.
    #[inline]
    pub fn alloc_uninit(&self) -> Result<Box<'_, MaybeUninit<T>>, AllocError> {
        let handle = self.raw.handle();
        // SAFETY: the cache lives as long as its handle, and the object is of its size and alignment, and ours.
        unsafe { Ok(Box::from_parts(handle, handle.alloc()?.cast())) }
    }

    /// Takes `n` objects at once and adds them to `out`: an order of magnitude cheaper per object than one by one.
    ///
    /// # Errors
    /// There is no memory; `out` keeps what there was.
    ///
    /// # Panics
    /// If `out` has no room for `n` more, or holds objects of another cache.
    #[inline]
    pub fn alloc_bulk<'c, const N: usize>(&'c self, n: usize, out: &mut Bulk<'c, T, N>) -> Result<(), AllocError> {
        // SAFETY: the cache lives as long as the objects, which borrow it.
        unsafe { out.fill(self.raw.handle(), n) }
    }

    /// Gives all objects of `out` back at once.
    #[inline]
    pub fn free_bulk<const N: usize>(&self, out: &mut Bulk<'_, T, N>) {
        out.clear();
    }

    /// Gives the memory back that the cache holds and nobody uses, and answers how many bytes; 0 inside a hotplug
    /// callback.
    pub fn shrink(&self) -> usize {
        self.raw.shrink()
    }

    /// Lets the magazine of each CPU hold `capacity` objects, now and later; it no longer grows by itself. A small one
    /// bounds what CPUs keep for later, a large one spares misses. Costs a fence and O(what the magazines hold).
    ///
    /// # Errors
    /// The capacity is 0 or more than a magazine of this cache holds (up to 2,047 objects, or 256 KiB of them), or a
    /// hotplug callback asked. Nothing has changed then.
    pub fn tune(&self, capacity: usize) -> Result<(), TuneError> {
        self.raw.tune(capacity)
    }

    /// What the cache holds at this moment.
    pub fn stats(&self) -> CacheStats<'_> {
        self.raw.stats()
    }

    /// Destroys the cache: its memory goes back, its name is free.
    ///
    /// # Errors
    /// Leaked objects are in use, or a hotplug callback asked: the cache comes back in the answer.
    pub fn destroy(self) -> Result<(), Busy<Self>> {
        let _values = PhantomData;
        self.raw.destroy().map_err(|busy| Busy { live: busy.live, cache: Self { raw: busy.cache, _values } })
    }

    pub(crate) fn raw(&self) -> &RawCache {
        &self.raw
    }
}

impl<T> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cache").field(&self.stats()).finish()
    }
}
