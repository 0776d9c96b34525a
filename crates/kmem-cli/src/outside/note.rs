//! Finding the engine of a process by the note in its executable or in one of its libraries (`kmem::status::note`).
//!
//! Everything is read from the process's memory, where the loader has put the segments of notes: so it does not matter
//! what is on disk by now, in which mount namespace the process is, or whether symbols were removed.

use kmem::status::note;

use super::memory::{Memory, half, word};

/// Bytes of an executable's beginning that are read: its header, and the table of its segments.
const HEAD: usize = 4096;
/// Bytes of a segment of notes that are read.
const NOTES: u64 = 64 << 10;
/// Segments of an executable: more than the linkers make.
const SEGMENTS: usize = 64;
const SEGMENT: usize = 56;
const LOADED: u32 = 1;
const NOTE: u32 = 4;

/// What a note says, as addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub outline: u64,
    pub state: u64,
    pub engine: u64,
    pub mode: u64,
}

/// The beginnings of the files that are mapped.
pub fn beginnings(maps: &str) -> impl Iterator<Item = u64> + '_ {
    maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (first, _) = words.next()?.split_once('-')?;
        let (rights, offset) = (words.next()?, words.next()?);
        let is_file = words.nth(2)?.starts_with('/');
        let begins = is_file && rights.starts_with('r') && offset.bytes().all(|digit| digit == b'0');
        begins.then(|| u64::from_str_radix(first, 16).ok())?
    })
}

/// The note of the file that is mapped at `start`, if it has one.
pub fn note_at(memory: &Memory, start: u64) -> Option<Found> {
    let head = memory.read(start, HEAD).ok()?;
    if head.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, count) = (word(&head, 32) as usize, half(&head, 56) as u16 as usize);
    let segments = || {
        (0..count.min(SEGMENTS)).filter_map(|index| {
            let from = index.checked_mul(SEGMENT)?.checked_add(table)?;
            head.get(from..from.checked_add(SEGMENT)?)
        })
    };
    // Of a segment: its kind, and as words its offset in the file, its address, and its bytes.
    let first = segments().find(|segment| half(segment, 0) == LOADED && word(segment, 8) == 0)?;
    let base = start.wrapping_sub(word(first, 16));
    segments().filter(|segment| half(segment, 0) == NOTE).find_map(|segment| {
        let address = base.wrapping_add(word(segment, 16));
        let bytes = memory.read(address, word(segment, 32).min(NOTES) as usize).ok()?;
        found_in(&bytes, address)
    })
}

/// The note among these, which stand at `address`.
fn found_in(notes: &[u8], address: u64) -> Option<Found> {
    let mut at = 0;
    while at + 12 <= notes.len() {
        let [name, says, kind] = [0, 4, 8].map(|field| half(notes, (at + field) as u64));
        let (name, says) = (name as usize, says as usize);
        let body = at + 12 + name.checked_next_multiple_of(4)?;
        let is_ours = kind == note::KIND && says == note::LEN && notes.get(at + 12..at + 12 + name)? == note::NAME;
        if let (true, Some(body_bytes)) = (is_ours, notes.get(body..body + note::LEN)) {
            let here = address.wrapping_add(body as u64);
            let words = |index: u64| word(body_bytes, index * 8);
            let place = here.wrapping_add(8).wrapping_add(words(1));
            return Some(Found {
                outline: here.wrapping_add(words(0)),
                state: place.wrapping_add(words(2)),
                engine: place.wrapping_add(words(3)),
                mode: place.wrapping_add(words(4)),
            });
        }
        at = body.checked_add(says.checked_next_multiple_of(4)?)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, words: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for half in [name.len() as u32, words.len() as u32 * 8, kind] {
            bytes.extend(half.to_ne_bytes());
        }
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn a_note_is_found_among_others_and_leads_to_addresses() {
        let mut notes = note(b"GNU\0", 3, &[1, 2]);
        let at = notes.len() as u64 + 20;
        notes.extend(note(note::NAME, note::KIND, &[100, 192, 4, 64, 8]));
        let place = 0x1000 + at + 8 + 192;
        let found = Found { outline: 0x1000 + at + 100, state: place + 4, engine: place + 64, mode: place + 8 };
        assert_eq!(found_in(&notes, 0x1000), Some(found));
        for len in 0..notes.len() {
            assert_eq!(found_in(&notes[..len], 0x1000), None, "{len}");
        }
        assert_eq!(found_in(&note(note::NAME, 2, &[0; 5]), 0), None);
        assert_eq!(found_in(&[0xff; 64], 0), None);
    }

    #[test]
    fn files_begin_where_maps_say() {
        let maps = "55d0-55d1 r--p 00000000 08:01 12      /bin/x\n55d1-55d2 r-xp 00001000 08:01 12  /bin/x\n\
                    7f00-7f01 rw-p 00000000 00:00 0\n7f02-7f03 r--p 00000000 00:00 0   [vdso]\nx\n";
        assert_eq!(beginnings(maps).collect::<Vec<_>>(), [0x55d0]);
    }
}
