//! Runs a program whose standard error passes through the filter of `kmem symbolize`, and returns after both ended.
//!
//! Otherwise `kmem run` becomes the program. A filter beside it would then outlive the program, so a caller that reads
//! the report as soon as the program has ended could find half of it. Here `kmem run` stays, as the program's parent:
//!
//! - It passes on the signals that ask a process to end, to reload or to report. A terminal sends SIGINT and SIGQUIT to
//!   both processes, so `kmem run` only survives these, as make(1) and system(3) do.
//! - Its exit code is the program's, or 128 plus the signal that killed the program, as in a shell.
//! - A process that the program left behind may hold the standard error for as long as it lives. `kmem run` waits for
//!   what such a process writes only until there is a pause.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::symbolize::Filter;

const PASSED_ON: [i32; 4] = [SIGTERM, SIGHUP, SIGUSR1, SIGUSR2];
const SURVIVED: [i32; 2] = [SIGINT, SIGQUIT];
/// The program's end is noticed within this time, if its standard error stays open.
const LOOK: Duration = Duration::from_millis(50);
/// How long a pause ends the wait for processes that the program left behind.
const PAUSE: Duration = Duration::from_millis(500);
/// Pieces of text that may wait for the filter.
const WAITING: usize = 64;
const PIECE: usize = 4096;

/// Runs the program. An error means that it did not start.
pub fn run(command: &mut Command) -> io::Result<ExitCode> {
    let mut signals = Signals::new(PASSED_ON.iter().chain(&SURVIVED))?;
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let program = Pid::from_child(&child);
    let handle = signals.handle();
    let passing = thread::spawn(move || {
        for signal in signals.forever().filter(|signal| PASSED_ON.contains(signal)) {
            if let Some(signal) = Signal::from_named_raw(signal) {
                // The process may have ended. Until it is waited for, below, its id is no other's.
                let _ = kill_process(program, signal);
            }
        }
    });
    let pipe = child.stderr.take().expect("standard error is a pipe");
    let (sender, pieces) = mpsc::sync_channel(WAITING);
    thread::spawn(move || read(pipe, &sender));
    filter(&pieces, program);
    // Whoever still writes gets what a closed pipe gives, as without the filter.
    drop(pieces);
    // Waits without taking the status, so that the id stays the program's for as long as signals are passed on.
    let _ = waitid(WaitId::Pid(program), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    handle.close();
    // The thread has no state to lose.
    let _ = passing.join();
    child.wait().map(code_of)
}

/// Sends on what comes, until the pipe or the filter is closed.
fn read(mut pipe: ChildStderr, sender: &SyncSender<Vec<u8>>) {
    loop {
        let mut piece = vec![0; PIECE];
        match pipe.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                piece.truncate(count);
                if sender.send(piece).is_err() {
                    return;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Writes what comes to standard error, with places named, until all writers are gone or only others than the program
/// are left and are silent.
fn filter(pieces: &Receiver<Vec<u8>>, program: Pid) {
    let mut filter = Filter::default();
    loop {
        let ended = has_ended(program);
        match pieces.recv_timeout(if ended { PAUSE } else { LOOK }) {
            Ok(piece) => {
                if io::stderr().write_all(&filter.pass(&piece)).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) if !ended => {}
            Err(_) => return,
        }
    }
}

fn has_ended(program: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    !matches!(waitid(WaitId::Pid(program), options), Ok(None))
}

fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}
