//! Memory for the engine's own descriptors, magazines and tables: the allocator never allocates from itself.
//!
//! Pieces are cut from chunks that the page source maps, and returned to a free list of their size, which is linked
//! through the pieces themselves (this is the engine's memory, which no user ever writes to). Sizes are rounded up to
//! four steps a doubling, so at most a quarter is lost; a piece larger than a quarter of a chunk is mapped by itself.
//! The lock is the last but one in the order ([`Rank::Meta`]): every floor may call in.

use core::fmt;
use core::ptr::NonNull;

use crate::host::{Host, PageSource};
use crate::sync::{self, Mutex, Rank, Word};

/// Bytes that are mapped at a time. Few in a model, so that it sees chunks begin, and calls for them fail.
const CHUNK: usize = if sync::MODEL { 4 << 10 } else { 64 << 10 };
/// Pieces larger than this are mapped by themselves.
pub(crate) const PIECE_MAX: usize = CHUNK / 4;
/// Bytes of the smallest piece.
const SMALLEST: usize = 32;
/// Pieces are aligned to a cache line from this size on, so that a descriptor's lock shares its line with nothing else.
const LINE: usize = 64;
/// Words before each piece that may be read, whatever stands there: sections read below a cursor, the mark of an empty
/// magazine and what stands before it.
pub const READABLE: usize = 16;
/// Bytes at the beginning of a chunk that belong to no piece: its link, and what may be read before the first.
const HEADER: usize = READABLE * size_of::<usize>();
const STEPS: usize = 4;
const CLASSES: usize = STEPS * (PIECE_MAX / SMALLEST).ilog2() as usize + 1;

struct Arena {
    free: [Option<NonNull<Piece>>; CLASSES],
    /// The chunks, linked through their first line.
    chunks: Option<NonNull<Piece>>,
    next: usize,
    end: usize,
    bytes: usize,
    /// Bytes of the pieces that are handed out, as asked for.
    used: usize,
}

struct Piece {
    next: Option<NonNull<Piece>>,
}

// SAFETY: the lists and the bump range are owned by the arena.
unsafe impl Send for Arena {}

/// The arena.
pub struct Meta {
    arena: Mutex<Arena>,
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meta").field("arena", &self.arena).finish()
    }
}

/// The class of a size up to [`PIECE_MAX`], and the bytes of its pieces.
fn class_of(size: usize) -> (usize, usize) {
    let size = size.max(SMALLEST);
    let doubling = (size - 1).ilog2() as usize;
    let base = 1usize << doubling;
    if size == SMALLEST {
        return (0, SMALLEST);
    }
    let step = base / STEPS;
    let index = (size - base).div_ceil(step);
    ((doubling - SMALLEST.ilog2() as usize) * STEPS + index, base + index * step)
}

impl Meta {
    /// An arena that holds nothing.
    pub fn new() -> Self {
        Self {
            arena: Mutex::new(
                Rank::Meta,
                Arena { free: [None; CLASSES], chunks: None, next: 0, end: 0, bytes: 0, used: 0 },
            ),
        }
    }

    /// A piece of at least `size` bytes, aligned to 16, and to 64 from 64 bytes on. Its content is not defined.
    pub fn alloc<P: Host>(&self, platform: &P, size: usize) -> Option<NonNull<u8>> {
        if size > PIECE_MAX {
            let piece = platform.map(size)?;
            self.arena.lock(platform).used += size;
            return Some(piece);
        }
        let (class, bytes) = class_of(size);
        let mut arena = self.arena.lock(platform);
        if let Some(piece) = arena.free[class] {
            arena.used += size;
            // SAFETY: a piece on a free list is the arena's and starts with its link.
            arena.free[class] = unsafe { piece.as_ref() }.next;
            return Some(piece.cast());
        }
        let align = if bytes >= LINE { LINE } else { 16 };
        let mut start = arena.next.next_multiple_of(align);
        if start + bytes > arena.end {
            let chunk = platform.map(CHUNK)?;
            let link = chunk.cast::<Piece>();
            // SAFETY: the chunk is ours and longer than its link.
            unsafe { link.write(Piece { next: arena.chunks }) };
            arena.chunks = Some(link);
            start = chunk.as_ptr() as usize + HEADER;
            arena.end = chunk.as_ptr() as usize + CHUNK;
            arena.bytes += CHUNK;
        }
        arena.next = start + bytes;
        arena.used += size;
        NonNull::new(start as *mut u8)
    }

    /// Frees a piece.
    ///
    /// # Safety
    /// `piece` and `size` are those of one `alloc` of this arena, and the piece is no longer used.
    pub unsafe fn free<P: Host>(&self, platform: &P, piece: NonNull<u8>, size: usize) {
        if size > PIECE_MAX {
            self.arena.lock(platform).used -= size;
            // SAFETY: pieces of this size are mappings of their own.
            return unsafe { PageSource::unmap(platform, piece, size) };
        }
        let (class, bytes) = class_of(size);
        // SAFETY: the piece is ours again.
        unsafe { sync::spoil(piece, bytes) };
        let piece = piece.cast::<Piece>();
        let mut arena = self.arena.lock(platform);
        // SAFETY: the piece is ours again and has room for the link.
        unsafe { piece.write(Piece { next: arena.free[class] }) };
        arena.free[class] = Some(piece);
        arena.used -= size;
    }

    /// Unmaps the chunks.
    ///
    /// # Safety
    /// No piece is used any longer, and pieces larger than a quarter of a chunk were freed.
    pub(crate) unsafe fn unmap<P: Host>(&self, platform: &P) {
        let mut arena = self.arena.lock(platform);
        while let Some(chunk) = arena.chunks {
            // SAFETY: the chunk is a mapping of `alloc`, and begins with its link.
            unsafe {
                arena.chunks = chunk.as_ref().next;
                PageSource::unmap(platform, chunk.cast(), CHUNK);
            }
        }
    }

    /// Bytes handed out and not freed.
    pub fn used<P: Host>(&self, platform: &P) -> usize {
        self.arena.lock(platform).used
    }

    /// Bytes mapped in chunks.
    pub fn bytes<P: Host>(&self, platform: &P) -> usize {
        self.arena.lock(platform).bytes
    }

    /// The word of the lock, for fork.
    pub(crate) fn word(&self) -> &Word {
        self.arena.word()
    }
}

impl Default for Meta {
    fn default() -> Self {
        Self::new()
    }
}

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const BYTES: usize = offset_of!(Meta, arena) + Mutex::<Arena>::DATA + offset_of!(Arena, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_dense_and_waste_at_most_a_quarter() {
        let mut last = (0, SMALLEST);
        for size in SMALLEST..=PIECE_MAX {
            let (class, bytes) = class_of(size);
            assert!(bytes >= size && bytes * 4 <= size * 5 + 4, "{size} -> {bytes}");
            assert!((class, bytes) == last || (class == last.0 + 1 && bytes > last.1), "{size}");
            last = (class, bytes);
        }
        assert_eq!(last, (CLASSES - 1, PIECE_MAX));
    }
}
