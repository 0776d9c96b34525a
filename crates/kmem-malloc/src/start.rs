//! When the library is loaded, and when the program ends.
//!
//! Memory is served before any of this runs. `KMEM_STORM=N` starts the storm, `KMEM_STATS=1` has the slab table printed
//! at the end ([`settings`]).

use kmem_linux::os::settings::{self, Setting};

use crate::{storm, table};

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

extern "C" fn at_start() {
    kmem_linux::start::at_start();
    if settings::word(Setting::Stats) == Some("1") {
        table::keep_stderr();
    }
    if let Some(rate) = settings::number(Setting::Storm) {
        storm::start(rate);
    }
}

#[cold]
extern "C" fn at_end() {
    table::print();
}
