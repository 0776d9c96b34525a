//! Objects taken and freed many at a time.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use kmem_core::Shortage;
use kmem_linux::raw::Handle;

use crate::CacheBox;

/// Up to `N` objects of one cache, without values, for [`Cache::alloc_bulk`](crate::Cache::alloc_bulk) and
/// [`Cache::free_bulk`](crate::Cache::free_bulk). Dropping it frees them.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let packets = kmem::Cache::<[u8; 1500]>::new("doc_packet")?;
/// let mut out = kmem::Bulk::<_, 64>::new();
/// packets.alloc_bulk(32, &mut out)?;
/// let first = out.pop().expect("32 of them").write([0; 1500]);
/// assert_eq!((out.len(), first.len()), (31, 1500));
/// packets.free_bulk(&mut out);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct Bulk<'c, T, const N: usize = 64> {
    /// All from the same cache.
    handle: Option<Handle>,
    len: usize,
    objects: [usize; N],
    _objects: PhantomData<CacheBox<'c, MaybeUninit<T>>>,
}

impl<'c, T, const N: usize> Bulk<'c, T, N> {
    /// No object.
    ///
    /// ```
    /// assert_eq!(kmem::Bulk::<u64, 8>::new().len(), 0);
    /// ```
    pub const fn new() -> Self {
        Self { handle: None, len: 0, objects: [0; N], _objects: PhantomData }
    }

    /// How many objects are in it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let numbers = kmem::Cache::<u64>::new("doc_bulk_len")?;
    /// let mut out = kmem::Bulk::<_, 8>::new();
    /// numbers.alloc_bulk(5, &mut out)?;
    /// assert_eq!(out.len(), 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no object is in it.
    ///
    /// ```
    /// assert!(kmem::Bulk::<u64, 8>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes one object out.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let numbers = kmem::Cache::<u64>::new("doc_bulk_pop")?;
    /// let mut out = kmem::Bulk::<_, 8>::new();
    /// numbers.alloc_bulk(8, &mut out)?;
    /// let one = out.pop().expect("8 of them").write(1);
    /// assert_eq!((*one, out.len()), (1, 7));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn pop(&mut self) -> Option<CacheBox<'c, MaybeUninit<T>>> {
        let handle = self.handle?;
        self.len = self.len.checked_sub(1)?;
        let object = NonNull::new(self.objects[self.len] as *mut MaybeUninit<T>)?;
        // SAFETY: the object is the cache's and ours; the cache is borrowed for 'c.
        Some(unsafe { CacheBox::from_parts(handle, object) })
    }

    /// # Safety
    /// The cache of `handle` is one of `T`s and lives for `'c`.
    #[inline]
    pub(crate) unsafe fn fill(&mut self, handle: Handle, n: usize) -> Result<(), Shortage> {
        assert!(n <= N - self.len, "{n} objects do not fit: {} of {N} places are taken", self.len);
        // Objects of different caches do not share a bulk: they are freed together.
        assert!(
            self.is_empty() || self.handle.is_some_and(|held| held.is(handle)),
            "a bulk holds objects of one cache at a time"
        );
        self.handle = Some(handle);
        // SAFETY: passed on.
        let taken = unsafe { handle.alloc_bulk(&mut self.objects[self.len..self.len + n]) };
        if taken < n {
            let kept = self.len;
            // SAFETY: these objects were just taken, and no other code has seen them.
            unsafe { handle.free_bulk(&self.objects[kept..kept + taken]) };
            // SAFETY: passed on.
            return Err(unsafe { handle.shortage() });
        }
        self.len += n;
        Ok(())
    }

    /// Frees all objects.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let numbers = kmem::Cache::<u64>::new("doc_bulk_clear")?;
    /// let mut out = kmem::Bulk::<_, 8>::new();
    /// numbers.alloc_bulk(8, &mut out)?;
    /// out.clear();
    /// assert!(out.is_empty() && numbers.stats().live == 0);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn clear(&mut self) {
        if let Some(handle) = self.handle {
            // SAFETY: the objects are the cache's and ours, and hold no values.
            unsafe { handle.free_bulk(&self.objects[..self.len]) };
            self.len = 0;
        }
    }
}

impl<T, const N: usize> Default for Bulk<'_, T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Drop for Bulk<'_, T, N> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<T, const N: usize> fmt::Debug for Bulk<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulk").field("len", &self.len).field("room", &N).finish()
    }
}
