//! The checked heap: memory whose every allocation and free is looked at.
//!
//! It serves instead of the engine's caches where the environment or the build asks for it (`options`), and only on
//! slow paths. A cache that it serves has no slots, ever: the engine enables a slot when it misses, and the checked
//! heap takes over before the engine is asked. So there is no branch on a fast path, and where nothing is checked
//! nothing costs anything.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | what is checked, and of which caches |
//! | `heap` | the regions, and which requests and caches they serve |
//! | `general`, `named` | memory without a name, and caches that have names |
//! | `zone` | address space: regions, and the books about them |
//! | `region` | slots of one length: handed out, freed, looked at |
//! | `large` | large objects, between guards |
//! | `pool` | objects on pages of their own, by sampling |
//! | `form` | which function allocated an object, and which may free it |
//! | `fill` | what stands in memory that no object uses |
//! | `track` | who allocated and who freed |
//! | `leaks` | what nothing leads to any longer |
//! | `place`, `report`, `signal` | what is said of a fault that is found, and of one that the processor finds |
//! | `lock` | what guards all of these |

mod fill;
mod form;
mod general;
mod heap;
mod large;
mod leaks;
mod lock;
mod named;
mod options;
mod place;
mod pool;
mod region;
mod report;
mod signal;
mod track;
mod zone;

use kmem_core::sync::{AtomicU32, Ordering, OtherFirst, Word};

pub use self::form::{Form, allocated_as, freed_as};
pub use self::general::check_size;
pub(crate) use self::general::{alloc, bad_free, free, is_zero, realloc, refuse, usable_size};
use self::heap::heap_if_on;
pub(crate) use self::named::{adopt, alloc_in, begin_destroy, covers, free_in, live_in};
use self::options::Options;
use self::zone::{PAGE, REGIONS};
use crate::os::geometry::page;
use crate::os::sys;
use crate::watched;

/// 1 if anything is checked.
pub static ON: AtomicU32 = AtomicU32::new(0);

/// What the program starts with, once libc can be asked: the handler of faults, and the unwinder.
#[cold]
pub(crate) fn at_start() {
    if are_on() {
        if Options::chosen().notes_users() || !Options::chosen().is_secure() {
            crate::stack::prepare();
        }
        signal::begin();
    }
}

/// Whether anything is checked.
#[inline(always)]
pub(crate) fn are_on() -> bool {
    ON.load(Ordering::Relaxed) != 0
}

/// Reads what is wanted, and makes the checked heap if it is. Called once, before the engine is published.
#[cold]
pub(crate) fn begin() {
    let (options, rate) = (options::read(), options::rate());
    if page() != PAGE {
        if options.any() || rate > 0 {
            sys::report(&["kmem: memory can be checked only where pages have 4 KiB: it is served unchecked"]);
        }
        return;
    }
    if options.is_secure() || rate > 0 {
        pool::begin(rate);
        ON.store(1, Ordering::Release);
        watched::set(watched::CHECKED);
    }
    if !options.any() {
        return;
    }
    if !heap::make(options) {
        return sys::report(&["kmem: there is no address space to check memory in: it is served unchecked"]);
    }
    ON.store(1, Ordering::Release);
    watched::set(watched::CHECKED);
}

/// Objects and bytes in use in the checked heap: those of slots, and large ones.
pub(crate) fn in_use() -> [(usize, usize); 2] {
    let Some(heap) = heap_if_on() else { return [(0, 0); 2] };
    let mut small = (0, 0);
    for region in (0..REGIONS).filter_map(|index| heap.region(index)) {
        let (objects, bytes) = region.in_use();
        small = (small.0 + objects, small.1 + bytes);
    }
    let (bytes, objects) = large::in_use();
    [small, (objects, bytes)]
}

/// Calls `visit` with the word of every lock.
///
/// # Safety
/// As for [`Park::for_each_word`](kmem_core::platform::Park::for_each_word).
pub(crate) unsafe fn for_each_word(mut visit: impl FnMut(&Word) -> Result<(), OtherFirst>) -> Result<(), OtherFirst> {
    if !are_on() {
        return Ok(());
    }
    heap::for_each_word(&mut visit)?;
    [large::word(), pool::word(), track::word()].into_iter().try_for_each(visit)
}
