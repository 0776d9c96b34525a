//! Where the slots of a region lie: arithmetic alone.
//!
//! ```text
//! packed   | object, around it | object, around it | ... | rest | guard |     a group; slots up to 2 KiB
//! paged    | before, object, around it | guard | before, object, around it | guard | ...       slots of whole pages
//! ```
//! An object begins where its slot begins (after the lead, if there is one), or, in a slot of pages, ends where the
//! guard begins, so that the first byte beyond it (beyond the next 16, for sizes that are no multiple of these) cannot
//! be touched.

use super::super::zone::{self, PAGE};

/// The most slots of a group.
pub(super) const GROUP_MAX: usize = 256;
/// Bytes of a group of packed slots, roughly.
const GROUP_BYTES: usize = 16 << 10;

/// A slot: its group, and its place there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    pub(super) fn new(group: usize, place: usize) -> Self {
        Self((group * GROUP_MAX + place) as u32)
    }

    pub(super) fn group(self) -> usize {
        self.0 as usize / GROUP_MAX
    }

    pub(super) fn place(self) -> usize {
        self.0 as usize % GROUP_MAX
    }
}

/// Divides by a number that does not change: numbers below 2^35, by one below 2^28.
#[derive(Clone, Copy)]
struct Divisor(u64);

impl Divisor {
    fn new(by: usize) -> Self {
        Self(u64::MAX / by as u64 + 1)
    }

    fn quotient(self, number: usize) -> usize {
        ((number as u128 * u128::from(self.0)) >> 64) as usize
    }
}

/// What a region's slots are like.
#[derive(Clone, Copy)]
pub(in super::super) struct Shape {
    /// Bytes that a slot has for object and surroundings.
    pub(in super::super) own: usize,
    /// Whether slots are whole pages, with a guard after each.
    pub(in super::super) paged: bool,
    /// Bytes before each object.
    pub(in super::super) lead: usize,
    /// Whether many slots wait in quarantine, however long they are.
    pub(in super::super) patient: bool,
}

/// The slots of a region. All zero: none yet.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) base: usize,
    pub(super) len: usize,
    /// Bytes from one slot to the next; of these, those that are the slot's own.
    pub(super) stride: usize,
    pub(super) own: usize,
    /// Bytes of a group, and its slots.
    pub(super) group: usize,
    pub(super) slots: usize,
    pub(super) lead: usize,
    pub(super) paged: bool,
    /// Whether no access may reach any slot: the region of objects without bytes.
    pub(super) is_closed: bool,
    by_stride: Divisor,
    by_group: Divisor,
}

impl Layout {
    pub(super) fn new(index: usize, shape: Shape) -> Self {
        let (base, len) = zone::region(index);
        Self::in_space(base, len, index == 0, shape)
    }

    fn in_space(base: usize, len: usize, is_closed: bool, shape: Shape) -> Self {
        let Shape { own, paged, lead, .. } = shape;
        let stride = if paged { own + PAGE } else { own };
        let slots = match paged {
            true => (4 * GROUP_BYTES / stride).clamp(1, 64),
            false if own <= 64 => PAGE / own,
            false => (GROUP_BYTES / own).max(8),
        };
        let group = if paged { slots * stride } else { (slots * stride).next_multiple_of(PAGE) + PAGE };
        let (by_stride, by_group) = (Divisor::new(stride), Divisor::new(group));
        Self { base, len, stride, own, group, slots, lead, paged, is_closed, by_stride, by_group }
    }

    /// The slot that an address of the region is in, if there may be one.
    pub(super) fn slot_of(&self, address: usize) -> Option<Slot> {
        let offset = address - self.base;
        let group = self.by_group.quotient(offset);
        let place = self.by_stride.quotient(offset - group * self.group);
        (place < self.slots).then(|| Slot::new(group, place))
    }

    /// Where a slot begins.
    pub(super) fn begin(&self, slot: Slot) -> usize {
        self.base + slot.group() * self.group + slot.place() * self.stride
    }

    /// Where an object begins in the slot at `begin`.
    pub(super) fn place(&self, begin: usize, size: usize, align: usize) -> usize {
        if self.paged { (begin + self.own - size) & !(align.max(16) - 1) } else { begin + self.lead }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_leads_to_its_slot() {
        for (own, paged) in [(16, false), (48, false), (80, false), (2048, false), (4096, true), (131_072, true)] {
            let base = 1 << 40;
            let layout = Layout::in_space(base, 1 << 30, false, Shape { own, paged, lead: 0, patient: false });
            assert!(layout.slots <= GROUP_MAX && layout.slots * layout.stride <= layout.group);
            for slot in [(0, 0), (0, layout.slots - 1), (7, 1 % layout.slots), ((1 << 30) / layout.group - 1, 0)] {
                let slot = Slot::new(slot.0, slot.1);
                let begin = layout.begin(slot);
                assert_eq!(layout.slot_of(begin), Some(slot));
                assert_eq!(layout.slot_of(begin + layout.stride - 1), Some(slot));
            }
            let end = base + layout.slots * layout.stride;
            assert!(paged || layout.slot_of(end).is_none(), "what follows the slots of a group is no slot");
        }
    }
}
