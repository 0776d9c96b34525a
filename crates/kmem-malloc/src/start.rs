//! When the library is loaded, and when the program ends.
//!
//! Memory is served before any of this runs. The environment is read once, by hand: `KMEM_STORM=N` starts the storm,
//! `KMEM_STATS=1` has the slab table printed at the end. A program that runs with other rights than its caller
//! (set-user-ID) gets neither; the dynamic linker would hardly preload the library there.

use kmem::linux::mode::variable;

use crate::{storm, table};

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

extern "C" fn at_start() {
    kmem::runtime::at_start();
    if variable(c"KMEM_STATS").is_some_and(|value| value == b"1") {
        table::keep_stderr();
    }
    if let Some(rate) = variable(c"KMEM_STORM").and_then(number).filter(|rate| *rate > 0) {
        storm::start(rate);
    }
}

#[cold]
extern "C" fn at_end() {
    table::print();
}

/// A decimal number; `None` for anything else.
fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0usize, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit as usize)
    })
}
