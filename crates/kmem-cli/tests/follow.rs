//! Memory follows CPUs: a process that loses one gives back what was cached there within a second, although it allocates
//! nothing any more; and another process sees it. The process is `tests/bench/leave.c`, which fills every CPU and sleeps.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
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
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_string();
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

/// A control group for one child; it is removed when the test is over.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Group {
    /// A group with these CPUs, or why it cannot be had.
    fn make(cpus: &str) -> Result<Self, String> {
        let name = format!("kmem-test-{}", std::process::id());
        let mut why = String::from("no cpuset controller is mounted below /sys/fs/cgroup");
        for mount in ["/sys/fs/cgroup/cpuset", "/sys/fs/cgroup"] {
            let root = Path::new(mount);
            if !root.join("cpuset.cpus.effective").exists() && !root.join("cpuset.cpus").exists() {
                continue;
            }
            let path = root.join(&name);
            if let Err(error) = fs::create_dir(&path) {
                why = format!("{}: {error}", path.display());
                continue;
            }
            let group = Self(path);
            let mems = fs::read_to_string(root.join("cpuset.mems")).unwrap_or_default();
            // Version 1 wants to know the nodes before it takes a process; version 2 inherits them.
            let _ = fs::write(group.0.join("cpuset.mems"), mems.trim());
            match group.set(cpus) {
                Ok(()) => return Ok(group),
                Err(error) => why = format!("{}/cpuset.cpus: {error}", group.0.display()),
            }
        }
        Err(why)
    }

    fn set(&self, cpus: &str) -> std::io::Result<()> {
        fs::write(self.0.join("cpuset.cpus"), cpus)
    }
}

#[test]
fn a_cpu_that_leaves_the_cpuset_gives_back() {
    let Some((first, last)) = two_cpus() else { return println!("skipped: there is one CPU only") };
    let group = match Group::make(&format!("{first},{last}")) {
        Ok(group) => group,
        Err(why) => return println!("skipped: {why}"),
    };
    let filled = Filled::start("cpuset", &[("KMEM_UPKEEP", "always")]);
    if let Err(error) = fs::write(group.0.join("cgroup.procs"), filled.pid().to_string()) {
        return println!("skipped: a process cannot be moved to {}: {error}", group.0.display());
    }
    // `filled` ends before its group: locals are dropped in reverse order.
    leaves("cpuset", filled, last, |_| group.set(&first.to_string()).unwrap());
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
