//! The sections of the Linux platform under stress: threads take and put objects on all CPUs, singly and in batches,
//! and are moved about, while a drainer takes magazines away by table swap and fence, puts objects back, and disables
//! and enables slots.
//!
//! Each object has a flag that says 'in somebody's hands'. Taking an object that is in somebody's hands already is a
//! duplicate; at the end every object must be found once, in a slot or in hands (I6, I7, I38). The negative control
//! leaves the fence out and must find duplicates.
//!
//! Each mode runs in a process of its own, for about 0.7 seconds, or for KMEM_STRESS_SECONDS, or until there were
//! KMEM_STRESS_HITS and KMEM_STRESS_DRAINS. `.ci/stress` runs it at full size. A hit is one section that took effect,
//! for one object or for a batch; a drain is one fence, for one CPU or for all, or the report of a thread that missed
//! there.

mod drain;
mod work;
mod world;

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kmem_core::percpu::{SlotIndex, section};
use kmem_core::platform::Topology;
use kmem_linux::Mode;
use kmem_linux::os::fault;

use drain::drain;
use work::work;
use world::{CAPACITY, Counts, OBJECTS, SLOTS, World, discover, object};

const THREADS: usize = 4;

/// How long a run is: until the time is over, or there was enough of both.
struct Size {
    seconds: f64,
    hits: usize,
    drains: usize,
}

impl Size {
    fn of_environment() -> Self {
        fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
            let text = std::env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text}: it must be a number")))
        }
        Self {
            seconds: variable("KMEM_STRESS_SECONDS").unwrap_or(0.7),
            hits: variable("KMEM_STRESS_HITS").unwrap_or(usize::MAX),
            drains: variable("KMEM_STRESS_DRAINS").unwrap_or(usize::MAX),
        }
    }

    fn is_reached(&self, begun: Instant, count: &Counts) -> bool {
        begun.elapsed() >= Duration::from_secs_f64(self.seconds)
            || (count.hits.load(Ordering::Relaxed) >= self.hits && count.drains.load(Ordering::Relaxed) >= self.drains)
    }
}

/// The whole test in one process; the parent reads its last line.
fn run(size: &Size, fenced: bool) {
    let world: &'static World = Box::leak(Box::new(World::make()));
    // SAFETY: the world is leaked, and made once in this process.
    unsafe { world.linux.publish(&world.table) };
    // SAFETY: objects are numbers here, which nobody looks into.
    unsafe { fault::leave_out_fences(!fenced) };
    let begun = Instant::now();
    let mut hands: Vec<usize> = std::thread::scope(|scope| {
        let per_thread = OBJECTS / THREADS;
        let lives = (0..THREADS).map(|thread| {
            let first: Vec<usize> = (thread * per_thread..(thread + 1) * per_thread).map(object).collect();
            scope.spawn(move || {
                let (mut hands, mut seed) = (first, thread as u64 + 1);
                while !world.stop.load(Ordering::Relaxed) {
                    seed += 1000;
                    hands = std::thread::spawn(move || work(world, seed * 0x9E37_79B9, hands))
                        .join()
                        .expect("a thread's life");
                }
                hands
            })
        });
        let lives: Vec<_> = lives.collect();
        let drainer = scope.spawn(|| drain(world));
        while !size.is_reached(begun, &world.count) && world.count.duplicates.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        world.stop.store(true, Ordering::Relaxed);
        let all = lives.into_iter().chain([drainer]);
        all.flat_map(|thread| thread.join().expect("a thread of the test")).collect()
    });
    for control in &world.controls {
        let control = control.lock().unwrap();
        for slot in (1..=SLOTS).map(SlotIndex) {
            let mut out = [0; CAPACITY + 1];
            // SAFETY: no other thread is left.
            let count = unsafe { section::take(control.area, slot, &mut out) };
            hands.extend_from_slice(&out[..count]);
        }
    }
    hands.sort_unstable();
    let found = hands.len();
    hands.dedup();
    let twice = world.count.duplicates.load(Ordering::Relaxed) + (found - hands.len());
    let operations = world.count.operations.load(Ordering::Relaxed);
    let hits = world.count.hits.load(Ordering::Relaxed);
    let drains = world.count.drains.load(Ordering::Relaxed);
    println!(
        "mode={:?} operations={operations} hits={hits} drains={drains} reported={} twice={twice} lost={} seconds={:.1}",
        world.linux.mode(),
        world.count.reported.load(Ordering::Relaxed),
        OBJECTS - hands.len(),
        begun.elapsed().as_secs_f64()
    );
}

/// What one mode is run in.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    run(&Size::of_environment(), std::env::var_os("KMEM_STRESS_NO_FENCE").is_none());
}

/// One at a time: on few CPUs they would only measure each other.
static TURN: Mutex<()> = Mutex::new(());

fn report(variables: &[(&str, &str)]) -> String {
    let _turn = TURN.lock();
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.args(["--ignored", "--exact", "child", "--nocapture"]).env_remove("KMEM_RSEQ").env_remove("GLIBC_TUNABLES");
    let output = command.envs(variables.iter().copied()).output().expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.find("mode=").map(|at| line[at..].to_owned())).expect("a report");
    println!("{line}");
    line
}

fn number(report: &str, key: &str) -> usize {
    let value = report.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in: {report}"))
}

fn conserves(report: &str) {
    assert_eq!((number(report, "twice"), number(report, "lost")), (0, 0), "{report}");
    assert!(number(report, "drains") > 100, "{report}");
    let share = number(report, "hits") as f64 / number(report, "operations") as f64;
    assert!(share > 0.05, "sections hardly ever hit: {report}");
    let alone = discover().initial_cpus().len() < 2;
    assert!(alone || !report.contains("Rseq") || number(report, "reported") > 0, "no proxy ever reported: {report}");
}

/// Whether the kernel and libc of this machine let sections be restartable at all.
fn available() -> bool {
    !matches!(discover().mode(), Mode::Fallback(_))
}

/// Whether this machine has no concurrency ids: a kernel before 6.3, or no registration of libc's.
fn lacks_ids() -> bool {
    std::fs::read("/proc/self/auxv").map_or(true, |auxv| {
        let word = |at: usize| u64::from_ne_bytes(auxv[at..at + 8].try_into().expect("eight bytes"));
        let filled = (0..auxv.len() / 16).find(|pair| word(pair * 16) == 27).map_or(0, |pair| word(pair * 16 + 8));
        filled < 28 || discover().mode() != Mode::Rseq
    })
}

#[test]
fn with_libcs_registration_objects_are_conserved() {
    conserves(&report(&[]));
}

#[test]
fn with_our_own_registration_objects_are_conserved() {
    let report = report(&[("GLIBC_TUNABLES", "glibc.pthread.rseq=0"), ("KMEM_RSEQ", "own")]);
    assert!(!available() || report.contains("mode=OwnRseq"), "{report}");
    conserves(&report);
}

#[test]
fn by_concurrency_id_objects_are_conserved() {
    let report = report(&[("KMEM_RSEQ", "cid")]);
    assert!(report.contains("mode=Cid") || lacks_ids(), "{report}");
    conserves(&report);
}

#[test]
fn in_the_fallback_objects_are_conserved() {
    let report = report(&[("KMEM_RSEQ", "off")]);
    assert!(report.contains("mode=Fallback"), "{report}");
    conserves(&report);
}

/// The negative control: if this finds nothing, the tests above prove nothing.
#[test]
fn without_the_fence_an_object_is_handed_out_twice() {
    if discover().initial_cpus().len() < 2 {
        return println!("skipped: on one CPU the drainer hardly ever meets a section");
    }
    for mode in ["auto", "cid", "off"] {
        let report = report(&[("KMEM_RSEQ", mode), ("KMEM_STRESS_NO_FENCE", "1"), ("KMEM_STRESS_SECONDS", "20")]);
        assert!(number(&report, "twice") > 0, "KMEM_RSEQ={mode}: {report}");
    }
}
