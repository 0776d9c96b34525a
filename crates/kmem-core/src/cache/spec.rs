//! What a user asks of a new cache, and what is refused.

use super::{NAME_MAX, ObjectOps};
use crate::error::CreateError;
use crate::slab::{Layout, MAX_ALIGN, MAX_SIZE};

/// What a new cache is like.
#[derive(Clone, Copy, Debug)]
pub struct CacheSpec<'a> {
    /// Its name, 1 to [`NAME_MAX`] bytes, different from that of any other cache. (`kmalloc-` and the size of a class
    /// is the name of a general cache, whether it is in use or not.) The cache keeps a copy.
    pub name: &'a str,
    /// Bytes of an object, 1 to [`MAX_SIZE`].
    pub size: usize,
    /// Alignment of objects, a power of two up to [`MAX_ALIGN`].
    pub align: usize,
    /// Constructor and destructor, for objects that stay constructed between uses.
    pub ops: Option<ObjectOps>,
}

impl CacheSpec<'_> {
    pub(crate) fn check(&self) -> Result<Layout, CreateError> {
        match self.name.len() {
            0 => return Err(CreateError::NameEmpty),
            len if len > NAME_MAX => return Err(CreateError::NameTooLong { len, max: NAME_MAX }),
            _ => {}
        }
        match self.size {
            0 => return Err(CreateError::ZeroSize),
            size if size > MAX_SIZE => return Err(CreateError::SizeTooLarge { size, max: MAX_SIZE }),
            _ => {}
        }
        match self.align {
            align if !align.is_power_of_two() => return Err(CreateError::AlignNotPowerOfTwo { align }),
            align if align > MAX_ALIGN => return Err(CreateError::AlignTooLarge { align, max: MAX_ALIGN }),
            _ => {}
        }
        Ok(Layout::new(self.size, self.align))
    }
}
