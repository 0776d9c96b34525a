//! Running storms: schedulers, seeds, and what is left of a storm that failed.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::{Config, FailurePersistence, Runner};

/// The seed of a run that is given none.
const SEED: u64 = 52_930_067;

/// How schedules are chosen.
pub enum Scheduler {
    Random,
    Pct { depth: usize },
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// Whether somebody asked for few storms, or for one.
pub fn is_short() -> bool {
    number("KMEM_STORMS").is_some() || std::env::var_os("KMEM_REPLAY").is_some()
}

/// Where schedules that failed are left.
fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("shuttle");
    fs::create_dir_all(&folder).expect("a folder for schedules");
    folder
}

fn config() -> Config {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::File(Some(folder()));
    config.silence_warnings = true;
    config.stack_size = 256 << 10;
    config
}

/// Runs `storm` on `count` schedules, or on the one of `KMEM_REPLAY`.
pub fn run(name: &str, scheduler: Scheduler, count: usize, storm: impl Fn() + Send + Sync + 'static) {
    let count = number("KMEM_STORMS").unwrap_or(count);
    let seed = number("SHUTTLE_RANDOM_SEED").map_or(SEED, |seed| seed as u64);
    let begun = Instant::now();
    if let Some(schedule) = std::env::var_os("KMEM_REPLAY") {
        let scheduler = ReplayScheduler::new_from_file(schedule).expect("a file with a schedule");
        Runner::new(scheduler, config()).run(storm);
        return;
    }
    println!("{name}: seed {seed}, again with SHUTTLE_RANDOM_SEED={seed}");
    match scheduler {
        Scheduler::Random => Runner::new(RandomScheduler::new_from_seed(seed, count), config()).run(storm),
        Scheduler::Pct { depth } => Runner::new(PctScheduler::new_from_seed(seed, depth, count), config()).run(storm),
    };
    println!("{name}: {count} schedules, {:.1} s", begun.elapsed().as_secs_f64());
}

/// Runs what must fail: how it did, and the file with its schedule, which it knows by its being new. So one such run is
/// at a time: shuttle has one folder for a process.
pub fn caught(run: impl FnOnce()) -> (String, Option<PathBuf>) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|dead| dead.into_inner());
    let before = schedules();
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a run that fails");
    let said =
        panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|said| said.to_string()));
    // Addresses are of one process, and of one run in it.
    let said = said
        .unwrap_or_default()
        .split_whitespace()
        .filter(|word| !word.starts_with("0x"))
        .collect::<Vec<_>>()
        .join(" ");
    (said, schedules().into_iter().find(|file| !before.contains(file)))
}

fn schedules() -> Vec<PathBuf> {
    fs::read_dir(folder()).expect("the folder").flatten().map(|file| file.path()).collect()
}
