//! Typed caches.

use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use kmem_core::stats::CacheStats;
use kmem_core::{CreateError, Shortage, TuneError, Tuning};
use kmem_linux::{DestroyError, InsideCallback};

use crate::{Account, Bulk, CacheBox, ConstructedBuilder, RawCache};

/// A cache of objects of type `T`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
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
/// Objects may be allocated and freed by any thread (a [`CacheBox`] may change threads if `T` may). The cache borrows:
/// it cannot be destroyed or dropped while a [`CacheBox`] of it is in use, and a use after that does not compile.
/// Objects that were leaked ([`CacheBox::leak`], [`CacheBox::into_raw`]) keep it busy: `destroy` returns it with their
/// number, and dropping it leaves it (and its name) in place for ever.
///
/// A type without size has no objects to cache: creating such a cache is [`CreateError::ZeroSize`].
pub struct Cache<T> {
    raw: RawCache,
    /// Takes and gives values of `T`, holds none.
    _values: PhantomData<fn(T) -> T>,
}

/// What a new cache shall be: begun by [`Cache::builder`], made by [`build`](Self::build).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lines = kmem::Cache::<[u8; 64]>::builder("doc_builder").align(64).build()?;
/// let line = lines.alloc([0; 64])?;
/// assert_eq!(line.as_ptr() as usize % 64, 0);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Builder<'n, T> {
    pub(crate) name: &'n str,
    align: usize,
    account: Option<&'n Account>,
    _values: PhantomData<fn(T) -> T>,
}

impl<'n, T> Builder<'n, T> {
    /// Aligns objects to `align` bytes, a power of two up to 64 KiB (or to the type's own alignment, if that is more).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pages = kmem::Cache::<[u8; 4096]>::builder("doc_align").align(4096).build()?;
    /// assert!(pages.alloc([0; 4096])?.as_ptr().addr().is_multiple_of(4096));
    /// assert!(kmem::Cache::<u64>::builder("doc_bad_align").align(48).build().is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn align(mut self, align: usize) -> Self {
        self.align = align;
        self
    }

    /// Charges the objects of the cache to `account`, until it is destroyed: see [`Account`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = kmem::Account::new("doc_charged_to", 1 << 20)?;
    /// let cache = kmem::Cache::<[u8; 100]>::builder("doc_charged_to").charged_to(&account).build()?;
    /// let object = cache.alloc([0; 100])?;
    /// assert!(account.used() >= cache.stats().stride);
    /// # drop(object);
    /// # Ok(())
    /// # }
    /// ```
    pub fn charged_to(mut self, account: &'n Account) -> Self {
        self.account = Some(account);
        self
    }

    /// Charges a cache that was just made.
    pub(crate) fn charge(&self, new: &RawCache) {
        if let Some(account) = self.account {
            // SAFETY: only this builder knows the cache.
            unsafe { new.charge_new(account) };
        }
    }

    /// Keeps objects constructed between uses: see [`ObjectCache`](crate::ObjectCache). `construct` runs when an object
    /// is first handed out, without a lock held; the value is dropped when its memory goes back.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tables = kmem::Cache::<Vec<u32>>::builder("doc_constructed").constructed_by(|| vec![7; 100]).build()?;
    /// assert_eq!(tables.alloc()?[99], 7);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use kmem::{Cache, CreateError};
    ///
    /// let _first = Cache::<u64>::builder("doc_build").build()?;
    /// assert_eq!(Cache::<u64>::builder("doc_build").build().unwrap_err(), CreateError::NameTaken);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_create")]
    #[doc(alias = "umem_cache_create")]
    pub fn build(self) -> Result<Cache<T>, CreateError> {
        let raw = RawCache::new(self.name, self.layout()?)?;
        self.charge(&raw);
        Ok(Cache { raw, _values: PhantomData })
    }
}

impl<T> Cache<T> {
    /// Creates a cache with the defaults. The name has 1 to 63 bytes and is no other cache's.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing of the cache is left.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let numbers = kmem::Cache::<u64>::new("doc_new")?;
    /// assert_eq!(*numbers.alloc(5)?, 5);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_create")]
    #[doc(alias = "umem_cache_create")]
    pub fn new(name: &str) -> Result<Self, CreateError> {
        Self::builder(name).build()
    }

    /// Begins a cache that differs from the defaults.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = kmem::Cache::<[u8; 100]>::builder("doc_begun").align(128).build()?;
    /// assert_eq!(cache.stats().stride, 128);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(name: &str) -> Builder<'_, T> {
        Builder { name, align: 1, account: None, _values: PhantomData }
    }

    /// Puts `value` into an object of the cache.
    ///
    /// # Errors
    /// There is no memory, or the account is full; the value is dropped.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let names = kmem::Cache::<String>::new("doc_alloc")?;
    /// let mut name = names.alloc("inode".to_string())?;
    /// name.push('s');
    /// assert_eq!(*name, "inodes");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_alloc")]
    #[doc(alias = "umem_cache_alloc")]
    #[inline]
    pub fn alloc(&self, value: T) -> Result<CacheBox<'_, T>, Shortage> {
        Ok(self.alloc_uninit()?.write(value))
    }

    /// Takes an object and puts in it what `make` returns. If `make` panics, the object is freed.
    ///
    /// # Errors
    /// There is no memory, or the account is full; `make` was not called.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let blocks = kmem::Cache::<[u8; 4096]>::new("doc_alloc_with")?;
    /// let block = blocks.alloc_with(|| [1; 4096])?;
    /// assert_eq!(block[4095], 1);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn alloc_with(&self, make: impl FnOnce() -> T) -> Result<CacheBox<'_, T>, Shortage> {
        let object = self.alloc_uninit()?;
        Ok(object.write(make()))
    }

    /// Takes an object whose content is not defined yet.
    ///
    /// # Errors
    /// There is no memory, or the account is full.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let points = kmem::Cache::<(i32, i32)>::new("doc_alloc_uninit")?;
    /// let point = points.alloc_uninit()?.write((3, 4));
    /// assert_eq!(point.1, 4);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn alloc_uninit(&self) -> Result<CacheBox<'_, MaybeUninit<T>>, Shortage> {
        let handle = self.raw.handle();
        // SAFETY: the cache lives as long as its handle, and the object is of its size and alignment, and ours.
        unsafe { Ok(CacheBox::from_parts(handle, handle.alloc()?.cast())) }
    }

    /// Takes `n` objects at once and adds them to `out`: an order of magnitude cheaper per object than one by one.
    ///
    /// # Errors
    /// There is no memory, or the account is full; `out` keeps what there was.
    ///
    /// # Panics
    /// If `out` has no room for `n` more, or holds objects of another cache.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let packets = kmem::Cache::<[u8; 1500]>::new("doc_alloc_bulk")?;
    /// let mut out = kmem::Bulk::<_, 32>::new();
    /// packets.alloc_bulk(20, &mut out)?;
    /// assert_eq!(out.len(), 20);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn alloc_bulk<'c, const N: usize>(&'c self, n: usize, out: &mut Bulk<'c, T, N>) -> Result<(), Shortage> {
        // SAFETY: the cache lives as long as the objects, which borrow it.
        unsafe { out.fill(self.raw.handle(), n) }
    }

    /// Frees all objects of `out` at once.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let packets = kmem::Cache::<[u8; 1500]>::new("doc_free_bulk")?;
    /// let mut out = kmem::Bulk::<_, 32>::new();
    /// packets.alloc_bulk(32, &mut out)?;
    /// packets.free_bulk(&mut out);
    /// assert_eq!((out.len(), packets.stats().live), (0, 0));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn free_bulk<const N: usize>(&self, out: &mut Bulk<'_, T, N>) {
        out.clear();
    }

    /// Releases all memory of the cache that no object in use needs, and returns how many bytes.
    ///
    /// # Errors
    /// The call came from inside a hotplug callback: no memory was released.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let blocks = kmem::Cache::<[u8; 1000]>::new("doc_shrink")?;
    /// drop(blocks.alloc([0; 1000])?);
    /// assert!(blocks.shrink()? > 0);
    /// assert_eq!(blocks.stats().bytes, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_shrink")]
    #[doc(alias = "kmem_cache_reap_now")]
    pub fn shrink(&self) -> Result<usize, InsideCallback> {
        self.raw.shrink()
    }

    /// Lets the magazine of each CPU hold `capacity` objects, now and later; it no longer grows by itself. A small one
    /// bounds what CPUs keep for later, a large one spares misses. Costs a fence and O(what the magazines hold).
    ///
    /// # Errors
    /// The capacity is 0 or more than a magazine of this cache holds (up to 2,047 objects, or 256 KiB of them), or a
    /// hotplug callback asked. Nothing has changed then.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let blocks = kmem::Cache::<[u8; 1000]>::new("doc_tune")?;
    /// blocks.tune(3)?;
    /// assert_eq!(blocks.stats().capacity, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tune(&self, tuning: impl Into<Tuning>) -> Result<(), TuneError> {
        self.raw.tune(tuning)
    }

    /// What the cache holds at this moment.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let numbers = kmem::Cache::<u64>::new("doc_stats")?;
    /// let number = numbers.alloc(1)?;
    /// assert_eq!((numbers.stats().live, numbers.stats().name), (1, "doc_stats"));
    /// # drop(number);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> CacheStats<'_> {
        self.raw.stats()
    }

    /// Destroys the cache: its memory goes back, its name is free.
    ///
    /// # Errors
    /// Leaked objects are in use, or the call came from inside a callback: the cache comes back in the error.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let numbers = kmem::Cache::<u64>::new("doc_destroy")?;
    /// numbers.destroy()?;
    /// let again = kmem::Cache::<u64>::new("doc_destroy")?;
    /// # drop(again);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_destroy")]
    #[doc(alias = "umem_cache_destroy")]
    pub fn destroy(self) -> Result<(), DestroyError<Self>> {
        let _values = PhantomData;
        self.raw.destroy().map_err(|error| error.map(|raw| Self { raw, _values }))
    }

    pub(crate) fn raw(&self) -> &RawCache {
        &self.raw
    }
}

impl<T> fmt::Debug for Builder<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).field("align", &self.align).finish()
    }
}

impl<T> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cache").field(&self.stats()).finish()
    }
}
