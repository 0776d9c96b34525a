//! Memory follows CPUs: a process that loses one gives back what was cached there within a second, although it allocates
//! nothing any more; and another process sees it. The process is `tests/bench/leave.c`, which fills every CPU and sleeps.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use kmem_bench::cpuset::{Cpuset, own_cpus};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

/// What was cached has to be back within this time after the CPU left.
const IN_TIME: Duration = Duration::from_secs(1);

/// A running process; it is killed when the test is over.
struct Filled {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Filled {
    /// Starts the program, whose first line says that its CPUs are full.
    fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        let program = built(name);
        let mut command = Command::new(cargo_bin("kmem"));
        command.args(["run", "--"]).arg(program).args(["1", "4", "1"]);
        command.env_remove("LD_PRELOAD").env_remove("KMEM_UPKEEP").env_remove("KMEM_CPUS");
        command.envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut filled = Self { child, input, output };
        assert!(filled.line().starts_with("ready "));
        filled
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// KiB that are resident, as the process's smaps say.
    fn resident(&mut self) -> u64 {
        self.input.write_all(b"\n").unwrap();
        self.line().split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `kmem info PID --json` says; waits for the first page.
    fn info(&self) -> Value {
        let since = Instant::now();
        loop {
            let mut kmem = Command::new(cargo_bin("kmem"));
            let output = kmem.args(["info", "--json", &self.pid().to_string()]).output().unwrap();
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).unwrap();
            }
            assert!(since.elapsed() < Duration::from_secs(5), "{}", String::from_utf8_lossy(&output.stderr));
            sleep(Duration::from_millis(20));
        }
    }

    /// How long it took until nothing is cached on a CPU and it is held to be gone.
    fn gone(&self, cpu: u64) -> Duration {
        let since = Instant::now();
        loop {
            let row = row(&self.info(), cpu);
            if row["state"] == "gone" && row["cached_bytes"] == 0 && row["cached_objects"] == 0 {
                return since.elapsed();
            }
            assert!(since.elapsed() < Duration::from_secs(10), "CPU {cpu} keeps {row}");
            sleep(Duration::from_millis(10));
        }
    }
}

fn row(info: &Value, cpu: u64) -> Value {
    let rows = info["cpus"].as_array().unwrap();
    rows.iter().find(|row| row["cpu"] == cpu).cloned().unwrap_or(Value::Null)
}

/// The program, built for one test.
fn built(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bench/leave.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("leave-{name}"));
    let status = Command::new("cc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(status.success());
    program
}

/// The first and the last of the CPUs that this test may run on; `None` where there is only one.
fn two_cpus() -> Option<(u64, u64)> {
    let list = own_cpus().unwrap();
    let number = |text: &str| text.parse().unwrap();
    let first = number(list.split(['-', ',']).next().unwrap());
    let last = number(list.rsplit(['-', ',']).next().unwrap());
    (first != last).then_some((first, last))
}

/// Takes the last CPU away by `take`, and sees what becomes of what was cached there.
fn leaves(how: &str, mut filled: Filled, last: u64, take: impl FnOnce(u32)) {
    let before = filled.resident();
    take(filled.pid());
    let took = filled.gone(last);
    // The slabs that the CPU's objects came back to decay in the turns after.
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

/// A process in a cpuset of its own, and that; `None`, with the reason on standard output, where it cannot be had. The
/// process ends before its group: they are dropped in this order.
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

/// The negative control: where CPUs are not followed what was cached stays, so the tests above see the follower.
#[test]
fn a_cpu_that_leaves_where_none_is_followed_keeps_all() {
    let Some((first, last)) = two_cpus() else { return println!("skipped: there is one CPU only") };
    let fixed = [("KMEM_UPKEEP", "always"), ("KMEM_CPUS", "fixed")];
    let Some((filled, group)) = in_cpuset("fixed", &fixed, &format!("{first},{last}")) else { return };
    let kept = |row: &Value| row["cached_bytes"].as_u64().unwrap_or(0);
    // The first page may be older than what fills the CPU.
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
    kmem.args(["info", &filled.pid().to_string()]).assert().failure().stderr(contains("KMEM_UPKEEP"));
}

#[test]
fn a_process_that_is_not_there_or_not_on_kmem_gets_a_clear_error() {
    let kmem = || assert_cmd::Command::new(cargo_bin("kmem"));
    kmem().args(["info", "4194304"]).assert().failure().stderr(contains("no process 4194304"));
    let own = std::process::id().to_string();
    kmem().args(["info", &own]).assert().failure().stderr(contains("not on kmem").and(contains("kmem run")));
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
