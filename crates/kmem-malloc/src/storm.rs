//! The storm inside a program that knows nothing of it: `KMEM_STORM=N`.
//!
//! One thread takes CPUs down and up, and creates and destroys N caches a second, while the program runs. Each of its
//! objects carries a pattern that is checked before it goes back; whatever goes wrong ends the program with a message.
//! The thread takes no signals. A child made by fork has none, and begins with every CPU up.

use core::alloc::Layout;
use core::ffi::{c_int, c_ulong, c_void};
use core::ptr::{NonNull, null, null_mut};

use kmem_linux::RawCache;
use kmem_linux::hotplug::{self, HotplugError};
use kmem_linux::os::{libc, sys};

/// Words of libc's `sigset_t` and `pthread_attr_t` (64 and 56 bytes used), with room.
type Words = [c_ulong; 16];
const SIG_SETMASK: c_int = 2;
const SECOND: u64 = 1_000_000_000;
const OBJECTS: usize = 100;

#[link(name = "c")]
unsafe extern "C" {
    fn pthread_create(
        thread: *mut usize,
        attributes: *const c_void,
        run: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
    fn pthread_detach(thread: usize) -> c_int;
    fn pthread_sigmask(how: c_int, set: *const Words, old: *mut Words) -> c_int;
}

/// Starts the thread.
pub fn start(rate: usize) {
    // A first miss makes the engine, whose fork handlers then come before ours.
    drop(RawCache::new("kmem-storm", Layout::new::<[u64; 4]>()));
    let (all, mut before, mut thread) = ([c_ulong::MAX; 16], [0; 16], 0);
    // SAFETY: the sets are as large as libc's; the thread runs a function of this library, which is never unmapped.
    unsafe {
        libc::at_fork(None, None, Some(in_child));
        pthread_sigmask(SIG_SETMASK, &raw const all, &raw mut before);
        let started =
            pthread_create(&raw mut thread, null(), run, rate as *mut c_void) == 0 && pthread_detach(thread) == 0;
        pthread_sigmask(SIG_SETMASK, &raw const before, null_mut());
        if !started {
            sys::fatal(&["kmem: KMEM_STORM: no thread for the storm (is a limit on threads reached?)"]);
        }
    }
}

/// The storm's thread is not in the child, and what it had taken down would stay so.
unsafe extern "C" fn in_child() {
    (0..hotplug::possible()).for_each(|cpu| {
        // Up already, or out of memory: served by the depot.
        let _ = hotplug::cpu_up(cpu);
    });
}

#[cold]
extern "C" fn run(rate: *mut c_void) -> *mut c_void {
    let pause = (SECOND / rate as u64).max(1);
    let sleep = 0u32;
    let mut down = None;
    for turn in 0.. {
        down = swing(turn, down);
        module(turn);
        // A time-out, or a signal: the storm goes on.
        let _ = sys::futex_wait(&raw const sleep, 0, Some(pause));
    }
    null_mut()
}

/// Brings up the CPU that was taken down the turn before, takes another one down, and returns which.
fn swing(turn: usize, down: Option<usize>) -> Option<usize> {
    if let Some(cpu) = down {
        expect_hotplug(hotplug::cpu_up(cpu));
    }
    let online = hotplug::online();
    let cpu = online.iter().nth(turn % online.len().max(1))?;
    let result = hotplug::cpu_down(cpu);
    expect_hotplug(result);
    result.is_ok().then_some(cpu)
}

fn expect_hotplug(result: Result<(), HotplugError>) {
    match result {
        // The only CPU cannot go; memory may be short; another thread may have been faster.
        Ok(()) | Err(HotplugError::LastCpu { .. } | HotplugError::NoMemory { .. }) => {}
        Err(HotplugError::AlreadyOnline { .. } | HotplugError::AlreadyOffline { .. }) => {}
        Err(_) => sys::fatal(&["kmem: storm: a CPU transition was refused without a reason"]),
    }
}

/// Loads a module and unloads it: creates a cache, uses it, destroys it.
fn module(turn: usize) {
    let size = 8 + turn % 61 * 24;
    let Ok(layout) = Layout::from_size_align(size, 8) else { return };
    // No memory is the program's affair.
    let Ok(cache) = RawCache::new("kmem-storm", layout) else { return };
    let mut objects = [None; OBJECTS];
    for (index, place) in objects.iter_mut().enumerate() {
        *place = cache.alloc().ok();
        if let Some(object) = *place {
            // SAFETY: the object is ours and at least a word long.
            unsafe { object.cast::<usize>().write(index ^ object.as_ptr() as usize) };
        }
    }
    for (index, object) in objects.iter().enumerate() {
        if let Some(object) = *object {
            check(index, object);
            // SAFETY: the object is ours, of this cache, and not used again.
            unsafe { cache.free(object) };
        }
    }
    if cache.destroy().is_err() {
        sys::fatal(&["kmem: storm: a cache without objects in use was busy"]);
    }
}

fn check(index: usize, object: NonNull<u8>) {
    // SAFETY: the object is ours, and was written.
    if unsafe { object.cast::<usize>().read() } != index ^ object.as_ptr() as usize {
        sys::fatal(&["kmem: storm: an object changed while it was in use"]);
    }
}
