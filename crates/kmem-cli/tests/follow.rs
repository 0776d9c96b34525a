//! Memory follows CPUs: a process that loses one releases what was cached there within a second, even if it never
//! allocates again; and another process can see it.

mod filled;

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use kmem_bench::cpuset::Cpuset;
use predicates::prelude::*;
use predicates::str::contains;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use filled::{Filled, row, two_cpus};

/// What was cached on a CPU must be released within this time after the CPU went away.
const IN_TIME: Duration = Duration::from_secs(1);

/// Takes the last CPU away with `take`, and checks what becomes of what was cached there.
fn leaves(how: &str, mut filled: Filled, last: u64, take: impl FnOnce(u32)) {
    let before = filled.resident();
    take(filled.pid());
    let took = filled.gone(last);
    // The slabs of the CPU's objects decay in the following turns of upkeep.
    sleep(Duration::from_secs(3));
    let after = filled.resident();
    println!(
        "{how}: CPU {last} left; nothing is cached there after {} ms; resident {before} KiB, then {after} KiB",
        took.as_millis()
    );
    assert!(took <= IN_TIME, "took {took:?}");
    assert!(after < before, "resident {before} KiB, then {after} KiB");
}

#[test]
fn a_cpu_that_taskset_takes_away_gives_back() {
    let Some((first, last)) = two_cpus() else { return println!("skipped: there is one CPU only") };
    let filled = Filled::start("taskset", &[("KMEM_UPKEEP", "always")]);
    leaves("taskset", filled, last, |pid| {
        let status = Command::new("taskset").args(["-acp", &first.to_string(), &pid.to_string()]).output().unwrap();
        assert!(status.status.success(), "{status:?}");
    });
}

/// A process in a cpuset of its own, and the cpuset; `None`, with the reason on standard output, if none can be
/// created. They are dropped in this order, so the process ends before its group.
fn in_cpuset(name: &str, variables: &[(&str, &str)], cpus: &str) -> Option<(Filled, Cpuset)> {
    let skipped = |why: String| println!("skipped: {why}");
    let group = Cpuset::make(cpus).map_err(skipped).ok()?;
    let filled = Filled::start(name, variables);
    let taken = group.take_in(filled.pid()).map_err(|error| format!("{}: {error}", group.path().display()));
    taken.map_err(skipped).ok()?;
    Some((filled, group))
}

#[test]
fn a_cpu_that_leaves_the_cpuset_gives_back() {
    let Some((first, last)) = two_cpus() else { return println!("skipped: there is one CPU only") };
    let always = [("KMEM_UPKEEP", "always")];
    let Some((filled, group)) = in_cpuset("cpuset", &always, &format!("{first},{last}")) else { return };
    leaves("cpuset", filled, last, |_| group.set(&first.to_string()).unwrap());
}

/// Lets this thread, and programs that it starts, run on these CPUs only.
fn run_on(cpus: &[u64]) {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu as usize));
    sched_setaffinity(None, &set).unwrap();
}

/// A CPU on which a program was for a moment, shorter than a period of upkeep, is told to be gone like any other.
#[test]
fn a_cpu_that_came_and_left_between_two_pages_is_gone() {
    let Some((first, last)) = two_cpus() else { return println!("skipped: there is one CPU only") };
    run_on(&[first]);
    let mut filled = Filled::start("passing", &[("KMEM_UPKEEP", "always")]);
    run_on(&[first, last]);
    let pid = filled.pid().to_string();
    let taskset = |how: &str, cpu: u64| {
        let status = Command::new("taskset").args([how, &cpu.to_string(), &pid]).output().unwrap();
        assert!(status.status.success(), "{status:?}");
    };
    taskset("-acp", first);
    sleep(IN_TIME);
    assert_ne!(row(&filled.info(), last)["state"], "gone");
    taskset("-cp", last);
    // Without restartable sequences a thread asks only now and then which CPU it is on.
    for _ in 0..100 {
        filled.resident();
    }
    taskset("-acp", first);
    filled.gone(last);
}

/// The negative control: if CPUs are not followed, what was cached stays. So the tests above do test the following of
/// CPUs.
#[test]
fn a_cpu_that_leaves_where_none_is_followed_keeps_all() {
    let Some((first, last)) = two_cpus() else { return println!("skipped: there is one CPU only") };
    let fixed = [("KMEM_UPKEEP", "always"), ("KMEM_CPUS", "fixed")];
    let Some((filled, group)) = in_cpuset("fixed", &fixed, &format!("{first},{last}")) else { return };
    let kept = |row: &Value| row["cached_bytes"].as_u64().unwrap_or(0);
    // The first page may be older than the objects that fill the CPU.
    sleep(IN_TIME);
    let before = row(&filled.info(), last);
    assert!(kept(&before) > 0, "{before}");
    group.set(&first.to_string()).unwrap();
    sleep(3 * IN_TIME);
    let info = filled.info();
    let after = row(&info, last);
    assert_eq!(info["follows_cpus"], false);
    assert!(after["state"] != "gone" && 2 * kept(&after) > kept(&before), "{before}, then {after}");
}

#[test]
fn without_upkeep_nothing_is_published_and_info_says_so() {
    let filled = Filled::start("off", &[("KMEM_UPKEEP", "off")]);
    let mut kmem = assert_cmd::Command::new(cargo_bin("kmem"));
    kmem.args(["info", "--from", "page", &filled.pid().to_string()]).assert().failure().stderr(contains("KMEM_UPKEEP"));
}

#[test]
fn a_process_that_is_not_there_or_not_on_kmem_gets_a_clear_error() {
    let kmem = || assert_cmd::Command::new(cargo_bin("kmem"));
    kmem().args(["info", "4194304"]).assert().failure().stderr(contains("no process 4194304"));
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = other.id().to_string();
    kmem().args(["info", &pid]).assert().failure().stderr(contains("does not run on kmem").and(contains("kmem run")));
    other.kill().unwrap();
    other.wait().unwrap();
    // This process has the engine linked in, and uses another malloc.
    let own = std::process::id().to_string();
    kmem().args(["info", &own]).assert().failure().stderr(contains("has not allocated").or(contains("does not run")));
}

#[test]
fn a_trivial_program_has_no_second_thread() {
    let mut kmem = assert_cmd::Command::new(cargo_bin("kmem"));
    kmem.env_remove("KMEM_UPKEEP").args(["run", "--", "grep", "Threads:", "/proc/self/status"]);
    kmem.assert().success().stdout("Threads:\t1\n");
}

#[test]
fn follow_shows_a_line_a_cpu_as_often_as_it_is_told() {
    let filled = Filled::start("follow", &[("KMEM_UPKEEP", "always")]);
    let _ = filled.info();
    let mut kmem = Command::new(cargo_bin("kmem"));
    let pid = filled.pid().to_string();
    let output = kmem.args(["follow", "--json", "--count", "3", "--interval", "50", &pid]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let looks: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 3);
    assert!(looks.iter().all(|look| look["pid"] == filled.pid() && !look["cpus"].as_array().unwrap().is_empty()));
}
