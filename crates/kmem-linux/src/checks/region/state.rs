//! What a region is at present, and what happens to its slots. All of it is under the region's lock.

use super::super::form::Form;
use super::super::heap::AROUND;
use super::super::options::Options;
use super::super::track::{Mark, Track};
use super::super::zone::{self, PAGE};
use super::books::{Books, FRESH, HELD, Known, LIVE};
use super::layout::{GROUP_MAX, Layout, Shape, Slot};
use super::quarantine::Quarantine;
use super::{Fault, around};
use crate::os::sys::{PROT_NONE, mprotect};

/// Bytes that are opened at a time, at least and at most.
const OPEN_LEAST: usize = 64 << 10;
const OPEN_MOST: usize = 512 << 10;
/// Slots of pages are closed when they are freed: the first times, and one in so many times.
const OFTEN: u32 = 64;
const SELDOM: u32 = 128;
/// The beginning of a cache's name.
#[derive(Clone, Copy)]
pub(in super::super) struct Name {
    bytes: [u8; 40],
    len: usize,
}

impl Name {
    fn of(name: &str) -> Self {
        let (mut bytes, len) = ([0; 40], name.len().min(40));
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self { bytes, len }
    }

    pub(in super::super) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?")
    }
}

/// What a region is at present. All zero: nothing yet.
pub(super) struct State {
    pub(super) layout: Layout,
    pub(super) books: Books,
    pub(super) name: Name,
    /// Bytes that are open.
    open: usize,
    pub(super) chance: u64,
    /// How often slots were freed, for those that are closed now and then.
    frees: u32,
    /// Objects in use, and bytes that were asked for.
    pub(super) live: usize,
    pub(super) bytes: usize,
    quarantine: Quarantine,
}

impl State {
    /// Begins anew, for a cache, with nothing taken.
    pub(super) fn begin(&mut self, index: usize, name: &str, shape: Shape) {
        self.layout = Layout::new(index, shape);
        self.name = Name::of(name);
        self.frees = 0;
        self.end(index);
        self.quarantine.begin(self.layout.stride, shape.patient);
    }

    /// Forgets all slots.
    pub(super) fn end(&mut self, index: usize) {
        self.books = Books::new(index, self.layout.slots);
        (self.open, self.live, self.bytes) = (0, 0, 0);
        self.quarantine.begin(self.layout.stride, false);
    }

    /// The slots of all groups that were made.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        let slots = self.layout.slots;
        (0..self.books.made()).flat_map(move |group| (0..slots).map(move |place| Slot::new(group, place)))
    }

    /// The live object that begins at `address`: its slot, where that begins, what is known of it.
    fn find(&self, address: usize) -> Result<(Slot, usize, Known), Fault> {
        let slot = self.layout.slot_of(address).ok_or(Fault::NotAnObject)?;
        let known = self.books.known_if_made(slot).ok_or(Fault::NotAnObject)?;
        let begin = self.layout.begin(slot);
        match known.state() {
            FRESH => Err(Fault::NotAnObject),
            LIVE if begin + known.offset() == address => Ok((slot, begin, known)),
            LIVE => Err(Fault::Inside(begin + known.offset())),
            _ if begin + known.offset() == address => Err(Fault::Free),
            _ => Err(Fault::NotAnObject),
        }
    }

    /// As [`Region::alloc`](super::Region::alloc).
    pub(super) fn alloc(
        &mut self,
        size: usize,
        align: usize,
        mark: Mark,
        options: Options,
    ) -> Result<Option<usize>, Fault> {
        let Some(slot) = self.take() else { return Ok(None) };
        let (begin, known) = (self.layout.begin(slot), self.books.known(slot));
        let address = self.layout.place(begin, size, align);
        if !self.layout.is_closed {
            // SAFETY: the slot is this thread's, and open unless it is closed. Under the lock, because a free beside it
            // looks at what stands around this object.
            unsafe {
                if known.is_closed() {
                    if !zone::reopen(begin, self.layout.own) {
                        self.books.release(slot);
                        return Ok(None);
                    }
                } else if known.state() != FRESH || options.fills_with_zero() {
                    let thoroughly = (self.chance >> 32).is_multiple_of(16);
                    around::check_free(&self.layout, begin, known, thoroughly, options)?;
                }
                around::surround(&self.layout, begin, address, size);
            }
        }
        self.books.set(slot, Known::live(address - begin, size));
        if let Some(track) = self.books.track(slot) {
            *track = Track::allocated(mark);
        }
        self.live += 1;
        self.bytes += size;
        Ok(Some(address))
    }

    /// As [`Region::free`](super::Region::free).
    pub(super) fn free(
        &mut self,
        address: usize,
        size: Option<usize>,
        mark: Mark,
        options: Options,
    ) -> Result<(), Fault> {
        let (slot, begin, known) = self.find(address)?;
        if let Some(size) = size.filter(|size| *size != known.size()) {
            return Err(Fault::Size(size));
        }
        if known.form() != Form::Malloc {
            return Err(Fault::Form(known.form()));
        }
        if !self.layout.is_closed {
            // SAFETY: the lock is held, and the object is live.
            unsafe {
                around::check_around(&self.layout, begin, address, known.size())?;
                around::check_near(&self.layout, &self.books, slot, options)?;
            }
        }
        let closed = self.retire(begin, options);
        self.books.set(slot, known.with(HELD, closed));
        if let Some(track) = self.books.track(slot) {
            track.freed(mark);
        }
        self.live -= 1;
        self.bytes -= known.size();
        let chance = self.chance();
        if let Some(out) = self.quarantine.exchange(slot, chance) {
            self.books.release(out);
        }
        Ok(())
    }

    /// As [`Region::turn`](super::Region::turn).
    pub(super) fn turn(&mut self, address: usize, from: Form, to: Form) -> Option<Form> {
        let (slot, _, known) = self.find(address).ok()?;
        if known.form() == from {
            self.books.set(slot, known.of_form(to));
        }
        Some(known.form())
    }

    /// As [`Region::resize`](super::Region::resize).
    pub(super) fn resize(&mut self, address: usize, size: usize, options: Options) -> Result<bool, Fault> {
        let (slot, begin, known) = self.find(address)?;
        if self.layout.is_closed {
            return Ok(false);
        }
        // SAFETY: the lock is held, and the object is live.
        unsafe { around::check_around(&self.layout, begin, address, known.size())? };
        let room = begin + self.layout.own - address - if self.layout.paged { 0 } else { AROUND };
        let old = known.size();
        if size > room || size < room / 2 || (self.layout.paged && size > old) {
            return Ok(false);
        }
        // SAFETY: the slot is that of the caller of `realloc`.
        unsafe {
            if size > old {
                // What stood around the object is not for the program to read.
                core::ptr::write_bytes((address + old) as *mut u8, 0, size - old);
                options.fill_new(address + old, size - old);
            }
            around::surround(&self.layout, begin, address, size);
        }
        self.books.set(slot, Known::live(address - begin, size));
        self.bytes = self.bytes + size - old;
        Ok(true)
    }

    /// Fills or closes the memory of a slot that is freed; returns whether it is closed.
    fn retire(&mut self, begin: usize, options: Options) -> bool {
        let own = self.layout.own;
        if self.layout.is_closed {
            return false;
        }
        self.frees = self.frees.wrapping_add(1);
        let now = self.frees <= OFTEN || self.frees.is_multiple_of(SELDOM);
        // SAFETY: the slot is that of the caller of `free`, and nothing of it is needed.
        unsafe {
            if self.layout.paged && now && zone::close(begin, own) {
                return true;
            }
            options.fill_free(begin, begin + own);
        }
        false
    }

    /// The next of the numbers that no program can foresee which does not know their state (xorshift64*).
    fn chance(&mut self) -> u32 {
        self.chance ^= self.chance >> 12;
        self.chance ^= self.chance << 25;
        self.chance ^= self.chance >> 27;
        (self.chance.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }

    /// Takes a free slot, by chance.
    fn take(&mut self) -> Option<Slot> {
        if !self.books.have_free() && !self.grow() {
            return None;
        }
        let chance = self.chance();
        self.books.take(chance)
    }

    /// Makes a group.
    fn grow(&mut self) -> bool {
        let number = self.books.made();
        let (layout, end) = (self.layout, (number + 1) * self.layout.group);
        if end > layout.len || (number + 1) * GROUP_MAX >= u32::MAX as usize || (end > self.open && !self.open(end)) {
            return false;
        }
        let begin = layout.base + number * layout.group;
        self.books.add_group();
        if !layout.is_closed {
            // SAFETY: the pages are the new group's, and no slot's.
            unsafe {
                match layout.paged {
                    true => (0..layout.slots).for_each(|slot| guard(begin + slot * layout.stride + layout.own)),
                    false => guard(begin + layout.group - PAGE),
                }
            }
        }
        true
    }

    /// Opens the region up to `end`, or somewhat further, and the books of what is opened.
    fn open(&mut self, end: usize) -> bool {
        let (layout, open) = (self.layout, self.open);
        let more = open.clamp(OPEN_LEAST, OPEN_MOST);
        let to = end.max(open + more).next_multiple_of(layout.group).next_multiple_of(PAGE).min(layout.len);
        let groups = |bytes: usize| bytes / layout.group + 1;
        let books = self.books.open(groups(open), groups(to), open == 0);
        // SAFETY: the region is this one's; that of objects without bytes stays closed.
        let opened = books && (layout.is_closed || unsafe { zone::open(layout.base + open, to - open) });
        if opened {
            self.open = to;
        }
        opened
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
            let _ = mprotect(page, PAGE, PROT_NONE);
        }
    }
}
