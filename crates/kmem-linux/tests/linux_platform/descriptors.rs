//! What the kernel is told of a section: where it begins, where it ends, and where an abort goes on.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use kmem_core::percpu::CpuTable;
use kmem_core::platform::Sections;
use kmem_linux::os::libc;
use kmem_linux::rseq::{self, thread_data};
use kmem_linux::{Linux, Mode};

use super::world::{SLOT, entry_alloc, inline, world};
use super::{CID, passes};

/// What the kernel reads of a section.
#[repr(C)]
struct Descriptor {
    version: u32,
    flags: u32,
    start: *const u8,
    length: usize,
    abort: *const u8,
}

const SECTIONS: [&str; 9] = [
    "push",
    "pop",
    "push_batch",
    "pop_batch",
    "given push",
    "given pop",
    "given push_batch",
    "given pop_batch",
    "entry_alloc",
];

/// Runs a section, and answers its descriptor, which stays bound until the thread is next preempted (in an area that is
/// not registered, for ever).
fn descriptor(section: usize, linux: &Linux, table: &CpuTable) -> &'static Descriptor {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    let mut out = [0; 2];
    loop {
        // SAFETY: as in `hits`; the areas are this thread's, libc's being registered, or else our own; sections bind
        // descriptors that stay mapped.
        unsafe {
            // By concurrency id the first four bind to our own, and miss.
            let area = libc::rseq_area().filter(|libc| libc.size > 0 && (section > 3 || inline(linux)));
            let area = area.map_or_else(|| &(*thread_data::block()).rseq, |libc| thread_data::area_at(libc.offset));
            match section {
                0 => _ = rseq::push(SLOT, object),
                1 => _ = rseq::pop(SLOT),
                2 => _ = rseq::push_batch(SLOT, &[16, 32]),
                3 => _ = rseq::pop_batch(SLOT, &mut out),
                4 => _ = linux.push(table, SLOT, object),
                5 => _ = linux.pop(table, SLOT),
                6 => _ = linux.push_batch(table, SLOT, &[16, 32]),
                7 => _ = linux.pop_batch(table, SLOT, &mut out),
                _ => _ = entry_alloc(1),
            }
            let bound = area.rseq_cs.load(Ordering::Relaxed) as *const Descriptor;
            if let Some(descriptor) = bound.as_ref() {
                return descriptor;
            }
        }
    }
}

/// A range that began an instruction too late, or ended one too early, would be wrong only once in very many
/// preemptions: no stress finds that.
pub fn descriptors_cover() {
    let (linux, table) = world();
    // SAFETY: leaked, and once.
    unsafe { linux.publish(table) };
    linux.slow_path_enter();
    if matches!(linux.mode(), Mode::Fallback(_)) {
        return;
    }
    for (section, name) in SECTIONS.iter().enumerate() {
        let Descriptor { version, flags, start, length, abort } = *descriptor(section, linux, table);
        assert_eq!((version, flags), (0, 0), "{name}");
        assert!((20..200).contains(&length), "{name}: {length} bytes");
        // SAFETY: the code of the section and of its abort handler is mapped; instructions have at least as many bytes
        // before and after.
        let (before, first, last, signature, handler) = unsafe {
            let end = start.add(length);
            (
                bytes::<6>(start.sub(6)),
                bytes::<6>(start),
                bytes::<5>(end.sub(5)),
                bytes::<4>(abort.sub(4)),
                bytes::<6>(abort),
            )
        };
        // mov fs:[r + 8], r: five bytes, or six where r is r12.
        let store = if before[5] == 8 && before[1] == 0x64 { &before[1..] } else { &before[..] };
        assert!(store[0] == 0x64 && store[2] == 0x89, "{name}: the range begins behind the bind: {before:x?}");
        assert!(first[0] == 0x64 && first[2] == 0x63, "{name}: and with the load of the CPU number: {first:x?}");
        let commits = (3..=5).any(|bytes| store_of_a_word(&last[5 - bytes..]) == Some(bytes));
        assert!(commits, "{name}: its last instruction is the commit: {last:x?}");
        assert_eq!(signature, 0x5305_3053u32.to_le_bytes(), "{name}");
        let range = start as usize - 19..start as usize + length;
        assert!(!range.contains(&(abort as usize)), "{name}: the abort handler is outside of the section");
        if let Some(target) = jumped_to(abort, &handler) {
            assert!(!range.contains(&target), "{name}: and does not lead back into it");
        } else {
            assert!(says_miss(&handler), "{name}: an abort handler that begins with {handler:x?}");
        }
    }
}

/// Where the jump at `at` leads to, if it is one.
fn jumped_to(at: *const u8, code: &[u8; 6]) -> Option<usize> {
    let offset = match code[0] {
        0xEB => 2 + isize::from(code[1] as i8),
        0xE9 => 5 + i32::from_le_bytes([code[1], code[2], code[3], code[4]]) as isize,
        _ => return None,
    };
    Some(at.wrapping_offset(offset) as usize)
}

/// Whether this is `mov r, 1`, an object that is none, or `xor r, r`, a batch of none.
fn says_miss(code: &[u8; 6]) -> bool {
    let code = if code[0] & 0xF0 == 0x40 { &code[1..] } else { &code[..] };
    let is_one = code[0] & 0xF8 == 0xB8 && code[1..5] == 1u32.to_le_bytes();
    let is_zero = code[0] == 0x31 && code[1] >> 6 == 3 && code[1] >> 3 & 7 == code[1] & 7;
    is_one || is_zero
}

/// Bytes of the instruction at the beginning of `code`, if it is `mov [r], r` of a word: three, one more with an index
/// or where the base is r12, one more with a displacement of a byte.
fn store_of_a_word(code: &[u8]) -> Option<usize> {
    let &[rex, 0x89, operands, ..] = code else { return None };
    let displaced = match operands >> 6 {
        0 => 0,
        1 => 1,
        _ => return None,
    };
    (rex & 0xF8 == 0x48).then_some(3 + usize::from(operands & 7 == 4) + displaced)
}

/// # Safety
/// The bytes are mapped.
unsafe fn bytes<const N: usize>(at: *const u8) -> [u8; N] {
    // SAFETY: the caller's promise.
    unsafe { at.cast::<[u8; N]>().read_unaligned() }
}

#[test]
fn descriptors_cover_sections_from_bind_to_commit() {
    passes("descriptors", &[]);
    passes("descriptors", &[CID]);
}
