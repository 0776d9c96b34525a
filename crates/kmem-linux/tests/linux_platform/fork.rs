//! Fork, while other threads are in sections.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use kmem_core::cpu::CpuSet;
use kmem_core::internals::Forker;
use kmem_core::platform::{Park, Sections, Topology};
use kmem_core::sync::Word;
use kmem_linux::Mode;

use super::world::{SLOT, hits, hits_through, inline, world};
use super::{CID, OFF, OWN, passes};

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
}

/// Forks while other threads are in sections; the child must be able to take, put and fence.
pub fn forked() {
    let (linux, table) = world();
    // SAFETY: leaked, and once.
    unsafe { linux.publish(table) };
    linux.slow_path_enter();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                linux.slow_path_enter();
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: as in `hits`.
                    unsafe {
                        linux.push(table, SLOT, NonNull::new(64 as *mut u8).expect("not null"));
                        linux.pop(table, SLOT);
                    }
                }
            });
        }
        for _ in 0..50 {
            let forker = Forker::new(linux);
            // SAFETY: a `Forker` takes the words.
            unsafe { linux.for_each_word(|word| forker.take(word)).expect("nobody else forks") };
            // SAFETY: the child calls the platform and _exit only.
            let pid = unsafe { fork() };
            let give_back = |word: &Word| {
                forker.give_back(word);
                Ok(())
            };
            // SAFETY: it frees what it has taken.
            let back = unsafe { linux.for_each_word(give_back) };
            assert_eq!(back, Ok(()));
            if pid == 0 {
                let set: CpuSet = (0..linux.possible_cpus()).collect();
                set.iter().take(2).for_each(|cpu| linux.fence(&CpuSet::of(cpu)));
                linux.fence(&set);
                linux.slow_path_enter();
                // Its ids are its own: one that was left over from the parent would be another thread's some day.
                let first_id = linux.mode() != Mode::Cid || linux.current_cpu() == 0;
                let fine = first_id && hits_through(linux, table) && hits() == inline(linux);
                // SAFETY: ends the child.
                unsafe { _exit(i32::from(!fine)) };
            }
            let mut status = 0;
            // SAFETY: the status is a word.
            assert_eq!(unsafe { waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0, "the child's status");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn fork_leaves_a_working_platform() {
    passes("fork", &[]);
    passes("fork", &OWN);
    passes("fork", &[CID]);
    passes("fork", &[OFF]);
}
