//! What upkeep does without: each thing of the kernel's is refused in turn, and the process still allocates soundly,
//! and its page says what is off. Each case runs in a process of its own.

mod case;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use case::{MODES, case, passes};
use kmem::status::{Snapshot, layout};
use kmem::{Mode, RawCache, Unavailable, Upkeep};
use kmem_linux::os::fault::{self, Call};

/// The process of a case in which the upkeep thread runs.
fn upkept(name: &str) -> Command {
    let mut command = case(name, &MODES);
    command.env("KMEM_UPKEEP", "always");
    command
}

/// Two threads allocate and free for a while, with slow paths among them, until `enough` or for five seconds.
fn work(enough: impl Fn() -> bool) {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) && !enough() {
        let threads = [("upkeep_a", 0u8), ("upkeep_b", 1)].map(|(name, mark)| {
            spawn(move || {
                let layout = std::alloc::Layout::from_size_align(96, 16).expect("a layout");
                let cache = RawCache::new(name, layout).expect("a cache");
                let objects: Vec<_> = (0..5000).map(|_| cache.alloc().expect("memory")).collect();
                // SAFETY: the objects are ours, and of 96 bytes.
                unsafe {
                    objects.iter().for_each(|object| object.as_ptr().write(mark));
                    assert!(objects.iter().all(|object| object.as_ptr().read() == mark));
                    objects.into_iter().for_each(|object| cache.free(object));
                }
                assert!(cache.destroy().is_ok());
            })
        });
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        sleep(Duration::from_millis(5));
    }
    // SAFETY: the threads have ended, and this one does nothing else.
    assert!(unsafe { kmem::validate() }.is_ok(), "the engine is sound");
}

/// A copy of this process's own page, once it was written, as another process would see it.
fn page() -> Option<Vec<u8>> {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let (first, end) = maps.lines().find(|line| line.contains(layout::NAME))?.split_once(' ')?.0.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).expect("an address");
    let mut bytes = vec![0; (number(end) - number(first)) as usize];
    let memory = File::open("/proc/self/mem").expect("our own memory");
    memory.read_exact_at(&mut bytes, number(first)).expect("a mapping");
    let sequence = Snapshot::sequence_of(&bytes);
    Snapshot::new(&bytes, sequence, sequence).ok()?;
    Some(bytes)
}

fn without(call: Call, lack: Unavailable) {
    fault::fail_after(call, 0);
    let says_so = || page().is_some_and(|bytes| seen(&bytes).unavailable().contains(lack));
    work(says_so);
    assert!(says_so(), "{lack:?} is not told");
}

fn seen(bytes: &[u8]) -> Snapshot<'_> {
    let sequence = Snapshot::sequence_of(bytes);
    Snapshot::new(bytes, sequence, sequence).expect("a page")
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    match std::env::var("KMEM_CASE").as_deref() {
        Ok("all") => {
            work(|| page().is_some());
            let bytes = page().expect("a page");
            assert_eq!(seen(&bytes).upkeep(), Upkeep::Thread);
            assert!(!seen(&bytes).unavailable().contains(Unavailable::Thread));
        }
        Ok("thread") => {
            fault::fail_after(Call::Upkeep, 0);
            // Without a thread nothing is published: the program itself can ask.
            let says_so = || kmem::info().unavailable.contains(Unavailable::Thread);
            work(says_so);
            assert!(says_so() && page().is_none());
            assert_eq!(kmem::upkeep(), Upkeep::SlowPaths);
        }
        Ok("affinity") => {
            // The engine is made first: without CPUs it would be in fallback mode.
            work(|| true);
            let _ = kmem::RawCache::new("engine", std::alloc::Layout::new::<u64>());
            without(Call::Affinity, Unavailable::Affinity);
        }
        Ok("cgroup") => without(Call::Cgroup, Unavailable::Cgroup),
        Ok("netlink") => without(Call::Netlink, Unavailable::Events),
        Ok("ids") => without(Call::Ids, Unavailable::Ids),
        Ok("page") => {
            fault::fail_after(Call::Page, 0);
            let since = Instant::now();
            work(|| since.elapsed() > Duration::from_millis(600));
            assert!(page().is_none());
        }
        Ok("membarrier") => {
            fault::fail_after(Call::Register, 0);
            in_fallback();
        }
        Ok("rseq") => in_fallback(),
        other => panic!("no such case: {other:?}"),
    }
}

fn in_fallback() {
    work(|| page().is_some());
    assert!(matches!(seen(&page().expect("a page")).mode(), Some(Mode::Fallback(_))));
}

#[test]
fn with_everything_the_thread_takes_the_turns() {
    passes(&mut upkept("all"));
}

#[test]
fn whatever_is_refused_is_told_and_the_rest_goes_on() {
    for case in ["thread", "affinity", "cgroup", "netlink", "page", "membarrier"] {
        passes(&mut upkept(case));
    }
    passes(upkept("ids").envs([("KMEM_RSEQ", "cid")]));
    passes(upkept("rseq").envs([("KMEM_RSEQ", "off")]));
}
