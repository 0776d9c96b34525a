//! A region: slots of one length, carved from groups, with what is known of each slot in the books.
//!
//! ```text
//! packed   | object, around it | object, around it | ... | rest | guard |     a group; slots up to 2 KiB
//! paged    | before, object, around it | guard | before, object, around it | guard | ...       slots of whole pages
//! ```
//! A slot's word says its state, where its object begins and how many bytes were asked for:
//!
//! ```text
//! FRESH -> LIVE -> HELD -> FREED -> LIVE ...
//!          alloc   free    leaves quarantine
//! ```
//! So every free, realloc or question finds what an address is, whatever the object's memory says. An object begins
//! where its slot begins, or, in a slot of pages, ends where the guard begins, so that the first byte beyond it (beyond
//! the next 16, for sizes that are no multiple of these) cannot be touched.
//!
//! The slot that is handed out is any free one of its group, by chance. A freed slot waits in [quarantine](Quarantine)
//! before it is free. Its memory is filled meanwhile, and looked at when it is handed out again: what was written to it
//! shows. Large slots, and others the first times and now and then, are closed instead, so that an access ends the
//! program there. A free also looks at what lies within 32 bytes of the object, before it and after it, in slots that
//! are not live.

use kmem_core::sync::{AtomicU64, AtomicUsize, Ordering};

use super::fill;
use super::lock::Locked;
use super::options::Options;
use super::track::{Mark, Track};
use super::zone::{self, PAGE};

/// No group.
const NIL: u32 = u32::MAX;
/// The most slots of a group.
const GROUP_MAX: usize = 256;
/// Bytes of a group of packed slots, roughly.
const GROUP_BYTES: usize = 16 << 10;
/// Bytes that are opened at a time, at least and at most.
const OPEN_LEAST: usize = 64 << 10;
const OPEN_MOST: usize = 512 << 10;
/// Bytes beside an object that a free looks at.
const NEAR: usize = 32;
/// Bytes at both ends of a page that are looked at where a slot is long; one in 16 is looked at as a whole.
const LINE: usize = 64;
/// The most slots that wait in each half of a quarantine, and their bytes.
const WAITING: usize = 256;
const WAITING_BYTES: usize = 64 << 10;
/// Slots of pages are closed when they are freed: the first times, and one in so many times.
const OFTEN: u32 = 64;
const SELDOM: u32 = 128;
/// Allocations of a region that go to pages of their own: so many first ones, and one in so many others.
const SAMPLED_FIRST: usize = 16;
const SAMPLED: usize = 1024;

/// A slot's state: the low bits of its word.
pub(super) const FRESH: u64 = 0;
pub(super) const LIVE: u64 = 1;
pub(super) const HELD: u64 = 2;
pub(super) const FREED: u64 = 3;
const STATE: u64 = 3;
/// No access reaches the slot's memory.
const CLOSED: u64 = 4;
/// A search found the object.
const REACHED: u64 = 8;

/// A slot: its group, and its place there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot(u32);

impl Slot {
    fn new(group: usize, place: usize) -> Self {
        Self((group * GROUP_MAX + place) as u32)
    }

    fn group(self) -> usize {
        self.0 as usize / GROUP_MAX
    }

    fn place(self) -> usize {
        self.0 as usize % GROUP_MAX
    }
}

/// Divides by a number that does not change: numbers below 2^35, by one below 2^28.
struct Divisor(u64);

impl Divisor {
    fn new(by: usize) -> Self {
        Self(u64::MAX / by as u64 + 1)
    }

    fn quotient(&self, number: usize) -> usize {
        ((number as u128 * u128::from(self.0)) >> 64) as usize
    }
}

/// What is known of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Known(u64);

impl Known {
    fn new(state: u64, offset: usize, size: usize) -> Self {
        Self(state | (size as u64) << 8 | (offset as u64) << 36)
    }

    pub(super) fn state(self) -> u64 {
        self.0 & STATE
    }

    fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(super) fn size(self) -> usize {
        (self.0 >> 8) as usize & ((1 << 28) - 1)
    }

    /// Bytes from the beginning of the slot to the object.
    fn offset(self) -> usize {
        (self.0 >> 36) as usize
    }

    fn with(self, state: u64, closed: bool) -> Self {
        Self(self.0 & !(STATE | CLOSED) | state | if closed { CLOSED } else { 0 })
    }
}

/// What is wrong with an address, or with the memory around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// No object begins there, nor did one.
    NotAnObject,
    /// It is inside of an object, which begins here.
    Inside(usize),
    /// It is an object of another cache.
    OtherCache,
    /// The object is free already.
    Free,
    /// The object has another size.
    Size(usize),
    /// Something was written here, after the object.
    After(usize),
    /// Something was written here, before the object.
    Before(usize),
    /// Something was written here, to memory that is free.
    Stale(usize),
}

/// Slots of a group: in the books, after the words of the slots.
#[repr(C)]
struct Group {
    free: [u64; GROUP_MAX / 64],
    /// The next group with a free slot, in the list of those.
    next: u32,
    /// How many are free.
    left: u32,
}

/// Slots that were freed and are not free yet: each goes to a place by chance, whose former one goes to the end of a
/// line. What comes out of the line is free.
struct Quarantine {
    places: [u32; WAITING],
    line: [u32; WAITING],
    at: usize,
    /// How many of both are in use; a place holds a slot's number and one.
    len: usize,
}

struct State {
    /// Bytes that are open.
    open: usize,
    groups: u32,
    /// The first of the groups with a free slot.
    partial: u32,
    chance: u64,
    /// How often slots were freed, for those that are closed now and then.
    frees: u32,
    /// Objects in use, and bytes that were asked for.
    live: usize,
    bytes: usize,
    quarantine: Quarantine,
}

/// A region. What is not under its lock is written before the region is used.
pub(super) struct Region {
    pub(super) index: usize,
    base: usize,
    len: usize,
    /// Bytes from one slot to the next; of these, those that are the slot's own.
    stride: usize,
    own: usize,
    group: usize,
    slots: usize,
    by_stride: Divisor,
    by_group: Divisor,
    lead: usize,
    paged: bool,
    words: usize,
    groups: usize,
    /// Where the tracks are; 0: there are none.
    tracks: usize,
    name: Name,
    state: Locked<State>,
    /// 1 if it serves a named cache.
    claimed: AtomicUsize,
    /// How often an object was asked for.
    taken: AtomicUsize,
}

/// What a region's slots are like.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Bytes that a slot has for object and surroundings.
    pub(super) own: usize,
    /// Whether slots are whole pages, with a guard after each.
    pub(super) paged: bool,
    /// Bytes before each object.
    pub(super) lead: usize,
    /// Whether many slots wait in quarantine, however long they are.
    pub(super) patient: bool,
}

/// The beginning of a cache's name.
pub(super) struct Name {
    bytes: [u8; 40],
    len: usize,
}

impl Name {
    fn of(name: &str) -> Self {
        let (mut bytes, len) = ([0; 40], name.len().min(40));
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self { bytes, len }
    }

    pub(super) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?")
    }
}

impl Region {
    /// A region that nothing was taken of.
    pub(super) fn new(index: usize, name: &str, shape: Shape, seed: u64) -> Self {
        let (base, len) = zone::region(index);
        let Shape { own, paged, lead, patient } = shape;
        let stride = if paged { own + PAGE } else { own };
        let slots = match paged {
            true => (4 * GROUP_BYTES / stride).clamp(1, 64),
            false if own <= 64 => PAGE / own,
            false => (GROUP_BYTES / own).max(8),
        };
        let group = if paged { slots * stride } else { (slots * stride).next_multiple_of(PAGE) + PAGE };
        let (words, books) = zone::books(index);
        let waiting = if patient { WAITING } else { (WAITING_BYTES / stride).clamp(4, WAITING) };
        let quarantine = Quarantine { places: [0; WAITING], line: [0; WAITING], at: 0, len: waiting };
        let state =
            State { open: 0, groups: 0, partial: NIL, chance: seed | 1, frees: 0, live: 0, bytes: 0, quarantine };
        Self {
            index,
            base,
            len,
            stride,
            own,
            group,
            slots,
            by_stride: Divisor::new(stride),
            by_group: Divisor::new(group),
            lead,
            paged,
            words,
            groups: words + books / 2,
            tracks: zone::tracks(index),
            name: Name::of(name),
            state: Locked::new(state),
            claimed: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    /// Makes the region the caller's, if it is nobody's.
    pub(super) fn claim(&self) -> bool {
        self.claimed.swap(1, Ordering::AcqRel) == 0
    }

    /// Makes it nobody's again.
    pub(super) fn give_up(&self) {
        self.claimed.store(0, Ordering::Release);
    }

    /// Makes a claimed region anew, for another cache.
    ///
    /// # Safety
    /// The region is the caller's by [`claim`](Self::claim), and no address of it is in use.
    pub(super) unsafe fn renew(&self, name: &str, shape: Shape) {
        let seed = self.state.with(|state| next(&mut state.chance));
        let renewed = Self { claimed: AtomicUsize::new(1), ..Self::new(self.index, name, shape, seed) };
        // SAFETY: the caller's promise: no other thread reads the region meanwhile.
        unsafe { core::ptr::from_ref(self).cast_mut().write(renewed) };
    }

    /// Whether an allocation is one of those that go to the [pool](super::pool): the first ones, and some later.
    pub(super) fn is_sampled(&self) -> bool {
        // Not counted atomically: what is lost only moves the next one.
        let before = self.taken.load(Ordering::Relaxed);
        self.taken.store(before.wrapping_add(1), Ordering::Relaxed);
        before < SAMPLED_FIRST || before.is_multiple_of(SAMPLED)
    }

    /// The word of the lock, for fork.
    pub(super) fn word(&self) -> &kmem_core::sync::Word {
        &self.state.word
    }

    fn known(&self, slot: Slot) -> &AtomicU64 {
        // SAFETY: callers pass slots of groups that were made; their words are open.
        unsafe { &*(self.words as *const AtomicU64).add(slot.group() * self.slots + slot.place()) }
    }

    /// # Safety
    /// The lock is held, and the group was made.
    #[expect(clippy::mut_from_ref, reason = "the lock guards what is behind the address")]
    unsafe fn group(&self, group: u32) -> &mut Group {
        // SAFETY: the caller's promise.
        unsafe { &mut *(self.groups as *mut Group).add(group as usize) }
    }

    /// The slot that an address is in, if there may be one.
    fn slot_of(&self, address: usize) -> Option<Slot> {
        let offset = address - self.base;
        let group = self.by_group.quotient(offset);
        let place = self.by_stride.quotient(offset - group * self.group);
        (place < self.slots).then(|| Slot::new(group, place))
    }

    /// Where a slot begins.
    fn begin(&self, slot: Slot) -> usize {
        self.base + slot.group() * self.group + slot.place() * self.stride
    }

    /// What is known of the slot that an address is in, and where its object begins.
    pub(super) fn look(&self, address: usize) -> Option<(usize, Known)> {
        let slot = self.slot_of(address)?;
        self.state.with(|state| {
            let known = Known(self.known_if_made(state, slot)?.load(Ordering::Relaxed));
            Some((self.begin(slot) + known.offset(), known))
        })
    }

    /// Who allocated and who freed the object of the slot that an address is in, as far as that is noted.
    pub(super) fn track_of(&self, address: usize) -> Track {
        let slot = self.slot_of(address);
        self.state.with(|state| {
            let made = slot.filter(|slot| self.known_if_made(state, *slot).is_some());
            made.and_then(|slot| self.track(slot).copied()).unwrap_or_default()
        })
    }

    #[expect(clippy::mut_from_ref, reason = "the lock guards what is behind the address")]
    fn track(&self, slot: Slot) -> Option<&mut Track> {
        // SAFETY: callers hold the lock, and pass slots of groups that were made; their tracks are open.
        (self.tracks != 0)
            .then(|| unsafe { &mut *(self.tracks as *mut Track).add(slot.group() * self.slots + slot.place()) })
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Notes that a search found the live object that an address is in; returns it where it was not found before.
    pub(super) fn reach(&self, address: usize) -> Option<(usize, usize)> {
        let slot = self.slot_of(address)?;
        self.state.with(|state| {
            let word = self.known_if_made(state, slot)?;
            let known = Known(word.load(Ordering::Relaxed));
            let begin = self.begin(slot) + known.offset();
            let inside = address >= begin && address - begin < known.size().max(1);
            if known.state() != LIVE || !inside || known.0 & REACHED != 0 {
                return None;
            }
            word.store(known.0 | REACHED, Ordering::Relaxed);
            Some((begin, known.size()))
        })
    }

    fn known_if_made(&self, state: &State, slot: Slot) -> Option<&AtomicU64> {
        (slot.group() < state.groups as usize).then(|| self.known(slot))
    }

    /// Objects in use, and the bytes that were asked for.
    pub(super) fn in_use(&self) -> (usize, usize) {
        self.state.with(|state| (state.live, state.bytes))
    }

    /// Memory for `size` bytes, aligned to `align`, which the region's slots have room for. `Ok(None)`: there is none.
    pub(super) fn alloc(&self, size: usize, align: usize, options: Options) -> Result<Option<usize>, Fault> {
        let mark = Mark::now();
        let taken = self.state.with(|state| {
            let Some(slot) = self.take(state) else { return Ok(None) };
            let begin = self.begin(slot);
            let known = Known(self.known(slot).load(Ordering::Relaxed));
            let end = begin + self.own;
            let address = if self.paged { (end - size) & !(align.max(16) - 1) } else { begin + self.lead };
            // SAFETY: the slot is this thread's, and open unless it is closed.
            unsafe {
                if self.index == 0 {
                    // Nothing of it may be touched.
                } else if known.is_closed() {
                    if !zone::reopen(begin, self.own) {
                        return Ok(None);
                    }
                } else if known.state() != FRESH || options.fills_with_zero() {
                    self.check_free(begin, known, (state.chance >> 32).is_multiple_of(16), options)?;
                }
            }
            if self.index != 0 {
                // SAFETY: as above. Under the lock: a free beside it looks at what stands around this object.
                unsafe { self.surround(begin, address, size) };
            }
            self.known(slot).store(Known::new(LIVE, address - begin, size).0, Ordering::Release);
            if let Some(track) = self.track(slot) {
                *track = Track::allocated(mark);
            }
            state.live += 1;
            state.bytes += size;
            Ok(Some(address))
        })?;
        let Some(address) = taken else { return Ok(None) };
        if self.index != 0 {
            // SAFETY: the object is this thread's.
            unsafe { options.fill_new(address, size) };
        }
        Ok(Some(address))
    }

    /// Frees the object at `address`; `size`: what it is said to have.
    pub(super) fn free(&self, address: usize, size: Option<usize>, options: Options) -> Result<(), Fault> {
        let mark = Mark::now();
        self.state.with(|state| {
            let (slot, begin, known) = self.find(state, address)?;
            if let Some(size) = size.filter(|size| *size != known.size()) {
                return Err(Fault::Size(size));
            }
            if self.index != 0 {
                // SAFETY: the lock is held, and the object is live.
                unsafe {
                    self.check_around(begin, address, known.size())?;
                    self.check_near(slot, begin, options)?;
                }
            }
            let closed = self.retire(state, begin, options);
            self.known(slot).store(known.with(HELD, closed).0, Ordering::Release);
            if let Some(track) = self.track(slot) {
                track.freed(mark);
            }
            state.live -= 1;
            state.bytes -= known.size();
            self.wait(state, slot);
            Ok(())
        })
    }

    /// Gives the object at `address` another size in place, if its slot has room and it uses half of that.
    pub(super) fn resize(&self, address: usize, size: usize) -> Result<bool, Fault> {
        self.state.with(|state| {
            let (slot, begin, known) = self.find(state, address)?;
            // SAFETY: the lock is held, and the object is live.
            unsafe {
                if self.index != 0 {
                    self.check_around(begin, address, known.size())?
                }
            }
            let room = begin + self.own - address - if self.paged { 0 } else { 8 };
            if self.index == 0 || size > room || size < room / 2 || (self.paged && size > known.size()) {
                return Ok(false);
            }
            // SAFETY: the slot is the caller's of `realloc`.
            unsafe {
                if size > known.size() {
                    core::ptr::write_bytes((address + known.size()) as *mut u8, 0, size - known.size());
                }
                self.surround(begin, address, size);
            }
            self.known(slot).store(Known::new(LIVE, address - begin, size).0, Ordering::Release);
            state.bytes = state.bytes + size - known.size();
            Ok(true)
        })
    }

    /// The live object that begins at `address`: its slot, where that begins, what is known of it.
    fn find(&self, state: &State, address: usize) -> Result<(Slot, usize, Known), Fault> {
        let slot = self.slot_of(address).ok_or(Fault::NotAnObject)?;
        let word = self.known_if_made(state, slot).ok_or(Fault::NotAnObject)?;
        let (begin, known) = (self.begin(slot), Known(word.load(Ordering::Relaxed)));
        match known.state() {
            FRESH => Err(Fault::NotAnObject),
            LIVE if begin + known.offset() == address => Ok((slot, begin, known)),
            LIVE => Err(Fault::Inside(begin + known.offset())),
            _ if begin + known.offset() == address => Err(Fault::Free),
            _ => Err(Fault::NotAnObject),
        }
    }

    /// Writes what stands around an object.
    ///
    /// # Safety
    /// The slot is the caller's.
    unsafe fn surround(&self, begin: usize, address: usize, size: usize) {
        let end = address + size;
        // SAFETY: the caller's promise.
        unsafe {
            fill::put_around(begin.max(address.saturating_sub(NEAR)), address);
            fill::put_around(end, begin + self.own);
            if end < begin + self.own {
                (end as *mut u8).write(fill::first_after());
            }
        }
    }

    /// # Safety
    /// The object is live, and the lock is held.
    unsafe fn check_around(&self, begin: usize, address: usize, size: usize) -> Result<(), Fault> {
        let (from, end) = (address + size, begin + self.own);
        // SAFETY: the caller's promise.
        unsafe {
            if from < end && (from as *const u8).read() != fill::first_after() {
                return Err(Fault::After(from));
            }
            if let Some(at) = fill::spoilt_around(from + 1, end) {
                return Err(Fault::After(at));
            }
            match fill::spoilt_around(begin.max(address.saturating_sub(NEAR)), address) {
                Some(at) => Err(Fault::Before(at)),
                None => Ok(()),
            }
        }
    }

    /// Looks at what lies near a slot, in slots beside it: the surroundings of live ones before it, and all of those
    /// that are free.
    ///
    /// # Safety
    /// As for `check_around`.
    unsafe fn check_near(&self, slot: Slot, begin: usize, options: Options) -> Result<(), Fault> {
        if self.paged {
            return Ok(());
        }
        let (place, reach) = (slot.place(), if self.own >= NEAR { 1 } else { NEAR / 16 });
        for other in place.saturating_sub(reach)..(place + reach + 1).min(self.slots) {
            if other == place {
                continue;
            }
            let start = begin - place * self.stride + other * self.stride;
            let known = Known(self.known(Slot::new(slot.group(), other)).load(Ordering::Relaxed));
            let from = start.max(begin.saturating_sub(NEAR));
            let to = (start + self.own).min(begin + self.own + NEAR);
            let beside = if other < place { Fault::Before } else { Fault::After };
            // SAFETY: the slots are of one group, which is open, for one of its is live.
            let found = unsafe {
                match known.state() {
                    LIVE => {
                        let end = start + known.offset() + known.size();
                        fill::spoilt_around(from.max(end + 1), to).map(beside)
                    }
                    _ if known.is_closed() => None,
                    FRESH => fill::spoilt_fill(from, to, 0).map(beside),
                    _ => options.spoilt_free(from, to, start + self.own).map(Fault::Stale),
                }
            };
            if let Some(fault) = found {
                return Err(fault);
            }
        }
        Ok(())
    }

    /// # Safety
    /// The slot is the caller's, free, and open.
    unsafe fn check_free(&self, begin: usize, known: Known, thoroughly: bool, options: Options) -> Result<(), Fault> {
        let end = begin + self.own;
        // SAFETY: the caller's promise.
        let spoilt = unsafe {
            match known.state() {
                // Long slots that nothing was taken of are not read.
                FRESH if self.own > PAGE => None,
                FRESH => fill::spoilt_fill(begin, end, 0),
                _ if self.own > PAGE && !thoroughly => (begin..end).step_by(PAGE).find_map(|page| {
                    options
                        .spoilt_free(page, page + LINE, end)
                        .or_else(|| options.spoilt_free(page + PAGE - LINE, page + PAGE, end))
                }),
                _ => options.spoilt_free(begin, end, end),
            }
        };
        spoilt.map_or(Ok(()), |at| Err(Fault::Stale(at)))
    }

    /// Fills or closes the memory of a slot that is freed; returns whether it is closed.
    fn retire(&self, state: &mut State, begin: usize, options: Options) -> bool {
        if self.index == 0 {
            return false;
        }
        state.frees = state.frees.wrapping_add(1);
        let now = state.frees <= OFTEN || state.frees.is_multiple_of(SELDOM);
        // SAFETY: the slot is the caller's of `free`, and nothing of it is needed.
        unsafe {
            if self.paged && now && zone::close(begin, self.own) {
                return true;
            }
            options.fill_free(begin, begin + self.own);
        }
        false
    }

    /// Puts a slot into quarantine. What comes out of it is free.
    fn wait(&self, state: &mut State, slot: Slot) {
        let chance = next(&mut state.chance);
        let Quarantine { places, line, at, len } = &mut state.quarantine;
        let place = ((chance >> 32) as usize * *len) >> 32;
        let out = core::mem::replace(&mut places[place], slot.0 + 1);
        if out == 0 {
            return;
        }
        let out = core::mem::replace(&mut line[*at], out);
        *at = if *at + 1 == *len { 0 } else { *at + 1 };
        if out != 0 {
            self.release(state, Slot(out - 1));
        }
    }

    /// Makes a slot free.
    fn release(&self, state: &mut State, slot: Slot) {
        let known = Known(self.known(slot).load(Ordering::Relaxed));
        self.known(slot).store(known.with(FREED, known.is_closed()).0, Ordering::Release);
        let (number, place) = (slot.group() as u32, slot.place());
        // SAFETY: the lock is held.
        let group = unsafe { self.group(number) };
        group.free[place / 64] |= 1 << (place % 64);
        group.left += 1;
        if group.left == 1 {
            group.next = state.partial;
            state.partial = number;
        }
    }

    /// Takes a free slot, by chance, of the first group that has one.
    fn take(&self, state: &mut State) -> Option<Slot> {
        if state.partial == NIL && !self.grow(state) {
            return None;
        }
        let number = state.partial;
        let chance = (next(&mut state.chance) >> 32) as usize;
        // SAFETY: the lock is held.
        let group = unsafe { self.group(number) };
        let first = (chance * self.slots) >> 32;
        let place = nth_free(&group.free, first).or_else(|| nth_free(&group.free, 0))?;
        group.free[place / 64] &= !(1 << (place % 64));
        group.left -= 1;
        if group.left == 0 {
            state.partial = group.next;
        }
        Some(Slot::new(number as usize, place))
    }

    /// Makes a group, with all of its slots free.
    fn grow(&self, state: &mut State) -> bool {
        let number = state.groups;
        let end = (number as usize + 1) * self.group;
        if end > self.len || (number as usize + 1) * GROUP_MAX >= u32::MAX as usize {
            return false;
        }
        if end > state.open && !self.open(state, end) {
            return false;
        }
        let begin = self.base + number as usize * self.group;
        // SAFETY: the lock is held, and the books of the group are open.
        unsafe {
            let group = self.group(number);
            for (word, bits) in group.free.iter_mut().enumerate() {
                let count = self.slots.saturating_sub(word * 64).min(64);
                *bits = if count == 64 { u64::MAX } else { (1 << count) - 1 };
            }
            (group.left, group.next) = (self.slots as u32, NIL);
            if self.index != 0 && self.paged {
                (0..self.slots).for_each(|slot| guard(begin + slot * self.stride + self.own));
            } else if self.index != 0 {
                guard(begin + self.group - PAGE);
            }
        }
        state.groups += 1;
        state.partial = number;
        true
    }

    /// Opens the region up to `end`, or somewhat further, and the books of what is opened.
    fn open(&self, state: &mut State, end: usize) -> bool {
        let more = state.open.clamp(OPEN_LEAST, OPEN_MOST);
        let to = end.max(state.open + more).next_multiple_of(self.group).next_multiple_of(PAGE).min(self.len);
        let groups = |bytes: usize| bytes / self.group + 1;
        let (before, after) = (groups(state.open), groups(to));
        let fresh = state.open == 0;
        let part = |at: usize, each: usize| {
            let from = if fresh { 0 } else { (before * each).next_multiple_of(PAGE) };
            let until = (after * each).next_multiple_of(PAGE);
            // SAFETY: the books are this region's.
            until <= from || unsafe { zone::open(at + from, until - from) }
        };
        let tracks = self.tracks == 0 || part(self.tracks, self.slots * size_of::<Track>());
        let books = tracks && part(self.words, self.slots * 8) && part(self.groups, size_of::<Group>());
        // SAFETY: the region is this one's; that of objects without bytes stays closed.
        let opened = self.index == 0 || unsafe { zone::open(self.base + state.open, to - state.open) };
        if books && opened {
            state.open = to;
        }
        books && opened
    }

    /// Calls `visit` with each live object: where it begins, how many bytes were asked for, whether a search found it,
    /// and who allocated it.
    pub(super) fn for_each_live(&self, mut visit: impl FnMut(usize, usize, bool, Mark)) {
        let groups = self.state.with(|state| state.groups) as usize;
        for slot in (0..groups).flat_map(|group| (0..self.slots).map(move |place| Slot::new(group, place))) {
            let (known, track) = self.state.with(|_| {
                (Known(self.known(slot).load(Ordering::Relaxed)), self.track(slot).copied().unwrap_or_default())
            });
            if known.state() == LIVE {
                visit(self.begin(slot) + known.offset(), known.size(), known.0 & REACHED != 0, track.allocated);
            }
        }
    }

    /// Forgets what searches found.
    pub(super) fn forget_search(&self) {
        self.state.with(|state| {
            for group in 0..state.groups as usize {
                for place in 0..self.slots {
                    self.known(Slot::new(group, place)).fetch_and(!REACHED, Ordering::Relaxed);
                }
            }
        });
    }
}

/// Lets no access reach a page of its own: without a mapping more where the kernel can, else with two.
///
/// # Safety
/// The page is the checked heap's, and holds nothing.
unsafe fn guard(page: usize) {
    // SAFETY: the caller's promise. Where there are too many mappings the page stays open.
    unsafe {
        if !zone::close(page, PAGE) {
            let _ = crate::os::sys::mprotect(page, PAGE, crate::os::sys::PROT_NONE);
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

/// The next number of a sequence that nobody outside can foresee who does not know its state (xorshift64*).
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D)
}
