//! The live objects of a cache, one by one: those whose bit on their slab says taken, and that no slot and no magazine
//! of a depot holds.

use std::collections::HashSet;
use std::io;

use super::Engine;
use super::memory::{half, word};
use super::walk::{Area, Cache, Caches, areas};

/// Slabs that are walked, of all caches.
const SLABS: usize = 1 << 22;
/// Objects of a slab, and objects of a magazine.
const OBJECTS: u64 = 1 << 20;
const MAGAZINE: u64 = 1 << 16;
const WORD: u64 = 8;

/// A slab, and its objects that are in use.
pub struct Slab {
    /// The address of its first object.
    pub first: u64,
    /// When it was made, in seconds of the clock of the process's machine.
    pub born: u32,
    /// Which of its objects are in use.
    pub live: Vec<u64>,
}

/// Objects that are free, although their slabs say that they are taken.
pub struct Cached(HashSet<u64>);

impl Engine {
    /// What the slots of all CPUs hold.
    pub fn in_slots(&self) -> io::Result<Cached> {
        let mut cached = HashSet::new();
        for (_, area) in areas(self)? {
            if area == 0 {
                continue;
            }
            // One that is exchanged in this moment is left out.
            let Ok(area) = Area::read(self, area) else { continue };
            for slot in area.slots(&self.outline) {
                let words = self.memory.read(slot.first, (slot.count * WORD) as usize).unwrap_or_default();
                cached.extend((0..words.len() as u64 / WORD).map(|index| word(&words, index * WORD)));
            }
        }
        Ok(Cached(cached))
    }

    /// The caches.
    pub fn caches(&self) -> io::Result<Vec<Cache>> {
        Ok(Caches::read(self)?.of_index.into_iter().map(|(_, cache)| cache).collect())
    }

    /// Calls `visit` with each slab of a cache that has an object in use.
    pub fn live(
        &self,
        cache: &Cache,
        in_slots: &Cached,
        mut visit: impl FnMut(Slab) -> io::Result<()>,
    ) -> io::Result<()> {
        let outline = &self.outline;
        let mut seen = HashSet::new();
        for part in cache.parts(self)? {
            let in_depot = self.in_depot(&part);
            for list in [outline.list_partial, outline.list_full, outline.list_empty, outline.list_aside] {
                let mut at = word(&part, list);
                // A list that leads to a slab again is being changed, or is none.
                while at != 0 && seen.len() < SLABS && seen.insert(at) {
                    let Ok(desc) = self.memory.read(at, outline.slab_size as usize) else { break };
                    if let Some(slab) =
                        self.slab(&desc, cache, |object| in_slots.0.contains(&object) || in_depot.contains(&object))
                    {
                        visit(slab)?;
                    }
                    at = word(&desc, outline.slab_next);
                }
            }
        }
        Ok(())
    }

    /// A slab by its descriptor; `None` if nothing is in use there.
    fn slab(&self, desc: &[u8], cache: &Cache, is_free: impl Fn(u64) -> bool) -> Option<Slab> {
        let outline = &self.outline;
        let count = u64::from(half(desc, outline.slab_count));
        if count > OBJECTS {
            return None;
        }
        let bits = self.memory.read(word(desc, outline.slab_free), (count.div_ceil(64) * WORD) as usize).ok()?;
        let first = word(desc, outline.slab_first);
        let is_taken = |index: &u64| word(&bits, index / 64 * WORD) & 1 << (index % 64) == 0;
        let address = |index: u64| first.wrapping_add(index.wrapping_mul(cache.stride));
        let live: Vec<u64> = (0..count).filter(is_taken).filter(|index| !is_free(address(*index))).collect();
        (!live.is_empty()).then(|| Slab { first, born: half(desc, outline.slab_born), live })
    }

    /// The objects in a node's depot.
    fn in_depot(&self, part: &[u8]) -> HashSet<u64> {
        let outline = &self.outline;
        let batch = word(part, outline.depot_batch).min(MAGAZINE);
        let (mut objects, mut seen) = (HashSet::new(), HashSet::new());
        // The loose magazine is on no list.
        let mut add = |magazine: u64| {
            let len = self.memory.word(magazine.wrapping_add(outline.magazine_len)).unwrap_or(0).min(batch);
            let from = magazine.wrapping_add(outline.magazine_objects);
            let words = self.memory.read(from, (len * WORD) as usize).unwrap_or_default();
            objects.extend((0..words.len() as u64 / WORD).map(|index| word(&words, index * WORD)));
        };
        let loose = word(part, outline.depot_loose);
        if loose != 0 {
            add(loose);
        }
        let mut at = word(part, outline.depot_full);
        while at != 0 && seen.insert(at) && seen.len() < MAGAZINE as usize {
            add(at);
            at = self.memory.word(at.wrapping_add(outline.magazine_next)).unwrap_or(0);
        }
        objects
    }

    /// The bytes of a slab, from its first object to the end of its last live one.
    pub fn bytes_of(&self, slab: &Slab, cache: &Cache) -> io::Result<Vec<u8>> {
        let count = slab.live.last().map_or(0, |last| last + 1);
        let len = count.checked_mul(cache.stride).filter(|len| *len <= 1 << 28).ok_or(io::ErrorKind::InvalidData)?;
        self.memory.read(slab.first, len as usize)
    }
}
