//! The note by which a reader outside finds the engine of a process, where there is no page.
//!
//! A program or shared object with an engine has a note in its segments of notes (`PT_NOTE`), with the name and the
//! kind that are here. It is [`LEN`] bytes long: five words.
//!
//! ```text
//! 0   distance from this word to the Outline
//! 1   distance from this word to the place of the engine
//! 2   where in the place its state is, 32 bits: READY, if there is an engine
//! 3   where in the place the engine is
//! 4   where in the place the mode's code is, 32 bits
//! ```
//! So a process that publishes nothing can be read by a party that may read its memory, and that costs the process
//! nothing: see [`outline`](kmem_core::outline).

/// The note's name, with the 0 at its end.
pub const NAME: &[u8; 5] = b"kmem\0";
/// The note's kind.
pub const KIND: u32 = 1;
/// Bytes of what it says.
pub const LEN: usize = 40;
/// The state of a place with an engine.
pub const READY: u32 = 1;
