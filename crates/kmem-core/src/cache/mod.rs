//! Caches: named sources of objects of one size, created and destroyed by any thread at any time.
//!
//! ```text
//! Creating -> Live -> Dying -> (Busy -> Live) | Drained -> Freed        listed while Live and Dying
//! ```
//! A cache that is being destroyed stays in the registry until its slots and its depot are empty, and while it is dying
//! no slot of it can be enabled: that is the second defence against CPUs that come and go meanwhile (see
//! [`cpu`](crate::cpu)). The order of a destroy is that of I18.

pub(crate) mod descriptor;
mod inside;
mod observer;
pub(crate) mod registry;
mod rest;
mod spec;

pub(crate) use descriptor::Miss;
pub use descriptor::{CacheDesc, CacheId, CacheState, NAME_MAX, ObjectFn, ObjectOps};
pub(crate) use inside::Inside;
pub use observer::{CacheStep, CpuStep, Event, Observer, Place, SlotStep, Step};
pub(crate) use registry::{Pinned, Registry};
pub use spec::CacheSpec;
