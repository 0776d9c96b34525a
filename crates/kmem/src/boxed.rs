//! An object of a typed cache, owned.

use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use crate::Cache;
use crate::raw::Handle;

/// Owns a `T` in an object of a [`Cache`]; dropping it drops the value and gives the object back, on whatever thread
/// and CPU.
///
/// If the value's `Drop` panics, the object goes back all the same.
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
pub struct Box<'c, T> {
    object: NonNull<T>,
    handle: Handle,
    _cache: PhantomData<&'c ()>,
    _value: PhantomData<T>,
}

// SAFETY: a box owns its value and shares a cache, which any thread may use.
unsafe impl<T: Send> Send for Box<'_, T> {}
// SAFETY: a shared box gives out shared references to the value only.
unsafe impl<T: Sync> Sync for Box<'_, T> {}

impl<'c, T> Box<'c, T> {
    /// # Safety
    /// The object is one of the cache's, the caller's, and holds a `T`; the cache lives for `'c`.
    #[inline(always)]
    pub(crate) unsafe fn from_parts(handle: Handle, object: NonNull<T>) -> Self {
        Self { object, handle, _cache: PhantomData, _value: PhantomData }
    }

    /// The object, which stays in use until [`from_raw`](Self::from_raw) takes it up again. It keeps its cache busy,
    /// and its address stays valid as long.
    #[inline]
    pub fn into_raw(this: Self) -> NonNull<T> {
        ManuallyDrop::new(this).object
    }

    /// Owns an object again.
    ///
    /// # Safety
    /// `object` came from [`into_raw`](Self::into_raw) or [`leak`](Self::leak) of a box of `cache`, and nobody else
    /// owns or uses it.
    #[inline]
    pub unsafe fn from_raw(cache: &'c Cache<T>, object: NonNull<T>) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::from_parts(cache.raw().handle(), object) }
    }

    /// The value, in use for as long as the cache is borrowed; the object is never given back, and keeps its cache
    /// busy.
    #[inline]
    pub fn leak(this: Self) -> &'c mut T {
        // SAFETY: the object is never freed, so the value lives as long as its cache, and nobody else has it.
        unsafe { Self::into_raw(this).as_mut() }
    }

    /// Takes the value out and gives the object back.
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

impl<'c, T> Box<'c, MaybeUninit<T>> {
    /// Puts a value in.
    #[inline(always)]
    pub fn write(self, value: T) -> Box<'c, T> {
        let this = ManuallyDrop::new(self);
        let object = this.object.cast::<T>();
        // SAFETY: the object is ours, aligned and large enough, and holds no value yet; it changes its owner here.
        unsafe {
            object.write(value);
            Box::from_parts(this.handle, object)
        }
    }

    /// Says that a value is in.
    ///
    /// # Safety
    /// A valid `T` was written.
    #[inline]
    pub unsafe fn assume_init(self) -> Box<'c, T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the caller's promise; the object changes its owner here.
        unsafe { Box::from_parts(this.handle, this.object.cast()) }
    }
}

impl<T> Drop for Box<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Gives the object back also when the value's drop panics.
        struct GiveBack(Handle, NonNull<u8>);
        impl Drop for GiveBack {
            #[inline(always)]
            fn drop(&mut self) {
                // SAFETY: the object is the cache's and ours, and its value is dropped.
                unsafe { self.0.free(self.1) }
            }
        }
        let _give_back = GiveBack(self.handle, self.object.cast());
        // SAFETY: the box owns the value and is not used again.
        unsafe { self.object.drop_in_place() }
    }
}

impl<T> Deref for Box<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the box owns a valid value.
        unsafe { self.object.as_ref() }
    }
}

impl<T> DerefMut for Box<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the box owns a valid value, and is borrowed uniquely.
        unsafe { self.object.as_mut() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Box<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Box<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
