//! Errors of this crate's own: of a cache that was not destroyed, and of calls from inside a callback.

use core::fmt;

/// Why a cache was not destroyed. The cache is in it, as usable as before.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kmem::{Cache, CacheBox, DestroyError};
///
/// let cache = Cache::<u64>::new("doc_destroy_error")?;
/// let leaked = CacheBox::into_raw(cache.alloc(1)?);
/// let Err(DestroyError::Busy { live: 1, cache }) = cache.destroy() else { panic!("one object is in use") };
/// // SAFETY: it came from `into_raw` of a box of this cache.
/// drop(unsafe { CacheBox::from_raw(&cache, leaked) });
/// cache.destroy()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the cache is in here"]
#[non_exhaustive]
pub enum DestroyError<C> {
    /// Objects of the cache are still in use.
    Busy {
        /// How many.
        live: usize,
        /// The cache.
        cache: C,
    },
    /// The call came from inside a hotplug callback, one of the cache's own destructors, or code that was called to
    /// look at the cache. No cache is destroyed there.
    InsideCallback {
        /// The cache.
        cache: C,
    },
}

impl<C> DestroyError<C> {
    /// The cache, to go on with.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = kmem::Cache::<u64>::new("doc_into_cache")?;
    /// let leaked = kmem::CacheBox::leak(cache.alloc(1)?) as *mut u64;
    /// let cache = cache.destroy().expect_err("one object is in use").into_cache();
    /// assert_eq!(cache.stats().live, 1);
    /// # let _ = leaked;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_cache(self) -> C {
        match self {
            Self::Busy { cache, .. } | Self::InsideCallback { cache } => cache,
        }
    }

    /// The same error, with what `make` makes of the cache.
    ///
    /// ```
    /// use kmem::DestroyError;
    ///
    /// let error = DestroyError::Busy { live: 2, cache: 5 }.map(|cache| cache + 1);
    /// assert!(matches!(error, DestroyError::Busy { live: 2, cache: 6 }));
    /// ```
    pub fn map<D>(self, make: impl FnOnce(C) -> D) -> DestroyError<D> {
        match self {
            Self::Busy { live, cache } => DestroyError::Busy { live, cache: make(cache) },
            Self::InsideCallback { cache } => DestroyError::InsideCallback { cache: make(cache) },
        }
    }
}

impl<C> fmt::Debug for DestroyError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { live, .. } => f.debug_struct("Busy").field("live", live).finish_non_exhaustive(),
            Self::InsideCallback { .. } => f.debug_struct("InsideCallback").finish_non_exhaustive(),
        }
    }
}

impl<C> fmt::Display for DestroyError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsideCallback { .. } => f.write_str(
                "a cache cannot be destroyed inside a hotplug callback, one of its own destructors, or code that looks at it: \
                 do it before or after",
            ),
            Self::Busy { live: 1, .. } => {
                f.write_str("1 object of the cache is still in use: free it, then destroy it again")
            }
            Self::Busy { live, .. } => {
                write!(f, "{live} objects of the cache are still in use: free them, then destroy it again")
            }
        }
    }
}

impl<C> core::error::Error for DestroyError<C> {}

/// The call came from inside a hotplug callback, in which no memory is released, because the callback's caller waits
/// for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InsideCallback;

impl fmt::Display for InsideCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory cannot be released inside a hotplug callback: do it before or after")
    }
}

impl core::error::Error for InsideCallback {}
