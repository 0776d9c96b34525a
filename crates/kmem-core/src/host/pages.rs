//! Where the engine's memory comes from.

use core::ptr::NonNull;

/// A range of address space that the engine may fill from the bottom.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// First address; a multiple of the granule.
    pub base: usize,
    /// Bytes; a multiple of the granule.
    pub len: usize,
}

/// Why a part of the window could not be made usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitError {
    /// There is no memory, or a limit is reached.
    NoMemory,
    /// Something else is mapped there (only if the window is claimed without being held).
    Taken,
}

/// Why pages could not be moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveError {
    /// The source does not do that, or not now: both ranges are as they were.
    Refused,
    /// The range that was to take the pages is no longer committed. The pages are where they were.
    Lost,
}

/// Where runs of pages come from.
///
/// # Safety
/// Memory handed out is valid for reads and writes, zero, and no other owner's until it is returned.
pub unsafe trait PageSource {
    /// Bytes of the smallest piece whose memory can be released; a power of two.
    fn page_size(&self) -> usize;

    /// Bytes of the piece around `addr` in the window that gets its memory as a whole when any of it is first touched:
    /// a power of two to which the piece is aligned, at least a page. By default it is a page.
    fn unit(&self, _addr: usize) -> usize {
        self.page_size()
    }

    /// The engine hands out memory of this committed range that will be filled, and more of the range will soon follow:
    /// the source may make the whole range one [`unit`](Self::unit). None of it was touched since it was committed or
    /// purged. By default nothing is done.
    fn fills(&self, _addr: usize, _len: usize) {}

    /// Address space for objects: called once, when the engine is made.
    fn reserve(&self) -> Option<Window>;

    /// From now on the engine's class map has a byte for the first `granules` granules that it hands out of the window:
    /// more than before. Fast paths that read it find nothing of the engine's above. By default nothing is done.
    ///
    /// # Safety
    /// The engine that this source belongs to has so many bytes of its class map committed. Called under the heap's
    /// lock.
    unsafe fn reaches(&self, _granules: usize) {}

    /// Makes `len` bytes at `addr` in the window usable and zero.
    ///
    /// # Safety
    /// The range is inside the window and is not committed.
    unsafe fn commit(&self, addr: usize, len: usize) -> Result<(), CommitError>;

    /// Releases the memory of a committed range, which reads as zero afterwards and can be used again without a call.
    ///
    /// # Safety
    /// The range is committed and holds nothing that is needed.
    unsafe fn purge(&self, addr: usize, len: usize);

    /// Releases the memory of a committed range, and the range itself: it cannot be used until it is committed again.
    ///
    /// # Safety
    /// As for [`purge`](Self::purge).
    unsafe fn uncommit(&self, addr: usize, len: usize);

    /// Moves the memory of `len` bytes at `from`, with its content, to `to`, without copying it, and makes `longer`
    /// bytes there usable: the rest of them reads as zero. The memory that was at `to` is released, and `from` is not
    /// committed afterwards. By default the source refuses.
    ///
    /// # Safety
    /// Both ranges are committed and do not overlap, no thread uses them meanwhile, and what is at `to` is not needed.
    /// `longer` is more than `len`.
    unsafe fn move_pages(&self, _from: usize, _len: usize, _to: usize, _longer: usize) -> Result<(), MoveError> {
        Err(MoveError::Refused)
    }

    /// Zeroed memory for metadata, outside of the window, aligned to a page.
    fn map(&self, len: usize) -> Option<NonNull<u8>>;

    /// Releases a mapping of [`map`](Self::map).
    ///
    /// # Safety
    /// `ptr` and `len` are those of one `map`, and the mapping is no longer used.
    unsafe fn unmap(&self, ptr: NonNull<u8>, len: usize);
}
