//! An object of a typed cache, owned.

use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use kmem_linux::general;
use kmem_linux::raw::Handle;

use crate::Cache;

/// Owns a `T` in an object of a [`Cache`]; dropping it drops the value and frees the object, on any thread and
/// CPU.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let points = kmem::Cache::<[f32; 3]>::new("doc_box")?;
/// let mut point: kmem::CacheBox<'_, [f32; 3]> = points.alloc([0.0; 3])?;
/// point[2] = 1.0;
/// assert_eq!(point.iter().sum::<f32>(), 1.0);
/// # Ok(())
/// # }
/// ```
///
/// If the value's `Drop` panics, the object is freed all the same.
///
/// A box cannot outlive its cache, nor can the cache be destroyed meanwhile:
/// ```compile_fail,E0505
/// let cache = kmem::Cache::<u64>::new("doc_borrowed").unwrap();
/// let object = cache.alloc(1).unwrap();
/// cache.destroy().unwrap();
/// println!("{object}");
/// ```
/// It changes threads only if its value may:
/// ```compile_fail,E0277
/// let cache: &'static kmem::Cache<std::rc::Rc<u64>> = Box::leak(Box::new(kmem::Cache::new("doc_rc").unwrap()));
/// let object = cache.alloc(std::rc::Rc::new(1)).unwrap();
/// std::thread::spawn(move || drop(object));
/// ```
#[must_use]
pub struct CacheBox<'c, T> {
    object: NonNull<T>,
    handle: Handle,
    _cache: PhantomData<&'c ()>,
    _value: PhantomData<T>,
}

// SAFETY: a box owns its value and shares a cache, which any thread may use.
unsafe impl<T: Send> Send for CacheBox<'_, T> {}
// SAFETY: a shared box gives out shared references to the value only.
unsafe impl<T: Sync> Sync for CacheBox<'_, T> {}

impl<'c, T> CacheBox<'c, T> {
    /// Whether [moving](Self::moved) the value to another object helps to empty a slab, so that its memory can be
    /// released: the slab has fewer objects in use than those of the cache have on average. O(1), but takes a lock.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use kmem::{Cache, CacheBox};
    ///
    /// let entries = Cache::<[u64; 8]>::new("doc_worth_moving")?;
    /// let all: Vec<_> = (0..20_000).map(|i| entries.alloc([i; 8])).collect::<Result<_, _>>()?;
    /// // One of four stays, on slabs that are mostly free.
    /// let kept: Vec<_> = all.into_iter().filter(|entry| entry[0] % 4 == 0).collect();
    /// entries.shrink()?;
    /// let before = entries.stats().bytes;
    /// let mut packed = Vec::new();
    /// for entry in kept {
    ///     packed.push(if CacheBox::is_worth_moving(&entry) { CacheBox::moved(entry) } else { entry });
    /// }
    /// entries.shrink()?;
    /// assert!(entries.stats().bytes <= before / 2);
    /// assert!(packed.iter().all(|entry| entry[0] == entry[7]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_worth_moving(this: &Self) -> bool {
        // SAFETY: the object is the box's.
        unsafe { general::worth_moving(this.object.cast()) }
    }

    /// The value in an object of a slab that is densely used; where there is no memory, where it is.
    pub fn moved(this: Self) -> Self {
        let this = ManuallyDrop::new(this);
        // SAFETY: the cache is borrowed for 'c. The new object is the box's, and the value moves there; the old one
        // holds none from then on.
        unsafe {
            let object = match this.handle.alloc_packed() {
                Ok(object) => object.cast::<T>(),
                Err(_) => return ManuallyDrop::into_inner(this),
            };
            object.copy_from_nonoverlapping(this.object, 1);
            this.handle.free_packed(this.object.cast());
            Self::from_parts(this.handle, object)
        }
    }

    /// # Safety
    /// The object is one of the cache's, the caller's, and holds a `T`; the cache lives for `'c`.
    #[inline(always)]
    pub(crate) unsafe fn from_parts(handle: Handle, object: NonNull<T>) -> Self {
        Self { object, handle, _cache: PhantomData, _value: PhantomData }
    }

    /// The object, which stays in use until [`from_raw`](Self::from_raw) takes it up again. It keeps its cache busy,
    /// and its address stays valid as long.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use kmem::{Cache, CacheBox};
    ///
    /// let numbers = Cache::<u64>::new("doc_into_raw")?;
    /// let raw = CacheBox::into_raw(numbers.alloc(7)?);
    /// // SAFETY: it came from `into_raw` of a box of this cache, and is used by nothing else.
    /// assert_eq!(*unsafe { CacheBox::from_raw(&numbers, raw) }, 7);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn into_raw(this: Self) -> NonNull<T> {
        ManuallyDrop::new(this).object
    }

    /// Owns an object again.
    ///
    /// # Safety
    /// `object` came from [`into_raw`](Self::into_raw) or [`leak`](Self::leak) of a box of `cache`, and nothing else
    /// owns or uses it.
    ///
    /// # Examples
    /// See [`into_raw`](Self::into_raw).
    #[inline]
    pub unsafe fn from_raw(cache: &'c Cache<T>, object: NonNull<T>) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::from_parts(cache.raw().handle(), object) }
    }

    /// The value, in use for as long as the cache is borrowed; the object is never freed, and keeps its cache busy.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// static NAMES: kmem::StaticCache<String> = kmem::StaticCache::new("doc_leak");
    /// let name: &'static mut String = kmem::CacheBox::leak(NAMES.alloc("root".to_string())?);
    /// assert_eq!(name, "root");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn leak(this: Self) -> &'c mut T {
        // SAFETY: the object is never freed, so the value lives as long as its cache, and no other code has it.
        unsafe { Self::into_raw(this).as_mut() }
    }

    /// Takes the value out and frees the object.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let names = kmem::Cache::<String>::new("doc_into_inner")?;
    /// let name: String = kmem::CacheBox::into_inner(names.alloc("root".to_string())?);
    /// assert_eq!((name.as_str(), names.stats().live), ("root", 0));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn into_inner(this: Self) -> T {
        let this = ManuallyDrop::new(this);
        // SAFETY: the value is moved out, and the object is not used again.
        unsafe {
            let value = this.object.read();
            this.handle.free(this.object.cast());
            value
        }
    }
}

impl<'c, T> CacheBox<'c, MaybeUninit<T>> {
    /// Puts a value in.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let numbers = kmem::Cache::<u64>::new("doc_write")?;
    /// assert_eq!(*numbers.alloc_uninit()?.write(3), 3);
    /// # Ok(())
    /// # }
    /// ```
    #[inline(always)]
    pub fn write(self, value: T) -> CacheBox<'c, T> {
        let this = ManuallyDrop::new(self);
        let object = this.object.cast::<T>();
        // SAFETY: the object is ours, aligned and large enough, and holds no value yet; it changes its owner here.
        unsafe {
            object.write(value);
            CacheBox::from_parts(this.handle, object)
        }
    }

    /// Says that a value is in.
    ///
    /// # Safety
    /// A valid `T` was written.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let blocks = kmem::Cache::<[u8; 512]>::new("doc_assume_init")?;
    /// let mut block = blocks.alloc_uninit()?;
    /// // SAFETY: the object has room for 512 bytes, and every byte is a `u8` afterwards.
    /// let block = unsafe {
    ///     block.as_mut_ptr().write_bytes(9, 1);
    ///     block.assume_init()
    /// };
    /// assert_eq!(block[511], 9);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub unsafe fn assume_init(self) -> CacheBox<'c, T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the caller's promise; the object changes its owner here.
        unsafe { CacheBox::from_parts(this.handle, this.object.cast()) }
    }
}

impl<T> Drop for CacheBox<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Frees the object also when the value's drop panics.
        struct Freeing(Handle, NonNull<u8>);
        impl Drop for Freeing {
            #[inline(always)]
            fn drop(&mut self) {
                // SAFETY: the object is the cache's and ours, and its value is dropped.
                unsafe { self.0.free(self.1) }
            }
        }
        let _freeing = Freeing(self.handle, self.object.cast());
        // SAFETY: the box owns the value and is not used again.
        unsafe { self.object.drop_in_place() }
    }
}

impl<T> Deref for CacheBox<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the box owns a valid value.
        unsafe { self.object.as_ref() }
    }
}

impl<T> DerefMut for CacheBox<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the box owns a valid value, and is borrowed uniquely.
        unsafe { self.object.as_mut() }
    }
}

impl<T: fmt::Debug> fmt::Debug for CacheBox<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for CacheBox<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
