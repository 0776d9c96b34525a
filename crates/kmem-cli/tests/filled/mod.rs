//! A process that fills every CPU's cache and sleeps (`tests/bench/leave.c`), and what can be seen of it from outside.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use kmem_bench::cpuset::own_cpus;
use serde_json::Value;

/// The running process; it is killed when the test ends.
pub struct Filled {
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
    pub fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_as(name, variables, |_| ())
    }

    /// The same, with a change to its command.
    pub fn start_as(name: &str, variables: &[(&str, &str)], prepare: impl FnOnce(&mut Command)) -> Self {
        let program = built(name);
        let mut command = Command::new(cargo_bin("kmem"));
        command.args(["run", "--"]).arg(program).args(["1", "4", "1"]);
        command.env_remove("LD_PRELOAD").env_remove("KMEM_UPKEEP").env_remove("KMEM_CPUS");
        command.envs(variables.iter().copied());
        prepare(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut filled = Self { child, input, output };
        assert!(filled.line().starts_with("ready "));
        filled
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// Resident KiB, from the process's smaps.
    pub fn resident(&mut self) -> u64 {
        self.input.write_all(b"\n").unwrap();
        self.line().split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The output of `kmem info PID --json`; waits for the first page.
    pub fn info(&self) -> Value {
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

    /// How long it takes until nothing is cached on a CPU and its state is gone.
    pub fn gone(&self, cpu: u64) -> Duration {
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

pub fn row(info: &Value, cpu: u64) -> Value {
    let rows = info["cpus"].as_array().unwrap();
    rows.iter().find(|row| row["cpu"] == cpu).cloned().unwrap_or(Value::Null)
}

/// The program, built for one test.
pub fn built(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bench/leave.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("leave-{name}"));
    let status = Command::new("cc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(status.success());
    program
}

/// The first and the last of the CPUs that this test may run on; `None` where there is only one.
pub fn two_cpus() -> Option<(u64, u64)> {
    let list = own_cpus().unwrap();
    let number = |text: &str| text.parse().unwrap();
    let first = number(list.split(['-', ',']).next().unwrap());
    let last = number(list.rsplit(['-', ',']).next().unwrap());
    (first != last).then_some((first, last))
}
