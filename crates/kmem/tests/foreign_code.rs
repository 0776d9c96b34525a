//! The program's code (constructors, drops of values, listeners) runs on the program's threads only, whatever upkeep
//! does meanwhile; and what has nothing to drop is looked after like any other memory. Each case runs in a process of
//! its own.

mod case;

use std::collections::HashSet;
use std::fs::{self, File};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use case::{MODES, case, passes};
use kmem::hotplug::{self, Event, Listener, Refused};
use kmem::status::CpuState;
use kmem::{Cache, ObjectCache};

unsafe extern "C" {
    fn sched_setaffinity(thread: i32, bytes: usize, mask: *const u64) -> i32;
    fn sched_getaffinity(thread: i32, bytes: usize, mask: *mut u64) -> i32;
    fn gettid() -> i32;
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
}

/// What upkeep does within a second; a machine that is busy with other tests may take its time.
const SOON: Duration = Duration::from_secs(10);

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    match std::env::var("KMEM_CASE").as_deref() {
        Ok("drops") => drops(),
        Ok("listeners") => listeners(),
        Ok("decays") => decays(),
        Ok("fork") => forked(),
        other => panic!("no such case: {other:?}"),
    }
}

#[test]
fn values_are_dropped_by_the_programs_threads_only() {
    passes(case("drops", &MODES).envs([("KMEM_UPKEEP", "always")]));
    passes(case("drops", &MODES).envs([("KMEM_UPKEEP", "always"), ("KMEM_RSEQ", "off")]));
}

#[test]
fn listeners_hear_of_cpus_that_left_when_the_program_asks() {
    passes(case("listeners", &MODES).envs([("KMEM_UPKEEP", "always")]));
}

#[test]
fn constructed_objects_with_nothing_to_drop_decay() {
    passes(case("decays", &MODES).envs([("KMEM_UPKEEP", "always")]));
}

#[test]
fn a_child_is_inside_of_nothing_that_other_threads_were() {
    passes(case("fork", &MODES).envs([("KMEM_UPKEEP", "off")]));
}

/// Two CPUs, or the case says why it skips.
fn two_cpus() -> (usize, usize) {
    let mut mask = [0u64; 16];
    // SAFETY: the mask has as many bytes as are said.
    assert!(unsafe { sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr()) } >= 0);
    let mut allowed = (0..1024).filter(|cpu| mask[cpu / 64] & (1 << (cpu % 64)) != 0);
    match (allowed.next(), allowed.next()) {
        (Some(first), Some(second)) => (first, second),
        _ => {
            println!("case skipped: it needs two CPUs, and this process may use one");
            std::process::exit(0);
        }
    }
}

fn pin(thread: i32, cpus: &[usize]) {
    let mut mask = [0u64; 16];
    cpus.iter().for_each(|cpu| mask[cpu / 64] |= 1 << (cpu % 64));
    // SAFETY: the mask has as many bytes as are said. A thread that ended meanwhile is refused.
    unsafe { sched_setaffinity(thread, size_of_val(&mask), mask.as_ptr()) };
}

/// What `taskset -ap` does.
fn pin_all(cpus: &[usize]) {
    for entry in fs::read_dir("/proc/self/task").expect("the threads").flatten() {
        pin(entry.file_name().to_string_lossy().parse().expect("a thread's number"), cpus);
    }
}

#[track_caller]
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ordinary allocation, with slow paths: upkeep has its turns.
fn churn() {
    drop((0..2000).map(|n| Box::new([n; 30])).collect::<Vec<_>>());
}

fn of(cpu: usize) -> (Option<CpuState>, u64) {
    let mut found = (None, 0);
    kmem::cpus(|row| {
        if row.cpu == cpu {
            found = (Some(row.state), row.cached_objects);
        }
    });
    found
}

/// The program's threads, by number.
static OURS: Mutex<Option<HashSet<i32>>> = Mutex::new(None);
static ELSEWHERE: AtomicUsize = AtomicUsize::new(0);

/// The calling thread is one of the program's.
fn is_ours() {
    // SAFETY: no arguments, no memory.
    let thread = unsafe { gettid() };
    OURS.lock().expect("not poisoned").get_or_insert_default().insert(thread);
}

/// Notes where the program's code runs.
fn note_thread() {
    // SAFETY: as above.
    let thread = unsafe { gettid() };
    let ours = OURS.lock().expect("not poisoned").as_ref().is_some_and(|ours| ours.contains(&thread));
    ELSEWHERE.fetch_add(usize::from(!ours), Ordering::Relaxed);
}

/// A value that owns a descriptor of the program's.
struct Value(#[allow(dead_code, reason = "it is open")] File, #[allow(dead_code, reason = "size")] [u8; 100_000]);

static LIVE: AtomicUsize = AtomicUsize::new(0);

impl Value {
    fn make() -> Self {
        note_thread();
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self(File::open("/dev/null").expect("a descriptor"), [1; 100_000])
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        note_thread();
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("our descriptors").count()
}

fn use_cpus(cpus: &[usize], work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for cpu in cpus {
            scope.spawn(|| {
                is_ours();
                pin(0, &[*cpu]);
                work();
            });
        }
    });
}

fn drops() {
    is_ours();
    let (first, second) = two_cpus();
    churn();
    let before = descriptors();
    let cache: ObjectCache<Value> = Cache::builder("drops").constructed_by(Value::make).build().expect("a cache");
    for _ in 0..3 {
        pin_all(&[first, second]);
        use_cpus(&[first, second], || {
            drop((0..40).map(|_| cache.alloc().expect("memory")).collect::<Vec<_>>());
            churn();
        });
        let live = LIVE.load(Ordering::Relaxed);
        pin_all(&[first]);
        soon("the CPU has left", || {
            churn();
            of(second) == (Some(CpuState::Gone), 0)
        });
        assert_eq!(LIVE.load(Ordering::Relaxed), live, "nothing was dropped meanwhile");
        // What is superfluous by now goes with the next miss, here.
        drop((0..40).map(|_| cache.alloc().expect("memory")).collect::<Vec<_>>());
    }
    assert!(LIVE.load(Ordering::Relaxed) > 0);
    cache.destroy().expect("nobody uses it");
    assert_eq!((LIVE.load(Ordering::Relaxed), descriptors()), (0, before), "all were dropped, in our own table");
    assert_eq!(ELSEWHERE.load(Ordering::Relaxed), 0, "the program's code ran on threads that are not its own");
}

struct Log(Mutex<Vec<(Event, usize)>>);

impl Listener for Log {
    fn event(&self, event: Event, cpu: usize) -> Result<(), Refused> {
        note_thread();
        self.0.lock().expect("not poisoned").push((event, cpu));
        // Neither hangs in here, called by `track_affinity`.
        hotplug::track_affinity();
        // SAFETY: refused before it looks at anything.
        assert!(unsafe { kmem::validate() }.is_err() && kmem::trim().is_err());
        Ok(())
    }
}

static LOG: Log = Log(Mutex::new(vec![]));

fn heard() -> Vec<(Event, usize)> {
    std::mem::take(&mut *LOG.0.lock().expect("not poisoned"))
}

fn listeners() {
    is_ours();
    let (first, second) = two_cpus();
    hotplug::subscribe(&LOG).expect("room for a listener");
    let cache = Cache::<[u64; 40]>::new("listeners").expect("a cache");
    let work = || drop((0..500).map(|n| cache.alloc([n; 40]).expect("memory")).collect::<Vec<_>>());
    use_cpus(&[first, second], work);
    assert!(of(second).1 > 0);
    pin_all(&[first]);
    soon("the CPU holds nothing", || {
        work();
        of(second).1 == 0
    });
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!((heard(), of(second).0), (vec![], Some(CpuState::Online)), "nobody was told");
    hotplug::track_affinity();
    assert_eq!(heard(), [(Event::DownPrepare, second), (Event::Dead, second)]);
    assert_eq!(of(second).0, Some(CpuState::Gone));
    pin_all(&[first, second]);
    use_cpus(&[second], work);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!((heard(), of(second).0), (vec![], Some(CpuState::Gone)), "it comes up when it is asked for");
    hotplug::track_affinity();
    assert_eq!(heard(), [(Event::UpPrepare, second), (Event::Online, second)]);
    use_cpus(&[second], work);
    assert_eq!(of(second).0, Some(CpuState::Online));
    assert_eq!(ELSEWHERE.load(Ordering::Relaxed), 0, "the program's code ran on threads that are not its own");
}

fn decays() {
    is_ours();
    let cache = Cache::<[u64; 50]>::builder("decays").constructed_by(|| [7; 50]).build().expect("a cache");
    let mut held: Vec<_> = (0..20_000).map(|_| cache.alloc().expect("memory")).collect();
    let bytes = cache.stats().bytes;
    held.truncate(10);
    soon("what nobody uses is gone", || {
        churn();
        cache.stats().bytes < bytes / 10
    });
    held.extend((0..20_000).map(|_| cache.alloc().expect("memory")));
    assert!(held.iter().all(|object| **object == [7; 50]), "all are constructed");
    drop(held);
    cache.destroy().expect("nobody uses it");
}

/// Calls `code` with so many bytes of stack above it, which were all written.
#[inline(never)]
fn below<const N: usize, R>(code: impl FnOnce() -> R) -> R {
    let above = std::hint::black_box([0x5a_u8; N]);
    let result = code();
    std::hint::black_box(&above);
    result
}

/// A thread looks at a cache for ever. A thread of the child, on the same stack, writes over it and destroys that
/// cache.
fn forked() {
    let cache = Cache::<u64>::new("looked at").expect("a cache");
    let (send, receive) = std::sync::mpsc::channel();
    let look = move || {
        kmem::caches(|stats| {
            if stats.name == "looked at" {
                send.send(()).expect("the case waits");
                loop {
                    std::thread::park();
                }
            }
        });
    };
    std::thread::spawn(|| below::<4096, _>(look));
    receive.recv().expect("it got there");
    // SAFETY: the child goes on with this thread, and ends by `_exit`.
    unsafe {
        let child = fork();
        if child == 0 {
            let destroy = move || {
                // libc gives the stacks of threads that are not here to new ones.
                below::<65_536, _>(|| ());
                cache.destroy().is_ok()
            };
            _exit(i32::from(!std::thread::spawn(destroy).join().unwrap_or(false)));
        }
        // Here it is looked at for ever.
        std::mem::forget(cache);
        let mut status = 0;
        assert_eq!(waitpid(child, &raw mut status, 0), child);
        assert_eq!(status, 0, "the child's thread could not destroy the cache");
    }
}
