//! A profile of another process, copied out of its memory.
//!
//! What is copied may be anything, because a process can be broken or lie. So nothing of it is believed: lengths and
//! depths are checked against what they can be, and no more is read than a profile can have.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use kmem::profile::layout::{CHUNK, MAGIC, VERSION, chunk, head, site};
use kmem::profile::stack::DEPTH;

/// Bytes of chunks that are read at most.
const CHUNKS_MAX: usize = 128 << 20;
/// A word.
const WORD: usize = 8;

/// Objects of one size and cache that were allocated by one chain of callers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    pub requested: u64,
    pub usable: u64,
    pub sampled: u64,
    pub freed: u64,
    pub cache: String,
    /// Return addresses, the innermost first.
    pub callers: Vec<u64>,
}

/// What a process has sampled so far.
#[derive(Debug)]
pub struct Sampled {
    pub rate: u64,
    /// When the profile was switched on, in nanoseconds of CLOCK_MONOTONIC.
    pub begun: u64,
    /// Samples for which there was no memory.
    pub lost: u64,
    /// Where the allocator's own functions are.
    pub ours: Range<u64>,
    pub sites: Vec<Site>,
}

/// Why it cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    System(io::Error),
    Version(u64),
    NoProfile,
    Broken,
}

/// Copies the profile whose head is at `address` in a process.
pub fn read(pid: u32, address: u64) -> Result<Sampled, Unreadable> {
    let memory = File::open(format!("/proc/{pid}/mem")).map_err(Unreadable::System)?;
    let words = |address: u64, count: usize| -> Result<Vec<u64>, Unreadable> {
        let mut bytes = vec![0; count * WORD];
        memory.read_exact_at(&mut bytes, address).map_err(Unreadable::System)?;
        Ok(bytes.chunks_exact(WORD).map(|word| u64::from_ne_bytes(word.try_into().expect("a word"))).collect())
    };
    let found = words(address, head::WORDS)?;
    if found[head::MAGIC] != MAGIC {
        return Err(Unreadable::NoProfile);
    }
    if found[head::VERSION] != VERSION {
        return Err(Unreadable::Version(found[head::VERSION]));
    }
    let mut sampled = Sampled {
        rate: found[head::RATE],
        begun: found[head::BEGUN],
        lost: found[head::LOST],
        ours: found[head::OURS]..found[head::OURS_END],
        sites: Vec::new(),
    };
    if sampled.rate == 0 {
        return Err(Unreadable::Broken);
    }
    let (mut next, mut seen) = (found[head::CHUNKS], HashSet::new());
    while next != 0 && seen.len() * CHUNK < CHUNKS_MAX {
        if !seen.insert(next) {
            return Err(Unreadable::Broken);
        }
        let chunk = words(next, CHUNK / WORD)?;
        let used = usize::try_from(chunk[chunk::USED]).ok().filter(|used| *used <= CHUNK / WORD);
        let rest = chunk.get(chunk::WORDS..used.ok_or(Unreadable::Broken)?).ok_or(Unreadable::Broken)?;
        sites(rest, &mut sampled.sites)?;
        next = chunk[chunk::NEXT];
    }
    Ok(sampled)
}

/// The sites in the used words of a chunk.
fn sites(mut rest: &[u64], into: &mut Vec<Site>) -> Result<(), Unreadable> {
    while !rest.is_empty() {
        let depth = rest.get(site::DEPTH).filter(|depth| **depth <= DEPTH as u64).ok_or(Unreadable::Broken)?;
        let callers = rest.get(site::CALLERS..site::CALLERS + *depth as usize).ok_or(Unreadable::Broken)?;
        let name: Vec<u8> = rest[site::NAME..site::CALLERS]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        into.push(Site {
            requested: rest[site::REQUESTED],
            usable: rest[site::USABLE],
            sampled: rest[site::SAMPLED],
            // It may have moved on since the other was copied.
            freed: rest[site::FREED].min(rest[site::SAMPLED]),
            // What a terminal would take for orders is no name.
            cache: String::from_utf8_lossy(&name).chars().filter(|letter| !letter.is_control()).collect(),
            callers: callers.to_vec(),
        });
        rest = &rest[site::CALLERS + *depth as usize..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(depth: u64) -> Vec<u64> {
        let mut words = vec![0; site::CALLERS + 2];
        (words[site::REQUESTED], words[site::USABLE], words[site::SAMPLED], words[site::FREED]) = (100, 112, 5, 7);
        words[site::DEPTH] = depth;
        words[site::NAME] = u64::from_ne_bytes(*b"size\x1b112");
        (words[site::CALLERS], words[site::CALLERS + 1]) = (0x1000, 0x2000);
        words
    }

    #[test]
    fn sites_are_read_within_their_bounds() {
        let mut found = Vec::new();
        sites(&[words(2), words(2)].concat(), &mut found).expect("two sites");
        assert_eq!((found.len(), found[0].callers.as_slice()), (2, &[0x1000, 0x2000][..]));
        assert_eq!((found[1].cache.as_str(), found[1].freed), ("size112", 5));
        for lie in [3, DEPTH as u64 + 1, u64::MAX] {
            assert!(sites(&words(lie), &mut found).is_err(), "{lie}");
        }
        assert!(sites(&words(2)[..4], &mut found).is_err());
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let nothing = [0u64; head::WORDS];
        assert!(matches!(read(std::process::id(), nothing.as_ptr() as u64), Err(Unreadable::NoProfile)));
        let mut other = nothing;
        (other[head::MAGIC], other[head::VERSION]) = (MAGIC, VERSION + 1);
        assert!(matches!(read(std::process::id(), other.as_ptr() as u64), Err(Unreadable::Version(_))));
        // A chunk that is its own next one.
        let mut chunk = vec![0u64; CHUNK / WORD];
        (chunk[chunk::NEXT], chunk[chunk::USED]) = (chunk.as_ptr() as u64, chunk::WORDS as u64);
        (other[head::VERSION], other[head::RATE], other[head::CHUNKS]) = (VERSION, 1, chunk.as_ptr() as u64);
        assert!(matches!(read(std::process::id(), other.as_ptr() as u64), Err(Unreadable::Broken)));
    }
}
