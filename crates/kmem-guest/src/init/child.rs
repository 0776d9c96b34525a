//! Programs that run for a limited time.
//!
//! Their output goes to files, so that no program waits for a reader, and no thread is needed.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The mode that a program is to run in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Rseq,
    /// Own registration.
    Own,
    Cid,
    Fallback,
}

impl Mode {
    /// Its name in `kmem info` and in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rseq => "rseq",
            Self::Own => "own",
            Self::Cid => "cid",
            Self::Fallback => "fallback",
        }
    }

    /// A command in this mode. The fallback is the result of telling glibc not to register rseq.
    pub fn command(self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/bin");
        match self {
            Self::Rseq => &mut command,
            Self::Own => command.env("GLIBC_TUNABLES", "glibc.pthread.rseq=0").env("KMEM_RSEQ", "own"),
            Self::Cid => command.env("KMEM_RSEQ", "cid"),
            Self::Fallback => command.env("GLIBC_TUNABLES", "glibc.pthread.rseq=0"),
        };
        command
    }
}

/// A program that runs, and is killed when this is dropped.
pub struct Running {
    pub child: Child,
    what: String,
    out: File,
    err: File,
}

impl Running {
    /// Starts a program, in the control group whose `cgroup.procs` is given, if any.
    pub fn start(mut command: Command, group: Option<&str>) -> Result<Self, String> {
        let what = format!("{command:?}");
        let failed = |e: io::Error| format!("{what}: {e}");
        let (out, err) = (scratch("out").map_err(failed)?, scratch("err").map_err(failed)?);
        command.stdout(out.try_clone().map_err(failed)?).stderr(err.try_clone().map_err(failed)?);
        let child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
        if let Some(group) = group {
            fs::write(group, child.id().to_string()).map_err(failed)?;
        }
        Ok(Self { child, what, out, err })
    }

    /// Waits until the program succeeds, and returns its standard output.
    pub fn finish(mut self, limit: Duration) -> Result<String, String> {
        let began = Instant::now();
        drop(self.child.stdin.take());
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if began.elapsed() < limit => thread::sleep(Duration::from_millis(5)),
                Ok(None) => return Err(self.tell(&format!("did not end within {} s", limit.as_secs()))),
                Err(e) => return Err(self.tell(&e.to_string())),
            }
        };
        if !status.success() {
            return Err(self.tell(&status.to_string()));
        }
        Ok(self.printed())
    }

    /// Waits until the program has this many threads, or has ended.
    pub fn until_threads(&self, least: usize) -> Result<(), String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let began = Instant::now();
        while fs::read_dir(&tasks).map_or(least, Iterator::count) < least {
            // If it has ended and was not waited for yet, it has one thread.
            if began.elapsed() > Duration::from_secs(30) {
                return Err(self.tell(&format!("does not have {least} threads after 30 s")));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Its standard output so far.
    pub fn printed(&self) -> String {
        text(&self.out)
    }

    /// A failure, with all output of the program.
    fn tell(&self, why: &str) -> String {
        format!("{}: {why}\n{}\n{}", self.what, text(&self.out), text(&self.err))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end.
pub fn run(command: Command, limit: Duration) -> Result<String, String> {
    Running::start(command, None)?.finish(limit)
}

/// A file without a name.
fn scratch(name: &str) -> io::Result<File> {
    let path = format!("/tmp/{name}");
    let file = File::options().create_new(true).read(true).append(true).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// The contents of a file. The program appends to it, regardless of the position that it shares with this process.
fn text(mut file: &File) -> String {
    let _ = file.rewind();
    io::read_to_string(file).unwrap_or_default()
}
