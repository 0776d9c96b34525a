//! A cache that lives in a `static`.

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;

use kmem_core::sync::{AtomicU32, Ordering};
use kmem_core::{CreateError, Shortage};
use kmem_linux::os::sys;
use kmem_linux::{hotplug, instance};

use crate::{Cache, CacheBox};

const NONE: u32 = 0;
const READY: u32 = 1;

/// A cache that is created on its first use and lives for ever, so that its boxes are `'static`.
///
/// ```
/// static CONNECTIONS: kmem::StaticCache<[u8; 300]> = kmem::StaticCache::new("doc_connection");
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let connection: kmem::CacheBox<'static, _> = CONNECTIONS.alloc([0; 300])?;
/// std::thread::spawn(move || drop(connection)).join().unwrap();
/// # Ok(())
/// # }
/// ```
pub struct StaticCache<T> {
    name: &'static str,
    state: AtomicU32,
    cache: UnsafeCell<MaybeUninit<Cache<T>>>,
}

// SAFETY: the cache is written once, by who made the state its own, and shared after READY; a cache may be shared.
unsafe impl<T> Sync for StaticCache<T> {}

impl<T> fmt::Debug for StaticCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticCache").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a [`StaticCache`] could not serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StaticCacheError {
    /// The cache could not be created; the next use tries again.
    Create(CreateError),
    /// There is no memory for an object.
    Alloc(Shortage),
}

impl fmt::Display for StaticCacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(_) => f.write_str("the static cache could not be created"),
            Self::Alloc(_) => f.write_str("the static cache could not serve an object"),
        }
    }
}

impl core::error::Error for StaticCacheError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(match self {
            Self::Create(error) => error,
            Self::Alloc(error) => error,
        })
    }
}

impl<T> StaticCache<T> {
    /// A cache of this name, not created yet.
    ///
    /// ```
    /// static NODES: kmem::StaticCache<[u64; 4]> = kmem::StaticCache::new("doc_static_new");
    /// ```
    pub const fn new(name: &'static str) -> Self {
        Self { name, state: AtomicU32::new(NONE), cache: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The cache, created now if this is its first use.
    ///
    /// # Errors
    /// It cannot be created; the next call tries again.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// static NODES: kmem::StaticCache<[u64; 4]> = kmem::StaticCache::new("doc_static_get");
    /// assert_eq!(NODES.get()?.stats().live, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn get(&'static self) -> Result<&'static Cache<T>, CreateError> {
        if self.state.load(Ordering::Acquire) == READY {
            // SAFETY: the state says that it was written, and it is never written again.
            return Ok(unsafe { (*self.cache.get()).assume_init_ref() });
        }
        self.make()
    }

    #[cold]
    fn make(&'static self) -> Result<&'static Cache<T>, CreateError> {
        loop {
            let seen = self.state.load(Ordering::Acquire);
            if seen == READY {
                return self.get();
            }
            if instance::try_make(&self.state, seen) {
                break;
            }
            if hotplug::is_inside_callback() {
                // Who makes it may wait for the transition that this thread is part of (I33).
                return Err(CreateError::InsideCallback);
            }
            sys::sched_yield();
        }
        let made = Cache::new(self.name);
        let state = if made.is_ok() { READY } else { NONE };
        let made = made.map(|cache| {
            // SAFETY: the state is this thread's, which alone may write.
            unsafe { &*(*self.cache.get()).write(cache) }
        });
        self.state.store(state, Ordering::Release);
        made
    }

    /// Puts `value` into an object.
    ///
    /// # Errors
    /// There is no memory, or the cache cannot be created; the value is dropped.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// static NODES: kmem::StaticCache<[u64; 4]> = kmem::StaticCache::new("doc_static_alloc");
    /// assert_eq!(NODES.alloc([1; 4])?[3], 1);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn alloc(&'static self, value: T) -> Result<CacheBox<'static, T>, StaticCacheError> {
        self.get().map_err(StaticCacheError::Create)?.alloc(value).map_err(StaticCacheError::Alloc)
    }

    /// Takes an object and puts in it what `make` returns.
    ///
    /// # Errors
    /// As for [`alloc`](Self::alloc); `make` was not called.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// static NODES: kmem::StaticCache<[u64; 4]> = kmem::StaticCache::new("doc_static_alloc_with");
    /// assert_eq!(NODES.alloc_with(|| [2; 4])?[0], 2);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn alloc_with(&'static self, make: impl FnOnce() -> T) -> Result<CacheBox<'static, T>, StaticCacheError> {
        self.get().map_err(StaticCacheError::Create)?.alloc_with(make).map_err(StaticCacheError::Alloc)
    }
}
