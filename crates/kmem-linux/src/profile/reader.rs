//! The numbers of which [unwind tables](super::tables) are made, one after the other.

/// A place in a table.
pub(super) struct Reader(pub(super) usize);

impl Reader {
    pub(super) fn get<T: Copy>(&mut self) -> T {
        // SAFETY: the tables are mapped, and their own lengths lead through them.
        let value = unsafe { (self.0 as *const T).read_unaligned() };
        self.0 += size_of::<T>();
        value
    }

    pub(super) fn unsigned(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte: u8 = self.get();
            if shift < 64 {
                value |= ((byte & 0x7f) as usize) << shift;
            }
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    pub(super) fn signed(&mut self) -> isize {
        let before = self.0;
        let value = self.unsigned() as isize;
        let bits = 7 * (self.0 - before) as u32;
        if bits < 64 { value << (64 - bits) >> (64 - bits) } else { value }
    }

    /// An address as the tables encode it; `None` for encodings that no linker uses there.
    pub(super) fn encoded(&mut self, encoding: u8) -> Option<usize> {
        let here = self.0;
        let value = match encoding & 0x0f {
            0x00 | 0x04 | 0x0c => self.get::<usize>(),
            0x01 => self.unsigned(),
            0x09 => self.signed() as usize,
            0x02 => self.get::<u16>() as usize,
            0x03 => self.get::<u32>() as usize,
            0x0a => self.get::<i16>() as usize,
            0x0b => self.get::<i32>() as usize,
            _ => return None,
        };
        match encoding & 0x70 {
            0x00 => Some(value),
            0x10 => Some(here.wrapping_add(value)),
            _ => None,
        }
    }
}
