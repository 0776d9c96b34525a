//! What the tests of this workspace reach inside of. No promise is made of it.

pub use crate::cpu::control::Cpus;
pub use crate::cpu::gate::{Gate, InsideCallback, OnlineCpus, ReadGuard, WriteGuard};
pub use crate::cpu::proxy::Request;
pub use crate::cpu::state::CpuEvent;
use crate::engine::Engine;
pub use crate::meta::Meta;
pub use crate::pages::state::Run;
pub use crate::pages::table::Owner;
use crate::platform::Platform;
pub use crate::sync::fork::Forker;
pub use crate::sync::mutex::{Guard, Mutex};

/// A run of the engine's page heap, of `granules`, its address a multiple of `align` bytes (a power of two).
pub fn alloc_run<P: Platform>(engine: &Engine<P>, granules: usize, align: usize) -> Option<Run> {
    engine.heap().alloc_for(engine.platform(), granules, align, crate::pages::Use::Any)
}

/// Gives the granules at `address` back to the page heap.
///
/// # Safety
/// They are of a run of [`alloc_run`], or of the rest of one, and no thread uses them.
pub unsafe fn free_run<P: Platform>(engine: &Engine<P>, address: usize, granules: usize) {
    // SAFETY: the caller's promise.
    unsafe { engine.heap().free(engine.platform(), address, granules) }
}

/// Makes a run shorter or longer where it lies, and says whether it did.
///
/// # Safety
/// The run is the caller's, and what is cut off is not used.
pub unsafe fn resize_run<P: Platform>(engine: &Engine<P>, address: usize, old: usize, new: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { engine.heap().resize(engine.platform(), address, old, new) }
}

/// Notes a run as a large object.
///
/// # Safety
/// The run is the caller's.
pub unsafe fn set_large<P: Platform>(engine: &Engine<P>, run: &Run) {
    // SAFETY: the caller's promise.
    unsafe { engine.heap().set_large(run) }
}

/// What covers `address`.
pub fn owner<P: Platform>(engine: &Engine<P>, address: usize) -> Owner {
    engine.heap().owner(address)
}

/// The class of `address` by the class map; 0 where there is none.
pub fn class_at<P: Platform>(engine: &Engine<P>, address: usize) -> u8 {
    engine.heap().class_at(address)
}
