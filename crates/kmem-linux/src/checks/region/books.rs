//! The books of a region: what is known of each slot, kept apart from all objects.
//!
//! A slot's word says its state, where its object begins and how many bytes were asked for:
//!
//! ```text
//! FRESH -> LIVE -> HELD -> FREED -> LIVE ...
//!          alloc   free    leaves quarantine
//! ```
//! So every free, realloc or question finds what an address is, whatever the object's memory says. Of each group the
//! books say which slots are free; of these, one is taken by chance. Groups with a free slot are in a list.
//!
//! The books are mappings of their own, which [`zone`] reserves and which open with the region. They are read and
//! written under the region's lock, and only for groups that were made: [`known`](Books::known) is asked by those who
//! found the slot in a list, or by [`known_if_made`](Books::known_if_made).

use super::super::form::Form;
use super::super::track::Track;
use super::super::zone::{self, PAGE};
use super::layout::{GROUP_MAX, Slot};

/// No group.
const NIL: u32 = u32::MAX;

/// A slot's state: the low bits of its word.
pub(in super::super) const FRESH: u64 = 0;
pub(in super::super) const LIVE: u64 = 1;
pub(in super::super) const HELD: u64 = 2;
pub(in super::super) const FREED: u64 = 3;
const STATE: u64 = 3;
/// No access reaches the slot's memory.
const CLOSED: u64 = 4;
/// A search found the object.
const REACHED: u64 = 8;
/// The number of the object's form: two bits, from this one on.
const FORM_SHIFT: u32 = 4;
const FORM: u64 = 3 << FORM_SHIFT;

/// What is known of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Known(u64);

impl Known {
    pub(super) fn live(offset: usize, size: usize) -> Self {
        Self(LIVE | (size as u64) << 8 | (offset as u64) << 36)
    }

    pub(in super::super) fn state(self) -> u64 {
        self.0 & STATE
    }

    pub(super) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(super) fn is_reached(self) -> bool {
        self.0 & REACHED != 0
    }

    pub(super) fn reached(self, reached: bool) -> Self {
        Self(self.0 & !REACHED | if reached { REACHED } else { 0 })
    }

    pub(super) fn form(self) -> Form {
        Form::of((self.0 >> FORM_SHIFT) as u8 & 3)
    }

    pub(super) fn of_form(self, form: Form) -> Self {
        Self(self.0 & !FORM | (form as u64) << FORM_SHIFT)
    }

    pub(in super::super) fn size(self) -> usize {
        (self.0 >> 8) as usize & ((1 << 28) - 1)
    }

    /// Bytes from the beginning of the slot to the object.
    pub(super) fn offset(self) -> usize {
        (self.0 >> 36) as usize
    }

    pub(super) fn with(self, state: u64, closed: bool) -> Self {
        Self(self.0 & !(STATE | CLOSED) | state | if closed { CLOSED } else { 0 })
    }
}

/// The free slots of a group.
#[repr(C)]
struct Group {
    free: [u64; GROUP_MAX / 64],
    /// The next group with a free slot, in the list of those.
    next: u32,
    /// How many are free.
    left: u32,
}

pub(super) struct Books {
    words: usize,
    groups: usize,
    /// Where the tracks are; 0: there are none.
    tracks: usize,
    /// Slots of a group.
    slots: usize,
    /// Groups that were made.
    made: u32,
    /// The first of the groups with a free slot.
    partial: u32,
}

impl Books {
    /// Those of a region whose groups have so many slots, of which none was made.
    pub(super) fn new(index: usize, slots: usize) -> Self {
        let (words, len) = zone::books(index);
        Self { words, groups: words + len / 2, tracks: zone::tracks(index), slots, made: 0, partial: NIL }
    }

    pub(super) fn made(&self) -> usize {
        self.made as usize
    }

    fn number(&self, slot: Slot) -> usize {
        debug_assert!(slot.group() < self.made());
        slot.group() * self.slots + slot.place()
    }

    /// What is known of a slot of a group that was made.
    pub(super) fn known(&self, slot: Slot) -> Known {
        // SAFETY: the words of groups that were made are open, and read under the region's lock.
        unsafe { (self.words as *const Known).add(self.number(slot)).read() }
    }

    pub(super) fn known_if_made(&self, slot: Slot) -> Option<Known> {
        (slot.group() < self.made()).then(|| self.known(slot))
    }

    pub(super) fn set(&mut self, slot: Slot, known: Known) {
        // SAFETY: as for `known`.
        unsafe { (self.words as *mut Known).add(self.number(slot)).write(known) };
    }

    /// Who allocated and who freed, of a slot of a group that was made, if that is noted.
    pub(super) fn track(&mut self, slot: Slot) -> Option<&mut Track> {
        let number = self.number(slot);
        // SAFETY: as for `known`.
        (self.tracks != 0).then(|| unsafe { &mut *(self.tracks as *mut Track).add(number) })
    }

    fn group(&mut self, group: u32) -> &mut Group {
        // SAFETY: callers pass groups that were made, or whose books have just been opened.
        unsafe { &mut *(self.groups as *mut Group).add(group as usize) }
    }

    /// Opens the books of the groups from `before` to `after`. `fresh`: nothing of them is open yet.
    pub(super) fn open(&self, before: usize, after: usize, fresh: bool) -> bool {
        let part = |at: usize, each: usize| {
            let from = if fresh { 0 } else { (before * each).next_multiple_of(PAGE) };
            let until = (after * each).next_multiple_of(PAGE);
            // SAFETY: the books are this region's.
            until <= from || unsafe { zone::open(at + from, until - from) }
        };
        (self.tracks == 0 || part(self.tracks, self.slots * size_of::<Track>()))
            && part(self.words, self.slots * size_of::<Known>())
            && part(self.groups, size_of::<Group>())
    }

    /// Makes the next group, with all of its slots free. Its books are open, and the list is empty.
    pub(super) fn add_group(&mut self) {
        let (number, slots) = (self.made, self.slots);
        let group = self.group(number);
        for (word, bits) in group.free.iter_mut().enumerate() {
            let count = slots.saturating_sub(word * 64).min(64);
            *bits = if count == 64 { u64::MAX } else { (1 << count) - 1 };
        }
        (group.left, group.next) = (slots as u32, NIL);
        self.made += 1;
        self.partial = number;
    }

    pub(super) fn have_free(&self) -> bool {
        self.partial != NIL
    }

    /// Takes a free slot, by `chance`, of the first group that has one.
    pub(super) fn take(&mut self, chance: u32) -> Option<Slot> {
        if !self.have_free() {
            return None;
        }
        let (number, slots) = (self.partial, self.slots);
        let group = self.group(number);
        let first = (chance as usize * slots) >> 32;
        let place = nth_free(&group.free, first).or_else(|| nth_free(&group.free, 0))?;
        group.free[place / 64] &= !(1 << (place % 64));
        group.left -= 1;
        if group.left == 0 {
            self.partial = group.next;
        }
        Some(Slot::new(number as usize, place))
    }

    /// Makes a slot free.
    pub(super) fn release(&mut self, slot: Slot) {
        let known = self.known(slot);
        self.set(slot, known.with(FREED, known.is_closed()));
        let (number, place, first) = (slot.group() as u32, slot.place(), self.partial);
        let group = self.group(number);
        group.free[place / 64] |= 1 << (place % 64);
        group.left += 1;
        if group.left == 1 {
            group.next = first;
            self.partial = number;
        }
    }
}

/// The first free slot from number `from` on.
fn nth_free(free: &[u64; GROUP_MAX / 64], from: usize) -> Option<usize> {
    let mut word = from / 64;
    let mut bits = free.get(word)? & (u64::MAX << (from % 64));
    loop {
        if bits != 0 {
            return Some(word * 64 + bits.trailing_zeros() as usize);
        }
        word += 1;
        bits = *free.get(word)?;
    }
}
