//! A cache of a size and an alignment known at run time: what the typed caches are built on.

use core::alloc::Layout;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use kmem_core::cache::{CacheDesc, CacheId, CacheSpec, ObjectOps};
use kmem_core::percpu::SlotIndex;
use kmem_core::stats::CacheStats;
use kmem_core::{AllocError, CreateError, Engine, Shortage, TuneError, Tuning};

use crate::account::Account;
use crate::error::{DestroyError, InsideCallback};
use crate::instance::existing;
use crate::platform::Linux;
use crate::start::engine;
use crate::{checks, rseq, slow_path, watched};

/// A cache of objects of one [`Layout`].
///
/// ```
/// use core::alloc::Layout;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = kmem::RawCache::new("doc_raw", Layout::new::<[u64; 6]>())?;
/// let object = cache.alloc()?;
/// // SAFETY: the object is ours, of this cache, and not used afterwards.
/// unsafe { cache.free(object) };
/// cache.destroy()?;
/// # Ok(())
/// # }
/// ```
///
/// Dropping it destroys the cache, if no object is in use; else the cache stays for ever, and so does its name.
pub struct RawCache {
    engine: &'static Engine<Linux>,
    desc: NonNull<CacheDesc>,
    id: CacheId,
}

// SAFETY: every operation of a cache may be called by any thread at any time.
unsafe impl Send for RawCache {}
// SAFETY: as above.
unsafe impl Sync for RawCache {}

impl RawCache {
    /// Creates a cache.
    ///
    /// The name has 1 to 63 bytes and is no other cache's; the size is 1 byte to 4 MiB, the alignment at most 64 KiB.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing of the cache is left.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layout = std::alloc::Layout::from_size_align(100, 32)?;
    /// let cache = kmem::RawCache::new("doc_raw_new", layout)?;
    /// assert_eq!(cache.stats().object_size, 100);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_create")]
    #[doc(alias = "umem_cache_create")]
    pub fn new(name: &str, layout: Layout) -> Result<Self, CreateError> {
        Self::with_ops(engine().ok_or(CreateError::NoMemory)?, name, layout, None)
    }

    /// The same, with objects that are constructed and destructed by `ops`. Out of line, so that what it needs of the
    /// stack is not below the making of the engine.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing of the cache is left.
    #[doc(hidden)]
    #[inline(never)]
    pub fn with_ops(
        engine: &'static Engine<Linux>,
        name: &str,
        layout: Layout,
        ops: Option<ObjectOps>,
    ) -> Result<Self, CreateError> {
        let id = engine.create(&CacheSpec { name, size: layout.size(), align: layout.align(), ops })?;
        let desc = engine.descriptor(id).ok_or(CreateError::NoMemory)?;
        if ops.is_none() && checks::are_on() {
            // SAFETY: only this create knows the cache.
            checks::adopt(unsafe { desc.as_ref() }, layout);
        }
        Ok(Self { engine, desc, id })
    }

    /// Creates a cache that is charged to an account until it is destroyed.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing of the cache is left.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = kmem::Account::new("doc_raw_charged", 0)?;
    /// let cache = kmem::RawCache::charged_to(&account, "doc_raw_charged", std::alloc::Layout::new::<u64>())?;
    /// assert_eq!(cache.alloc(), Err(kmem::Shortage::OverLimit));
    /// # Ok(())
    /// # }
    /// ```
    pub fn charged_to(account: &Account, name: &str, layout: Layout) -> Result<Self, CreateError> {
        let cache = Self::new(name, layout)?;
        // SAFETY: only this create knows the cache.
        unsafe { cache.charge_new(account) };
        Ok(cache)
    }

    /// Charges the cache to an account.
    ///
    /// # Safety
    /// The cache is new: no object was taken of it, and it is charged to no account.
    #[doc(hidden)]
    #[inline(never)]
    pub unsafe fn charge_new(&self, account: &Account) {
        // SAFETY: the cache lives as long as its handle, and there is one engine; the rest is the caller's promise.
        unsafe { self.engine.charge_to(self.desc.as_ref(), account.of_engine()) }
    }

    /// The same, unless an object was taken already, or the cache is charged to an account.
    ///
    /// # Safety
    /// No other thread uses the cache meanwhile.
    #[doc(hidden)]
    #[inline(never)]
    pub unsafe fn try_charge(&self, account: &Account) -> bool {
        // SAFETY: the cache lives as long as its handle; it is not a general one; the rest is looked at here.
        unsafe {
            let stats = self.engine.stats(self.desc.as_ref());
            let is_new = stats.total == stats.free && !self.desc.as_ref().is_charged();
            if is_new {
                self.charge_new(account);
            }
            is_new
        }
    }

    /// What objects need to be freed.
    #[doc(hidden)]
    pub fn handle(&self) -> Handle {
        Handle(self.desc)
    }

    /// Takes an object; its content is not defined. O(1), with no lock in the ordinary case.
    ///
    /// # Errors
    /// There is no memory, or the cache's account is full.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = kmem::RawCache::new("doc_raw_alloc", std::alloc::Layout::new::<u64>())?;
    /// let object = cache.alloc()?.cast::<u64>();
    /// // SAFETY: the object is ours, of this size, and not used after it was freed.
    /// unsafe {
    ///     object.write(3);
    ///     cache.free(object.cast());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_alloc")]
    #[inline]
    pub fn alloc(&self) -> Result<NonNull<u8>, Shortage> {
        // SAFETY: the cache lives as long as its handle.
        unsafe { self.handle().alloc() }
    }

    /// Frees an object, on any thread.
    ///
    /// # Safety
    /// The object is one of this cache's, the caller's, and not used afterwards.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = kmem::RawCache::new("doc_raw_free", std::alloc::Layout::new::<u64>())?;
    /// let object = cache.alloc()?;
    /// // SAFETY: the object is ours, of this cache, and not used afterwards.
    /// unsafe { cache.free(object) };
    /// assert_eq!(cache.stats().live, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_free")]
    #[inline]
    pub unsafe fn free(&self, object: NonNull<u8>) {
        // SAFETY: passed on.
        unsafe { self.handle().free(object) }
    }

    /// Releases all memory of the cache that no object in use needs, and returns how many bytes.
    ///
    /// # Errors
    /// The call came from inside a hotplug callback: no memory was released.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = kmem::RawCache::new("doc_raw_shrink", std::alloc::Layout::new::<u64>())?;
    /// assert_eq!(cache.shrink()?, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_shrink")]
    pub fn shrink(&self) -> Result<usize, InsideCallback> {
        // The cache lives as long as its handle, so a callback is all that can refuse.
        self.engine.shrink(self.id).map_err(|_| InsideCallback)
    }

    /// Lets the magazine of each CPU hold so many objects, now and later; it no longer grows by itself. A small one
    /// bounds what CPUs keep for later, a large one spares misses. Costs a fence and O(what the magazines hold). A
    /// [`Tuning`] sets the size of batches and depots too.
    ///
    /// # Errors
    /// The limit is 0 or more than a magazine of this cache holds (up to 2,047 objects, or 256 KiB of them), or a
    /// hotplug callback asked. Nothing has changed then.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = kmem::RawCache::new("doc_raw_tune", std::alloc::Layout::new::<u64>())?;
    /// cache.tune(10)?;
    /// assert_eq!(cache.stats().capacity, 10);
    /// cache.tune(kmem::Tuning { batch: Some(5), depot: Some(1), ..Default::default() })?;
    /// assert!(cache.tune(kmem::Tuning { batch: Some(11), ..Default::default() }).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn tune(&self, tuning: impl Into<Tuning>) -> Result<(), TuneError> {
        self.engine.tune(self.id, tuning)
    }

    /// What the cache holds at this moment.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = kmem::RawCache::new("doc_raw_stats", std::alloc::Layout::new::<u64>())?;
    /// assert_eq!(cache.stats().live, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> CacheStats<'_> {
        // SAFETY: the cache lives as long as its handle.
        unsafe {
            let mut stats = self.engine.stats(self.desc.as_ref());
            stats.live += checks::live_in(self.desc.as_ref());
            stats
        }
    }

    /// Destroys the cache.
    ///
    /// # Errors
    /// Objects are in use, or the call came from inside a callback: the cache comes back in the error.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = kmem::RawCache::new("doc_raw_destroy", std::alloc::Layout::new::<u64>())?;
    /// cache.destroy()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_destroy")]
    #[doc(alias = "umem_cache_destroy")]
    pub fn destroy(self) -> Result<(), DestroyError<Self>> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the cache lives as long as its handle.
        let leaving = match unsafe { checks::begin_destroy(this.desc.as_ref()) } {
            Ok(leaving) => leaving,
            Err(live) => return Err(DestroyError::Busy { live, cache: ManuallyDrop::into_inner(this) }),
        };
        // SAFETY: the handle is the caller's alone, and what borrows it is gone; objects in use make it busy.
        match unsafe { this.engine.destroy(this.id) } {
            Ok(()) => {
                leaving.ends();
                Ok(())
            }
            Err(error) => {
                leaving.stays();
                let cache = ManuallyDrop::into_inner(this);
                Err(match error {
                    kmem_core::DestroyError::Busy { live } => DestroyError::Busy { live, cache },
                    _ => DestroyError::InsideCallback { cache },
                })
            }
        }
    }

    /// Destroys the cache if it is not in use; called again, or dropped, afterwards, nothing more happens (its id names
    /// no cache then).
    ///
    /// # Safety
    /// The handle is about to be dropped: if the result is `true`, it is not used for anything else.
    #[doc(hidden)]
    pub unsafe fn try_destroy(&mut self) -> bool {
        // SAFETY: the handle is borrowed uniquely, so no other call is inside; objects in use make it busy. Called
        // again, its id names no cache.
        unsafe {
            if self.engine.descriptor(self.id) != Some(self.desc) {
                return false;
            }
            let Ok(leaving) = checks::begin_destroy(self.desc.as_ref()) else { return false };
            let gone = self.engine.destroy(self.id).is_ok();
            if gone {
                leaving.ends()
            } else {
                leaving.stays()
            }
            gone
        }
    }
}

impl Drop for RawCache {
    fn drop(&mut self) {
        // Busy: objects were leaked, or are kept raw. They stay valid, and so does the cache.
        // SAFETY: it is being dropped.
        let _ = unsafe { self.try_destroy() };
    }
}

impl core::fmt::Debug for RawCache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("RawCache").field(&self.stats()).finish()
    }
}

/// A cache's descriptor, for the typed caches: copied into the owner of each object.
#[derive(Clone, Copy, Debug)]
pub struct Handle(NonNull<CacheDesc>);

impl Handle {
    /// Whether both are of one cache.
    pub fn is(self, other: Self) -> bool {
        self.0 == other.0
    }

    /// # Safety
    /// The cache lives for `'a`.
    #[inline(always)]
    unsafe fn desc<'a>(self) -> &'a CacheDesc {
        // SAFETY: passed on.
        unsafe { self.0.as_ref() }
    }

    /// # Safety
    /// The cache lives.
    #[inline(always)]
    unsafe fn slot(self) -> SlotIndex {
        // SAFETY: passed on.
        unsafe { self.desc() }.slot()
    }

    /// # Safety
    /// The cache lives.
    #[inline(always)]
    pub unsafe fn alloc(self) -> Result<NonNull<u8>, Shortage> {
        // SAFETY: the slot is the cache's.
        match unsafe { rseq::pop(self.slot()) } {
            Some(object) => Ok(object),
            // SAFETY: passed on.
            None => unsafe { self.alloc_slow() },
        }
    }

    /// # Safety
    /// The object is the cache's, the caller's, and not used afterwards.
    #[inline(always)]
    pub unsafe fn free(self, object: NonNull<u8>) {
        // SAFETY: the slot is the cache's, the object the caller's.
        if !unsafe { rseq::push(self.slot(), object) } {
            // SAFETY: passed on.
            unsafe { self.free_slow(object) };
        }
    }

    /// Whether an object of the cache begins at `object`. Where memory is checked the answer is left to the free, which
    /// reports more than this can.
    ///
    /// # Safety
    /// The cache lives. If an object of kmem begins there, it is the caller's.
    #[inline]
    pub unsafe fn owns(self, object: NonNull<u8>) -> bool {
        // SAFETY: passed on.
        unsafe {
            existing().is_some_and(|engine| engine.is_object_of(self.desc(), object.as_ptr() as usize))
                || (checks::are_on() && checks::covers(self.desc()))
        }
    }

    /// # Safety
    /// The cache lives.
    #[inline]
    pub unsafe fn alloc_bulk(self, out: &mut [usize]) -> usize {
        // SAFETY: the slot is the cache's; the rest is passed on.
        unsafe {
            let taken = rseq::pop_batch(self.slot(), out);
            if taken < out.len() { taken + self.alloc_bulk_slow(&mut out[taken..]) } else { taken }
        }
    }

    /// # Safety
    /// As for [`free`](Self::free), for each object.
    #[inline]
    pub unsafe fn free_bulk(self, objects: &[usize]) {
        // SAFETY: the slot is the cache's, the objects the caller's.
        let put = unsafe { rseq::push_batch(self.slot(), objects) };
        if put < objects.len() {
            // SAFETY: passed on.
            unsafe { self.free_bulk_slow(&objects[put..]) };
        }
    }

    /// Why an allocation failed a moment ago.
    ///
    /// # Safety
    /// The cache lives.
    #[cold]
    pub unsafe fn shortage(self) -> Shortage {
        // SAFETY: passed on.
        unsafe { self.desc() }.shortage()
    }

    /// An object of a slab that is densely used.
    ///
    /// # Safety
    /// As for [`alloc`](Self::alloc).
    #[inline(never)]
    pub unsafe fn alloc_packed(self) -> Result<NonNull<u8>, Shortage> {
        // SAFETY: passed on.
        let object = unsafe {
            match existing() {
                Some(engine) if !watched::is_on() => {
                    slow_path::enter(engine);
                    engine.alloc_packed(self.desc()).map_err(|AllocError| self.desc().shortage())
                }
                _ => self.alloc(),
            }
        };
        // So that neither is a jump at the end, behind which the compiler's unwind information is wrong (.ci/sections).
        core::hint::black_box(object)
    }

    /// # Safety
    /// As for [`free`](Self::free).
    #[inline(never)]
    pub unsafe fn free_packed(self, object: NonNull<u8>) {
        // SAFETY: passed on.
        unsafe {
            match existing() {
                Some(engine) if !watched::is_on() => {
                    slow_path::enter(engine);
                    engine.free_packed(object);
                }
                _ => self.free(object),
            }
        }
    }

    /// # Safety
    /// As for [`alloc`](Self::alloc).
    #[cold]
    #[inline(never)]
    unsafe fn alloc_slow(self) -> Result<NonNull<u8>, Shortage> {
        // SAFETY: passed on.
        unsafe {
            let object = if watched::is_on() {
                watched::alloc_in(self.desc())
            } else {
                slow_path::alloc_missed(engine().ok_or(Shortage::NoMemory)?, self.desc())
            };
            object.map_err(|AllocError| self.desc().shortage())
        }
    }

    /// # Safety
    /// As for [`free`](Self::free).
    #[cold]
    #[inline(never)]
    unsafe fn free_slow(self, object: NonNull<u8>) {
        let Some(engine) = existing() else { return };
        // SAFETY: passed on.
        unsafe {
            if watched::is_on() {
                return watched::free_in(self.desc(), object);
            }
            slow_path::free_missed(engine, self.desc(), object)
        }
    }

    /// # Safety
    /// As for [`alloc`](Self::alloc).
    #[cold]
    #[inline(never)]
    unsafe fn alloc_bulk_slow(self, out: &mut [usize]) -> usize {
        let Some(engine) = existing() else { return 0 };
        if watched::is_on() {
            let each = |place: &mut usize| {
                // SAFETY: passed on.
                let object = unsafe { watched::alloc_in(self.desc()) };
                object.map(|object| *place = object.as_ptr() as usize).is_ok()
            };
            return out.iter_mut().map_while(|place| each(place).then_some(())).count();
        }
        slow_path::enter(engine);
        // SAFETY: passed on.
        unsafe { engine.alloc_bulk(self.desc(), out) }
    }

    /// # Safety
    /// As for [`free`](Self::free), for each object.
    #[cold]
    #[inline(never)]
    unsafe fn free_bulk_slow(self, objects: &[usize]) {
        let Some(engine) = existing() else { return };
        slow_path::enter(engine);
        if watched::is_on() {
            // SAFETY: passed on, one by one.
            return objects.iter().filter_map(|object| NonNull::new(*object as *mut u8)).for_each(|object| unsafe {
                self.free_slow(object);
            });
        }
        // SAFETY: passed on.
        unsafe { engine.free_bulk(self.desc(), objects) }
    }
}
