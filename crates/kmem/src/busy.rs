//! The answer of a destroy that did not happen.

use core::fmt;

/// The cache was not destroyed; here it is again, as usable as before.
#[must_use = "the cache is in here"]
pub struct Busy<C> {
    /// Objects that are in use. 0 only where the call came from inside a hotplug callback, in which nothing is destroyed, or
    /// from one of the cache's own destructors, or from code that was called to look at it.
    pub live: usize,
    /// The cache.
    pub cache: C,
}

impl<C> fmt::Debug for Busy<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Busy").field("live", &self.live).finish_non_exhaustive()
    }
}

impl<C> fmt::Display for Busy<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.live {
            0 => f.write_str(
                "a cache cannot be destroyed inside a hotplug callback, one of its own destructors, or code that looks at it: \
                 do it before or after",
            ),
            1 => f.write_str("1 object of the cache is still in use: free it, then destroy it again"),
            live => write!(f, "{live} objects of the cache are still in use: free them, then destroy it again"),
        }
    }
}

impl<C> core::error::Error for Busy<C> {}
