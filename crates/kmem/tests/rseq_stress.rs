//! The sections of the Linux platform under stress: threads take and put objects on all CPUs, singly and in batches,
//! and are moved about, while a drainer takes magazines away by table swap and fence, puts objects back, and disables
//! and enables slots.
//!
//! Each object has a flag that says 'in somebody's hands'. Taking an object that is in somebody's hands already is a
//! duplicate; at the end every object must be found once, in a slot or in hands (I6, I7, I38). The negative control
//! leaves the fence out and must find duplicates.
//!
//! Each mode runs in a process of its own, for about 0.7 seconds, or for KMEM_STRESS_SECONDS, or until there were
//! KMEM_STRESS_HITS and KMEM_STRESS_DRAINS. `.ci/stress` runs it at full size. A hit is one section that took effect, for
//! one object or for a batch; a drain is one fence, for one CPU or for all, or the answer of a thread that missed there.

use std::process::Command;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kmem::linux::{Linux, Mode, fault, rseq};
use kmem_core::cpu::{CpuSet, Question};
use kmem_core::percpu::{Area, CpuTable, READABLE, SlotIndex, section};
use kmem_core::platform::{PageSource, Sections, Topology};

const THREADS: usize = 4;
const OBJECTS: usize = 256;
const SLOTS: u32 = 4;
const CAPACITY: usize = 24;
const BATCH: usize = 8;
/// Operations in the life of a thread: threads end and begin all the time.
const LIFE: usize = 40_000;
const WORD: usize = size_of::<usize>();

unsafe extern "C" {
    fn sched_setaffinity(pid: i32, len: usize, mask: *const u64) -> i32;
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

/// Who holds a CPU's lock may take its area away.
struct Control {
    area: Area,
    storage: Vec<NonNull<u8>>,
}

struct World {
    linux: Linux,
    table: CpuTable,
    cpus: Vec<usize>,
    controls: Vec<Mutex<Control>>,
    in_hands: Vec<AtomicU32>,
    /// Whether somebody is on a CPU whose area is withdrawn.
    questions: Vec<Question>,
    stop: AtomicBool,
    count: Counts,
}

#[derive(Default)]
struct Counts {
    duplicates: AtomicUsize,
    operations: AtomicUsize,
    hits: AtomicUsize,
    drains: AtomicUsize,
    answered: AtomicUsize,
}

// SAFETY: areas and storage are mappings that live for ever; who may touch them is what this test is about.
unsafe impl Sync for World {}

fn object(index: usize) -> usize {
    (index + 1) * 16
}

impl World {
    fn make() -> Self {
        let linux = Linux::discover();
        let table = CpuTable::map(&linux, linux.possible_cpus(), SLOTS as usize + 1).expect("a table");
        let cpus: Vec<usize> = linux.initial_cpus().iter().collect();
        let control = |cpu: &usize| {
            let area = Area::map(&linux, SLOTS as usize + 1).expect("an area");
            let storage = (0..=SLOTS).map(|_| linux.map(4096).expect("a magazine")).collect();
            let control = Control { area, storage };
            (1..=SLOTS).for_each(|slot| control.enable(SlotIndex(slot)));
            table.publish(*cpu, area);
            Mutex::new(control)
        };
        let controls = cpus.iter().map(control).collect();
        let in_hands = (0..OBJECTS).map(|_| AtomicU32::new(1)).collect();
        let questions = cpus.iter().map(|_| Question::new()).collect();
        let (stop, count) = (AtomicBool::new(false), Counts::default());
        Self { linux, table, cpus, controls, in_hands, questions, stop, count }
    }

    fn flag(&self, object: usize) -> &AtomicU32 {
        &self.in_hands[object / 16 - 1]
    }

    fn took(&self, object: usize) {
        if self.flag(object).swap(1, Ordering::AcqRel) != 0 {
            self.count.duplicates.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn gives(&self, object: usize) {
        self.flag(object).store(0, Ordering::Release);
    }

    fn keeps(&self, object: usize) {
        self.flag(object).store(1, Ordering::Release);
    }
}

impl Control {
    /// As the engine does it: the cursor, then the end; no fence.
    fn enable(&self, slot: SlotIndex) {
        let storage = self.storage[slot.0 as usize];
        // The mark has words before it that a section may read.
        let first = storage.as_ptr() as usize + READABLE * WORD;
        // SAFETY: the storage is a page, the slot is in the area.
        unsafe {
            storage.cast::<usize>().add(READABLE - 1).write(1);
            let place = self.area.slot(slot);
            place.cursor.store(first.wrapping_sub(self.area.address()), Ordering::Release);
            place.end.store((first + CAPACITY * WORD).wrapping_sub(self.area.address()), Ordering::Release);
        }
    }

    fn disable(&self, slot: SlotIndex) {
        // SAFETY: the area is private and the slot empty.
        let place = unsafe { self.area.slot(slot) };
        place.cursor.store(0, Ordering::Relaxed);
        place.end.store(0, Ordering::Relaxed);
    }

    fn is_enabled(&self, slot: SlotIndex) -> bool {
        // SAFETY: the slot is in the area.
        unsafe { self.area.is_enabled(slot) }
    }
}

/// One thread: takes and puts until its life or the test is over; answers what it holds then.
fn work(world: &World, seed: u64, mut hands: Vec<usize>) -> Vec<usize> {
    let mut random = Random(seed | 1);
    let (mut operations, mut hits) = (0, 0);
    for step in 0..LIFE {
        if world.stop.load(Ordering::Relaxed) {
            break;
        }
        if step % 4096 == 0 {
            let mask =
                if random.below(2) == 0 { u64::MAX } else { 1 << (world.cpus[random.below(world.cpus.len())] % 64) };
            // SAFETY: the mask is a word.
            unsafe { sched_setaffinity(0, 8, &raw const mask) };
        }
        let slot = SlotIndex(1 + random.below(SLOTS as usize) as u32);
        let hit = match random.below(8) {
            0..3 => take(world, slot, random.below(2) == 0, &mut hands),
            3..6 => put(world, slot, random.below(2) == 0, &mut hands),
            6 => take_batch(world, slot, random.below(2) == 0, &mut hands, random.below(BATCH + 1)),
            _ => put_batch(world, slot, random.below(2) == 0, &mut hands, random.below(BATCH + 1)),
        };
        hits += usize::from(hit);
        if !hit {
            world.linux.slow_path_enter();
            let here = world.linux.current_cpu();
            if let Some(place) = world.cpus.iter().position(|cpu| *cpu == here) {
                world.questions[place].answer(|| world.linux.fence_here(here));
            }
        }
        operations += 1;
    }
    world.count.operations.fetch_add(operations, Ordering::Relaxed);
    world.count.hits.fetch_add(hits, Ordering::Relaxed);
    hands
}

fn take(world: &World, slot: SlotIndex, inline: bool, hands: &mut Vec<usize>) -> bool {
    // SAFETY: the slot is in the table.
    let object = unsafe { if inline { rseq::pop(slot) } else { world.linux.pop(&world.table, slot) } };
    let Some(object) = object.map(|object| object.as_ptr() as usize) else { return false };
    world.took(object);
    hands.push(object);
    true
}

fn put(world: &World, slot: SlotIndex, inline: bool, hands: &mut Vec<usize>) -> bool {
    let Some(object) = hands.pop() else { return false };
    world.gives(object);
    let pointer = NonNull::new(object as *mut u8).expect("not null");
    // SAFETY: the slot is in the table, the object in our hands.
    let done =
        unsafe { if inline { rseq::push(slot, pointer) } else { world.linux.push(&world.table, slot, pointer) } };
    if !done {
        world.keeps(object);
        hands.push(object);
    }
    done
}

fn take_batch(world: &World, slot: SlotIndex, inline: bool, hands: &mut Vec<usize>, want: usize) -> bool {
    let mut out = [0; BATCH];
    let out = &mut out[..want];
    // SAFETY: the slot is in the table.
    let count =
        unsafe { if inline { rseq::pop_batch(slot, out) } else { world.linux.pop_batch(&world.table, slot, out) } };
    out[..count].iter().for_each(|object| world.took(*object));
    hands.extend_from_slice(&out[..count]);
    count > 0
}

fn put_batch(world: &World, slot: SlotIndex, inline: bool, hands: &mut Vec<usize>, want: usize) -> bool {
    let objects = hands.split_off(hands.len() - want.min(hands.len()));
    objects.iter().for_each(|object| world.gives(*object));
    // SAFETY: the slot is in the table, the objects in our hands.
    let count = unsafe {
        if inline { rseq::push_batch(slot, &objects) } else { world.linux.push_batch(&world.table, slot, &objects) }
    };
    objects[count..].iter().for_each(|object| world.keeps(*object));
    hands.extend_from_slice(&objects[count..]);
    count > 0
}

/// Takes magazines away until the test is over; answers what it holds then.
fn drain(world: &World) -> Vec<usize> {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let mut pool = Vec::new();
    while !world.stop.load(Ordering::Relaxed) {
        if random.below(8) == 0 {
            let controls: Vec<_> = world.controls.iter().map(|control| control.lock().unwrap()).collect();
            world.cpus.iter().for_each(|cpu| world.table.withdraw(*cpu));
            world.linux.fence(&world.cpus.iter().copied().collect());
            controls.iter().for_each(|control| drain_one(world, control, &mut random, &mut pool));
            world.cpus.iter().zip(&controls).for_each(|(cpu, control)| world.table.publish(*cpu, control.area));
        } else {
            let place = random.below(world.cpus.len());
            let cpu = world.cpus[place];
            let control = world.controls[place].lock().unwrap();
            enable_some(&control, &mut random);
            world.table.withdraw(cpu);
            if random.below(2) == 0 || !is_answered(world, place) {
                world.linux.fence(&CpuSet::of(cpu));
            }
            drain_one(world, &control, &mut random, &mut pool);
            world.table.publish(cpu, control.area);
        }
        world.count.drains.fetch_add(1, Ordering::Relaxed);
        // Without `spin_loop`: an emulator that runs one CPU at a time would go on to the others at each of them.
        for turn in 0..random.below(16_000) {
            std::hint::black_box(turn);
        }
    }
    pool
}

/// Whether somebody who runs there fences a CPU whose area is withdrawn, while we look.
fn is_answered(world: &World, place: usize) -> bool {
    let question = &world.questions[place];
    question.ask();
    let answered = (0..world.linux.patience()).any(|_| question.is_answered());
    question.settle();
    world.count.answered.fetch_add(usize::from(answered), Ordering::Relaxed);
    answered
}

/// Enables slots while sections look at them.
fn enable_some(control: &MutexGuard<'_, Control>, random: &mut Random) {
    for slot in (1..=SLOTS).map(SlotIndex) {
        if !control.is_enabled(slot) && random.below(2) == 0 {
            control.enable(slot);
        }
    }
}

/// Empties, fills or disables the slots of a private area.
fn drain_one(world: &World, control: &MutexGuard<'_, Control>, random: &mut Random, pool: &mut Vec<usize>) {
    for slot in (1..=SLOTS).map(SlotIndex) {
        let mut out = [0; CAPACITY + 1];
        // SAFETY: the area is private.
        let count = unsafe { control.area.take(slot, &mut out) };
        out[..count].iter().for_each(|object| world.took(*object));
        pool.extend_from_slice(&out[..count]);
        if !control.is_enabled(slot) || random.below(4) == 0 {
            control.disable(slot);
            continue;
        }
        let back = pool.split_off(pool.len() - random.below(CAPACITY).min(pool.len()));
        back.iter().for_each(|object| world.gives(*object));
        // SAFETY: the area is private, the objects in our hands.
        let put = unsafe { section::push_batch(control.area, slot, &back) };
        back[put..].iter().for_each(|object| world.keeps(*object));
        pool.extend_from_slice(&back[put..]);
    }
}

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
    fault::leave_out_fences(!fenced);
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
            let count = unsafe { control.area.take(slot, &mut out) };
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
        "mode={:?} operations={operations} hits={hits} drains={drains} answered={} twice={twice} lost={} seconds={:.1}",
        world.linux.mode(),
        world.count.answered.load(Ordering::Relaxed),
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
    let alone = Linux::discover().initial_cpus().len() < 2;
    assert!(alone || !report.contains("Rseq") || number(report, "answered") > 0, "no proxy ever answered: {report}");
}

/// Whether the kernel and libc of this machine let sections be restartable at all.
fn available() -> bool {
    !matches!(Linux::discover().mode(), Mode::Fallback(_))
}

/// Whether this machine has no concurrency ids: a kernel before 6.3, or no registration of libc's.
fn lacks_ids() -> bool {
    std::fs::read("/proc/self/auxv").map_or(true, |auxv| {
        let word = |at: usize| u64::from_ne_bytes(auxv[at..at + 8].try_into().expect("eight bytes"));
        let filled = (0..auxv.len() / 16).find(|pair| word(pair * 16) == 27).map_or(0, |pair| word(pair * 16 + 8));
        filled < 28 || Linux::discover().mode() != Mode::Rseq
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
    if Linux::discover().initial_cpus().len() < 2 {
        return println!("skipped: on one CPU the drainer hardly ever meets a section");
    }
    for mode in ["auto", "cid", "off"] {
        let report = report(&[("KMEM_RSEQ", mode), ("KMEM_STRESS_NO_FENCE", "1"), ("KMEM_STRESS_SECONDS", "20")]);
        assert!(number(&report, "twice") > 0, "KMEM_RSEQ={mode}: {report}");
    }
}
