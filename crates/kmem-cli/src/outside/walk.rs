//! Walking over an engine: its CPUs, its caches, its large blocks.

use std::collections::HashMap;
use std::io;

use kmem::status::outline::Outline;
use kmem::{CacheStats, Mode};

use super::memory::{byte, half, word};
use super::{Cpu, Engine, Seen};
use crate::holdings::{AccountRow, CacheRow, Holdings, LargeBlocks, Totals};

/// What no genuine engine has more of: caches, CPUs, nodes; bytes of any one structure; bytes of a name.
pub const CACHES: u64 = 1 << 17;
const CPUS: u64 = 4096;
const ACCOUNTS: usize = 1 << 16;
const NODES: u64 = 1024;
const STRUCTURE: u64 = 4096;
const ELEMENT: u64 = 64;
/// Parts of nodes, of all caches.
const PARTS: u64 = 1 << 18;
const NAME: usize = 63;
/// Granules of a window: 2 TiB.
const GRANULES: u64 = 1 << 27;
/// Entries of granules that are read at a time.
const CHUNK: u64 = 4096;
const WORD: u64 = 8;

/// Whether arrays have elements of a sensible size: the other words of an outline are offsets, and may be any.
pub fn check(outline: &Outline) -> Option<()> {
    let structures = [outline.node_size, outline.control_size, outline.slab_size, outline.account_size];
    let elements = [outline.entry_size, outline.slot_size, outline.keep_size, outline.granule_entry];
    let all = structures.iter().all(|size| (1..=STRUCTURE).contains(size))
        && elements.iter().all(|size| (1..=ELEMENT).contains(size));
    let granule = outline.granule_size.is_power_of_two() && outline.granule_size <= 1 << 30;
    (all && granule && outline.kind_shift < 32 && cache_len(outline) <= STRUCTURE).then_some(())
}

/// Bytes of a cache's descriptor that are looked at.
fn cache_len(outline: &Outline) -> u64 {
    let all = [
        outline.id,
        outline.name_len,
        outline.name.saturating_add(NAME as u64),
        outline.object_size,
        outline.stride,
        outline.slab_granules,
        outline.slab_objects,
        outline.nodes,
        outline.node_count,
        outline.capacity,
        outline.failures,
    ];
    all.into_iter().max().unwrap_or(0).saturating_add(WORD)
}

/// No engine has this.
fn implausible() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// All that an engine holds.
pub fn see(engine: &Engine) -> io::Result<Seen> {
    let outline = &engine.outline;
    let caches = Caches::read(engine)?;
    let mut rows = Vec::with_capacity(caches.of_index.len());
    let (slots, cpus) = slots(engine, &caches)?;
    for (index, cache) in &caches.of_index {
        let (objects, on) = slots.get(index).copied().unwrap_or_default();
        rows.push(cache.row(objects, on));
    }
    let granules = |figure: u64| figure.saturating_mul(outline.granule_size);
    let totals = Totals {
        committed: granules(engine.get(outline.committed)?),
        purged: granules(engine.get(outline.clean)?),
        idle: granules(engine.get(outline.dirty)?),
        metadata: engine.get(outline.metadata)?,
        caches: rows.len() as u64,
    };
    Ok(Seen {
        mode: Mode::from_code(u64::from(engine.mode)),
        possible_cpus: engine.get(outline.cpus)?.min(CPUS) as usize,
        holdings: Holdings { accounts: Some(accounts(engine)?), ..Holdings::of(totals, rows, large(engine)?) },
        cpus,
        window: (engine.get(outline.base)?, granules(engine.get(outline.granules)?)),
    })
}

/// A cache, as its descriptor and its nodes' parts have it.
pub struct Cache {
    pub name: String,
    pub stride: u64,
    /// Where its nodes' parts are, and how many there are.
    pub nodes: (u64, u64),
    pub object_size: u64,
    slab_bytes: u64,
    slab_objects: u64,
    capacity: u32,
    failures: u32,
    sums: CacheStats<'static>,
}

/// The caches of an engine, by index.
pub struct Caches {
    pub of_index: Vec<(u32, Cache)>,
}

impl Caches {
    /// Reads all of them. One that is destroyed meanwhile is left out.
    pub fn read(engine: &Engine) -> io::Result<Self> {
        let outline = &engine.outline;
        let fresh = engine.get(outline.fresh)? & u64::from(u32::MAX);
        if fresh > CACHES {
            return Err(implausible());
        }
        let entries = engine.memory.read(engine.get(outline.entries)?, (fresh * outline.entry_size) as usize)?;
        let (mut of_index, mut parts) = (Vec::new(), 0);
        for index in 1..fresh {
            let at = word(&entries, index * outline.entry_size + outline.entry_cache);
            if at != 0
                && let Ok(cache) = Cache::read(engine, at)
            {
                parts += cache.nodes.1;
                if parts > PARTS {
                    return Err(implausible());
                }
                of_index.push((index as u32, cache));
            }
        }
        Ok(Self { of_index })
    }
}

impl Cache {
    fn read(engine: &Engine, address: u64) -> io::Result<Self> {
        let outline = &engine.outline;
        let desc = engine.memory.read(address, cache_len(outline) as usize)?;
        let count = word(&desc, outline.node_count);
        if count > NODES {
            return Err(implausible());
        }
        let name_len = usize::from(byte(&desc, outline.name_len)).min(NAME);
        let name = desc.get(outline.name as usize..).and_then(|rest| rest.get(..name_len)).ok_or_else(implausible)?;
        let mut cache = Self {
            name: String::from_utf8_lossy(name).into_owned(),
            object_size: word(&desc, outline.object_size),
            stride: word(&desc, outline.stride),
            slab_bytes: word(&desc, outline.slab_granules).saturating_mul(outline.granule_size),
            slab_objects: word(&desc, outline.slab_objects),
            capacity: half(&desc, outline.capacity),
            failures: half(&desc, outline.failures),
            nodes: (word(&desc, outline.nodes), count),
            sums: CacheStats::default(),
        };
        cache.sums = cache.summed(outline, &cache.parts(engine)?);
        Ok(cache)
    }

    /// Copies of its nodes' parts.
    pub fn parts(&self, engine: &Engine) -> io::Result<Vec<Vec<u8>>> {
        let (at, count) = self.nodes;
        let len = engine.outline.node_size as usize;
        Ok(engine.memory.read(at, count as usize * len)?.chunks(len).map(<[u8]>::to_vec).collect())
    }

    /// What the nodes' parts add up to; `live` is what is off the slabs and in no depot.
    fn summed(&self, outline: &Outline, parts: &[Vec<u8>]) -> CacheStats<'static> {
        let mut stats = CacheStats::default();
        let sum = |offset: u64| {
            let each = parts.iter().map(|node| word(node, offset) as usize);
            each.fold(0, usize::saturating_add)
        };
        stats.object_size = self.object_size as usize;
        stats.stride = self.stride as usize;
        stats.slab_objects = self.slab_objects as usize;
        stats.slab_bytes = self.slab_bytes as usize;
        stats.capacity = self.capacity as usize;
        stats.failures = self.failures as usize;
        stats.total = sum(outline.total);
        let number = (1 << outline.depot_number_bits.min(63)) - 1;
        let depots = parts.iter().map(|node| word(node, outline.depot_objects) & number);
        stats.in_depot = depots.fold(0, |sum, objects| sum.saturating_add(objects as usize));
        stats.slabs = sum(outline.slabs);
        stats.empty_slabs = sum(outline.empty_slabs);
        stats.bytes = stats.slabs.saturating_mul(stats.slab_bytes);
        stats.high = sum(outline.high);
        stats.reaped = sum(outline.reaped);
        stats.grown = stats.slabs.saturating_add(stats.reaped);
        stats.refills = sum(outline.refills).saturating_add(sum(outline.depot_refills));
        stats.flushes = sum(outline.flushes).saturating_add(sum(outline.depot_flushes));
        let in_use = sum(outline.in_use);
        stats.free = stats.total.saturating_sub(in_use);
        stats.live = in_use.saturating_sub(stats.in_depot);
        stats
    }

    /// Its row, with so many objects in slots of so many CPUs.
    fn row(&self, objects: u64, cpus: u64) -> CacheRow {
        let mut stats = self.sums;
        stats.in_slots = objects as usize;
        stats.cpus = cpus as usize;
        stats.live = stats.live.saturating_sub(stats.in_slots);
        CacheRow { name: self.name.clone(), ..CacheRow::of(&stats) }
    }
}

/// An area of a CPU, as far as slots are enabled.
pub struct Area {
    address: u64,
    width: u64,
    bytes: Vec<u8>,
}

/// What a slot of an area holds.
pub struct Slot {
    pub index: u32,
    /// The address of the first object's word, and how many there are.
    pub first: u64,
    pub count: u64,
}

impl Area {
    /// The area at this address.
    pub fn read(engine: &Engine, address: u64) -> io::Result<Self> {
        let outline = &engine.outline;
        let width = engine.memory.word(address.wrapping_sub(outline.area_before))?;
        if width > CACHES {
            return Err(implausible());
        }
        let bytes = engine.memory.read(address, (width * (outline.slot_size + outline.keep_size)) as usize)?;
        Ok(Self { address, width, bytes })
    }

    /// Its enabled slots.
    pub fn slots<'a>(&'a self, outline: &'a Outline) -> impl Iterator<Item = Slot> + 'a {
        (1..self.width).filter_map(|index| {
            let slot = index * outline.slot_size;
            let keep = self.width * outline.slot_size + index * outline.keep_size;
            if word(&self.bytes, slot + outline.slot_end) == 0 {
                return None;
            }
            let first = word(&self.bytes, keep + outline.keep_storage).wrapping_add(WORD);
            let cursor = self.address.wrapping_add(word(&self.bytes, slot + outline.slot_cursor));
            let count = cursor.wrapping_sub(first) / WORD;
            // One that is being exchanged in this moment is not looked at.
            let fits = count <= word(&self.bytes, keep + outline.keep_capacity).min(1 << 16);
            fits.then_some(Slot { index: index as u32, first, count })
        })
    }
}

/// The addresses of the areas that CPUs have, and the rows of these CPUs.
pub fn areas(engine: &Engine) -> io::Result<Vec<(Cpu, u64)>> {
    let outline = &engine.outline;
    let count = engine.get(outline.cpus)?;
    if count > CPUS {
        return Err(implausible());
    }
    let controls = engine.memory.read(engine.get(outline.controls)?, (count * outline.control_size) as usize)?;
    let each = (0..count).map(|cpu| {
        let at = cpu * outline.control_size;
        let area = word(&controls, at + outline.cpu_area);
        let drained_objects = word(&controls, at + outline.cpu_drained);
        let state = match u64::from(byte(&controls, at + outline.cpu_state)) {
            online if online == outline.state_online => {
                if area != 0 {
                    "online"
                } else {
                    "idle"
                }
            }
            offline if offline == outline.state_offline => {
                if byte(&controls, at + outline.cpu_held_down) != 0 {
                    "held down"
                } else {
                    "offline"
                }
            }
            _ => "draining",
        };
        (Cpu { cpu: cpu as usize, state, cached_bytes: 0, cached_objects: 0, drained_objects }, area)
    });
    // Those that are, or were, of use here.
    Ok(each.filter(|(cpu, area)| *area != 0 || cpu.state != "offline" || cpu.drained_objects > 0).collect())
}

/// By index of a cache: objects in its slots, and CPUs that have one.
type Slots = HashMap<u32, (u64, u64)>;

/// What slots hold, by cache and by CPU.
fn slots(engine: &Engine, caches: &Caches) -> io::Result<(Slots, Vec<Cpu>)> {
    let strides: HashMap<u32, u64> = caches.of_index.iter().map(|(index, cache)| (*index, cache.stride)).collect();
    let mut slots = Slots::new();
    let mut cpus = Vec::new();
    for (mut cpu, area) in areas(engine)? {
        if area != 0
            && let Ok(area) = Area::read(engine, area)
        {
            for slot in area.slots(&engine.outline) {
                let (objects, on) = slots.entry(slot.index).or_default();
                *objects += slot.count;
                *on += 1;
                cpu.cached_objects += slot.count;
                let stride = strides.get(&slot.index).copied().unwrap_or(0);
                cpu.cached_bytes = cpu.cached_bytes.saturating_add(slot.count.saturating_mul(stride));
            }
        }
        cpus.push(cpu);
    }
    Ok((slots, cpus))
}

/// Large blocks in use, by length.
fn large(engine: &Engine) -> io::Result<Vec<LargeBlocks>> {
    let outline = &engine.outline;
    let top = engine.get(outline.top)?.min(engine.get(outline.reach)?);
    let entries = engine.get(outline.granule_entries)?;
    if top > GRANULES {
        return Err(implausible());
    }
    let mut sizes = [(0u64, 0u64); 32];
    let (mut granule, mut chunk, mut from) = (0, Vec::new(), u64::MAX);
    while granule < top {
        if granule < from || granule - from >= CHUNK {
            from = granule;
            let len = CHUNK.min(top - from) * outline.granule_entry;
            chunk = engine.memory.read(entries.wrapping_add(from * outline.granule_entry), len as usize)?;
        }
        let entry = half(&chunk, (granule - from) * outline.granule_entry + outline.granule_word);
        let (kind, len) = (entry >> outline.kind_shift, u64::from(entry) & outline.length_mask);
        if u64::from(kind) == outline.kind_large {
            let size = &mut sizes[len.max(1).ilog2() as usize % 32];
            (size.0, size.1) = (size.0 + 1, size.1.saturating_add(len.saturating_mul(outline.granule_size)));
        }
        let is_first = kind < 32 && outline.kinds_of_firsts & 1 << kind != 0;
        granule += if is_first { len.max(1) } else { 1 };
    }
    let rows = sizes.iter().enumerate().filter(|(_, (blocks, _))| *blocks > 0);
    Ok(rows
        .map(|(size, (blocks, bytes))| LargeBlocks {
            from_bytes: outline.granule_size << size,
            blocks: *blocks,
            bytes: *bytes,
        })
        .collect())
}

/// The accounts, by name: of very many those that were made last.
fn accounts(engine: &Engine) -> io::Result<Vec<AccountRow>> {
    let outline = &engine.outline;
    let mut found = Vec::new();
    let mut at = engine.get(outline.accounts)?;
    while at != 0 && found.len() < ACCOUNTS {
        let desc = engine.memory.read(at, outline.account_size as usize)?;
        let next = word(&desc, outline.account_next);
        found.push((at, desc));
        at = next;
    }
    // One that is free, or is being made, is none.
    found.retain(|(_, desc)| !matches!(word(desc, outline.account_refs), 0 | u64::MAX));
    let name = |desc: &[u8]| {
        let len = usize::from(byte(desc, outline.account_name_len)).min(NAME);
        let bytes = desc.get(outline.account_name as usize..).and_then(|rest| rest.get(..len)).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    let names: HashMap<u64, String> = found.iter().map(|(at, desc)| (*at, name(desc))).collect();
    let mut rows: Vec<AccountRow> = found
        .iter()
        .map(|(_, desc)| AccountRow {
            name: name(desc),
            parent: names.get(&word(desc, outline.account_parent)).cloned(),
            limit_bytes: Some(word(desc, outline.account_limit)).filter(|limit| *limit != u64::MAX),
            used_bytes: word(desc, outline.account_used),
            high_bytes: word(desc, outline.account_high),
            refused: word(desc, outline.account_refused),
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}
