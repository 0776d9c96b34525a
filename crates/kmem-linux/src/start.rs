//! The engine, made at the first miss, and what happens when the program starts.

use kmem_core::Engine;

use crate::instance::{self, existing};
use crate::platform::Linux;
use crate::{checks, control, fork, profile, upkeep, watched};

/// The engine, made now if it does not exist; `None` where there is no memory for it.
#[inline]
pub fn engine() -> Option<&'static Engine<Linux>> {
    existing().or_else(make)
}

/// Makes the engine. What is deep in it is over before libc is called, which may allocate in here.
#[inline(never)]
fn make() -> Option<&'static Engine<Linux>> {
    let engine = instance::make();
    if let Some(engine) = engine {
        control::engine_exists();
        // Last, because libc may allocate here, which is served already.
        fork::register();
        profile::at_start(engine);
        watched::is_known();
    }
    engine
}

/// Called by a constructor, before code of the program: makes the engine, if nothing missed so far, and starts what is
/// wanted from the start on. A program that enters a sandbox before it first allocates would be killed for what the
/// engine asks the kernel when it is made.
#[cold]
pub fn at_start() {
    if let Some(engine) = engine() {
        checks::at_start();
        upkeep::at_start(engine);
    }
}
