//! Checks that what was cached on a CPU that goes away is released within a second.
//!
//! An ordinary program, a Perl script that endlessly creates and drops strings and hashes, runs on kmem and is kept on
//! one CPU, so that objects are cached there. Then the CPU goes away, the kernel moves the program to another one,
//! where it continues, and nothing runs on that CPU. `kmem info`, which does not affect the program, must report that
//! the CPU is gone and that nothing is cached there. (A CPU that is only idle is soon drained by age, but not gone.)
//! When the CPU is back, the program works there again, and objects are cached there again.
//!
//! The script rests for a millisecond after each hash. The emulator executes one CPU at a time, and leaves one that
//! never rests only after a tenth of a second: each fence would wait for that.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use super::child::{self, Mode, Running};
use super::cpus::{self, Set, Way};

const SCRIPT: &str =
    r#"while (1) { my %all = map { $_ => "x" x ($_ % 300) } 1 .. 1000; select undef, undef, undef, 0.001 }"#;
/// The time that kmem promises.
const PROMPT: Duration = Duration::from_secs(1);
/// The guest's clock runs on while its host is busy with other things, so a late release is tried again.
const TRIES: usize = 3;
/// The time limit for anything else that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Memory follows the CPUs of a program.
pub fn follows(mode: Mode, way: Way) -> Result<String, String> {
    let set = Set::new("followed").map_err(|e| format!("a cpuset cannot be made: {e}"))?;
    let mut command = mode.command("/bin/kmem", &["run", "--", "/bin/perl", "-e", SCRIPT]);
    // Otherwise a small program with one thread would do its upkeep itself.
    command.env("KMEM_UPKEEP", "always");
    let program = Program(Running::start(command, Some(&set.members()))?);
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    for leaving in [vec![3], vec![1, 2], vec![2], vec![3, 1]] {
        let mut took = Duration::MAX;
        for _ in 0..TRIES {
            let (bytes, once) = program.lose(way, &set, &leaving)?;
            (most, took) = (most.max(bytes), took.min(once));
            if took <= PROMPT {
                break;
            }
        }
        slowest = slowest.max(took);
    }
    let words = format!("up to {most} bytes on CPUs that went away were released within {} ms", slowest.as_millis());
    if slowest > PROMPT { Err(words) } else { Ok(words) }
}

fn leave(way: Way, set: &Set, cpus: &[usize]) -> Result<(), String> {
    match way {
        Way::Hotplug => cpus.iter().try_for_each(|&cpu| cpus::set_online(cpu, false)),
        Way::Cpuset => {
            let rest = (0..=cpus::LAST).filter(|cpu| !cpus.contains(cpu)).map(|cpu| cpu.to_string());
            set.allow(&rest.collect::<Vec<_>>().join(","))
        }
    }
    .map_err(|e| format!("CPUs {cpus:?} cannot be taken away: {e}"))
}

fn come_back(way: Way, set: &Set, cpus: &[usize]) -> Result<(), String> {
    match way {
        Way::Hotplug => cpus.iter().try_for_each(|&cpu| cpus::set_online(cpu, true)),
        Way::Cpuset => set.allow(&format!("0-{}", cpus::LAST)),
    }
    .map_err(|e| format!("CPUs {cpus:?} cannot be brought back: {e}"))
}

/// The script.
struct Program(Running);

impl Program {
    /// Takes some CPUs away, including the one that the script works on, and brings them back. Returns how many bytes
    /// were cached there, and how long it took until none were.
    fn lose(&self, way: Way, set: &Set, leaving: &[usize]) -> Result<(u64, Duration), String> {
        let kept = leaving[leaving.len() - 1];
        self.keep_on(kept)?;
        let (before, _) = self.until("something is cached where it works", |cpus| cpus[kept].bytes > 0)?;
        leave(way, set, leaving)?;
        let began = Instant::now();
        // A CPU that it never worked on need not become gone, because nothing is cached there.
        let (_, written) = self.until("nothing is cached on CPUs that left, and they alone are gone", |cpus| {
            let empty = leaving.iter().all(|&cpu| cpus[cpu].bytes == 0);
            empty && cpus[kept].gone && cpus.iter().enumerate().all(|(cpu, seen)| !seen.gone || leaving.contains(&cpu))
        })?;
        come_back(way, set, leaving)?;
        self.keep_on(kept)?;
        self.until("something is cached again where it works again", |cpus| cpus[kept].bytes > 0)?;
        Ok((before[kept].bytes, written.saturating_duration_since(began)))
    }

    /// Keeps the script on one CPU, as long as that CPU exists. The script is one thread; upkeep is another.
    fn keep_on(&self, cpu: usize) -> Result<(), String> {
        let mut there = CpuSet::new();
        there.set(cpu);
        let pid = Pid::from_raw(self.0.child.id() as i32);
        sched_setaffinity(pid, &there).map_err(|e| format!("the program cannot be moved to CPU {cpu}: {e}"))
    }

    /// Polls the CPUs until they are as they should be, and returns when that was published.
    fn until(&self, what: &str, right: impl Fn(&[Seen]) -> bool) -> Result<(Vec<Seen>, Instant), String> {
        let began = Instant::now();
        loop {
            let seen = self.look();
            match &seen {
                Ok((cpus, _)) if right(cpus) => return seen,
                _ if began.elapsed() > PATIENCE => {
                    return Err(format!("not within {} s: {what}: {seen:?}", PATIENCE.as_secs()));
                }
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// The published state of each CPU, and when it was published.
    fn look(&self) -> Result<(Vec<Seen>, Instant), String> {
        let pid = self.0.child.id().to_string();
        let printed = child::run(Mode::Rseq.command("/bin/kmem", &["info", &pid, "--json"]), PATIENCE)?;
        let now = Instant::now();
        let told: Value = serde_json::from_str(&printed).map_err(|e| format!("{e}: {printed}"))?;
        let mut seen = vec![Seen { bytes: 0, gone: false }; cpus::LAST + 1];
        for row in told["cpus"].as_array().ok_or_else(|| format!("no 'cpus' in {printed}"))? {
            let (Some(cpu), Some(bytes), Some(state)) =
                (row["cpu"].as_u64(), row["cached_bytes"].as_u64(), row["state"].as_str())
            else {
                return Err(format!("a CPU without number, bytes or state in {printed}"));
            };
            *seen.get_mut(cpu as usize).ok_or_else(|| format!("CPU {cpu} in {printed}"))? =
                Seen { bytes, gone: state == GONE };
        }
        let age = told["seconds_ago"].as_f64().ok_or_else(|| format!("no 'seconds_ago' in {printed}"))?;
        Ok((seen, now - Duration::from_secs_f64(age.max(0.0))))
    }
}

/// The state of a CPU that went away, in `kmem info`.
const GONE: &str = "gone";

/// The published state of a CPU.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Bytes that are cached there.
    bytes: u64,
    gone: bool,
}
