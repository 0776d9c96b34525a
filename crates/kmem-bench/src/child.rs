//! One process that is measured: it is started in an environment without settings of allocators, has a time limit, and
//! never outlives its measurement.
//!
//! The child leads a process group of its own, and the kernel kills it when the thread that started it ends: neither a
//! run that hangs nor an interrupted command leaves a process behind. The last line of its standard error says why a
//! run failed.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, set_parent_process_death_signal};

/// Variables with these prefixes are settings of an allocator or the loader, and are not passed on.
const SETTINGS: [&str; 8] =
    ["LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_", "KMEM_", "MIMALLOC_", "TCMALLOC_", "PYTHONMALLOC", "RUBYOPT"];

/// What is run.
#[derive(Clone)]
pub struct Job {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// In addition to the caller's environment without [`SETTINGS`].
    pub environment: Vec<(String, OsString)>,
    pub patience: Duration,
}

/// What a process that succeeded cost.
pub struct Cost {
    pub wall: Duration,
    /// User and system time of the process and of the children that it waited for.
    pub cpu: Duration,
    /// The peak of its resident memory.
    pub peak_kib: u64,
    pub output: String,
}

/// Why a process has no figures.
#[derive(Debug)]
pub enum Failure {
    NotStarted(PathBuf, io::Error),
    TooLong(Duration),
    Ended(ExitStatus, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(program, e) => write!(f, "cannot start {}: {e}", program.display()),
            Self::TooLong(patience) => write!(f, "did not end within {} s", patience.as_secs()),
            Self::Ended(status, said) => {
                write!(f, "{status}")?;
                match said.lines().rev().find(|line| !line.trim().is_empty()) {
                    Some(line) => write!(f, ": {}", line.trim()),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Job {
    /// Starts the process, with its output in a pipe.
    pub fn start(&self) -> Result<Running, Failure> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if SETTINGS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).process_group(0);
        let die_with_us = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: between fork and exec the closure makes one system call, which is async-signal-safe.
        unsafe { command.pre_exec(die_with_us) };
        let begun = Instant::now();
        let child = command.spawn().map_err(|e| Failure::NotStarted(self.program.clone(), e))?;
        Ok(Running { child: Some(child), begun, patience: self.patience })
    }

    /// Runs the process to its end.
    pub fn run(&self) -> Result<Cost, Failure> {
        self.start()?.finish()
    }
}

/// A process that was started. Dropping it kills it.
pub struct Running {
    child: Option<Child>,
    begun: Instant,
    patience: Duration,
}

impl Running {
    /// Whether the process has ended by now.
    pub fn has_ended(&self) -> bool {
        self.child.as_ref().is_none_or(|child| ended_by(child, Instant::now()))
    }

    /// Kills the process if it still runs. Returns its failure if it ended by itself; being killed here is not one.
    pub fn stop(mut self) -> Result<(), Failure> {
        let killed_by_us = !self.has_ended();
        self.patience = Duration::ZERO;
        match self.finish() {
            Err(failure) if !killed_by_us => Err(failure),
            _ => Ok(()),
        }
    }

    /// Waits for the process to end, within its time limit.
    #[expect(clippy::zombie_processes, reason = "reaped by wait4, which tells what it cost")]
    pub fn finish(mut self) -> Result<Cost, Failure> {
        let mut child = self.child.take().expect("taken here only, and in drop");
        let output = drain(child.stdout.take());
        let said = drain(child.stderr.take());
        let deadline = self.begun + self.patience;
        let in_time = ended_by(&child, deadline);
        let wall = self.begun.elapsed();
        kill_group(&child);
        let (status, cpu, peak_kib) = reap(&child);
        let output = output.join().unwrap_or_default();
        let said = said.join().unwrap_or_default();
        match (in_time, status.success()) {
            (false, _) => Err(Failure::TooLong(self.patience)),
            (true, false) => Err(Failure::Ended(status, said)),
            (true, true) => Ok(Cost { wall, cpu, peak_kib, output }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            kill_group(&child);
            reap(&child);
        }
    }
}

/// Reads a pipe to its end while the process runs, so that the process never blocks on it.
fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // After an error, what came before it is the output.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether the process ended before the deadline. It stays a zombie, so its number is not reused.
fn ended_by(child: &Child, deadline: Instant) -> bool {
    let Ok(ended) = pidfd_open(pid(child), PidfdFlags::empty()) else { return true };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&timeout)) {
            Ok(events) => return events > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// Kills the child, if it still runs, and everything that it left running in its group.
fn kill_group(child: &Child) {
    // An empty group is no error.
    let _ = kill_process_group(pid(child), Signal::KILL);
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Status, processor time and peak memory of a child that ended or was killed. Called once for each.
fn reap(child: &Child) -> (ExitStatus, Duration, u64) {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to our own variables. The child was not waited for yet, so its number is not
        // reused.
        let got = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) };
        if got >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    // SAFETY: all zeros is a valid rusage, and wait4 writes a whole one.
    let usage = unsafe { usage.assume_init() };
    let span = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    (ExitStatus::from_raw(status), span(usage.ru_utime) + span(usage.ru_stime), usage.ru_maxrss as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Job {
        let arguments = vec!["-c".into(), script.into()];
        Job { program: "/bin/sh".into(), arguments, environment: vec![("WHO".into(), "kmem".into())], patience }
    }

    #[test]
    fn output_and_cost_are_the_childs() {
        let cost = shell("echo $WHO; echo noise >&2", Duration::from_secs(20)).run().unwrap();
        assert_eq!(cost.output, "kmem\n");
        assert!(cost.peak_kib > 0 && cost.wall > Duration::ZERO);
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let Err(failure) = shell("echo first; echo last words >&2; exit 3", Duration::from_secs(20)).run() else {
            panic!("exit 3 is a failure")
        };
        assert_eq!(failure.to_string(), "exit status: 3: last words");
        let Err(failure) = shell("kill -SEGV $$", Duration::from_secs(20)).run() else {
            panic!("a crash is a failure")
        };
        assert!(failure.to_string().contains("signal: 11"), "{failure}");
    }

    #[test]
    fn a_process_that_hangs_is_killed_with_its_children() {
        let begun = Instant::now();
        let Err(failure) = shell("sleep 600 & echo $!; wait", Duration::from_millis(300)).run() else {
            panic!("ten minutes are too long")
        };
        assert!(matches!(failure, Failure::TooLong(_)));
        // Both pipes were closed, by the sleeper too; otherwise `run` would still wait for their end.
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
