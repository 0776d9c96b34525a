//! How much of its caller's stack the Rust interface takes: as the C interface, at most 2 KiB, which leaves a coroutine
//! of 4 KiB enough. The user's own code (a constructor, a destructor, a listener) is not counted, and there is none
//! here that takes any.
//!
//! Each operation runs on a painted stack; how far the paint is gone is what it took, with the frame of the closure
//! that calls it. The first use of the process is in a process of its own. Only a release build is measured: a debug
//! build takes what it likes.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::naked_asm;
use std::process::Command;
use std::thread;

use kmem::hotplug::{self, Event, Listener, Refused};
use kmem::{Cache, Kmalloc, ObjectCache, RawCache};

const LIMIT: usize = 2048;
const STACK: usize = 64 << 10;
const PAINT: u64 = 0xa5a5_a5a5_a5a5_a5a5;

#[repr(align(16))]
struct Painted([u64; STACK / 8]);

/// Calls `work(argument)` with the stack pointer at `top`.
#[unsafe(naked)]
unsafe extern "C" fn call_on(top: *mut u64, work: extern "C" fn(*mut u8), argument: *mut u8) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

extern "C" fn run<F: FnMut()>(work: *mut u8) {
    // SAFETY: `depth` passes its closure, which it does not use meanwhile.
    unsafe { (*work.cast::<F>())() }
}

/// Bytes of stack that `work` takes.
fn depth<F: FnMut()>(mut work: F) -> usize {
    let mut stack = Box::new(Painted([PAINT; STACK / 8]));
    // SAFETY: the stack is large enough, and ours; the closure is the one that `run` is for.
    unsafe { call_on(stack.0.as_mut_ptr_range().end, run::<F>, (&raw mut work).cast()) };
    STACK - 8 * stack.0.iter().take_while(|word| **word == PAINT).count()
}

fn measure(what: &str, work: impl FnMut()) {
    let taken = depth(work);
    println!("{taken:6}  {what}");
    assert!(cfg!(debug_assertions) || taken <= LIMIT, "{what} takes {taken} bytes of stack");
}

struct Nothing;

impl Listener for Nothing {
    fn event(&self, _: Event, _: usize) -> Result<(), Refused> {
        Ok(())
    }
}

#[test]
fn caches() {
    let cache = Cache::<[u64; 12]>::new("stack").expect("a cache");
    let mut held = Vec::with_capacity(10_000);
    measure("Cache::alloc", || held.extend((0..10_000).map(|_| cache.alloc([1; 12]).expect("memory"))));
    measure("drop of its objects", || held.clear());
    drop(held);
    measure("Cache::shrink", || _ = cache.shrink());
    measure("Cache::new and destroy", || {
        let new = Cache::<[u64; 3]>::new("stack, new").expect("a cache");
        drop(new.alloc([2; 3]).expect("memory"));
        new.destroy().expect("unused");
    });
    let objects: ObjectCache<_> =
        Cache::<[u64; 4]>::builder("stack, objects").constructed_by(|| [3; 4]).build().expect("a cache");
    let mut held = Vec::with_capacity(1_000);
    measure("ObjectCache::alloc", || held.extend((0..1_000).map(|_| objects.alloc().expect("memory"))));
    measure("drop of constructed objects", || held.clear());
    drop(held);
    let raw = RawCache::new("stack, raw", Layout::new::<[u64; 9]>()).expect("a cache");
    let mut held = Vec::with_capacity(100);
    measure("RawCache::tune, in use", || {
        for capacity in [2, 2_000, 20] {
            held.extend((0..100).map(|_| raw.alloc().expect("memory")));
            raw.tune(capacity).expect("a capacity that it can have");
            // SAFETY: the objects are ours.
            held.drain(..).for_each(|object| unsafe { raw.free(object) });
        }
    });
    measure("RawCache::stats", || assert!(raw.stats().total > 0));
}

#[test]
fn memory_of_any_size() {
    measure("Kmalloc", || {
        for size in (1..200_000).step_by(997) {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            // SAFETY: the layout has a size, and the memory is ours until it is given back.
            unsafe {
                let memory = Kmalloc.alloc(layout);
                let longer = Kmalloc.realloc(memory, layout, 2 * size);
                Kmalloc.dealloc(longer, Layout::from_size_align(2 * size, 8).expect("a layout"));
                Kmalloc.dealloc(Kmalloc.alloc_zeroed(layout), layout);
            }
        }
    });
    measure("trim", || _ = kmem::trim());
}

#[test]
fn hotplug() {
    static LISTENER: Nothing = Nothing;
    let cache = Cache::<[u64; 5]>::new("stack, hotplug").expect("a cache");
    drop(cache.alloc([1; 5]).expect("memory"));
    let down_and_up = || {
        if let Some(cpu) = hotplug::online().iter().next()
            && hotplug::online().iter().count() > 1
        {
            hotplug::cpu_down(cpu).expect("not the last one");
            hotplug::cpu_up(cpu).expect("it is down");
        }
    };
    measure("cpu_down and cpu_up", down_and_up);
    measure("subscribe", || hotplug::subscribe(&LISTENER).expect("one of sixteen"));
    measure("cpu_down and cpu_up, with a listener", down_and_up);
}

/// Named so that the others can ask for it by name, in a process of its own.
#[test]
#[ignore = "the first use of a process: run by another test"]
fn first_use() {
    // The harness is another allocator's: nothing of kmem was used so far.
    thread::spawn(|| {
        measure("RawCache::new, the first use", || {
            drop(RawCache::new("stack, first", Layout::new::<u64>()).expect("a cache"));
        });
    })
    .join()
    .expect("no panic");
}

#[test]
fn the_first_use_of_a_process() {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "first_use", "--ignored", "--nocapture"])
        .output()
        .expect("to start it");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
