//! The heap profile: where the memory was allocated that a program holds, and all that it ever allocated, by samples.
//!
//! One byte in so many is chosen ([`interval`]), and the object that it belongs to is a *sample*: its callers are noted
//! ([`stack`]), and that it lives, until it is freed. A profile is switched on and off while the program runs.
//!
//! # Off, it costs nothing
//! Fast paths have no test for it. While a profile is on, allocations are made to miss, by words that fast paths load
//! in any case:
//!
//! ```text
//! malloc, operator new         the limits of sizes that have a class are 0, as before there is an engine
//! sections in line             the table that they go by is one in which every CPU has the empty area (I3)
//! ```
//! A slow path that was made to miss takes its object out of the slot by a section of its own, and counts: `account`.
//! Each thread counts by itself, in its 64 bytes.
//!
//! # How a free of a sample is noticed
//! A sample is an ordinary object in its ordinary place, so that nothing has to be undone when the profile is switched
//! off. Its free comes by one of these ways:
//!
//! ```text
//! free(p), operator delete     the class map says 0 for the granule of a sample: a miss (and one for its neighbours)
//! a typed cache, a sized free  these do not look at the address; they are sections in line, which miss
//! a large object               takes the slow path in any case
//! ```
//! A slow path of free looks into a filter, without a lock, whether there can be a sample at the address. One that
//! frees a neighbour in such a granule finds none and goes on: some 30 ns instead of 3, for 3 % of all objects at one
//! sample in 512 KiB. When the last sample of a granule is freed, the granule's class is set again.
//!
//! # What a sample may do
//! It runs on a stack that may have 4 KiB, in a process that may be in a sandbox, for a caller that holds locks
//! of libc's. So the walk works in memory of ours, under a lock that is a leaf; it takes no lock of the loader's
//! (`tables`); and makes no system call but those that allocations make (mmap, munmap, madvise, sched_yield).
//!
//! # Fork
//! The child goes on with its copy. The lock is taken before a fork and released after it, unless that thread has it
//! already, further down in its stack. Between the two that thread uses the profile as usual, in fork handlers of the
//! program. A fork waits a limited time for the lock, because its holder may have been interrupted by a signal, and
//! fork in the handler: then the child has no profile.
//!
//! # `KMEM_PROFILE=FILE`
//! switches a profile on when the program starts, and writes it to FILE when it ends (`write`), in the
//! format of pprof. `%p` in FILE is the number of the process. Without it a child of fork writes nothing, because it
//! would write over its parent's.

mod chunks;
mod document;
mod hash;
pub mod interval;
pub mod layout;
mod objects;
mod pprof;
mod registers;
pub mod stack;
mod state;
mod tables;
mod write;

use core::ops::Range;
use core::ptr::NonNull;

use kmem_core::cache::CacheDesc;
use kmem_core::classes::{self, CLASSES};
use kmem_core::general::{Extent, stays};
use kmem_core::pages::{CLASS_STEP, GRANULE, GRANULE_SHIFT};
use kmem_core::platform::{Clock, PageSource};
use kmem_core::sync::{AtomicPtr, AtomicU32, Ordering, Park};
use kmem_core::{AllocError, Engine};

use crate::__weak_address as weak;
use crate::os::environment;
use crate::platform::Linux;
use crate::rseq::{entry, thread_data};
use crate::{general, watched};

use layout::{head, site};
use registers::Registers;
use state::{HEAD, Held, State, get_head, may_be_sampled, set_head};

pub use write::at_end;
pub(crate) use write::at_start;

/// Bytes from one sample to the next, on average, if nothing else is said.
pub const RATE: usize = 512 << 10;
/// The largest rate: intervals are counted in 32 bits, and are hardly ever 20 times as long.
pub const RATE_MAX: usize = 128 << 20;

/// The number of the profile that is on; 0: none is.
static ON: AtomicU32 = AtomicU32::new(0);

/// Whether allocations are counted.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Acquire) != 0
}

/// What an object is one of.
#[derive(Clone, Copy)]
pub(crate) enum Of<'a> {
    /// A cache.
    Cache(&'a CacheDesc),
    /// A run of granules.
    Large,
}

/// Counts an object that was just allocated, and is nobody else's yet; if its sample is due, takes it.
///
/// # Safety
/// The object is one of these, the caller's, and was not counted before.
#[inline]
pub(crate) unsafe fn account(engine: &Engine<Linux>, object: NonNull<u8>, requested: usize, of: Of<'_>) {
    let usable = match of {
        Of::Cache(cache) => cache.layout().size,
        Of::Large => requested.max(1).next_multiple_of(GRANULE),
    };
    // SAFETY: the block lives as long as the thread, whose own it is.
    let block = unsafe { &*thread_data::block() };
    let (session, left) = (ON.load(Ordering::Relaxed), block.left.get());
    if u32::from(block.session.get()) == session && usable < left as usize {
        block.left.set(left - usable as u32);
        return;
    }
    // SAFETY: passed on.
    unsafe { due(engine, object, [requested, usable], of) }
}

/// The same where the thread has counted nothing yet, or the sample is due.
#[cold]
#[inline(never)]
unsafe fn due(engine: &Engine<Linux>, object: NonNull<u8>, [requested, usable]: [usize; 2], of: Of<'_>) {
    // SAFETY: as in `account`.
    let block = unsafe { &*thread_data::block() };
    let (session, rate) = (ON.load(Ordering::Relaxed), get_head(head::RATE));
    if session == 0 {
        return;
    }
    if u32::from(block.session.replace(session as u8)) != session {
        let left = interval::draw(rate);
        if usable < left as usize {
            return block.left.set(left - usable as u32);
        }
    }
    block.left.set(interval::draw(rate));
    sample(engine, object, [requested, usable], of, &Registers::here());
}

/// Notes an object, and who allocated it.
#[inline(never)]
fn sample(engine: &Engine<Linux>, object: NonNull<u8>, sizes: [usize; 2], of: Of<'_>, registers: &Registers) {
    let Some(mut held) = Held::take_soon() else {
        HEAD[head::LOST].fetch_add(1, Ordering::Relaxed);
        return;
    };
    if !is_on() {
        return;
    }
    let (name, class) = match of {
        // The index of a general cache is its class.
        Of::Cache(cache) => {
            (cache.name(), Some(cache.slot().0 as usize).filter(|class| *class <= CLASSES).unwrap_or(0))
        }
        Of::Large => ("large", 0),
    };
    let address = object.as_ptr() as usize;
    let noted = held.site(registers, ours(), [sizes[0], sizes[1], class], name).filter(|site| {
        State::count(*site, site::SAMPLED);
        held.note(address, *site)
    });
    match noted {
        None => _ = HEAD[head::LOST].fetch_add(1, Ordering::Relaxed),
        Some(_) if class != 0 => watch(&mut held, engine, address),
        Some(_) => {}
    }
}

/// Where the functions of the allocator are, if they are an object of their own.
fn ours() -> Range<usize> {
    get_head(head::OURS)..get_head(head::OURS_END)
}

/// To be called before an object is freed, by slow paths, while a profile is on.
#[inline]
pub(crate) fn freed(engine: &Engine<Linux>, object: NonNull<u8>) {
    if may_be_sampled(object.as_ptr() as usize) {
        take_out(engine, object.as_ptr() as usize);
    }
}

#[cold]
#[inline(never)]
fn take_out(engine: &Engine<Linux>, address: usize) {
    let Some(mut held) = Held::take() else { return };
    let Some(site) = held.take(address) else { return };
    State::count(site, site::FREED);
    let class = State::word(site, site::CLASS);
    if class != 0 {
        unwatch(&mut held, engine, address, class as u8);
    }
}

fn granule_key(address: usize) -> usize {
    (address >> GRANULE_SHIFT) << 1 | 1
}

/// Lets frees in the granule of a live sample of a general cache miss. If that cannot be noted, it is not done, and the
/// free of the sample may go unnoticed.
fn watch(state: &mut State, engine: &Engine<Linux>, address: usize) {
    let samples = state.live.get(granule_key(address)).unwrap_or(0);
    if state.live.set(granule_key(address), samples + 1) {
        set_class(engine, address, 0);
    } else {
        state.take(address);
    }
}

/// The opposite, when the sample is about to be freed.
fn unwatch(state: &mut State, engine: &Engine<Linux>, address: usize, class: u8) {
    match state.live.get(granule_key(address)) {
        Some(samples) if samples > 1 => _ = state.live.set(granule_key(address), samples - 1),
        Some(_) => {
            state.live.take(granule_key(address));
            set_class(engine, address, class);
        }
        None => {}
    }
}

/// Sets what the class map says of the granule in which a live object of this general cache begins (or 0). The object
/// keeps its slab, and so the granule's class, from changing meanwhile.
fn set_class(engine: &Engine<Linux>, address: usize, class: u8) {
    let granule = (address - engine.heap().window().0) >> GRANULE_SHIFT;
    // SAFETY: the heap handed out the granule, so it has a byte.
    unsafe { engine.heap().class_map().add(granule).as_ref() }.store(class * CLASS_STEP, Ordering::Relaxed);
}

/// Realloc while a profile is on, of what has no class in the class map: a large object, or one in a watched granule.
/// A large object that becomes longer or shorter counts as a new one, also where it stays in place.
///
/// # Safety
/// As for `Engine::realloc_bytes`.
#[cold]
pub(crate) unsafe fn realloc(
    engine: &'static Engine<Linux>,
    old: NonNull<u8>,
    size: usize,
    align: usize,
) -> Result<NonNull<u8>, AllocError> {
    let address = old.as_ptr() as usize;
    let usable = match engine.extent(address) {
        Ok(Extent::Class(class)) => classes::size_of_class(class),
        // SAFETY: passed on.
        Ok(Extent::Large { .. }) => return unsafe { realloc_large(engine, old, size, align) },
        // SAFETY: passed on; what is no object is refused there.
        _ => return unsafe { engine.realloc_bytes(old, size, align) },
    };
    if address.is_multiple_of(align) && stays(usable, size) {
        return Ok(old);
    }
    let new = general::alloc_aligned(size, align)?;
    // SAFETY: both places are the caller's and at least as long as what is copied; they are different places.
    unsafe {
        new.copy_from_nonoverlapping(old, size.min(usable));
        freed(engine, old);
        engine.free_bytes(old);
    }
    Ok(new)
}

/// # Safety
/// As for [`realloc`]; the object is large.
unsafe fn realloc_large(
    engine: &Engine<Linux>,
    old: NonNull<u8>,
    size: usize,
    align: usize,
) -> Result<NonNull<u8>, AllocError> {
    let address = old.as_ptr() as usize;
    // Taken out before, because the address may be another thread's afterwards.
    let site = if may_be_sampled(address) { Held::take().and_then(|mut held| held.take(address)) } else { None };
    // SAFETY: passed on.
    let new = unsafe { engine.realloc_bytes(old, size, align) };
    if let Some(site) = site {
        match (new, Held::take()) {
            (Err(_), Some(mut held)) => _ = held.note(address, site),
            _ => State::count(site, site::FREED),
        }
    }
    if let Ok(new) = new {
        let of = match engine.extent(new.as_ptr() as usize) {
            Ok(Extent::Class(class)) => Of::Cache(engine.general_cache(class)?),
            _ => Of::Large,
        };
        // SAFETY: the object is the caller's, and as good as new.
        unsafe { account(engine, new, size, of) };
    }
    new
}

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
    if !held.prepare() || !make_nowhere(&mut held, engine) {
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
fn end() {
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
                set_class(engine, key, class as u8);
            }
        }
    });
    held.forget_live();
}

/// The head of the profile, for a reader outside: see [`layout`].
pub fn head_address() -> usize {
    state::HEAD.as_ptr() as usize
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
