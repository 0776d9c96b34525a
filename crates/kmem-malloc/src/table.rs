//! The slab table: what each cache holds, on stderr, without formatting machinery.
//!
//! Well-behaved programs close stderr before they end, to notice write errors. So a copy of it is made when the library
//! is loaded, out of the way of the descriptors that programs count on, and not passed on to what they exec.

use core::ffi::{CStr, c_char, c_int};

use kmem_core::stats::CacheStats;
use kmem_core::sync::{AtomicUsize, Ordering};
use kmem_linux::os::sys;

const STDERR: usize = 2;
/// Copies of descriptors get a number from here on.
const OUT_OF_THE_WAY: usize = 200;
/// No table is wanted.
const NOWHERE: usize = usize::MAX;

static OUT: AtomicUsize = AtomicUsize::new(NOWHERE);

/// A table is wanted at the end: keeps a copy of stderr for it.
pub fn keep_stderr() {
    // SAFETY: it is standard error.
    let copy = unsafe { sys::duplicate(STDERR, OUT_OF_THE_WAY) }.unwrap_or(STDERR);
    OUT.store(copy, Ordering::Relaxed);
}
/// Columns of figures after the name, each of this width.
const WIDTH: usize = 12;
const NAME: usize = 24;

/// One line, padded by hand.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self { bytes: [b' '; 256], len: 0 }
    }

    fn left(&mut self, text: &str, width: usize) -> &mut Self {
        let kept = text.len().min(width);
        self.bytes[self.len..self.len + kept].copy_from_slice(&text.as_bytes()[..kept]);
        self.len += width;
        self
    }

    fn right(&mut self, text: &str) -> &mut Self {
        self.len += WIDTH;
        let start = self.len - text.len().min(WIDTH - 1);
        self.bytes[start..self.len].copy_from_slice(&text.as_bytes()[..self.len - start]);
        self
    }

    fn figure(&mut self, number: usize) -> &mut Self {
        let mut digits = [0; 20];
        self.right(decimal(number, &mut digits))
    }

    fn print(&mut self) {
        self.bytes[self.len] = b'\n';
        // Nobody could be told that stderr is closed.
        // SAFETY: it is the copy of standard error that was made for this, or no descriptor at all.
        let _ = unsafe { sys::write(OUT.load(Ordering::Relaxed), &self.bytes[..=self.len]) };
    }
}

/// The digits of a number.
#[cold]
pub fn decimal(number: usize, into: &mut [u8; 20]) -> &str {
    let mut at = into.len();
    let mut rest = number;
    loop {
        at -= 1;
        into[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    core::str::from_utf8(&into[at..]).unwrap_or("?")
}

#[derive(Default)]
struct Sum {
    in_use: usize,
    cached: usize,
    free: usize,
    empty: usize,
    slabs: usize,
}

#[link(name = "c")]
unsafe extern "C" {
    static program_invocation_short_name: *const c_char;
    safe fn getpid() -> c_int;
}

/// The program's name, without its folder.
fn program() -> &'static str {
    // SAFETY: libc sets this before it calls anything, and the string lives as long as the process. (A program may
    // change the pointer, to another such string.)
    let name = unsafe { program_invocation_short_name };
    if name.is_null() {
        return "?";
    }
    // SAFETY: as above; it ends with 0.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap_or("?")
}

/// Which process the table is of: several that end at about the same time may share a standard error.
fn print_process() {
    let mut line = Line::new();
    let mut digits = [0; 20];
    for part in ["kmem: ", program(), " (", decimal(getpid().unsigned_abs() as usize, &mut digits), ")"] {
        line.left(part, part.len().min(64));
    }
    line.print();
}

/// Prints the table, if it is wanted: the program and its process, then bytes in use, cached in slots and depots, free
/// on slabs, of these in empty slabs, and slabs, by cache. Caches that never had a slab are left out.
pub fn print() {
    if OUT.load(Ordering::Relaxed) != NOWHERE {
        print_wanted();
    }
}

#[cold]
#[inline(never)]
fn print_wanted() {
    print_process();
    let heads = ["object", "in use", "cached", "free", "empty", "slabs"];
    heads.iter().fold(Line::new().left("kmem: bytes by cache", NAME), |line, head| line.right(head)).print();
    let mut sum = Sum::default();
    kmem_linux::info::caches(|cache: &CacheStats<'_>| {
        if cache.slabs == 0 {
            return;
        }
        let in_use = cache.live * cache.stride;
        let cached = (cache.in_slots + cache.in_depot) * cache.stride;
        let free = cache.free * cache.stride;
        let empty = cache.empty_slabs * (cache.bytes / cache.slabs);
        let mut line = Line::new();
        line.left(cache.name, NAME).figure(cache.object_size);
        line.figure(in_use).figure(cached).figure(free).figure(empty).figure(cache.slabs).print();
        sum.in_use += in_use;
        sum.cached += cached;
        sum.free += free;
        sum.empty += empty;
        sum.slabs += cache.slabs;
    });
    let memory = kmem_linux::memory::memory();
    let large = Sum { in_use: memory.large, ..Sum::default() };
    let pages = Sum { free: memory.idle, empty: memory.idle, ..Sum::default() };
    for (name, part) in [("large objects", large), ("free pages", pages)] {
        if part.in_use + part.free > 0 {
            print_sum(name, &part);
        }
        sum.in_use += part.in_use;
        sum.free += part.free;
        sum.empty += part.empty;
    }
    print_sum("all", &sum);
}

fn print_sum(name: &str, sum: &Sum) {
    let mut line = Line::new();
    line.left(name, NAME).right("");
    line.figure(sum.in_use).figure(sum.cached).figure(sum.free).figure(sum.empty).figure(sum.slabs).print();
}
