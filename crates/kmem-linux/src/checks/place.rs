//! What an address belongs to, for a report.

use super::heap::heap_if_on;
use super::region::{LIVE, Name};
use super::track::Track;
use super::{large, pool, zone};

/// An object of the checked heap.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) address: usize,
    pub(super) size: usize,
    pub(super) live: bool,
    /// Whether its bytes can be looked at.
    pub(super) readable: bool,
    /// The name of its cache; none for those that have no region.
    cache: Option<Name>,
    pub(super) track: Track,
}

impl Place {
    /// The name of its cache.
    pub(super) fn cache(&self) -> &str {
        self.cache.as_ref().map_or("kmem", Name::as_str)
    }
}

/// The object that an address is in, or beside, or was.
pub(super) fn covering(at: usize) -> Option<Place> {
    if let Some(slot) = pool::covering(at) {
        let (address, size, live, track) = (slot.address, slot.size, slot.live, slot.track);
        return Some(Place { address, size, live, readable: live, cache: None, track });
    }
    if let Some(index) = zone::region_of(at) {
        let region = heap_if_on()?.region(index)?;
        let (address, known) = region.look(at)?;
        let live = known.state() == LIVE;
        let (size, track) = (known.size(), region.track_of(at));
        return Some(Place { address, size, live, readable: live, cache: Some(region.name()), track });
    }
    let (address, size, free, track) = large::covering(at)?;
    Some(Place { address, size, live: !free, readable: !free, cache: None, track })
}
