//! The one engine of this program or shared object: made at the first miss ([`start`](crate::start)), never unmade.
//!
//! Fast paths spend nothing on whether it exists: before it is published, tests that they make anyway send them to the
//! slow path (see [`rseq::hot`](crate::rseq::hot)), which comes here. Making it allocates nothing from itself, so it
//! may happen in the first `malloc` of the dynamic linker. If there is no memory for it, the next miss tries again.

use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, offset_of};

use kmem_core::outline::Outline;
use kmem_core::slab::FreeError;
use kmem_core::sync::{AtomicU32, Ordering};
use kmem_core::{Config, Engine, Population};

use crate::checks;
use crate::os::sys;
use crate::os::text::hexadecimal;
use crate::platform::Linux;
use crate::status::note;

/// Most caches.
const MAX_CACHES: usize = 16 << 10;

const NONE: u32 = 0;
const READY: u32 = note::READY;

/// Takes a state for making what it guards: it must be free, or belong to a thread that fork left behind in the parent.
/// A state that is being made carries the process's number, so that a child does not wait for a thread it does not
/// have.
pub fn try_make(state: &AtomicU32, seen: u32) -> bool {
    let mine = (sys::getpid() as u32) << 2 | 2;
    (seen == NONE || (seen != READY && seen != mine))
        && state.compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

struct Place {
    state: AtomicU32,
    /// The code of the mode, for readers outside of the process.
    mode: AtomicU32,
    engine: UnsafeCell<MaybeUninit<Engine<Linux>>>,
}

// SAFETY: the engine is written once, by who made the state its own, and read after READY.
unsafe impl Sync for Place {}

static PLACE: Place =
    Place { state: AtomicU32::new(NONE), mode: AtomicU32::new(0), engine: UnsafeCell::new(MaybeUninit::uninit()) };

/// Where the engine keeps what it holds, for readers outside of the process.
static OUTLINE: Outline = Engine::<Linux>::OUTLINE;

// The note by which such a reader finds both, in every program and shared object that has an engine: in a segment of
// its own kind, which is loaded, and which the removal of symbols leaves. Each address is the distance from its own
// place, so that the loader has nothing to do here. What it says is the form of `status::note`.
core::arch::global_asm!(
    ".pushsection .note.kmem,\"a\",@note",
    ".balign 4",
    ".long 5, 40, 1",
    ".asciz \"kmem\"",
    ".balign 4",
    ".quad {outline} - .",
    ".quad {place} - .",
    ".quad {state}",
    ".quad {engine}",
    ".quad {mode}",
    ".popsection",
    outline = sym OUTLINE,
    place = sym PLACE,
    state = const offset_of!(Place, state),
    engine = const offset_of!(Place, engine),
    mode = const offset_of!(Place, mode),
);

/// The engine, if it exists.
#[inline]
pub fn existing() -> Option<&'static Engine<Linux>> {
    // SAFETY: the state says that it was written, and it is never written again.
    (PLACE.state.load(Ordering::Acquire) == READY).then(|| unsafe { (*PLACE.engine.get()).assume_init_ref() })
}

/// Makes the engine, or waits for the thread that does; `None` where there is no memory for it. In line, because its
/// one caller is on the stack of a program, where a frame more counts.
#[inline(always)]
pub(crate) fn make() -> Option<&'static Engine<Linux>> {
    loop {
        let seen = PLACE.state.load(Ordering::Acquire);
        if seen == READY {
            return existing();
        }
        if try_make(&PLACE.state, seen) {
            break;
        }
        sys::sched_yield();
    }
    if !build() {
        PLACE.state.store(NONE, Ordering::Release);
        return None;
    }
    PLACE.state.store(READY, Ordering::Release);
    existing()
}

/// Makes the engine in its place and publishes it to the fast paths; `false`: no memory. The state is the caller's.
#[inline(never)]
fn build() -> bool {
    // What is checked is decided before anything is handed out.
    checks::begin();
    let config = Config { max_caches: MAX_CACHES, population: Population::OnFirstUse, bad_free };
    // SAFETY: the state is this thread's: no other discovers a platform meanwhile, and none is published before this.
    let linux = || unsafe { Linux::discover() };
    // SAFETY: the state is this thread's, which alone may write.
    let Ok(engine) = Engine::new_in(unsafe { &mut *PLACE.engine.get() }, linux, config) else { return false };
    let engine: &'static Engine<Linux> = engine;
    PLACE.mode.store(engine.platform().mode().code() as u32, Ordering::Relaxed);
    // SAFETY: table and heap live as long as the engine, for ever; the state is this thread's, so this happens once.
    unsafe {
        engine.platform().publish(engine.table());
        engine.platform().publish_classes(engine.heap());
    }
    true
}

/// A pointer that is no live object was freed: going on would hand memory out twice, so the program ends here and says
/// which pointer.
#[cold]
fn bad_free(object: usize, error: FreeError) {
    if checks::are_on() {
        checks::bad_free(object, error);
    }
    let mut digits = [0; 18];
    let pointer = hexadecimal(object, &mut digits);
    sys::report(&[
        "kmem: free of ",
        pointer,
        match error {
            FreeError::NotAnObject => {
                ", which is not the beginning of anything that kmem handed out (foreign, interior or stale pointer)"
            }
            FreeError::DoubleFree => ", which is free already (double free)",
        },
    ]);
    if error == FreeError::NotAnObject && namespaces::are_several() {
        sys::report(&[
            "kmem: there are libraries here that dlmopen loaded, or an auditor: each such namespace has a malloc of its \
             own, and memory must be freed in the one that allocated it",
        ]);
    }
    sys::end()
}

/// What the dynamic linker tells a debugger of namespaces: each loads another libc, and so another malloc.
mod namespaces {
    use crate::__weak_address as weak;

    /// The beginning of glibc's `r_debug_extended`.
    #[repr(C)]
    struct Debug {
        version: i32,
        libraries: usize,
        hook: usize,
        state: i32,
        linker: usize,
        /// That of the next namespace. There from version 2 on, which says that there is one.
        next: usize,
    }

    /// Whether there is more than one (glibc 2.35; else it is not known).
    #[cold]
    pub(super) fn are_several() -> bool {
        let debug = weak!("_r_debug").cast::<Debug>();
        // SAFETY: what is at the address lives as long as the process, and is as long as its version says.
        unsafe {
            !debug.is_null() && (&raw const (*debug).version).read() >= 2 && (&raw const (*debug).next).read() != 0
        }
    }
}
