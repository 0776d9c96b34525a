//! What a process holds, read from its memory: the process publishes nothing for it, and pays nothing.
//!
//! A note in the executable or library leads to the engine and to its *outline*, a list of offsets and sizes
//! (`kmem::status::outline`). This command knows the form of the outline, and no offset by heart. What it follows is
//! what the engine itself goes by: caches, their slabs and depots, the slots of CPUs, the entries of granules. So a
//! process that does not allocate meanwhile is seen exactly; of one that does, figures are of slightly different
//! moments.
//!
//! No word is believed. A process may be anything that has such a note: numbers are bounded before anything is read by
//! them, walks end, and where an address leads nowhere the cache is left out, or the process is refused.

#![forbid(unsafe_code)]

mod census;
mod memory;
mod note;
mod walk;

use std::fs::File;
use std::io::Read;

use kmem::Mode;
use kmem::status::note::READY;
use kmem::status::outline::{self, Outline};

use crate::holdings::Holdings;
use crate::remote_status::{MAPS, OutsideError, of_maps, of_memory};

pub use walk::Cache;

use memory::{Memory, word};

/// No offset, size or mask of an outline is more: sums and products of them do not overflow.
const MOST: u64 = 1 << 30;

/// The engine of a process.
pub struct Engine {
    pid: u32,
    memory: Memory,
    outline: Outline,
    address: u64,
    mode: u32,
}

/// A CPU of a process, as its memory has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub cpu: usize,
    pub state: &'static str,
    pub cached_bytes: u64,
    pub cached_objects: u64,
    pub drained_objects: u64,
}

/// What a process holds, and its CPUs.
#[derive(Debug)]
pub struct Seen {
    pub mode: Option<Mode>,
    pub possible_cpus: usize,
    pub holdings: Holdings,
    pub cpus: Vec<Cpu>,
    /// Where objects are: an address, and bytes from there on.
    pub window: (u64, u64),
}

impl Engine {
    /// The engine of a process: of several (a program and a library with one each) the one with the most memory.
    pub fn find(pid: u32) -> Result<Self, OutsideError> {
        let mut maps = Vec::new();
        let read = File::open(format!("/proc/{pid}/maps")).and_then(|file| file.take(MAPS).read_to_end(&mut maps));
        read.map_err(|error| of_maps(pid, error))?;
        let maps = String::from_utf8_lossy(&maps);
        let memory = Memory::of(pid).map_err(|error| of_memory(pid, error))?;
        let mut found: Vec<note::Found> =
            note::beginnings(&maps).filter_map(|start| note::note_at(&memory, start)).collect();
        found.dedup();
        if found.is_empty() {
            return Err(OutsideError::NotOnKmem(pid));
        }
        let mut why = OutsideError::NotStarted(pid);
        let mut best = None;
        for place in found {
            match Self::at(pid, &memory, place) {
                Ok(None) => {}
                Ok(Some((outline, committed))) if best.is_none_or(|(_, _, most)| committed > most) => {
                    best = Some((place, outline, committed));
                }
                Ok(Some(_)) => {}
                Err(error) => why = error,
            }
        }
        let (place, outline, _) = best.ok_or(why)?;
        let mode = memory.half(place.mode).unwrap_or(0);
        Ok(Self { pid, memory, outline, address: place.engine, mode })
    }

    /// The outline of the engine that a note leads to, and what it has committed; `None` if there is none yet.
    fn at(pid: u32, memory: &Memory, place: note::Found) -> Result<Option<(Outline, u64)>, OutsideError> {
        let implausible = |_| OutsideError::Implausible(pid);
        let head = memory.read(place.outline, 24).map_err(implausible)?;
        let [magic, version, words] = [0, 8, 16].map(|at| word(&head, at));
        if magic != outline::MAGIC {
            return Err(OutsideError::Implausible(pid));
        }
        if version != outline::VERSION {
            return Err(OutsideError::OtherLayout(pid, version));
        }
        if words != Outline::WORDS as u64 {
            return Err(OutsideError::Implausible(pid));
        }
        let bytes = memory.read(place.outline, Outline::WORDS * 8).map_err(implausible)?;
        let words: Vec<u64> = (0..Outline::WORDS as u64).map(|index| word(&bytes, index * 8)).collect();
        let outline = Outline::from_words(&words).ok_or(OutsideError::Implausible(pid))?;
        let small = words.iter().skip(3).all(|word| *word <= MOST);
        walk::check(&outline).filter(|()| small).ok_or(OutsideError::Implausible(pid))?;
        if memory.half(place.state).map_err(implausible)? != READY {
            return Ok(None);
        }
        let committed = memory.word(place.engine.wrapping_add(outline.committed)).map_err(implausible)?;
        Ok(Some((outline, committed)))
    }

    /// All of it now.
    pub fn see(&self) -> Result<Seen, OutsideError> {
        walk::see(self).map_err(|error| match of_memory(self.pid, error) {
            OutsideError::NoSuchProcess(pid) => OutsideError::NoSuchProcess(pid),
            _ => OutsideError::Implausible(self.pid),
        })
    }

    /// A word of the engine.
    fn get(&self, offset: u64) -> std::io::Result<u64> {
        self.memory.word(self.address.wrapping_add(offset))
    }
}
