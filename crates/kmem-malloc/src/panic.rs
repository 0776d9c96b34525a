//! What a panic does: it cannot unwind into C and must not format, so it names its place and ends the program.

use core::panic::PanicInfo;

use kmem_linux::os::sys;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (mut digits, place) = ([0; 20], info.location());
    let line = crate::table::decimal(place.map_or(0, |place| place.line() as usize), &mut digits);
    sys::fatal(&[
        "kmem: internal error in ",
        place.map_or("?", |place| place.file()),
        ", line ",
        line,
        ": please report it",
    ])
}

// The prebuilt core refers to it, though nothing unwinds here. Hidden, for it is not ours to export.
core::arch::global_asm!(
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality:",
    kmem_linux::__trap!()
);
