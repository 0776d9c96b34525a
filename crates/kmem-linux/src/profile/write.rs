//! Writing a profile when the program ends: [`KMEM_PROFILE`](super).
//!
//! Like all that happens at the end it is done by the thread that ends the program, and may make system calls that a
//! sandbox forbids. It runs on that thread's stack, which may be short: so whatever is longer than a few words lies in
//! memory that is mapped for it, the [`Desk`].

use core::ffi::CStr;

use kmem_core::Engine;
use kmem_core::sync::{AtomicUsize, Ordering};

use super::RATE;
use super::document::{self, Paper};
use super::pprof::{Block, Gzip};
use super::switch::{end, switch_on};
use crate::instance::existing;
use crate::os::settings::{self, Setting};
use crate::os::{pages, profile_setting, sys};
use crate::platform::Linux;

/// Bytes of the file's name at most.
const NAME_MAX: usize = 1100;

/// What writing needs. All of it may be zero at first, as it is mapped.
struct Desk {
    name: [u8; NAME_MAX],
    paper: Paper,
    block: Block,
}

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

/// The process that began; 0: none did.
static BEGUN_BY: AtomicUsize = AtomicUsize::new(0);

/// Switches a profile on, if the environment says so. Called once the engine exists.
#[cold]
#[inline(never)]
pub(crate) fn at_start(engine: &Engine<Linux>) {
    if !settings::is_said(Setting::Profile) {
        return;
    }
    match switch_on(engine, profile_setting::rate().unwrap_or(RATE)) {
        Ok(()) => BEGUN_BY.store(sys::getpid(), Ordering::Relaxed),
        Err(_) => sys::report(&["kmem: there is no memory for the profile of KMEM_PROFILE"]),
    }
}

/// Writes the profile, if the environment says where.
#[cold]
pub extern "C" fn at_end() {
    let begun_by = BEGUN_BY.swap(0, Ordering::Relaxed);
    if begun_by == 0 || existing().is_none() {
        return;
    }
    let Some(memory) = pages::map(size_of::<Desk>()) else { return };
    // SAFETY: the mapping is ours alone, long enough, aligned to a page, and zero, which a desk may be.
    let desk = unsafe { memory.cast::<Desk>().as_mut() };
    let is_numbered = file_name(&mut desk.name);
    // A child would write over its parent's.
    if is_numbered || begun_by == sys::getpid() {
        // Writing takes the loader's lock, under which another thread may allocate: so no lock is held here, and what
        // is written does not change.
        end();
        write(desk);
    }
    // SAFETY: as above; it is no longer used.
    unsafe { pages::unmap(memory, size_of::<Desk>()) };
}

fn write(desk: &mut Desk) {
    let path = CStr::from_bytes_until_nul(&desk.name).unwrap_or(c"");
    let Ok(fd) = sys::create(path) else {
        return sys::report(&["kmem: the file of KMEM_PROFILE cannot be written: ", path.to_str().unwrap_or("")]);
    };
    let mut gzip = Gzip::begin(|bytes| put(fd, bytes), &mut desk.block);
    let is_whole = document::write(&mut gzip, &mut desk.paper);
    gzip.end();
    sys::close(fd);
    if !is_whole {
        sys::report(&[
            "kmem: the program wrote over the profile of KMEM_PROFILE: its file has the sites that are left",
        ]);
    }
}

/// Writes bytes to the file, as many of them as it takes.
fn put(fd: usize, mut left: &[u8]) {
    while !left.is_empty() {
        // SAFETY: the descriptor is ours.
        match unsafe { sys::write(fd, left) } {
            Ok(written) => left = &left[written.min(left.len())..],
            Err(sys::Errno::INTR) => {}
            Err(_) => break,
        }
    }
}

/// The file's name, with a null after it; whether the number of the process is in it.
fn file_name(into: &mut [u8; NAME_MAX]) -> bool {
    let (mut len, mut is_numbered, mut percent) = (0, false, false);
    let mut put = |byte: u8| {
        if len + 1 < NAME_MAX {
            into[len] = byte;
            len += 1;
        }
    };
    for byte in profile_setting::path() {
        match (percent, byte) {
            (false, b'%') => percent = true,
            (true, b'p') => {
                let (mut digits, mut rest, mut at) = ([0; 20], sys::getpid(), 20);
                while at == 20 || rest > 0 {
                    at -= 1;
                    digits[at] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
                digits[at..].iter().for_each(|digit| put(*digit));
                (percent, is_numbered) = (false, true);
            }
            _ => {
                if core::mem::take(&mut percent) {
                    put(b'%');
                }
                put(byte);
            }
        }
    }
    is_numbered
}
