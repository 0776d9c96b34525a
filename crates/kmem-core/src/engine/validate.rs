//! `validate`: the conservation of objects over a whole allocator, at a quiescent point (I6, I7).
//!
//! Every object is in exactly one place: with a user, in a slot, in a depot, or free on its slab. The walk marks each
//! object that it finds in a slot or a depot by setting its free bit; one that finds the bit set already has found the
//! object in two places. Then it clears what it set.

use core::fmt;

use crate::cache::CacheDesc;
use crate::engine::Engine;
use crate::platform::Platform;
use crate::slab;

/// What a valid allocator holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ValidReport {
    /// Caches.
    pub caches: usize,
    /// Slabs of all caches.
    pub slabs: usize,
    /// Objects on all slabs.
    pub total: usize,
    /// Free objects on slabs.
    pub free: usize,
    /// Pages of slabs that were purged, and where no object was handed out since.
    pub purged_pages: usize,
    /// Free objects in slots.
    pub in_slots: usize,
    /// Free objects in depots.
    pub in_depot: usize,
    /// Objects that users hold.
    pub held: usize,
    /// Free objects in the slots of CPUs that are not online, which no thread can reach (I8). Always 0 in a valid
    /// allocator.
    pub stranded: usize,
}

/// What is wrong, and with which cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Violation {
    /// An object is in two places (I7).
    InTwoPlaces {
        /// Its address.
        object: usize,
    },
    /// A slot or depot holds an address that is no object of its cache.
    Foreign {
        /// The address.
        object: usize,
    },
    /// The counters of a cache disagree with its slabs' bitmaps (I6).
    Miscounted {
        /// Objects in use by the bitmaps.
        bitmaps: usize,
        /// Objects in use by the counters.
        counters: usize,
    },
    /// A depot's count of its objects disagrees with those in it (I6).
    MiscountedDepot {
        /// Objects in its magazines.
        held: usize,
        /// Objects by its count.
        count: usize,
    },
    /// Pages of a slab count as purged, and hold objects that are not free on it; or their number is wrong.
    PurgedInUse {
        /// Address of the slab's first object.
        slab: usize,
    },
    /// A slot of a CPU that is not online is enabled (I3, I8).
    EnabledOffline {
        /// The CPU.
        cpu: usize,
    },
    /// The cursor of a slot lies outside of its magazine (I9).
    OutsideMagazine {
        /// The slot's CPU.
        cpu: usize,
    },
    /// What is charged to an account is not what its caches have off their slabs (I45).
    Mischarged {
        /// Bytes charged.
        charged: usize,
        /// Bytes off the slabs.
        held: usize,
    },
    /// The caller is a hotplug callback.
    InsideCallback,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::InTwoPlaces { object } => write!(f, "object {object:#x} is in two places at once"),
            Self::Foreign { object } => write!(f, "{object:#x} is in a slot or depot of a cache it does not belong to"),
            Self::Miscounted { bitmaps, counters } => {
                write!(f, "a cache's slabs have {bitmaps} objects in use, its counters say {counters}")
            }
            Self::MiscountedDepot { held, count } => {
                write!(f, "a cache's depot holds {held} objects, and its count says {count}")
            }
            Self::PurgedInUse { slab } => {
                write!(f, "pages of the slab at {slab:#x} count as given back, but objects on them are not free")
            }
            Self::EnabledOffline { cpu } => write!(f, "a slot of CPU {cpu} is enabled although the CPU is not online"),
            Self::OutsideMagazine { cpu } => {
                write!(f, "the cursor of a slot of CPU {cpu} lies outside of its magazine")
            }
            Self::Mischarged { charged, held } => {
                write!(f, "{charged} bytes are charged to an account whose caches have {held} off their slabs")
            }
            Self::InsideCallback => {
                f.write_str("a hotplug callback cannot validate: the allocator is between two states")
            }
        }
    }
}

impl core::error::Error for Violation {}

impl<P: Platform> Engine<P> {
    /// Checks every cache. Allocates nothing.
    ///
    /// # Safety
    /// No other thread uses the allocator meanwhile: the check marks what it finds in the slabs' own bitmaps, without
    /// their locks.
    pub unsafe fn validate(&self) -> Result<ValidReport, Violation> {
        let _gate = self.gate.write(&self.platform).map_err(|_| Violation::InsideCallback)?;
        let mut report = ValidReport::default();
        let mut result = Ok(());
        self.registry.for_each(&self.platform, |cache| {
            if result.is_ok() {
                result = self.validate_cache(cache, &mut report);
            }
        });
        result?;
        self.validate_accounts()?;
        Ok(report)
    }

    /// Compares what is charged to each account with what its caches have off their slabs.
    fn validate_accounts(&self) -> Result<(), Violation> {
        let mut result = Ok(());
        self.accounts.visit(|account| {
            let (charged, mut held) = (account.used(), 0);
            self.registry.for_each(&self.platform, |cache| {
                if cache.account().is_some_and(|own| own.is_within(account)) {
                    held += self.objects_in_use(cache) * cache.layout().size;
                }
            });
            if charged != held {
                result = Err(Violation::Mischarged { charged, held });
            }
            result.is_ok()
        });
        result
    }

    fn validate_cache(&self, cache: &CacheDesc, report: &mut ValidReport) -> Result<(), Violation> {
        let (mut bitmaps, mut counters) = (0, 0);
        let (mut listed_in_use, mut listed_total) = (0, 0);
        let (mut free_bits, mut total) = (0, 0);
        let mut purged_in_use = None;
        for node in cache.nodes() {
            let stats = node.slabs.for_each_slab(&self.platform, |slab| {
                // SAFETY: the node's lock is held and the allocator is quiescent.
                let (free, in_use) = unsafe { slab.counts() };
                free_bits += free;
                total += slab.objects();
                bitmaps += slab.objects() - free;
                counters += in_use;
                // SAFETY: as above.
                match unsafe { slab.purged_pages() } {
                    Some(pages) => report.purged_pages += pages,
                    None => purged_in_use = Some(slab.address_of(0)),
                }
            });
            let mut held = 0;
            let count = node.depot.for_each(&self.platform, |_| held += 1);
            if held != count {
                return Err(Violation::MiscountedDepot { held, count });
            }
            report.slabs += stats.slabs;
            listed_in_use += stats.in_use;
            listed_total += stats.total;
        }
        if let Some(slab) = purged_in_use {
            return Err(Violation::PurgedInUse { slab });
        }
        if bitmaps != counters {
            return Err(Violation::Miscounted { bitmaps, counters });
        }
        if (listed_in_use, listed_total) != (bitmaps, total) {
            return Err(Violation::Miscounted { bitmaps, counters: listed_in_use });
        }
        let mut found = 0;
        let mut stranded = 0;
        let mut in_slots = 0;
        let marked = self.mark_cached(cache, true, usize::MAX, &mut |in_slot, is_stranded| {
            found += 1;
            in_slots += usize::from(in_slot);
            stranded += usize::from(is_stranded);
        });
        // What was marked is unmarked, also after a violation, and nothing else.
        let _ = self.mark_cached(cache, false, found, &mut |_, _| ());
        marked?;
        report.caches += 1;
        report.total += total;
        report.free += free_bits;
        report.in_slots += in_slots;
        report.in_depot += found - in_slots;
        report.stranded += stranded;
        report.held += bitmaps - found;
        Ok(())
    }

    /// Sets (or clears) the free bit of the objects in the cache's slots and depots, `limit` of them at most, in a
    /// fixed order, and stops at the first that has it set (or cleared) already.
    fn mark_cached(
        &self,
        cache: &CacheDesc,
        mark: bool,
        limit: usize,
        found: &mut dyn FnMut(bool, bool),
    ) -> Result<(), Violation> {
        let online = self.cpus.online();
        let mut result = Ok(());
        let mut left = limit;
        let mut each = |object: usize, in_slot: bool, stranded: bool| {
            if result.is_err() || left == 0 {
                return;
            }
            left -= 1;
            // SAFETY: what a slot or a depot holds is an object of a slab that lives; the allocator is quiescent.
            result = match unsafe { slab::find(&self.heap, object) } {
                // SAFETY: the slab lives, for its object is not free on it; the allocator is quiescent.
                Some((mut slab, index)) if unsafe { slab.as_ref() }.cache == core::ptr::NonNull::from(cache) => unsafe {
                    if slab.as_mut().replace_free(index, mark) == mark {
                        slab.as_mut().replace_free(index, mark);
                        Err(Violation::InTwoPlaces { object })
                    } else {
                        Ok(())
                    }
                },
                _ => Err(Violation::Foreign { object }),
            };
            if result.is_ok() {
                found(in_slot, stranded);
            }
        };
        let mut enabled_offline = None;
        for cpu in 0..self.cpus.possible() {
            let Some(control) = self.cpus.get(cpu) else { break };
            let control = control.lock.lock(&self.platform);
            if let Some(area) = control.area {
                // SAFETY: the control is held and the allocator is quiescent.
                unsafe {
                    if area.count(cache.slot()) > area.capacity(cache.slot()) {
                        return Err(Violation::OutsideMagazine { cpu });
                    }
                    if area.is_enabled(cache.slot()) && !online.contains(cpu) {
                        enabled_offline = Some(cpu);
                    }
                    area.for_each(cache.slot(), |object| each(object, true, !online.contains(cpu)));
                }
            }
        }
        for node in cache.nodes() {
            node.depot.for_each(&self.platform, |object| each(object, false, false));
        }
        match (result, enabled_offline) {
            (Ok(()), Some(cpu)) => Err(Violation::EnabledOffline { cpu }),
            (result, _) => result,
        }
    }
}
