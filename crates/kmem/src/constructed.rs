//! Object caching: objects stay constructed between uses.
//!
//! A constructor may be dear (locks, lists, tables that every use leaves empty again). Here it runs once for each
//! object, when it leaves its slab for the first time; freeing an object keeps it as it is, and the next user gets it
//! so. The value is dropped when its slab goes back. Constructor and drop run with no lock held: they may allocate,
//! create and destroy caches, and panic; nothing is lost by it.
//!
//! # Which threads
//! Both run on threads that called into kmem, and on no other: the constructor on one that allocates from the cache;
//! the drop on one that frees to it or allocates from it, shrinks or destroys it, trims, or takes a CPU down by name.
//! Upkeep never drops values, so where a CPU left or was idle, they wait for the next of these.
//!
//! Where the type has nothing to drop ([`needs_drop`]), upkeep releases memory as from any cache, also the pages of
//! free objects in slabs that are in use: what was constructed there is forgotten, and constructed again when it is
//! handed out.

use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, needs_drop};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use kmem_core::cache::{ObjectFn, ObjectOps};
use kmem_core::stats::CacheStats;
use kmem_core::{CreateError, Shortage, TuneError, Tuning};
use kmem_linux::raw::Handle;
use kmem_linux::{DestroyError, InsideCallback, RawCache, general};

use crate::cache::Builder;

/// A cache whose objects stay constructed between uses.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let buffers = kmem::Cache::<Vec<u8>>::builder("doc_buffer").constructed_by(|| Vec::with_capacity(1000)).build()?;
/// let mut buffer = buffers.alloc()?;
/// buffer.extend_from_slice(b"hello");
/// buffer.clear();
/// drop(buffer);
/// assert!(buffers.alloc()?.capacity() >= 1000);
/// buffers.destroy()?;
/// # Ok(())
/// # }
/// ```
///
/// Users leave an object as they would like to find it. `T` and the constructor are `'static`, for a cache that is
/// dropped while objects of it are leaked stays for ever; `T` is `Send`, for it may be dropped on another thread.
pub struct ObjectCache<T: Send + 'static> {
    raw: RawCache,
    constructor: Constructor,
    /// Takes and gives values of `T`: invariant, since what one user leaves in an object the next one finds.
    _values: PhantomData<fn(T) -> T>,
}

/// The constructor's closure, in general memory, and how to end it.
#[derive(Clone, Copy)]
struct Constructor {
    closure: *mut (),
    layout: Layout,
    drop: unsafe fn(*mut ()),
}

// SAFETY: the closure is `Send + Sync`, by the bound of `constructed_by`.
unsafe impl Send for Constructor {}
// SAFETY: as above.
unsafe impl Sync for Constructor {}

impl Constructor {
    fn new<F>(construct: F) -> Result<Self, CreateError> {
        let layout = Layout::new::<F>();
        let closure = match layout.size() {
            // A closure that captures nothing needs no memory, and an aligned address is all there is to it.
            0 => NonNull::<F>::dangling(),
            size => general::alloc_aligned(size, layout.align()).map_err(|_| CreateError::NoMemory)?.cast::<F>(),
        };
        // SAFETY: the memory is ours and fits.
        unsafe { closure.write(construct) };
        // SAFETY: called once, on a closure of this type.
        let drop = |closure: *mut ()| unsafe { closure.cast::<F>().drop_in_place() };
        Ok(Self { closure: closure.as_ptr().cast(), layout, drop })
    }

    /// # Safety
    /// No object of the cache is constructed or destructed from here on; called once.
    unsafe fn free(self) {
        // SAFETY: the closure is `new`'s.
        unsafe {
            (self.drop)(self.closure);
            if let (Some(closure), 1..) = (NonNull::new(self.closure.cast()), self.layout.size()) {
                general::free_sized(closure, self.layout.size(), self.layout.align());
            }
        }
    }
}

/// A cache with a constructor, to be built.
#[must_use]
pub struct ConstructedBuilder<'n, T, F> {
    builder: Builder<'n, T>,
    construct: F,
}

impl<'n, T: Send + 'static, F: Fn() -> T + Send + Sync + 'static> ConstructedBuilder<'n, T, F> {
    pub(crate) fn new(builder: Builder<'n, T>, construct: F) -> Self {
        Self { builder, construct }
    }

    /// Aligns objects to `align` bytes, a power of two up to 64 KiB.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rows = kmem::Cache::<[u8; 64]>::builder("doc_row").constructed_by(|| [0; 64]).align(64).build()?;
    /// assert_eq!(rows.alloc()?.as_ptr().addr() % 64, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn align(mut self, align: usize) -> Self {
        self.builder = self.builder.align(align);
        self
    }

    /// Creates the cache.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing of the cache is left.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let lists = kmem::Cache::<Vec<u8>>::builder("doc_constructed_build").constructed_by(Vec::new).build()?;
    /// assert!(lists.alloc()?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_create")]
    pub fn build(self) -> Result<ObjectCache<T>, CreateError> {
        let layout = self.builder.layout()?;
        let engine = kmem_linux::engine().ok_or(CreateError::NoMemory)?;
        let constructor = Constructor::new(self.construct)?;
        // SAFETY: the context is a closure of this type, the object memory for a `T`.
        let construct: ObjectFn = |closure, object| unsafe { object.cast::<T>().write((*closure.cast::<F>())()) };
        // SAFETY: the object holds a `T` that is not in use.
        let destruct: ObjectFn = |_, object| unsafe { object.cast::<T>().drop_in_place() };
        // SAFETY: any thread may call the closure, which is `Sync`, and it lives as long as the cache; any thread may
        // drop a `T`, which is `Send`, and there is nothing to drop where the type has no drop glue.
        let ops = unsafe { ObjectOps::new(constructor.closure, construct, needs_drop::<T>().then_some(destruct)) };
        match RawCache::with_ops(engine, self.builder.name, layout, Some(ops)) {
            Ok(raw) => {
                self.builder.charge(&raw);
                Ok(ObjectCache { raw, constructor, _values: PhantomData })
            }
            Err(error) => {
                // SAFETY: there is no cache.
                unsafe { constructor.free() };
                Err(error)
            }
        }
    }
}

impl<T, F> fmt::Debug for ConstructedBuilder<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConstructedBuilder").field(&self.builder).finish()
    }
}

impl<T: Send + 'static> ObjectCache<T> {
    /// Takes a constructed object. If it has to be constructed and that panics, nothing is lost.
    ///
    /// # Errors
    /// There is no memory.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tables = kmem::Cache::<[u32; 8]>::builder("doc_object_alloc").constructed_by(|| [5; 8]).build()?;
    /// assert_eq!(tables.alloc()?[7], 5);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn alloc(&self) -> Result<Object<'_, T>, Shortage> {
        let handle = self.raw.handle();
        // SAFETY: the cache lives as long as its handle.
        let object = unsafe { handle.alloc()? }.cast();
        Ok(Object { object, handle, _cache: PhantomData, _value: PhantomData })
    }

    /// Drops the objects that are not in use, releases their memory, and returns how many bytes.
    ///
    /// # Errors
    /// The call came from inside a hotplug callback: no memory was released.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tables = kmem::Cache::<[u32; 8]>::builder("doc_object_shrink").constructed_by(|| [5; 8]).build()?;
    /// drop(tables.alloc()?);
    /// assert!(tables.shrink()? > 0);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_shrink")]
    pub fn shrink(&self) -> Result<usize, InsideCallback> {
        self.raw.shrink()
    }

    /// Lets the magazine of each CPU hold `capacity` objects, now and later: see [`Cache::tune`](crate::Cache::tune).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tables = kmem::Cache::<[u32; 8]>::builder("doc_object_tune").constructed_by(|| [5; 8]).build()?;
    /// tables.tune(200)?;
    /// assert_eq!(tables.stats().capacity, 200);
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
    /// let tables = kmem::Cache::<[u32; 8]>::builder("doc_object_stats").constructed_by(|| [5; 8]).build()?;
    /// assert_eq!(tables.stats().live, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> CacheStats<'_> {
        self.raw.stats()
    }

    /// Destroys the cache and drops all its objects.
    ///
    /// # Errors
    /// Objects were forgotten in use, or the call came from inside a callback: the cache comes back in the error.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tables = kmem::Cache::<[u32; 8]>::builder("doc_object_destroy").constructed_by(|| [5; 8]).build()?;
    /// drop(tables.alloc()?);
    /// tables.destroy()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "kmem_cache_destroy")]
    pub fn destroy(self) -> Result<(), DestroyError<Self>> {
        let this = ManuallyDrop::new(self);
        let constructor = this.constructor;
        // SAFETY: `this` is not dropped, so the cache is moved out once.
        match unsafe { (&raw const this.raw).read() }.destroy() {
            Ok(()) => {
                // SAFETY: the cache is gone, and all its objects are destructed.
                unsafe { constructor.free() };
                Ok(())
            }
            Err(error) => Err(error.map(|raw| Self { raw, constructor, _values: PhantomData })),
        }
    }
}

impl<T: Send + 'static> Drop for ObjectCache<T> {
    fn drop(&mut self) {
        // SAFETY: it is being dropped.
        if unsafe { self.raw.try_destroy() } {
            // SAFETY: the cache is gone, and all its objects are destructed.
            unsafe { self.constructor.free() };
        }
    }
}

impl<T: Send + 'static> fmt::Debug for ObjectCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObjectCache").field(&self.stats()).finish()
    }
}

/// Marks an [`Object`] as the owner of a `T` and invariant in it, so that no value with a shorter lifetime is left in
/// it.
type Value<T> = (T, fn(T) -> T);

/// An object of an [`ObjectCache`], in use; dropping it frees the object as it is.
///
/// What is left in it must be a whole `T`, not a shorter-lived cousin:
/// ```compile_fail
/// type Any = for<'a> fn(&'a str);
/// fn narrow<'c>(object: kmem::Object<'c, Any>) -> kmem::Object<'c, fn(&'static str)> {
///     object
/// }
/// ```
#[must_use]
pub struct Object<'c, T: Send + 'static> {
    object: NonNull<T>,
    handle: Handle,
    _cache: PhantomData<&'c ()>,
    /// Has a value, and is invariant as the cache is.
    _value: PhantomData<Value<T>>,
}

impl<'c, T: Send> Object<'c, T> {
    /// The value's address, in use until [`from_raw`](Self::from_raw) takes it up again.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use kmem::{Cache, Object};
    ///
    /// let tables = Cache::<[u32; 8]>::builder("doc_object_raw").constructed_by(|| [5; 8]).build()?;
    /// let raw = Object::into_raw(tables.alloc()?);
    /// // SAFETY: it came from `into_raw` of an object of this cache, and is used by nothing else.
    /// assert_eq!(unsafe { Object::from_raw(&tables, raw) }[0], 5);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn into_raw(this: Self) -> NonNull<T> {
        ManuallyDrop::new(this).object
    }

    /// The use of an object again.
    ///
    /// # Safety
    /// `object` came from [`into_raw`](Self::into_raw) of an object of `cache`, and nothing else uses it.
    ///
    /// # Examples
    /// See [`into_raw`](Self::into_raw).
    #[inline]
    pub unsafe fn from_raw(cache: &'c ObjectCache<T>, object: NonNull<T>) -> Self {
        Self { object, handle: cache.raw.handle(), _cache: PhantomData, _value: PhantomData }
    }
}

// SAFETY: an object owns the use of its value and shares a cache, which any thread may use.
unsafe impl<T: Send> Send for Object<'_, T> {}
// SAFETY: a shared object gives out shared references to the value only.
unsafe impl<T: Send + Sync> Sync for Object<'_, T> {}

impl<T: Send> Deref for Object<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the value is constructed, and ours to use.
        unsafe { self.object.as_ref() }
    }
}

impl<T: Send> DerefMut for Object<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and it is borrowed uniquely.
        unsafe { self.object.as_mut() }
    }
}

impl<T: Send> Drop for Object<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the object is the cache's and ours, and not used again.
        unsafe { self.handle.free(self.object.cast()) }
    }
}

impl<T: Send + fmt::Debug> fmt::Debug for Object<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
