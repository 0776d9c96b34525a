//! What is said of a fault, on standard error, before the program ends.
//!
//! First a line that says all in short; then, in the manner of the kernel's allocator, what the object is, which bytes
//! are there, where this was noticed, and who allocated and who freed the object, if that was noted. An address of code
//! is given with the file that it is in and its place there, `(file+0x1234)`, which `kmem symbolize` turns into a
//! function, a file and a line.

use kmem_core::sync::{AtomicUsize, Ordering};

use super::fill;
use super::options::Options;
use super::place::{Place, covering};
use super::region::Fault;
use super::track::{self, Mark};
use crate::os::sys;
use crate::os::text::{decimal, hexadecimal};
use crate::rseq::thread_data;
use crate::stack;

/// The thread that reports, by its pointer; 0: none does.
static REPORTER: AtomicUsize = AtomicUsize::new(0);
/// How long a thread waits for another's report, in naps of so many nanoseconds: in the child of a fork there may be no
/// such thread.
const NAPS: u32 = 1000;
const NAP: u64 = 1_000_000;

/// Whether this thread reports.
pub(super) fn is_mine(me: usize) -> bool {
    REPORTER.load(Ordering::Relaxed) == me
}

/// Makes the calling thread the one that reports, so that no two reports mix; `false`: it is already, because the
/// report met a fault itself.
fn enter() -> bool {
    let me = thread_data::pointer();
    for _ in 0..NAPS {
        match REPORTER.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(reporter) if reporter == me => return false,
            Err(_) => sys::sleep(NAP),
        }
    }
    REPORTER.store(me, Ordering::Relaxed);
    true
}

fn leave() {
    REPORTER.store(0, Ordering::Release);
}

const RULE: &str = "=============================================================================";

/// Says what is wrong, and ends the program.
#[cold]
#[inline(never)]
pub(super) fn fault(what: &str, address: usize, fault: Fault) -> ! {
    enter();
    let details = Options::chosen().notes_users() || !Options::chosen().is_secure();
    let at = match fault {
        Fault::After(at) | Fault::Before(at) | Fault::Stale(at) => Some(at),
        _ => None,
    };
    let place = covering(match fault {
        Fault::Stale(at) => at,
        _ => address,
    });
    if details {
        sys::report(&[RULE]);
    }
    headline(what, address, fault, place);
    if details {
        if let Some(place) = place {
            describe(place, at);
        }
        here();
        if let Some(place) = place {
            users(place);
        }
        sys::report(&[RULE]);
    }
    leave();
    sys::end()
}

/// The line that says all in short.
#[inline(never)]
fn headline(what: &str, address: usize, fault: Fault, place: Option<Place>) {
    let (mut first, mut second) = ([0; 18], [0; 18]);
    let cache = place.as_ref().map_or("", Place::cache);
    let pointer = hexadecimal(address, &mut first);
    let (text, at) = match fault {
        Fault::NotAnObject => {
            (", which is not the beginning of anything that kmem handed out (foreign, interior or stale pointer)", 0)
        }
        Fault::Inside(begin) => (", which is inside of the object at ", begin),
        Fault::OtherCache => (", which is not an object of this cache (wrong cache)", 0),
        Fault::Free if what == "free" => (", which is free already (double free)", 0),
        Fault::Free => (", which is free (use after free)", 0),
        Fault::Size(_) => (" with a size that it does not have (wrong size)", 0),
        Fault::Form(form) => {
            let cache = [cache, if cache.is_empty() { "" } else { ": " }];
            let text = [what, " of ", pointer, ", which ", form.name(), " allocated (alloc-dealloc mismatch)"];
            return sys::report(&[
                "kmem: BUG ",
                cache[0],
                cache[1],
                text[0],
                text[1],
                text[2],
                text[3],
                text[4],
                text[5],
            ]);
        }
        Fault::After(at) => (": memory after it was overwritten (overflow), at ", at),
        Fault::Before(at) => (": memory before it was overwritten (underflow), at ", at),
        Fault::Stale(at) => {
            return sys::report(&[
                "kmem: BUG ",
                cache,
                ": freed memory was written to (use after free), at ",
                hexadecimal(at, &mut second),
            ]);
        }
    };
    let at = if at == 0 { "" } else { hexadecimal(at, &mut second) };
    sys::report(&["kmem: BUG ", cache, if cache.is_empty() { "" } else { ": " }, what, " of ", pointer, text, at]);
}

/// The object, and the bytes where something was written.
#[inline(never)]
fn describe(place: Place, at: Option<usize>) {
    let (mut first, mut second, mut third) = ([0; 18], [0; 20], [0; 18]);
    let state = if place.live { " bytes, in use" } else { " bytes, free" };
    sys::report(&["Object ", hexadecimal(place.address, &mut first), ": ", decimal(place.size, &mut second), state]);
    if let Some(at) = at {
        // SAFETY: the byte was just read.
        let (found, wanted) = (unsafe { (at as *const u8).read() }, fill::expected(at, place.address + place.size));
        let (mut have, mut want) = ([0; 18], [0; 18]);
        let wanted = if place.live { wanted } else { Options::chosen().free_byte() };
        sys::report(&[
            "First byte at ",
            hexadecimal(at, &mut third),
            ": ",
            hexadecimal(found.into(), &mut have),
            " instead of ",
            hexadecimal(wanted.into(), &mut want),
        ]);
        bytes("Bytes  ", at & !15);
    }
    if place.readable && place.size > 0 {
        bytes("Object ", place.address);
    }
}

/// Sixteen bytes from an address on, which are on one page with it.
#[inline(never)]
fn bytes(what: &str, at: usize) {
    let count = (16 - at % 16).min(16);
    let mut text = [b' '; 48];
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for index in 0..count {
        // SAFETY: the first of them was read, or is an object's, and the others are beside it.
        let byte = unsafe { ((at + index) as *const u8).read() };
        text[3 * index] = DIGITS[usize::from(byte >> 4)];
        text[3 * index + 1] = DIGITS[usize::from(byte & 15)];
    }
    let mut place = [0; 18];
    let text = core::str::from_utf8(&text[..3 * count - 1]).unwrap_or("");
    sys::report(&[what, hexadecimal(at, &mut place), ": ", text]);
}

/// The calls that led here.
#[inline(never)]
fn here() {
    let mut frames = [0; track::FRAMES];
    let count = stack::capture(&mut frames);
    if count > 0 {
        sys::report(&["Noticed by"]);
        frames[..count].iter().for_each(|frame| code(*frame));
    }
}

/// Who allocated and who freed an object.
#[inline(never)]
fn users(place: Place) {
    user("Allocated by", place.track.allocated);
    user("Freed by", place.track.freed);
}

#[inline(never)]
pub(super) fn user(what: &str, mark: Mark) {
    if mark.thread == 0 {
        return;
    }
    let (mut thread, mut cpu, mut at) = ([0; 20], [0; 20], [0; 20]);
    sys::report(&[
        what,
        " thread ",
        decimal(mark.thread as usize, &mut thread),
        ", CPU ",
        decimal(mark.cpu as usize, &mut cpu),
        ", at ",
        decimal(mark.at as usize, &mut at),
        " ms",
    ]);
    track::frames(mark.stack).iter().for_each(|frame| code(*frame));
}

/// A place in code: the address, the symbol if it is known, and file and offset.
#[inline(never)]
pub(super) fn code(address: usize) {
    let known = stack::known(address);
    let (mut pointer, mut offset, mut into) = ([0; 18], [0; 18], [0; 18]);
    let within = hexadecimal(address.wrapping_sub(known.base), &mut offset);
    let place = hexadecimal(address.wrapping_sub(known.begin), &mut into);
    let (plus, place) = if known.symbol.is_empty() { ("", "") } else { ("+", place) };
    let pointer = hexadecimal(address, &mut pointer);
    sys::report(&["    ", pointer, " ", known.symbol, plus, place, " (", known.file, "+", within, ")"]);
}

/// Says what an address belongs to that was touched and must not be, if it is the checked heap's.
#[cold]
#[inline(never)]
pub(super) fn access(address: usize) {
    if enter() {
        if let Some(place) = covering(address) {
            touched(address, place);
        }
        leave();
    }
}

#[inline(never)]
fn touched(address: usize, place: Place) {
    let (mut first, mut second, mut third) = ([0; 18], [0; 18], [0; 20]);
    let end = place.address + place.size;
    let what = match place.live {
        false => ", which is part of freed memory (use after free): ",
        true if address >= end => ", which is after an object (overflow): ",
        true if address < place.address => ", which is before an object (underflow): ",
        true => ": ",
    };
    sys::report(&[
        "kmem: BUG ",
        place.cache(),
        ": access to ",
        hexadecimal(address, &mut first),
        what,
        decimal(place.size, &mut third),
        " bytes at ",
        hexadecimal(place.address, &mut second),
    ]);
    here();
    users(place);
}

/// An object that is in use, and who allocated it.
#[cold]
#[inline(never)]
pub(super) fn live(address: usize, size: usize, mark: Mark) {
    let (mut first, mut second) = ([0; 18], [0; 20]);
    sys::report(&["Object ", hexadecimal(address, &mut first), ": ", decimal(size, &mut second), " bytes, in use"]);
    user("Allocated by", mark);
}

/// A line for each allocation and each free.
#[cold]
#[inline(never)]
pub(super) fn trace(what: &str, address: usize, size: usize) {
    let (mut first, mut second, mut third) = ([0; 18], [0; 20], [0; 20]);
    let place = covering(address);
    sys::report(&[
        "kmem: TRACE ",
        place.as_ref().map_or("", Place::cache),
        what,
        hexadecimal(address, &mut first),
        " ",
        decimal(size, &mut second),
        " bytes, thread ",
        decimal(sys::gettid(), &mut third),
    ]);
}
