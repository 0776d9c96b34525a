//! The program of `held.c`, running on kmem.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// The running program; it is killed when the test ends.
pub struct Held {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, built once.
pub fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/held/held.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("held-{}", std::process::id()));
        let status = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&program).arg(source).status().unwrap();
        assert!(status.success());
        program
    })
}

impl Held {
    /// Starts it on kmem, with these variables.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(cargo_bin("kmem"));
        command.args(["run", "--quiet", "--"]).arg(built());
        command.env_remove("LD_PRELOAD").env_remove("KMEM_UPKEEP").env_remove("KMEM_CPUS");
        Self::of(command.envs(variables.iter().copied()))
    }

    /// The same by this command.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut held = Self { child, input, output };
        assert_eq!(held.line(), "ready\n");
        held
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// Takes a step.
    pub fn step(&mut self, what: &str) {
        self.input.write_all(what.as_bytes()).unwrap();
        assert_eq!(self.line(), "done\n");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The output of one of our commands; `PID` stands for the program's.
    pub fn asked(&self, command: &str) -> Output {
        let pid = self.pid().to_string();
        let words = command.split(' ').map(|word| if word == "PID" { &pid } else { word });
        Command::new(cargo_bin("kmem")).args(words).output().unwrap()
    }

    /// What `kmem info PID --json` says by one source.
    pub fn info(&self, source: &str) -> Value {
        let since = Instant::now();
        loop {
            let output = self.asked(&format!("info PID --json --from {source}"));
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).unwrap();
            }
            assert!(since.elapsed() < Duration::from_secs(5), "{}", String::from_utf8_lossy(&output.stderr));
            sleep(Duration::from_millis(20));
        }
    }
}

/// A figure of a cache; 0 if it is not listed.
pub fn figure(info: &Value, cache: &str, figure: &str) -> u64 {
    let caches = info["caches"].as_array().unwrap();
    caches.iter().find(|row| row["name"] == cache).map_or(0, |row| row[figure].as_u64().unwrap())
}

/// Large blocks from this many bytes on up to twice as many: how many, and their bytes.
pub fn large(info: &Value, from: u64) -> (u64, u64) {
    let rows = info["large"].as_array().unwrap();
    let row = rows.iter().find(|row| row["from_bytes"] == from);
    row.map_or((0, 0), |row| (row["blocks"].as_u64().unwrap(), row["bytes"].as_u64().unwrap()))
}
