//! `kmem run`: runs an unmodified program on kmem.
//!
//! The command finds `libkmem_malloc.so` ([`crate::library`]), prepends it to `LD_PRELOAD`, passes options to the
//! library in its environment (`KMEM_STATS`, `KMEM_STORM`, and what checks memory), and then *becomes* the program by
//! `execvp`. Nothing remains between the program and its caller: process id, terminal, exit code and signals are the
//! program's own. Only if it was asked for reports with stacks (`--debug`, `--guard`, `--leaks`) does it stay, as the
//! program's parent, to name the places in them ([`supervise`]).
//!
//! A program that the library cannot be preloaded into ([`crate::loadable`]) runs on its own malloc, and a program in
//! the fallback mode is slower than it could be. A line on standard error says so in both cases, unless `--quiet` is
//! given. The mode is determined in this process: the program inherits everything that it depends on.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Args;
use kmem::Mode;

use crate::library::{self, SetupError};
use crate::loadable::obstacle;
use crate::supervise;

/// The program was not started, because this command failed (the code of env(1), nohup(1) and timeout(1)).
pub const EXIT_SETUP: u8 = 125;
/// The program exists but cannot be executed.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The program does not exist.
const EXIT_NOT_FOUND: u8 = 127;

/// Arguments of `kmem run`.
#[derive(Args)]
pub struct RunArgs {
    /// Inside the program, constantly take CPUs down and up, and create and destroy N caches a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    storm: Option<u32>,
    /// Print the slab table on standard error when the program ends
    #[arg(long)]
    stats: bool,
    /// Check every allocation and free: letters of FZPUTQM, then names of caches after a comma (KMEM_DEBUG)
    #[arg(long, value_name = "LETTERS")]
    debug: Option<String>,
    /// Harden all memory (KMEM_SECURE)
    #[arg(long)]
    secure: bool,
    /// Put one allocation in N between guard pages (KMEM_GUARD)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    guard: Option<u32>,
    /// List what is lost when the program ends (KMEM_LEAKS)
    #[arg(long)]
    leaks: bool,
    /// Do not warn if the program runs on its own malloc or in the fallback mode
    #[arg(short, long)]
    quiet: bool,
    /// The program and its arguments, after `--`
    #[arg(value_name = "PROGRAM ARGS", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

/// Becomes the program, or is its parent for as long as its reports need a filter.
pub fn run(args: &RunArgs) -> ExitCode {
    let mut command = match served(&args.program) {
        Ok(command) => command,
        Err(e) => {
            eprintln!("kmem run: {e}");
            return ExitCode::from(EXIT_SETUP);
        }
    };
    if args.stats {
        command.env("KMEM_STATS", "1");
    }
    if let Some(caches) = args.storm {
        command.env("KMEM_STORM", caches.to_string());
    }
    if let Some(warning) = (!args.quiet).then(|| warning(&args.program[0])).flatten() {
        eprintln!("kmem run: {warning}");
    }
    let error = if check(args, &mut command) {
        match supervise::run(&mut command) {
            Ok(code) => return code,
            Err(error) => error,
        }
    } else {
        command.exec()
    };
    say_not_started("run", &args.program[0], &error)
}

/// Has memory checked as the arguments say. Returns whether that leads to reports with places to be named.
fn check(args: &RunArgs, command: &mut Command) -> bool {
    if let Some(letters) = &args.debug {
        command.env("KMEM_DEBUG", letters);
    }
    if args.secure {
        command.env("KMEM_SECURE", "1");
    }
    if let Some(rate) = args.guard {
        command.env("KMEM_GUARD", format!("1/{rate}"));
    }
    if args.leaks {
        command.env("KMEM_LEAKS", "1");
    }
    args.debug.is_some() || args.guard.is_some() || args.leaks
}

/// What the caller should know about the malloc that the program will run on.
fn warning(program: &OsStr) -> Option<String> {
    if let Some(obstacle) = obstacle(program) {
        return Some(obstacle.to_string());
    }
    match kmem::info().mode {
        mode @ Mode::Fallback(_) => Some(mode.to_string()),
        _ => None,
    }
}

/// The command that runs the program with the library preloaded.
pub fn served(program: &[OsString]) -> Result<Command, SetupError> {
    let preload = library::find().and_then(|library| library::preload_list(&library))?;
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).env("LD_PRELOAD", preload);
    Ok(command)
}

/// Reports why a program did not start, and returns the exit code for it.
pub fn say_not_started(command: &str, program: &OsStr, error: &io::Error) -> ExitCode {
    let shown = Path::new(program).display();
    if error.kind() == io::ErrorKind::NotFound {
        eprintln!("kmem {command}: {shown}: not found, nor on PATH; give the path of a program");
        ExitCode::from(EXIT_NOT_FOUND)
    } else {
        eprintln!("kmem {command}: {shown}: cannot be executed: {error}");
        ExitCode::from(EXIT_NOT_EXECUTABLE)
    }
}
