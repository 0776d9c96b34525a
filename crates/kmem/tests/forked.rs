//! Fork while other threads create and destroy caches: they are in the middle of it, and in the child they are gone.
//! There the gate is free, so CPUs may go and come.

use std::sync::atomic::{AtomicBool, Ordering};

use kmem::{Cache, hotplug};

const FORKS: usize = 200;
const THREADS: usize = 3;

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn alarm(seconds: u32) -> u32;
    fn _exit(code: i32) -> !;
}

/// What a child does: it waits for everybody who is inside the gate.
fn transitions() -> bool {
    let Some(cpu) = hotplug::online().iter().last() else { return false };
    let others = hotplug::online().len() > 1;
    hotplug::cpu_down(cpu).is_ok() == others && (!others || hotplug::cpu_up(cpu).is_ok())
}

#[test]
fn in_a_child_nobody_is_inside_the_gate() {
    // CPUs that an engine may use, whether or not this machine has them.
    (0..hotplug::possible()).for_each(|cpu| _ = hotplug::cpu_up(cpu));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let stop = &stop;
            scope.spawn(move || {
                let name = format!("forked_{thread}");
                while !stop.load(Ordering::Relaxed) {
                    let cache: Cache<[u64; 4]> = Cache::new(&name).expect("memory");
                    drop(cache.alloc([1; 4]).expect("memory"));
                    cache.destroy().expect("nobody uses it");
                }
            });
        }
        let failed = (0..FORKS).find_map(|n| {
            // SAFETY: the child calls kmem, whose fork handlers have run, and what signal handlers may call.
            let pid = unsafe { fork() };
            if pid == 0 {
                // SAFETY: as above.
                unsafe {
                    alarm(20);
                    _exit(i32::from(!transitions()))
                }
            }
            let mut status = 0;
            // SAFETY: the status is a word.
            let waited = unsafe { waitpid(pid, &raw mut status, 0) };
            (waited != pid || status != 0).then_some((n, status))
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failed, None, "fork and wait status; 14: it waited for a thread that it does not have");
    });
}
