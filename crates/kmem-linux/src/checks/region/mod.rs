//! A region: slots of one length, carved from groups, with what is known of each slot in the books.
//!
//! | file | what it holds |
//! |---|---|
//! | `layout` | where slots lie |
//! | `books` | what is known of each slot, and which are free |
//! | `quarantine` | slots that were freed and are not free yet |
//! | `around` | what stands around objects, and who looks at it |
//! | `state` | what happens to slots, under the region's lock |
//!
//! A freed slot waits in quarantine before it is free. Its memory is filled meanwhile, and looked at when it is handed
//! out again: what was written to it shows. Large slots, and others the first times and now and then, are closed
//! instead, so that an access ends the program there.
//!
//! All that changes is under the region's lock, the layout too: a region serves another cache after its own is gone,
//! while other threads may ask it about stray addresses, count what is in use, or fork.

mod around;
mod books;
mod layout;
mod quarantine;
mod state;

use kmem_core::sync::{AtomicUsize, Ordering, Word};

use self::books::Known;
pub(super) use self::books::{FRESH, LIVE};
pub(super) use self::layout::Shape;
use self::layout::Slot;
pub(super) use self::state::Name;
use self::state::State;
use super::form::Form;
use super::lock::Locked;
use super::options::Options;
use super::track::{Mark, Track};
use super::zone;

/// Allocations of a region that go to pages of their own: so many first ones, and one in so many others.
const SAMPLED_FIRST: usize = 16;
const SAMPLED: usize = 1024;

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
    /// The object is of this form, which is freed by another function.
    Form(Form),
    /// Something was written here, after the object.
    After(usize),
    /// Something was written here, before the object.
    Before(usize),
    /// Something was written here, to memory that is free.
    Stale(usize),
}

/// A region, in a mapping of its own: what it holds is as long as a frame of a small stack should not be, so it is made
/// in its place, of zeros.
pub(super) struct Region {
    pub(super) index: usize,
    state: Locked<State>,
    /// 1 if it serves a named cache.
    claimed: AtomicUsize,
    /// How often an object was asked for.
    taken: AtomicUsize,
}

impl Region {
    /// Makes a region of which nothing was taken, at an address.
    ///
    /// # Safety
    /// The address is that of a mapping of zeros, long enough, which is the caller's and stays.
    pub(super) unsafe fn make(place: *mut Self, index: usize, name: &str, shape: Shape, seed: u64) -> &'static Self {
        // SAFETY: the caller's promise; a region may be all zero.
        let region = unsafe {
            (&raw mut (*place).index).write(index);
            &*place
        };
        region.state.with(|state| state.chance = seed | 1);
        region.begin(name, shape);
        region
    }

    /// Begins anew, for a cache, with nothing taken.
    pub(super) fn begin(&self, name: &str, shape: Shape) {
        self.state.with(|state| state.begin(self.index, name, shape));
        self.taken.store(0, Ordering::Relaxed);
    }

    /// Ends what a cache that is gone had here: no address of the region is an object's, or may be touched; `false`:
    /// the kernel refused, and the region must not serve another cache.
    pub(super) fn end(&self) -> bool {
        self.state.with(|state| {
            state.end(self.index);
            // SAFETY: the lock is held, and nothing says any longer that a slot was made.
            unsafe { zone::recycle(self.index) }
        })
    }

    /// Makes the region the caller's, if it is no other cache's.
    pub(super) fn claim(&self) -> bool {
        self.claimed.swap(1, Ordering::AcqRel) == 0
    }

    /// Lets another cache claim it.
    pub(super) fn give_up(&self) {
        self.claimed.store(0, Ordering::Release);
    }

    /// Whether an allocation is one of those that go to the [pool](super::pool): the first ones, and some later.
    pub(super) fn is_sampled(&self) -> bool {
        // Not counted atomically: what is lost only moves the next one.
        let before = self.taken.load(Ordering::Relaxed);
        self.taken.store(before.wrapping_add(1), Ordering::Relaxed);
        before < SAMPLED_FIRST || before.is_multiple_of(SAMPLED)
    }

    /// The word of the lock, for fork.
    pub(super) fn word(&self) -> &Word {
        &self.state.word
    }

    pub(super) fn name(&self) -> Name {
        self.state.with(|state| state.name)
    }

    /// Objects in use, and the bytes that were asked for.
    pub(super) fn in_use(&self) -> (usize, usize) {
        self.state.with(|state| (state.live, state.bytes))
    }

    /// What is known of the slot that an address of the region is in, and where its object begins.
    pub(super) fn look(&self, address: usize) -> Option<(usize, Known)> {
        self.state.with(|state| {
            let slot = state.layout.slot_of(address)?;
            let known = state.books.known_if_made(slot)?;
            Some((state.layout.begin(slot) + known.offset(), known))
        })
    }

    /// Who allocated and who freed the object of the slot that an address is in, as far as that is noted.
    pub(super) fn track_of(&self, address: usize) -> Track {
        self.state.with(|state| {
            let slot = state.layout.slot_of(address).filter(|slot| state.books.known_if_made(*slot).is_some());
            slot.and_then(|slot| state.books.track(slot).copied()).unwrap_or_default()
        })
    }

    /// The form of the live object that begins at `address`; one that has `from` has `to` afterwards.
    pub(super) fn turn(&self, address: usize, from: Form, to: Form) -> Option<Form> {
        self.state.with(|state| state.turn(address, from, to))
    }

    /// Notes that a search found the live object that an address is in; returns it where it was not found before.
    pub(super) fn reach(&self, address: usize) -> Option<(usize, usize)> {
        self.state.with(|state| {
            let slot = state.layout.slot_of(address)?;
            let known = state.books.known_if_made(slot)?;
            let begin = state.layout.begin(slot) + known.offset();
            let inside = address >= begin && address - begin < known.size().max(1);
            if known.state() != LIVE || !inside || known.is_reached() {
                return None;
            }
            state.books.set(slot, known.reached(true));
            Some((begin, known.size()))
        })
    }

    /// Memory for `size` bytes, aligned to `align`, which the region's slots have room for. `Ok(None)`: there is none.
    pub(super) fn alloc(&self, size: usize, align: usize, options: Options) -> Result<Option<usize>, Fault> {
        let mark = Mark::now();
        let address = self.state.with(|state| state.alloc(size, align, mark, options))?;
        if let Some(address) = address
            && self.index != 0
        {
            // SAFETY: the object is this thread's.
            unsafe { options.fill_new(address, size) };
        }
        Ok(address)
    }

    /// Frees the object at `address`; `size`: what it is said to have.
    pub(super) fn free(&self, address: usize, size: Option<usize>, options: Options) -> Result<(), Fault> {
        let mark = Mark::now();
        self.state.with(|state| state.free(address, size, mark, options))
    }

    /// Gives the object at `address` another size in place, if its slot has room and it uses half of that.
    pub(super) fn resize(&self, address: usize, size: usize, options: Options) -> Result<bool, Fault> {
        self.state.with(|state| state.resize(address, size, options))
    }

    /// Calls `visit` with each live object: where it begins, how many bytes were asked for, whether a search found it,
    /// and who allocated it.
    pub(super) fn for_each_live(&self, mut visit: impl FnMut(usize, usize, bool, Mark)) {
        let (groups, slots) = self.state.with(|state| (state.books.made(), state.layout.slots));
        for slot in (0..groups).flat_map(|group| (0..slots).map(move |place| Slot::new(group, place))) {
            let found = self.state.with(|state| {
                let known = state.books.known_if_made(slot).filter(|known| known.state() == LIVE)?;
                let track = state.books.track(slot).copied().unwrap_or_default();
                Some((state.layout.begin(slot) + known.offset(), known, track))
            });
            if let Some((address, known, track)) = found {
                visit(address, known.size(), known.is_reached(), track.allocated);
            }
        }
    }

    /// Forgets what searches found.
    pub(super) fn forget_search(&self) {
        self.state.with(|state| {
            for slot in state.slots() {
                let known = state.books.known(slot);
                state.books.set(slot, known.reached(false));
            }
        });
    }
}
