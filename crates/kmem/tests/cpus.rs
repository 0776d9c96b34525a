//! CPUs that leave a real process, or are idle, or are used although they left, and the thread that looks after them
//! where one is wanted.
//! Each case runs in a process of its own.
//!
//! CPUs are taken away as `taskset -ap` does it: the mask of every thread is narrowed. So none of this needs rights.

mod case;

use std::time::{Duration, Instant};

use case::{MODES, case, passes};
use kmem::Upkeep;
use kmem::status::CpuState;

#[global_allocator]
static ALLOCATOR: kmem::Kmalloc = kmem::Kmalloc;

unsafe extern "C" {
    fn sched_setaffinity(thread: i32, bytes: usize, mask: *const u64) -> i32;
    fn sched_getaffinity(thread: i32, bytes: usize, mask: *mut u64) -> i32;
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
}

/// A CPU that left shall have nothing cached a second later, which `follow` of kmem-cli's tests looks at. Here a
/// machine that is busy with other tests may take its time.
const SOON: Duration = Duration::from_secs(10);

fn allowed() -> Vec<usize> {
    let mut mask = [0u64; 16];
    // SAFETY: the mask has as many bytes as are said.
    assert!(unsafe { sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr()) } >= 0);
    (0..1024).filter(|cpu| mask[cpu / 64] & (1 << (cpu % 64)) != 0).collect()
}

/// Lets a thread (0: the calling one) run on these CPUs only.
fn pin(thread: i32, cpus: &[usize]) {
    let mut mask = [0u64; 16];
    cpus.iter().for_each(|cpu| mask[cpu / 64] |= 1 << (cpu % 64));
    // SAFETY: the mask has as many bytes as are said. A thread that ended meanwhile is refused.
    unsafe { sched_setaffinity(thread, size_of_val(&mask), mask.as_ptr()) };
}

/// What a program does that pins its threads: those that it does not know stay where they are.
fn pin_all(cpus: &[usize]) {
    // Twice: a thread that is born meanwhile has its parent's mask.
    for _ in 0..2 {
        for entry in std::fs::read_dir("/proc/self/task").expect("the threads").flatten() {
            if std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name == "kmem\n") {
                continue;
            }
            pin(entry.file_name().to_string_lossy().parse().expect("a thread's number"), cpus);
        }
    }
}

/// Allocates and frees on each of `cpus`, each on a thread of its own that is pinned there, checking what it wrote.
fn use_cpus(cpus: &[usize]) {
    let all = allowed();
    std::thread::scope(|scope| {
        for &cpu in cpus {
            let all = &all;
            scope.spawn(move || {
                pin(0, &[cpu]);
                churn(cpu as u64, 20_000);
                pin(0, all);
            });
        }
    });
}

fn churn(seed: u64, objects: u64) {
    let held: Vec<_> = (0..objects).map(|n| Box::new([seed, n, n ^ seed, 7])).collect();
    assert!(held.iter().zip(0..).all(|(object, n)| **object == [seed, n, n ^ seed, 7]), "objects changed in use");
}

fn of(cpu: usize) -> (Option<CpuState>, u64, u64) {
    let mut found = (None, 0, 0);
    kmem::cpus(|row| {
        if row.cpu == cpu {
            found = (Some(row.state), row.cached_objects, row.drained_objects);
        }
    });
    found
}

/// Waits until it is so, calling `meanwhile`, and answers after how long.
#[track_caller]
fn soon(what: &str, mut meanwhile: impl FnMut(), mut is_so: impl FnMut() -> bool) -> Duration {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < SOON, "{what}: not within {SOON:?}");
        meanwhile();
        std::thread::sleep(Duration::from_millis(5));
    }
    since.elapsed()
}

/// Two CPUs, or the case says why it skips.
fn two_cpus() -> (usize, usize) {
    match allowed()[..] {
        [first, second, ..] => (first, second),
        _ => {
            println!("case skipped: it needs two CPUs, and this process may use one");
            std::process::exit(0);
        }
    }
}

/// Caches on two CPUs, takes the second away, and waits until nothing is cached there and it is gone.
fn leaves() {
    let (first, second) = two_cpus();
    use_cpus(&[first, second]);
    let (state, cached, drained) = of(second);
    assert!(cached + drained > 0, "something was cached on CPU {second}");
    assert_ne!(state, Some(CpuState::Gone));
    pin_all(&[first]);
    let after = soon("the CPU is gone", || {}, || of(second).0 == Some(CpuState::Gone));
    assert_eq!(of(second).1, 0);
    println!("case leaves: CPU {second} left with {cached} objects, gone after {} ms", after.as_millis());
    // It is used again as soon as it is allowed again: correctness does not depend on what is believed.
    pin_all(&[first, second]);
    use_cpus(&[second]);
    assert_eq!(of(second).0, Some(CpuState::Online));
    kmem::set_upkeep(false);
    soon("the thread has ended", || {}, || std::fs::read_dir("/proc/self/task").expect("the threads").count() <= 2);
    // SAFETY: nobody else allocates: upkeep is off, and the harness waits for this.
    unsafe { kmem::validate() }.expect("an allocator in order");
}

/// A CPU that is allowed for a while, in which no thread runs there, is gone again afterwards. The main thread of the
/// harness only waits, so its mask says what is allowed.
fn unused() {
    let (first, second) = two_cpus();
    use_cpus(&[first, second]);
    pin_all(&[first]);
    let main = std::process::id() as i32;
    soon("the CPU is gone", || {}, || of(second).0 == Some(CpuState::Gone));
    pin(main, &[first, second]);
    soon("the CPU is back", || {}, || of(second).0 == Some(CpuState::Offline));
    pin(main, &[first]);
    soon("the CPU is gone again", || {}, || of(second).0 == Some(CpuState::Gone));
}

/// Concurrency ids: with one CPU there is one thread at a time, so one of two ids goes out of use, whichever that is.
fn ids() {
    let (first, second) = two_cpus();
    if kmem::info().mode != kmem::Mode::Cid {
        return println!("case skipped: no concurrency ids here");
    }
    let rows = |wanted: CpuState| {
        let mut count = 0;
        kmem::cpus(|row| count += usize::from(row.state == wanted));
        count
    };
    soon("two ids are in use", || use_cpus(&[first, second]), || rows(CpuState::Online) == 2);
    pin_all(&[first]);
    let after = soon("one is not any more", || churn(1, 10), || rows(CpuState::Gone) == 1);
    println!("case ids: one of two was gone after {} ms", after.as_millis());
    assert_eq!(rows(CpuState::Online), 1);
    kmem::cpus(|row| assert!(row.state == CpuState::Online || row.cached_objects == 0, "{row:?}"));
    pin_all(&[first, second]);
    soon("two ids are in use again", || use_cpus(&[first, second]), || rows(CpuState::Online) == 2);
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    match std::env::var("KMEM_CASE").as_deref() {
        Ok("leaves") => leaves(),
        Ok("unused") => unused(),
        Ok("ids") => ids(),
        Ok("idle") => idle(),
        Ok("turns") => turns(),
        Ok("resists") => resists(),
        Ok("off") => off(),
        Ok("fixed") => fixed(),
        Ok("fork") => forked(),
        Ok("said") => freed_twice(),
        other => panic!("no such case: {other:?}"),
    }
}

/// There is a thread from the start on, and it stays.
const ALWAYS: (&str, &str) = ("KMEM_UPKEEP", "always");

#[test]
fn a_cpu_that_left_is_gone_within_a_second() {
    passes(case("leaves", &MODES).envs([ALWAYS]));
    passes(case("leaves", &MODES).envs([ALWAYS, ("KMEM_RSEQ", "off")]));
    passes(case("leaves", &MODES).envs([ALWAYS, ("KMEM_RSEQ", "own"), ("GLIBC_TUNABLES", "glibc.pthread.rseq=0")]));
}

#[test]
fn a_cpu_that_came_back_and_was_not_used_is_gone_again() {
    passes(case("unused", &MODES).envs([ALWAYS]));
}

#[test]
fn without_a_thread_slow_paths_empty_what_is_not_used() {
    passes(&mut case("turns", &MODES));
    passes(case("turns", &MODES).envs([("KMEM_RSEQ", "off")]));
}

#[test]
fn a_concurrency_id_that_is_out_of_use_is_gone_soon() {
    passes(case("ids", &MODES).envs([ALWAYS, ("KMEM_RSEQ", "cid")]));
}

#[test]
fn an_idle_cpu_gives_back_what_it_cached() {
    passes(case("idle", &MODES).envs([ALWAYS]));
}

#[test]
fn a_cpu_that_is_used_although_it_is_gone_serves_and_does_not_flap() {
    passes(case("resists", &MODES).envs([ALWAYS]));
}

#[test]
fn it_can_be_switched_off_and_cpus_be_fixed() {
    passes(case("off", &MODES).envs([("KMEM_UPKEEP", "off")]));
    passes(case("fixed", &MODES).envs([ALWAYS, ("KMEM_CPUS", "fixed")]));
}

#[test]
fn a_child_made_by_fork_looks_after_itself() {
    passes(case("fork", &MODES).envs([ALWAYS]));
}

#[test]
fn what_the_thread_finds_is_said_where_the_program_can_see_it() {
    let output = case("said", &MODES).envs([ALWAYS]).output().expect("a child process");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("double free"), "{output:?}");
}

fn idle() {
    let (first, second) = two_cpus();
    use_cpus(&[first, second]);
    let after = soon("both are empty", || {}, || of(first).1 + of(second).1 == 0);
    println!("case idle: nothing was cached after {} ms", after.as_millis());
    assert!(of(second).2 > 0, "what was cached was drained");
    assert_eq!(kmem::upkeep(), Upkeep::Thread);
}

/// How many threads named `kmem` there are at this moment.
fn threads_of_ours() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads").flatten();
    threads.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "kmem\n")).count()
}

/// Without a thread slow paths empty what was not used for a while, on the CPU on which they run.
fn turns() {
    let (first, second) = two_cpus();
    use_cpus(&[first, second]);
    pin_all(&[first]);
    let sizes = (1..40).map(|n| vec![0u8; n * 50]).collect::<Vec<_>>();
    drop(sizes);
    soon("slots that are still are emptied", || churn(1, 20_000), || of(first).2 > 0);
    assert_eq!((kmem::upkeep(), threads_of_ours()), (Upkeep::SlowPaths, 0));
}

fn resists() {
    let (first, second) = two_cpus();
    use_cpus(&[first, second]);
    // The affinity tracker sees no mask from here on but one of the first CPU only.
    pin_all(&[first]);
    soon("the CPU is gone", || {}, || of(second).0 == Some(CpuState::Gone));
    // A turn that finds the thread below on the second CPU takes that to be allowed again, as it should, and its
    // patience begins anew. On a busy machine this happens more often than not, so the test may be unlucky twice.
    for last in [false, false, true] {
        let hidden = std::thread::spawn(move || downs_of_a_hidden_user(first, second));
        let downs = hidden.join().expect("it is served");
        // With no patience it would be taken down at each of 24 turns.
        println!("case resists: taken down {downs} times in 6 s");
        if downs <= 8 {
            return;
        }
        assert!(!last, "it flaps: {downs} times in 6 s");
    }
}

/// How often the second CPU is taken down within six seconds, while this thread uses it without being seen there.
fn downs_of_a_hidden_user(first: usize, second: usize) -> usize {
    let since = Instant::now();
    let mut downs = 0;
    let mut was_up = false;
    while since.elapsed() < Duration::from_secs(6) {
        pin(0, &[second]);
        churn(9, 200);
        pin(0, &[first]);
        std::thread::sleep(Duration::from_millis(50));
        let is_up = of(second).0 == Some(CpuState::Online);
        downs += usize::from(was_up && !is_up);
        was_up = is_up;
    }
    downs
}

fn off() {
    let (first, second) = two_cpus();
    use_cpus(&[first, second]);
    std::thread::sleep(Duration::from_millis(700));
    churn(1, 20_000);
    assert_eq!(kmem::upkeep(), Upkeep::Off);
    assert_eq!(of(second).2, 0, "nobody drains");
    // What is in use on the CPU that is looked at stays.
    pin(0, &[first]);
    kmem::set_upkeep(true);
    soon("the CPU is emptied after all", || churn(1, 20_000), || of(second).1 == 0);
    assert_eq!(kmem::upkeep(), Upkeep::Thread);
}

fn fixed() {
    let (first, second) = two_cpus();
    use_cpus(&[first, second]);
    pin_all(&[first]);
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!((of(second).0, of(second).2), (Some(CpuState::Online), 0));
    kmem::set_cpu_policy(kmem::CpuPolicy::TrackAffinity);
    soon("the CPU is gone", || churn(1, 20_000), || of(second).0 == Some(CpuState::Gone));
}

fn forked() {
    let (first, second) = two_cpus();
    use_cpus(&[first, second]);
    soon("there is a thread", || churn(1, 1000), || kmem::upkeep() == Upkeep::Thread);
    for _ in 0..20 {
        // SAFETY: the child uses the allocator, which fork leaves in order, and ends.
        unsafe {
            let child = fork();
            if child == 0 {
                let none = kmem::upkeep() == Upkeep::SlowPaths && threads_of_ours() == 0;
                use_cpus(&[first, second]);
                // Off the CPU that is looked at: what is in use there stays.
                pin(0, &[first]);
                let since = Instant::now();
                while of(second).1 > 0 && since.elapsed() < SOON {
                    churn(2, 1000);
                    std::thread::sleep(Duration::from_millis(5));
                }
                _exit(i32::from(!none) + 2 * i32::from(of(second).1 > 0));
            }
            let mut status = 0;
            assert_eq!(waitpid(child, &raw mut status, 0), child);
            assert_eq!(status, 0, "the child's verdict: 256 it had a thread, 512 the CPU was not emptied");
        }
    }
}

/// Frees an object twice, into a slot, and leaves it to upkeep to find out: the slot is emptied, the depot decays.
fn freed_twice() {
    let (first, second) = two_cpus();
    use_cpus(&[first, second]);
    soon("there is a thread", || churn(1, 1000), || kmem::upkeep() == Upkeep::Thread);
    let cache = kmem::RawCache::new("freed twice", std::alloc::Layout::new::<[u64; 5]>()).expect("a cache");
    let object = cache.alloc().expect("memory");
    // SAFETY: none: this is the mistake that shall be found.
    unsafe {
        cache.free(object);
        cache.free(object);
    }
    std::thread::sleep(SOON);
    std::process::exit(0);
}
