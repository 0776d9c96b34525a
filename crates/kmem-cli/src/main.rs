//! The command `kmem`.
//!
//! What a person wants from a slab allocator before reading its code:
//!
//! - `kmem run -- PROGRAM ARGS...` runs an unmodified program on kmem ([`run`]);
//! - `kmem storm` loads and unloads modules, each with its caches, while CPUs go down and come up, and looks for
//!   objects that were lost, handed out twice or left behind ([`storm`]);
//! - `kmem info` says in which mode a process runs on this machine, and why ([`info`]);
//! - `kmem info PID` says what holds the memory of a running process ([`inspect`], [`outside`], [`remote_status`]);
//! - `kmem top` shows the same live, as slabtop does, and `kmem follow` its CPUs ([`top`], [`follow`]);
//! - `kmem census` counts the live objects of a process, and writes those of a cache to a file ([`census`]);
//! - `kmem metrics` serves the same figures to Prometheus ([`metrics`]);
//! - `kmem tune` changes a cache of a running process ([`tune`], [`ask`]);
//! - `kmem profile` samples where a running process allocates its memory ([`profile`]);
//! - `kmem race` reproduces the races of 2004, and shows which defence prevents them ([`race`]);
//! - `kmem bench` measures kmem and other allocators side by side ([`bench`]);
//! - `kmem symbolize` adds functions, files and lines to reports of the checked heap ([`symbolize`]);
//! - `kmem completions` and `kmem man` write shell completions and manual pages for all of these ([`completions`]).
//!
//! Without arguments the command runs a storm of ten seconds, the quickest way to see the allocator at work.
//!
//! Exit codes: 0 success; 1 a storm found a fault, or a race found a schedule that fails; 2 invalid arguments; 130
//! Ctrl-C stopped a storm, a bench, a race, `kmem top` or `kmem follow`; 125 `kmem run` could not set the program up;
//! 126 the program cannot be executed, 127 it does not exist. Otherwise `kmem run` *becomes* the program, so the code
//! (or the signal) is the program's own.

#![deny(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod ask;
mod bench;
mod census;
mod completions;
mod follow;
mod holdings;
mod info;
mod inspect;
mod interrupt;
mod library;
mod loadable;
mod metrics;
mod outside;
mod profile;
mod race;
mod remote_status;
mod run;
mod slabinfo;
mod storm;
mod supervise;
mod symbolize;
mod top;
mod tune;

/// A slab allocator whose per-CPU caches stay correct while CPUs come and go.
#[derive(Parser)]
#[command(name = "kmem", version, about)]
#[command(after_help = "Without a command: run a storm of ten seconds and print its report.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program with kmem as its malloc
    Run(run::RunArgs),
    /// Load and unload modules while CPUs go down and come up, and check every object
    Storm(storm::StormArgs),
    /// Show the mode on this machine: rseq or fallback (and why), CPUs, nodes, pages; or what a running process holds
    Info(info::InfoArgs),
    /// Show what a running process holds, live, as slabtop does: caches, large blocks, CPUs
    Top(top::TopArgs),
    /// Show the CPUs of a running process, live: their state, what they cache, what was drained
    Follow(follow::FollowArgs),
    /// Count the live objects of a running process by cache and age, or write those of a cache to a file
    Census(census::CensusArgs),
    /// Serve what running processes hold to Prometheus
    Metrics(metrics::MetricsArgs),
    /// Change a cache of a running process: how much each CPU caches of it
    Tune(tune::TuneArgs),
    /// Sample where a running process allocates its memory: a profile for pprof, a flame graph, a table
    Profile(profile::ProfileArgs),
    /// Reproduce the races of 2004 on virtual CPUs, and see which defence prevents them
    Race(race::RaceArgs),
    /// Measure kmem and other allocators side by side
    Bench(bench::BenchArgs),
    /// Add functions, files and lines to reports of KMEM_DEBUG, KMEM_SECURE, KMEM_GUARD and KMEM_LEAKS
    Symbolize,
    /// Print the completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual pages of this command
    Man(completions::ManArgs),
    #[command(hide = true)]
    BenchCaches(bench::CachesArgs),
    #[command(hide = true)]
    BenchLeft(bench::LeftArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command.unwrap_or_else(|| Command::Storm(storm::StormArgs::default()));
    match command {
        Command::Run(args) => run::run(&args),
        Command::Storm(args) => storm::storm(&args),
        Command::Info(args) => info::info(&args),
        Command::Top(args) => top::top(&args),
        Command::Follow(args) => follow::follow(&args),
        Command::Census(args) => census::census(&args),
        Command::Metrics(args) => metrics::metrics(&args),
        Command::Tune(args) => tune::tune(&args),
        Command::Profile(args) => profile::profile(&args),
        Command::Race(args) => race::race(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Symbolize => symbolize::symbolize(),
        Command::Completions(args) => completions::completions(&args, &Cli::command()),
        Command::Man(args) => completions::man(&args, Cli::command()),
        Command::BenchCaches(args) => bench::caches(&args),
        Command::BenchLeft(args) => bench::left(&args),
    }
}

/// Writes a finished document to standard output. A reader that has closed the pipe (`kmem info | head -1`) is not an
/// error.
fn print(document: &str) -> bool {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(document.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => true,
        Err(e) => {
            eprintln!("kmem: cannot write the report to standard output: {e}");
            false
        }
    }
}

/// The document as JSON, with a line feed at its end.
fn json(document: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(document).expect("plain numbers and strings always serialise");
    text.push('\n');
    text
}
