//! Named caches whose memory is checked, in a process of their own, because the environment says what is checked.

use std::alloc::Layout;
use std::process::Command;
use std::ptr::NonNull;

use kmem::RawCache;

/// Runs a test of this file in another process, with a variable; returns whether it passed, and what it said.
fn in_process(test: &str, variable: &str, value: &str) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"]).env(variable, value);
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn make_and_destroy(name: &str) -> NonNull<u8> {
    let cache = RawCache::new(name, Layout::new::<[u64; 5]>()).unwrap();
    let object = cache.alloc().unwrap();
    let second = cache.alloc().unwrap();
    // SAFETY: both are ours, and not used afterwards.
    unsafe {
        cache.free(object);
        cache.free(second);
    }
    cache.destroy().unwrap();
    object
}

#[test]
#[ignore = "run by another"]
fn destroys() {
    make_and_destroy("short_lived");
}

/// The search at the end finds no books of the cache any longer.
#[test]
fn a_cache_that_is_gone_is_not_searched() {
    let (passed, said) = in_process("destroys", "KMEM_LEAKS", "1");
    assert!(passed && said.contains("still reachable"), "{said}");
}

#[test]
#[ignore = "run by another"]
fn frees_what_was_a_gone_cache_s() {
    let stale = make_and_destroy("short_lived");
    let other = RawCache::new("other", Layout::new::<[u64; 50]>()).unwrap();
    let object = other.alloc().unwrap();
    // SAFETY: none: this is the fault that is to be reported.
    unsafe { other.free(stale) };
    // SAFETY: the object is ours.
    unsafe { other.free(object) };
}

#[test]
fn a_stale_pointer_to_a_gone_cache_is_reported() {
    let (passed, said) = in_process("frees_what_was_a_gone_cache_s", "KMEM_DEBUG", "F");
    assert!(!passed && said.contains("kmem: BUG"), "{said}");
}

#[test]
#[ignore = "run by another"]
fn come_and_go_beside_questions() {
    std::thread::scope(|scope| {
        for name in ["one", "two", "three"] {
            scope.spawn(move || {
                for _ in 0..300 {
                    let _ = make_and_destroy(name);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..3000 {
                std::hint::black_box(kmem::memory());
            }
        });
    });
}

/// A region serves one cache after another while other threads count what is in use.
#[test]
fn regions_change_hands_beside_questions() {
    let (passed, said) = in_process("come_and_go_beside_questions", "KMEM_DEBUG", "FZP");
    assert!(passed, "{said}");
}
