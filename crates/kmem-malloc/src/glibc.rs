//! What glibc adds to malloc(3): functions that tell of the heap, and that change it.
//!
//! glibc's own would look at glibc's heap, which is empty, and say so. These tell of kmem's, in glibc's terms:
//!
//! | glibc's | here |
//! |---|---|
//! | `arena` | bytes of slabs, and of free runs of pages that still hold memory |
//! | `uordblks` | of these, objects in use |
//! | `fordblks` | the rest of them |
//! | `fsmblks`, `smblks` | free objects that CPUs and depots keep for the next: their bytes, and how many ("fast") |
//! | `ordblks` | how many other free objects there are on slabs |
//! | `hblks`, `hblkhd` | large objects, which are no cache's: how many, and their bytes ("mmap") |
//! | `keepcost` | what `malloc_trim` would release at once, at least: free runs and empty slabs |
//! | `usmblks` | 0, as in glibc |
//!
//! So all that is in use is `uordblks + hblkhd`, and all that is held is `arena + hblkhd`, as in glibc. Objects count
//! with the bytes that they take up, which are a few more than were asked for.
//!
//! # What `mallopt` returns
//! 1 where kmem does what is asked for, whether it has to change anything for that or not; 0 where it does not, or
//! nobody knows the parameter.
//!
//! | parameter | answer |
//! |---|---|
//! | `M_ARENA_MAX`, `M_ARENA_TEST` | 1 for 0 and more: there is one heap, in however many threads |
//! | `M_TRIM_THRESHOLD` | 1 for 0 and more: free memory is released wherever it lies; 0 for less, which would keep it |
//! | `M_MMAP_THRESHOLD` | 1 for 0 to 32 MiB (glibc's own limit): large objects are released at any size; else 0 |
//! | `M_MMAP_MAX` | 1 for 0 and more: large objects are not mappings of their own |
//! | `M_CHECK_ACTION` | 1 for values with bit 1: a fault ends the program. 0 for those that would go on |
//! | `M_PERTURB` | 1 for 0; else 0: memory is not filled, because the quick paths do not touch it |
//! | `M_TOP_PAD`, `M_MXFAST` | 1 for 0 (no padding), 0 for all else: there is nothing of the kind |
//!
//! None of these functions allocates, but the stream that `malloc_info` writes to may.

use core::ffi::{c_char, c_int, c_void};

use kmem_core::classes::{self, CLASSES};
use kmem_linux::memory::Memory;
use kmem_linux::os::sys;

use crate::table::decimal;

const EINVAL: c_int = 22;

#[link(name = "c")]
unsafe extern "C" {
    fn fwrite(bytes: *const c_char, size: usize, count: usize, stream: *mut c_void) -> usize;
}

also! {
    mallinfo: __libc_mallinfo;
    mallopt: __libc_mallopt;
}

/// malloc_trim(3): releases all memory that is not in use, in every cache, on every CPU, the free pages of slabs that
/// are in use included. Returns 1 if any was released, else 0. Nothing is kept for later, whatever `pad` says.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_trim(_pad: usize) -> c_int {
    c_int::from(kmem_linux::info::trim().is_ok_and(|bytes| bytes > 0))
}

/// glibc's `struct mallinfo` and `struct mallinfo2`, which differ in the type of their fields.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the table at the head says what they are")]
pub struct Mallinfo<T> {
    pub arena: T,
    pub ordblks: T,
    pub smblks: T,
    pub hblks: T,
    pub hblkhd: T,
    pub usmblks: T,
    pub fsmblks: T,
    pub uordblks: T,
    pub fordblks: T,
    pub keepcost: T,
}

/// Bytes of what is no large object's.
fn arena(memory: &Memory) -> usize {
    memory.slabs + memory.idle
}

fn told() -> Mallinfo<usize> {
    let memory = kmem_linux::memory::memory();
    let arena = arena(&memory);
    Mallinfo {
        arena,
        ordblks: memory.free_objects,
        smblks: memory.cached_objects,
        hblks: memory.large_objects,
        hblkhd: memory.large,
        usmblks: 0,
        fsmblks: memory.cached,
        uordblks: memory.in_use,
        fordblks: arena.saturating_sub(memory.in_use),
        keepcost: memory.idle + memory.empty_slabs,
    }
}

/// mallinfo2(3).
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> Mallinfo<usize> {
    told()
}

/// mallinfo(3). What its fields cannot hold is the most that they can.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo() -> Mallinfo<c_int> {
    let told = told();
    let int = |figure: usize| c_int::try_from(figure).unwrap_or(c_int::MAX);
    Mallinfo {
        arena: int(told.arena),
        ordblks: int(told.ordblks),
        smblks: int(told.smblks),
        hblks: int(told.hblks),
        hblkhd: int(told.hblkhd),
        usmblks: 0,
        fsmblks: int(told.fsmblks),
        uordblks: int(told.uordblks),
        fordblks: int(told.fordblks),
        keepcost: int(told.keepcost),
    }
}

/// mallopt(3): see the head of this module.
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(parameter: c_int, value: c_int) -> c_int {
    const M_MXFAST: c_int = 1;
    const M_TRIM_THRESHOLD: c_int = -1;
    const M_TOP_PAD: c_int = -2;
    const M_MMAP_THRESHOLD: c_int = -3;
    const M_MMAP_MAX: c_int = -4;
    const M_CHECK_ACTION: c_int = -5;
    const M_PERTURB: c_int = -6;
    const M_ARENA_TEST: c_int = -7;
    const M_ARENA_MAX: c_int = -8;
    const ABORT: c_int = 2;
    c_int::from(match parameter {
        M_ARENA_MAX | M_ARENA_TEST | M_TRIM_THRESHOLD | M_MMAP_MAX => value >= 0,
        M_MMAP_THRESHOLD => (0..=32 << 20).contains(&value),
        M_CHECK_ACTION => value & ABORT != 0,
        M_PERTURB | M_TOP_PAD | M_MXFAST => value == 0,
        _ => false,
    })
}

/// malloc_stats(3): what is held and in use, on standard error.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_stats() {
    let memory = kmem_linux::memory::memory();
    let (arena, large) = (arena(&memory), memory.large);
    sys::report(&["Arena 0:"]);
    figure("system bytes     = ", arena);
    figure("in use bytes     = ", memory.in_use);
    sys::report(&["Total (incl. mmap):"]);
    figure("system bytes     = ", arena + large);
    figure("in use bytes     = ", memory.in_use + large);
    figure("mmap regions     = ", memory.large_objects);
    figure("mmap bytes       = ", large);
}

/// A line of glibc's form: figures are ten wide.
fn figure(name: &str, number: usize) {
    let mut digits = [0; 20];
    let digits = decimal(number, &mut digits);
    let blanks = "          ";
    sys::report(&[name, &blanks[digits.len().min(blanks.len())..], digits]);
}

/// malloc_info(3): the same as XML of glibc's form, with the free objects of each size, on a stream of the program's.
/// Answers 0, or EINVAL where `options` is not 0.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut c_void) -> c_int {
    if options != 0 {
        return EINVAL;
    }
    // All is counted before any of it is written: a stream may run code of the program's.
    let mut free = [0u32; CLASSES + 1];
    kmem_linux::info::caches(|cache| {
        let class = classes::class_of(cache.object_size).filter(|_| cache.name.starts_with("kmalloc-"));
        free[class.map_or(0, usize::from)] += cache.free as u32;
    });
    let memory = kmem_linux::memory::memory();
    let out = Stream(stream);
    out.write(&["<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n"]);
    for class in (1..=CLASSES as u8).filter(|class| free[*class as usize] > 0) {
        let smaller = if class == 1 { 0 } else { classes::size_of_class(class - 1) };
        let (size, count) = (classes::size_of_class(class), free[class as usize] as usize);
        out.element("  <size", &[("from", smaller + 1), ("to", size), ("total", size * count), ("count", count)]);
    }
    out.write(&["</sizes>\n"]);
    out.totals(&memory);
    out.system(&memory);
    out.write(&["</heap>\n"]);
    out.totals(&memory);
    out.element("<total type=\"mmap\"", &[("count", memory.large_objects), ("size", memory.large)]);
    out.system(&memory);
    out.write(&["</malloc>\n"]);
    0
}

/// A stream of libc's.
struct Stream(*mut c_void);

impl Stream {
    fn write(&self, parts: &[&str]) {
        for part in parts {
            // SAFETY: the stream is the caller's; an error stays in it, for the caller to find.
            unsafe { fwrite(part.as_ptr().cast(), 1, part.len(), self.0) };
        }
    }

    fn element(&self, begin: &str, attributes: &[(&str, usize)]) {
        self.write(&[begin]);
        for (name, value) in attributes {
            let mut digits = [0; 20];
            self.write(&[" ", name, "=\"", decimal(*value, &mut digits), "\""]);
        }
        self.write(&["/>\n"]);
    }

    /// Free objects: what is kept for the next, and the rest.
    fn totals(&self, memory: &Memory) {
        self.element("<total type=\"fast\"", &[("count", memory.cached_objects), ("size", memory.cached)]);
        self.element("<total type=\"rest\"", &[("count", memory.free_objects), ("size", memory.free + memory.idle)]);
    }

    /// What is held now without large objects, as in glibc, and the most that may be without asking for more address
    /// space.
    fn system(&self, memory: &Memory) {
        let most = memory.committed.saturating_sub(memory.large);
        self.element("<system type=\"current\"", &[("size", arena(memory))]);
        for name in ["<system type=\"max\"", "<aspace type=\"total\"", "<aspace type=\"mprotect\""] {
            self.element(name, &[("size", most)]);
        }
    }
}
