//! A profile is switched on and off, and goes on, or not, in a child of fork.

use core::ops::Range;
use core::ptr::NonNull;

use kmem_core::Engine;
use kmem_core::general::Extent;
use kmem_core::platform::{Clock, PageSource};
use kmem_core::sync::{AtomicPtr, AtomicU32, Ordering, Park};

use super::layout::{self, head, site};
use super::state::{Held, State, set_head};
use super::{ON, RATE_MAX, is_on, tables, watch};
use crate::__weak_address as weak;
use crate::os::environment;
use crate::platform::Linux;
use crate::rseq::entry;
use crate::watched;

/// Why a profile was not switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// One is on already.
    IsOn,
    /// There is no memory for it, or no engine.
    NoMemory,
    /// The rate is 0 or too large.
    Rate,
}

/// Switches a profile on: samples are taken from here on, one in `rate` bytes, and those of the profile before are
/// forgotten.
///
/// # Errors
/// See [`Refused`].
#[cold]
pub fn switch_on(engine: &Engine<Linux>, rate: usize) -> Result<(), Refused> {
    if !(1..=RATE_MAX).contains(&rate) {
        return Err(Refused::Rate);
    }
    let mut held = Held::take().ok_or(Refused::IsOn)?;
    if is_on() || ENDED.load(Ordering::Relaxed) != 0 {
        return Err(Refused::IsOn);
    }
    if !held.prepare() || !watch::prepare() || !make_nowhere(&mut held, engine) {
        return Err(Refused::NoMemory);
    }
    held.forget_sites();
    held.session = held.session % u8::MAX + 1;
    let ours = find_ours();
    for (word, value) in [
        (head::RATE, rate),
        (head::BEGUN, engine.platform().now() as usize),
        (head::LOST, 0),
        (head::OURS, ours.start),
        (head::OURS_END, ours.end),
        (head::VERSION, layout::VERSION as usize),
        (head::MAGIC, layout::MAGIC as usize),
        (head::ON, 1),
    ] {
        set_head(word, value);
    }
    // SAFETY: the table has the shape of the engine's, and stays.
    unsafe { engine.platform().miss_allocations(Some(held.nowhere), engine.table()) };
    ON.store(u32::from(held.session), Ordering::Release);
    watched::set(watched::COUNTED);
    if !engine.platform().goes_by_id() {
        entry::count_for(u32::from(held.session));
    }
    Ok(())
}

/// 1 once the profile is being written, at the end of the program.
static ENDED: AtomicU32 = AtomicU32::new(0);

/// Switches the profile off for good.
pub(super) fn end() {
    ENDED.store(1, Ordering::Relaxed);
    switch_off();
}

/// Switches the profile off, if one is on; what was sampled can be read until the next one begins.
#[cold]
pub fn switch_off() {
    let (Some(engine), Some(mut held)) = (crate::instance::existing(), Held::take()) else { return };
    if ON.swap(0, Ordering::AcqRel) == 0 {
        return;
    }
    watched::clear(watched::COUNTED);
    set_head(head::ON, 0);
    entry::count_for(0);
    // SAFETY: this is the engine's table.
    unsafe { engine.platform().miss_allocations(None, engine.table()) };
    held.live.for_each(|key, value| {
        if key & 1 == 0
            && let Some(site) = NonNull::new(value as *mut u64)
        {
            let class = State::word(site, site::CLASS);
            // A thread that frees the sample comes by the lock first, unless it was a signal handler that interrupted
            // the lock's holder.
            let is_live = matches!(engine.extent(key), Ok(Extent::Class(found)) if usize::from(found) == class);
            if class != 0 && is_live {
                watch::set_class(engine, key, class as u8);
            }
        }
    });
    watch::forget();
    held.forget_live();
}

/// A table like the engine's, in which every CPU has the empty area.
fn make_nowhere(state: &mut State, engine: &Engine<Linux>) -> bool {
    /// Entries before that of CPU 0.
    const BEFORE: usize = 2;
    if state.nowhere.is_null() {
        let table = engine.table();
        // The engine's has as many: a thread's number may lie beyond the CPUs that the platform knows of.
        let entries = (table.cpus() + BEFORE).max(4096 / size_of::<usize>());
        let Some(memory) = engine.platform().map(entries * size_of::<usize>()) else { return false };
        let first = memory.cast::<AtomicPtr<u8>>();
        for index in 0..entries {
            // SAFETY: the mapping has room for as many.
            unsafe { first.add(index).write(AtomicPtr::new(table.empty().address() as *mut u8)) };
        }
        // SAFETY: as above.
        state.nowhere = unsafe { first.add(BEFORE) }.as_ptr();
    }
    true
}

/// The object that this library is, if it serves the malloc of a program that it is not part of.
#[inline(never)]
fn find_ours() -> Range<usize> {
    const PHDR: usize = 3;
    let object = |at: usize| tables::object_of(at).map(|(_, start, end)| start..end);
    let Some(ours) = object(find_ours as *const () as usize) else { return 0..0 };
    let is_program = environment::auxiliary(PHDR).is_none_or(|headers| ours.contains(&headers));
    if !is_program && ours.contains(&weak!("malloc").addr()) { ours } else { 0..0 }
}

/// Takes the lock, so that a child finds it free and whole. If another thread keeps it, it is left: a signal may have
/// interrupted that thread, and it may fork in the handler, which waits for the locks that this fork holds already.
pub(crate) fn before_fork(engine: &Engine<Linux>) {
    if let Some(held) = Held::take_for_fork(|tries| engine.platform().rest(tries)) {
        held.keep_for_fork();
    }
}

/// Releases it.
pub(crate) fn after_fork() {
    Held::end_fork();
}

/// Releases it in the child. Where the lock was left, the child has no profile.
pub(crate) fn after_fork_in_child() {
    if Held::end_fork() || !Held::is_lost() {
        return;
    }
    let Some(engine) = crate::instance::existing() else { return };
    if ON.swap(0, Ordering::AcqRel) != 0 {
        watched::clear(watched::COUNTED);
        set_head(head::ON, 0);
        entry::count_for(0);
        // SAFETY: this is the engine's table.
        unsafe { engine.platform().miss_allocations(None, engine.table()) };
    }
}
