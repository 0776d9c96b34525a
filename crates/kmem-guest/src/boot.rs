//! One guest: an emulator, its serial line, a time limit.
//!
//! The guest says `ready` and waits for a line; then it says `check NAME: ok: ...` or `check NAME: FAILED: ...` for each check and ends with `verdict: N held,
//! M failed`. A guest without a verdict has failed, whatever it said before: it hung, panicked, or never started.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How much the emulator does before it looks for interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// A guest that is to be booted.
pub struct Boot {
    pub pace: Pace,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub limit: Duration,
    /// Run only checks whose name contains this.
    pub only: Option<String>,
}

const EMULATOR: &str = "qemu-system-x86_64";
const CPUS: &str = "4";
const MEMORY: &str = "512";
/// No delays for hardware that is not there; a panic ends the emulator.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 quiet rcupdate.rcu_expedited=1 cpu_init_udelay=0 mce=off";

impl Boot {
    /// Boots, waits for the verdict, and returns how many checks held. Otherwise: why, and all that came over the serial
    /// line.
    pub fn run(&self) -> Result<usize, (String, String)> {
        let began = Instant::now();
        let mut log = String::new();
        let mut emulator = match self.command().spawn() {
            Ok(child) => Emulator(child),
            Err(e) => return Err((format!("{EMULATOR} does not start: {e}"), log)),
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
        let mut verdict = None;
        loop {
            match lines.recv_timeout(self.limit.saturating_sub(began.elapsed())) {
                Ok(line) => {
                    if line == "ready" {
                        if self.pace == Pace::Steps
                            && let Err(e) = self.step_from_now_on()
                        {
                            return Err((format!("the emulator does not take single steps: {e}"), log));
                        }
                        let _ = input.write_all(b"go\n"); // a guest that is gone has no verdict
                    }
                    if let Some(words) = line.strip_prefix("verdict: ") {
                        verdict = Some(words.to_owned());
                    }
                    if line.starts_with("check ") || line.starts_with("verdict: ") {
                        println!("guest {:<6} {:>5.1} s  {line}", self.pace, began.elapsed().as_secs_f64());
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
            Some(held) => Ok(held),
            None => Err((words, log)),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(EMULATOR);
        // In `thread=multi` times vary by a factor of ten where the host is busy; KVM is not everywhere what it seems.
        command.args(["-accel", "tcg,thread=single", "-M", "pc", "-cpu", "max", "-m", MEMORY, "-smp", CPUS]);
        command.args(["-nodefaults", "-net", "none", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        command.arg("-monitor").arg(format!("unix:{},server=on,wait=off", self.monitor().display()));
        let only = self.only.as_deref().unwrap_or_default();
        command.args(["-append", &format!("{KERNEL_ARGUMENTS} -- {} {only}", self.pace)]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    }

    /// The emulator's own console, a socket.
    fn monitor(&self) -> PathBuf {
        self.kernel.with_file_name(format!("monitor-{}", self.pace))
    }

    /// One instruction a block. Not from the start: to boot so takes minutes. The command was renamed in QEMU 8.1.
    fn step_from_now_on(&self) -> io::Result<()> {
        let mut monitor = UnixStream::connect(self.monitor())?;
        monitor.set_read_timeout(Some(Duration::from_secs(10)))?;
        for command in ["", "singlestep on\n", "one-insn-per-tb on\n"] {
            monitor.write_all(command.as_bytes())?;
            if !answer(&mut monitor)?.contains("unknown command") && !command.is_empty() {
                return Ok(());
            }
        }
        Err(io::Error::other("its monitor knows neither 'singlestep' nor 'one-insn-per-tb'"))
    }
}

/// What the monitor says up to its prompt.
fn answer(monitor: &mut UnixStream) -> io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"(qemu) ") {
        monitor.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Ends with whoever waits for it.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
