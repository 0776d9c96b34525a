//! Slabs: runs of granules carved into objects of one cache.
//!
//! A slab's free objects are bits in its descriptor, outside of the objects' memory. So freed memory holds no word of
//! the allocator, objects are handed out in address order, and a free bit that is set twice is a double free that is
//! noticed.
//!
//! Whole pages of free objects are purged although the slab is in use (`idle.rs`).
//!
//! Each cache has, on each node, lists of *partial*, *full* and *empty* slabs under one lock
//! ([`Rank::Node`](crate::sync::Rank)). Objects move in batches; a few empty slabs are kept, the others are handed to
//! the caller, which reclaims them when it holds no lock (I34).

mod bitmap;
pub(crate) mod descriptor;
mod idle;
mod layout;
mod list;
pub(crate) mod node;
mod pack;
mod reclaim;
mod sweep;

pub(crate) use descriptor::Slab;
pub(crate) use idle::{Limit, Which};
pub use layout::{Layout, MAX_ALIGN, MAX_SIZE};
pub use node::FreeError;
pub(crate) use node::{Env, Node, find, put_back};
pub(crate) use reclaim::Reclaim;
