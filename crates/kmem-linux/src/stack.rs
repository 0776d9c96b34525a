//! The calls that led here: return addresses, the innermost first.
//!
//! The unwinder of the compiler's library finds them by unwind tables, which all code has by default, if it is there:
//! [`prepare`] looks for it, when the program starts. Without it the frame pointers lead from frame to frame, in code
//! that keeps them. They may be anything where code does not, so each is followed only upwards, within a megabyte, and
//! to pages that are mapped.
//!
//! Nothing here allocates. The unwinder takes the dynamic linker's lock, and a few kilobytes of stack; so this is for
//! programs that are looked at, and no lock of ours is held meanwhile.

use core::ffi::{CStr, c_char, c_int, c_void};

use kmem_core::sync::{AtomicPtr, Ordering};

use crate::arch;
use crate::os::{geometry, sys};

/// How far up frame pointers are followed, in bytes.
const FAR: usize = 1 << 20;

type Backtrace = unsafe extern "C" fn(extern "C" fn(*mut c_void, *mut c_void) -> c_int, *mut c_void) -> c_int;

static BACKTRACE: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static GET_IP: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

#[link(name = "c")]
unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dladdr(address: *const c_void, info: *mut Info) -> c_int;
}

/// Looks for the unwinder. Allocates; called when the program starts.
#[cold]
pub fn prepare() {
    const RTLD_NOW: c_int = 2;
    own::find();
    // SAFETY: the library is the compiler's, which most programs have loaded; the names are strings.
    unsafe {
        let library = dlopen(c"libgcc_s.so.1".as_ptr(), RTLD_NOW);
        if library.is_null() {
            return;
        }
        let (backtrace, ip) =
            (dlsym(library, c"_Unwind_Backtrace".as_ptr()), dlsym(library, c"_Unwind_GetIP".as_ptr()));
        if !backtrace.is_null() && !ip.is_null() {
            GET_IP.store(ip, Ordering::Release);
            BACKTRACE.store(backtrace, Ordering::Release);
        }
    }
}

struct Found<'a> {
    frames: &'a mut [usize],
    count: usize,
}

/// Notes the return addresses of the callers, as many as there is room for, and returns how many. Addresses in the
/// preload library are left out.
#[inline(never)]
pub fn capture(frames: &mut [usize]) -> usize {
    let backtrace = BACKTRACE.load(Ordering::Acquire);
    let mut found = Found { frames, count: 0 };
    if backtrace.is_null() {
        by_frame_pointers(&mut found);
    } else {
        // SAFETY: it is the unwinder's function of this name, and calls back with what is given.
        unsafe {
            let backtrace = core::mem::transmute::<*mut c_void, Backtrace>(backtrace);
            backtrace(each, (&raw mut found).cast());
        }
    }
    found.count
}

extern "C" fn each(context: *mut c_void, found: *mut c_void) -> c_int {
    const END_OF_STACK: c_int = 5;
    // SAFETY: the unwinder's function of this name; `found` is that of `capture`, which waits.
    let (address, found) = unsafe {
        let ip = core::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void) -> usize>(
            GET_IP.load(Ordering::Relaxed),
        );
        (ip(context), &mut *found.cast::<Found<'_>>())
    };
    if found.add(address) { 0 } else { END_OF_STACK }
}

impl Found<'_> {
    /// Adds a frame; `false`: there is no room for another.
    fn add(&mut self, address: usize) -> bool {
        if address == 0 || self.count == self.frames.len() {
            return false;
        }
        if self.count > 0 || !own::has(address) {
            self.frames[self.count] = address;
            self.count += 1;
        }
        true
    }
}

fn by_frame_pointers(found: &mut Found<'_>) {
    let (mut frame, stack) = arch::frame_and_stack();
    let (mut below, mut mapped) = (stack, stack & !(geometry::page() - 1));
    while frame > below && frame - stack < FAR && frame.is_multiple_of(8) {
        let page = (frame + 8) & !(geometry::page() - 1);
        if page != mapped && sys::is_unmapped(page) {
            return;
        }
        mapped = page;
        // SAFETY: both words are on pages that are mapped, in what is likely to be the stack.
        let (next, address) = unsafe { ((frame as *const usize).read(), (frame as *const usize).add(1).read()) };
        // What is no address of code was no frame.
        if known(address).base == 0 || !found.add(address) {
            return;
        }
        (below, frame) = (frame, next);
    }
}

/// What the dynamic linker knows of an address of code: the file, where that begins, the symbol before the address, if
/// it is an exported one, and its address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) file: &'static str,
    pub(crate) base: usize,
    pub(crate) symbol: &'static str,
    pub(crate) begin: usize,
}

#[repr(C)]
struct Info {
    file: *const c_char,
    base: usize,
    symbol: *const c_char,
    address: usize,
}

/// Asks the dynamic linker, which allocates nothing for it.
#[inline(never)]
pub(crate) fn known(address: usize) -> Known {
    let mut info = Info { file: core::ptr::null(), base: 0, symbol: core::ptr::null(), address: 0 };
    // SAFETY: the function fills in what it finds, of strings that stay.
    unsafe {
        if dladdr(address as *const c_void, &raw mut info) == 0 {
            return Known::default();
        }
        Known { file: text(info.file), base: info.base, symbol: text(info.symbol), begin: info.address }
    }
}

/// # Safety
/// The text is null, or a string that stays.
unsafe fn text(text: *const c_char) -> &'static str {
    if text.is_null() {
        return "";
    }
    // SAFETY: the caller's promise.
    core::str::from_utf8(unsafe { CStr::from_ptr(text) }.to_bytes()).unwrap_or("")
}

/// Where the code of the preload library is, in whose frames nobody is interested.
mod own {
    use kmem_core::sync::{AtomicUsize, Ordering};

    static FROM: AtomicUsize = AtomicUsize::new(0);
    static TO: AtomicUsize = AtomicUsize::new(0);

    /// Finds the library by its name. In a program that kmem is linked into, all code is the program's.
    pub(super) fn find() {
        let own = super::known(super::capture as fn(&mut [usize]) -> usize as usize);
        if !own.file.contains("libkmem_malloc") {
            return;
        }
        let base = own.base as *const u8;
        // SAFETY: a loaded file begins with its headers, whose words stand where ELF says.
        unsafe {
            let headers = base.add(base.add(32).cast::<u64>().read() as usize);
            let mut end = 0;
            for index in 0..usize::from(base.add(56).cast::<u16>().read()) {
                let header = headers.add(index * 56);
                let (kind, flags) = (header.cast::<u32>().read(), header.add(4).cast::<u32>().read());
                if kind == 1 && flags & 1 != 0 {
                    let (at, len) = (header.add(16).cast::<u64>().read(), header.add(40).cast::<u64>().read());
                    end = end.max((at + len) as usize);
                }
            }
            FROM.store(own.base, Ordering::Relaxed);
            TO.store(own.base + end, Ordering::Relaxed);
        }
    }

    pub(super) fn has(address: usize) -> bool {
        (FROM.load(Ordering::Relaxed)..TO.load(Ordering::Relaxed)).contains(&address)
    }
}
