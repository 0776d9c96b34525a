//! The objects of the process: the program and its libraries, with the ids of their builds, for a reader of a profile.
//!
//! libc lists them under the loader's lock, so this is for the end of the program, and not for a slow path.

use core::ffi::{CStr, c_char, c_int, c_void};

use crate::__weak_address as weak;

/// An object's part that holds code.
pub(super) struct Part<'a> {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Where in the file that begins.
    pub(super) offset: usize,
    /// The file; empty for the program.
    pub(super) path: &'a [u8],
    pub(super) build_id: &'a [u8],
}

/// What libc says of an object (the beginning of it).
#[repr(C)]
struct Info {
    address: usize,
    name: *const c_char,
    headers: *const Header,
    count: u16,
}

/// A program header.
#[repr(C)]
struct Header {
    kind: u32,
    flags: u32,
    offset: usize,
    address: usize,
    _physical: usize,
    file_len: usize,
    len: usize,
    align: usize,
}

const LOAD: u32 = 1;
const NOTE: u32 = 4;
const EXECUTABLE: u32 = 1;
const BUILD_ID: u32 = 3;

/// Calls `visit` with each part that holds code.
pub(super) fn for_each(mut visit: impl FnMut(Part<'_>)) {
    type Callback = unsafe extern "C" fn(*const Info, usize, *mut c_void) -> c_int;
    let list = weak!("dl_iterate_phdr");
    if list.is_null() {
        return;
    }
    let mut visit: &mut dyn FnMut(Part<'_>) = &mut visit;
    // SAFETY: libc's function, of this type, and a callback of the type that it wants, with what that wants.
    unsafe {
        let list: unsafe extern "C" fn(Callback, *mut c_void) -> c_int = core::mem::transmute(list);
        list(each, (&raw mut visit).cast());
    }
}

unsafe extern "C" fn each(info: *const Info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: libc's structure, and what `for_each` gave.
    unsafe {
        let (info, visit) = (&*info, &mut *data.cast::<&mut dyn FnMut(Part<'_>)>());
        let headers = core::slice::from_raw_parts(info.headers, info.count as usize);
        let path = if info.name.is_null() { c"" } else { CStr::from_ptr(info.name) }.to_bytes();
        let notes = headers.iter().filter(|header| header.kind == NOTE);
        let build_id = notes
            .filter_map(|header| {
                let at = info.address.wrapping_add(header.address);
                build_id(core::slice::from_raw_parts(at as *const u8, header.len))
            })
            .next()
            .unwrap_or(b"");
        for header in headers.iter().filter(|header| header.kind == LOAD && header.flags & EXECUTABLE != 0) {
            let start = info.address.wrapping_add(header.address);
            visit(Part { start, end: start + header.len, offset: header.offset, path, build_id });
        }
    }
    0
}

/// The id of the build, among these notes.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let (header, rest) = notes.split_first_chunk::<12>()?;
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (name, len) = (word(0) as usize, word(4) as usize);
        let (name_end, end) = (name.next_multiple_of(4), len.next_multiple_of(4));
        if word(8) == BUILD_ID && rest.get(..name) == Some(b"GNU\0") {
            return rest.get(name_end..name_end + len);
        }
        notes = rest.get(name_end + end..)?;
    }
}
