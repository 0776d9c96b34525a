//! `kmem bench`: allocators side by side.
//!
//! This file parses arguments, shows progress and prints; everything else is in the crate `kmem-bench`. Two hidden
//! commands are for the processes that it starts: `kmem bench-caches NAME full|quick` measures typed caches, and `kmem
//! bench-left PID CPU` prints what another process caches for a CPU.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kmem_bench::executables::Executables;
use kmem_bench::figures::Results;
use kmem_bench::plan::Plan;
use kmem_bench::targets::{self, Verdict};
use kmem_bench::{allocators, caches, peers, report};
use serde::Serialize;

use crate::interrupt::{self, EXIT_STOPPED, Interrupt};
use crate::remote_status::Page;

/// Arguments of `kmem bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// Do less work and fewer runs: rough figures within a minute
    #[arg(long)]
    quick: bool,
    /// Run only these workloads
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure only these allocators
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    allocators: Vec<String>,
    /// Number of runs of each workload under each allocator
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: Option<u16>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Also write a page with plots (index.html), the plots, figures.csv, figures.json and BENCHMARKS.md to this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Measure nothing, and report the figures of an earlier run, from its figures.json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "only", "allocators", "runs", "peers"])]
    from: Option<PathBuf>,
    /// First build the peers that come as source (needs cargo, c++, crates.io); otherwise those built before take part
    #[arg(long)]
    peers: bool,
}

/// Arguments of the hidden command `bench-caches`.
#[derive(Args)]
pub struct CachesArgs {
    name: String,
    amount: String,
}

/// Arguments of the hidden command `bench-left`.
#[derive(Args)]
pub struct LeftArgs {
    pid: u32,
    cpu: usize,
}

/// A result, with the verdict on each target.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    results: &'a Results,
    targets: &'a [Verdict],
}

/// Measures and prints.
pub fn bench(args: &BenchArgs) -> ExitCode {
    let results = match &args.from {
        Some(file) => read(file),
        None => measure(args),
    };
    match results {
        Ok(results) => {
            let verdicts = targets::judge(&results);
            if let Some(folder) = &args.report
                && let Err(e) = report::write(folder, &results, &verdicts)
            {
                eprintln!("kmem bench: cannot write the report to {}: {e}", folder.display());
                return ExitCode::FAILURE;
            }
            let document = if args.json {
                crate::json(&Document { results: &results, targets: &verdicts })
            } else {
                let columns = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
                report::text(&results, &verdicts, columns)
            };
            match (crate::print(&document), results.stopped) {
                (true, true) => ExitCode::from(EXIT_STOPPED),
                (printed, _) => ExitCode::from(u8::from(!printed)),
            }
        }
        Err(e) => {
            eprintln!("kmem bench: {e}");
            ExitCode::from(2)
        }
    }
}

/// An earlier run's result.
fn read(file: &Path) -> Result<Results, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        format!("{} cannot be read: {e}; give --from the figures.json that --report wrote", file.display())
    })?;
    let results = serde_json::from_str(&text).map_err(|e| {
        format!("{} is not the result of a run: {e}; give --from the figures.json that --report wrote", file.display())
    })?;
    Ok(results)
}

fn measure(args: &BenchArgs) -> Result<Results, Box<dyn std::error::Error>> {
    let plan = Plan {
        quick: args.quick,
        only: args.only.clone(),
        runs: args.runs.map(usize::from),
        command: std::env::current_exe()?,
    };
    plan.workloads()?;
    let library = crate::library::find()?;
    let executables =
        Executables::unpack().map_err(|e| format!("cannot write the workloads to the cache folder: {e}"))?;
    if args.peers {
        build_peers(&args.allocators);
    }
    let field = allocators::find(&args.allocators, Path::new(&library), &executables)?;
    let bar = bar();
    let mut progress = |name: &str, done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(name.to_string());
    };
    let interrupt = Interrupt::watch();
    let results = plan.measure(field, &executables, &mut progress, &|| interrupt.is_asked())?;
    bar.finish_and_clear();
    if results.stopped {
        interrupt::clean_line();
    }
    Ok(results)
}

/// Builds the peers that were asked for. The result names those that could not be built.
fn build_peers(asked: &[String]) {
    let wanted: Vec<_> =
        peers::ALL.iter().filter(|peer| asked.is_empty() || asked.iter().any(|name| name == peer.name)).collect();
    for (number, peer) in wanted.iter().enumerate() {
        eprintln!("peer {} of {}: {}, {}", number + 1, wanted.len(), peer.name, peer.how());
        if let Err(why) = peer.build() {
            eprintln!("peer {}: {why}", peer.name);
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len}  {msg}  {elapsed}").expect("a valid template");
    ProgressBar::new(0).with_style(style)
}

/// Runs a workload of typed caches in this process and prints its figures.
pub fn caches(args: &CachesArgs) -> ExitCode {
    match caches::run(&args.name, args.amount == "quick") {
        Ok(figures) => ExitCode::from(u8::from(!crate::print(&figures))),
        Err(e) => {
            eprintln!("kmem bench-caches: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what a process caches for a CPU, as a figure.
pub fn left(args: &LeftArgs) -> ExitCode {
    let cached = Page::find(args.pid).and_then(|mut page| {
        let snapshot = page.read()?;
        Ok(snapshot.cpus().find(|row| row.cpu == args.cpu).map_or(0, |row| row.cached_bytes))
    });
    match cached {
        Ok(bytes) => ExitCode::from(u8::from(!crate::print(&format!("cached_bytes {bytes}\n")))),
        Err(e) => {
            eprintln!("kmem bench-left: {e}");
            ExitCode::FAILURE
        }
    }
}
