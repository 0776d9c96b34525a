//! What depends on the process: which kind of section it has, and what that asks of its threads.
//!
//! | file | what it holds |
//! |---|---|
//! | [`mode`] | which kind of section this process can have |
//! | `registration` | registering threads where libc does not |
//! | `fallback` | sections without restartable sequences |
//! | [`lent`] | threads whose data a child of vfork runs on |
//! | `forking` | whether a fork is under way |
//! | [`turn`] | fork, one thread at a time, for musl |
//! | `thread` | a thread that libc does not know |

pub(crate) mod fallback;
pub(crate) mod forking;
pub mod lent;
pub mod mode;
pub(crate) mod registration;
pub(crate) mod thread;
pub mod turn;
