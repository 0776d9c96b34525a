//! `kmem top`: what a running process holds, live, with the habits of slabtop.
//!
//! A row a cache and a row for each length of large blocks, sorted by slabtop's letters, and above them the sums. Rows
//! with more in use than at the start are marked. Without a process it lists those that run on kmem, to choose one. In
//! a pipe, or with `--once`, it prints one look as plain text.
//!
//! The process is read as `kmem info PID` reads it ([`inspect`](crate::inspect)); it is not stopped. The terminal is
//! put back as it was however the command ends: by a key, by a signal, because the process ended, or by a panic.

#![forbid(unsafe_code)]

mod choice;
mod screen;
mod view;

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::inspect::inspect;
use crate::interrupt::EXIT_STOPPED;
use crate::remote_status::{OutsideError, is_alive};

use screen::{End, Screen};
use view::{Sort, View};

/// Columns of a look that is printed.
const PRINTED: usize = 80;

/// Arguments of `kmem top`.
#[derive(Args)]
pub struct TopArgs {
    /// A running process on kmem; without it, those that there are, to choose
    #[arg(value_name = "PID")]
    pid: Option<u32>,
    /// Print one look as plain text, and end
    #[arg(short, long)]
    once: bool,
    /// Seconds between looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    delay: u64,
    /// Sort by one of slabtop's letters
    #[arg(short, long, value_name = "LETTER", default_value = "c")]
    sort: Sort,
    /// Show only names that contain this
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Show CPUs instead of caches
    #[arg(long)]
    cpus: bool,
}

/// Shows until a key, a signal or the process ends it.
pub fn top(args: &TopArgs) -> ExitCode {
    let plain = args.once || !stdout().is_terminal();
    if plain {
        return printed(args);
    }
    let mut screen = match Screen::open() {
        Ok(screen) => screen,
        Err(error) => {
            eprintln!("kmem top: the terminal cannot be used: {error}; --once prints one look");
            return ExitCode::FAILURE;
        }
    };
    let end = match args.pid {
        Some(pid) => screen.show(pid, view(args), Duration::from_secs(args.delay)),
        None => match screen.choose(choice::running()) {
            Ok(pid) => screen.show(pid, view(args), Duration::from_secs(args.delay)),
            Err(end) => end,
        },
    };
    drop(screen);
    match end {
        End::Quit => ExitCode::SUCCESS,
        End::Stopped => ExitCode::from(EXIT_STOPPED),
        End::Over(pid) => {
            eprintln!("kmem top: process {pid} has ended");
            ExitCode::SUCCESS
        }
        End::Failed(error) => failed(&error),
        End::Terminal(error) => {
            eprintln!("kmem top: the terminal cannot be used: {error}");
            ExitCode::FAILURE
        }
    }
}

fn failed(error: &OutsideError) -> ExitCode {
    eprintln!("kmem top: {error}");
    ExitCode::FAILURE
}

fn view(args: &TopArgs) -> View {
    View::new(args.sort, args.filter.clone(), args.cpus)
}

/// One look as text.
fn printed(args: &TopArgs) -> ExitCode {
    let Some(pid) = args.pid else {
        let list = choice::lines(&choice::running()).join("\n") + "\n";
        return ExitCode::from(u8::from(!crate::print(&list)));
    };
    match inspect(pid, None) {
        Ok(seen) => {
            let lines = view(args).lines(&seen, PRINTED);
            let all = lines.head.iter().chain(lines.rows.iter().map(|(line, _)| line));
            let text: String = all.map(|line| format!("{}\n", line.trim_end())).collect();
            ExitCode::from(u8::from(!crate::print(&text)))
        }
        Err(error) => failed(&error),
    }
}

/// Whether the process ended, rather than that it cannot be read.
fn is_over(pid: u32) -> bool {
    !is_alive(pid)
}
