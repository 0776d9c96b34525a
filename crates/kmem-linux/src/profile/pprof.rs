//! pprof's format: messages of protocol buffers (`profile.proto` of github.com/google/pprof), compressed by gzip.
//!
//! A message is fields one after the other, in any order; so a profile is written as it is read, a message at a time,
//! through a buffer. The compression is none: gzip allows for blocks that are stored as they are.

/// Where bytes go.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

/// Fields of a profile.
pub(super) mod field {
    pub(in super::super) const SAMPLE_TYPE: u32 = 1;
    pub(in super::super) const SAMPLE: u32 = 2;
    pub(in super::super) const MAPPING: u32 = 3;
    pub(in super::super) const LOCATION: u32 = 4;
    pub(in super::super) const STRING: u32 = 6;
    pub(in super::super) const DURATION: u32 = 10;
    pub(in super::super) const PERIOD_TYPE: u32 = 11;
    pub(in super::super) const PERIOD: u32 = 12;
    pub(in super::super) const DEFAULT_TYPE: u32 = 14;
}

/// A message with a place for so many bytes. What does not fit is left out, which no message of ours is so long for.
pub(super) struct Message<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

/// One that a short stack has room for: seven numbers.
pub(super) type Short = Message<80>;
/// The longest one, for memory: a sample with its callers, which take up to ten bytes each. It may be zero at first.
pub(super) type Long = Message<1024>;

impl<const N: usize> Message<N> {
    pub(super) const fn new() -> Self {
        Self { len: 0, bytes: [0; N] }
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// A number.
    pub(super) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// A number of a list of numbers, whose field is that of the whole message.
    pub(super) fn raw(&mut self, value: u64) {
        self.varint(value);
    }

    /// Bytes, or a message.
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        bytes.iter().for_each(|byte| self.byte(*byte));
        self
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Writes it as a field of the profile.
    pub(super) fn put(&self, field: u32, sink: &mut impl Sink) {
        put_bytes(field, self.as_slice(), sink);
    }
}

/// Writes a number as a field of the profile.
pub(super) fn put_number(field: u32, value: u64, sink: &mut impl Sink) {
    let mut message = Short::new();
    sink.put(message.number(field, value).as_slice());
}

/// Writes bytes as a field of the profile.
pub(super) fn put_bytes(field: u32, bytes: &[u8], sink: &mut impl Sink) {
    let mut head = Short::new();
    head.varint(u64::from(field) << 3 | 2);
    head.varint(bytes.len() as u64);
    sink.put(head.as_slice());
    sink.put(bytes);
}

/// Bytes of a stored block at most.
const BLOCK: usize = 32 << 10;

/// A gzip file of stored blocks, written by `write`.
pub(super) struct Gzip<'a, W: FnMut(&[u8])> {
    write: W,
    block: &'a mut [u8; BLOCK],
    used: usize,
    len: u32,
    sum: u32,
}

/// A block's memory.
pub(super) type Block = [u8; BLOCK];

impl<'a, W: FnMut(&[u8])> Gzip<'a, W> {
    pub(super) fn begin(mut write: W, block: &'a mut Block) -> Self {
        // Deflate, no name, no time, of Unix.
        write(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
        Self { write, block, used: 0, len: 0, sum: !0 }
    }

    fn flush(&mut self, last: bool) {
        let len = self.used as u16;
        let [low, high] = len.to_le_bytes();
        (self.write)(&[u8::from(last), low, high, !low, !high]);
        (self.write)(&self.block[..self.used]);
        self.used = 0;
    }

    pub(super) fn end(mut self) {
        self.flush(true);
        let (sum, len) = (!self.sum, self.len);
        (self.write)(&sum.to_le_bytes());
        (self.write)(&len.to_le_bytes());
    }
}

impl<W: FnMut(&[u8])> Sink for Gzip<'_, W> {
    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.used == BLOCK {
                self.flush(false);
            }
            self.block[self.used] = *byte;
            self.used += 1;
            // CRC-32, bit by bit.
            self.sum ^= u32::from(*byte);
            for _ in 0..8 {
                self.sum = self.sum >> 1 ^ (0xEDB8_8320 & (self.sum & 1).wrapping_neg());
            }
        }
        self.len = self.len.wrapping_add(bytes.len() as u32);
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_message_is_what_protocol_buffers_say() {
        let mut message = Short::new();
        message.number(1, 150).bytes(2, b"testing");
        assert_eq!(message.as_slice(), b"\x08\x96\x01\x12\x07testing");
    }

    #[test]
    fn a_stored_file_has_the_sum_and_the_length() {
        let (mut file, mut block) = (Vec::new(), Box::new([0; BLOCK]));
        let mut gzip = Gzip::begin(|bytes: &[u8]| file.extend_from_slice(bytes), &mut block);
        gzip.put(b"123456789");
        gzip.end();
        assert_eq!(&file[10..15], &[1, 9, 0, 0xf6, 0xff]);
        assert_eq!(&file[15..24], b"123456789");
        // The check value of CRC-32.
        assert_eq!(&file[24..], &[0x26, 0x39, 0xf4, 0xcb, 9, 0, 0, 0]);
    }
}
