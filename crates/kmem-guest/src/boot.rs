//! One guest: an emulator, its serial line and a time limit.
//!
//! The guest prints `ready` and waits for a line; then it prints `check NAME: ok: ...` or `check NAME: FAILED: ...` for
//! each check, perhaps a `sample {...}` of what it measures, and ends with `verdict: N held, M failed`. A guest without
//! a verdict has failed, whatever it printed before: it hung, panicked, or never started.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::arch::Arch;

/// How much the emulator executes before it checks for interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Pace {
    /// A translated block.
    Blocks,
    /// One instruction.
    Steps,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocks => "blocks",
            Self::Steps => "steps",
        })
    }
}

/// The configuration of a guest.
pub struct Boot {
    pub arch: Arch,
    pub pace: Pace,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub limit: Duration,
    /// How many CPUs, and how many MiB of memory.
    pub size: (usize, usize),
    /// The words for process 1: which checks.
    pub checks: String,
}

impl Boot {
    /// Boots, waits for the verdict, and returns how many checks held, and the samples. The error is the reason, and
    /// everything from the serial line.
    pub fn run(&self) -> Result<(usize, Vec<String>), (String, String)> {
        let began = Instant::now();
        let mut log = String::new();
        let mut emulator = match self.command().spawn() {
            Ok(child) => Emulator(child),
            Err(e) => return Err((format!("{} cannot be started: {e}", self.arch.machine().emulator), log)),
        };
        let serial = emulator.0.stdout.take().expect("the serial line is piped");
        let mut input = emulator.0.stdin.take().expect("the serial line is piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(serial).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        let (mut verdict, mut samples) = (None, Vec::new());
        loop {
            match lines.recv_timeout(self.limit.saturating_sub(began.elapsed())) {
                Ok(line) => {
                    if line == "ready" {
                        if self.pace == Pace::Steps
                            && let Err(e) = self.step_from_now_on()
                        {
                            return Err((format!("the emulator cannot be switched to single instructions: {e}"), log));
                        }
                        let _ = input.write_all(b"go\n"); // a guest that has ended has no verdict
                    }
                    if let Some(words) = line.strip_prefix("verdict: ") {
                        verdict = Some(words.to_owned());
                    }
                    if line.starts_with("check ") || line.starts_with("verdict: ") {
                        println!("guest {:<6} {:>5.1} s  {line}", self.pace, began.elapsed().as_secs_f64());
                    }
                    if let Some(sample) = line.strip_prefix("sample ") {
                        samples.push(sample.to_owned());
                    }
                    log.push_str(&line);
                    log.push('\n');
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err((format!("no verdict within {} s", self.limit.as_secs()), log));
                }
            }
        }
        let Some(words) = verdict else { return Err(("the guest ended without a verdict".into(), log)) };
        match words.strip_suffix(" held, 0 failed").and_then(|held| held.parse().ok()) {
            Some(held) => Ok((held, samples)),
            None => Err((words, log)),
        }
    }

    fn command(&self) -> Command {
        let machine = self.arch.machine();
        let mut command = Command::new(machine.emulator);
        // With `thread=multi` times vary by a factor of ten on a busy host; KVM is not available everywhere.
        let (cpus, memory) = (self.size.0.to_string(), self.size.1.to_string());
        command.args(["-accel", "tcg,thread=single", "-m", &memory, "-smp", &cpus]).args(machine.kind);
        command.args(["-nodefaults", "-net", "none", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        command.arg("-monitor").arg(format!("unix:{},server=on,wait=off", self.monitor().display()));
        command.args(["-append", &format!("{} -- {}", machine.kernel_arguments, self.checks)]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    }

    /// The emulator's monitor, a socket.
    fn monitor(&self) -> PathBuf {
        self.kernel.with_file_name(format!("monitor-{}", self.pace))
    }

    /// Switches to one instruction per block. Not from the start, because booting in this way takes minutes. QEMU 8.1
    /// renamed the command.
    fn step_from_now_on(&self) -> io::Result<()> {
        let mut monitor = UnixStream::connect(self.monitor())?;
        monitor.set_read_timeout(Some(Duration::from_secs(10)))?;
        for command in ["", "singlestep on\n", "one-insn-per-tb on\n"] {
            monitor.write_all(command.as_bytes())?;
            if !answer(&mut monitor)?.contains("unknown command") && !command.is_empty() {
                return Ok(());
            }
        }
        Err(io::Error::other("its monitor has neither 'singlestep' nor 'one-insn-per-tb'"))
    }
}

/// The output of the monitor up to its prompt.
fn answer(monitor: &mut UnixStream) -> io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"(qemu) ") {
        monitor.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The emulator's process, killed when this is dropped.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
