//! `kmem storm`: modules are loaded and unloaded while CPUs go down and come up.
//!
//! The kernel's slab allocator once crashed under exactly this: a file system's module was loaded and unloaded in a
//! loop, each time creating and destroying a cache, while CPUs were taken offline and brought back. The storm is that
//! workload, as dense as the machine allows, with a check that would detect the failure:
//!
//! ```text
//! workers      T threads: load, visit and unload M modules            worker, worker_ctx, module
//! driver       takes CPUs down and up, with prepare failures          driver
//! coordinator  stops all once a second, and checks everything         here, barrier, quiet, check
//! objects      carry a pattern over their whole size                  object, source
//! record       what happened when, for a page with charts              record, report/page
//! bystanders   time their allocations, with a storm and without it    legs, latency
//! ```
//!
//! At a quiescent point the engine validates itself (every object of every slab is in exactly one place, I6 and I7).
//! Independently of that, its count of held objects is compared with what the modules really hold, cache by cache. If
//! the engine counts more, an object is lost; if it counts fewer, an object has two holders; an object in a slot of a
//! CPU that is not online is stranded.
//!
//! The checker does not use the allocator that it checks: its own memory comes from the system's malloc.

mod barrier;
mod check;
mod driver;
mod latency;
mod legs;
mod module;
mod object;
mod quiet;
mod record;
mod report;
mod source;
mod totals;
mod worker;
mod worker_ctx;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt::{self, EXIT_STOPPED, Interrupt};
use barrier::Barrier;
use check::Checker;
use report::Report;
use totals::Totals;
use worker::Shared;
use worker_ctx::WorkerCtx;

/// Time between quiescent points.
const ROUND: Duration = Duration::from_secs(1);
/// Longest sleep between two looks at the clock.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// A thread that does not reach the barrier within this time is stuck in the engine.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// Arguments of `kmem storm`.
#[derive(Args)]
pub struct StormArgs {
    /// Duration in seconds
    #[arg(long, value_name = "S", default_value_t = Self::default().seconds, value_parser = seconds)]
    seconds: u64,
    /// Number of threads that load, use and unload modules
    #[arg(long, value_name = "T", default_value_t = Self::default().threads, value_parser = threads)]
    threads: usize,
    /// Maximum number of modules loaded at a time, each with one to four caches
    #[arg(long, value_name = "M", default_value_t = Self::default().modules, value_parser = modules)]
    modules: usize,
    /// Repeat the decisions of another storm, by the seed in its report [default: a new seed]
    #[arg(long, value_name = "X", value_parser = seed)]
    seed: Option<u64>,
    /// Afterwards measure single allocations for four seconds, alternately with a storm beside them and without
    #[arg(long)]
    latency: bool,
    /// Also write a page with charts to FILE: CPUs, caches, cached bytes and latency over time
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Default for StormArgs {
    fn default() -> Self {
        Self { seconds: 10, threads: 8, modules: 16, seed: None, latency: false, report: None, json: false }
    }
}

/// Parses a number from `least` to `most`.
fn number(text: &str, least: u64, most: u64, remedy: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("a whole number from {least} to {most} is needed: {remedy}")),
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    number(text, 1, 86_400, "10 gives a first impression, an hour is a soak test")
}

fn threads(text: &str) -> Result<usize, String> {
    let threads = number(text, 1, 1024, "two to four times the number of CPUs makes them collide most often")?;
    Ok(threads as usize)
}

fn modules(text: &str) -> Result<usize, String> {
    let modules = number(text, 1, 1024, "a few more than threads keeps all of them busy")?;
    Ok(modules as usize)
}

pub fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a number below 2^64 is needed, decimal or hexadecimal with 0x: copy it from a report".into())
}

/// Runs the storm and prints its report.
pub fn storm(args: &StormArgs) -> ExitCode {
    // 32 bits, which no reader of JSON rounds.
    let seed = args.seed.unwrap_or_else(|| fastrand::u32(..).into());
    // An unwritable page should be noticed now, not after an hour.
    if let Some(page) = &args.report
        && let Err(e) = std::fs::write(page, "")
    {
        eprintln!(
            "kmem storm: {} cannot be written: {e}. Give --report a file in a directory that exists.",
            page.display()
        );
        return ExitCode::from(2);
    }
    let (report, stopped) = match raise(args, seed, &Interrupt::watch()) {
        Ok(raised) => raised,
        Err(e) => {
            eprintln!("kmem storm: {e}");
            return ExitCode::FAILURE;
        }
    };
    let document = if args.json { crate::json(&report) } else { report.table() };
    let mut printed = crate::print(&document);
    if let (Some(page), Some(record)) = (&args.report, record::record())
        && let Err(e) = std::fs::write(page, report.page(record))
    {
        eprintln!("kmem storm: {} cannot be written: {e}", page.display());
        printed = false;
    }
    // This does not return, because threads that are stuck in the engine (which the report says) must not keep the
    // process alive.
    let code = if stopped { i32::from(EXIT_STOPPED) } else { 0 };
    std::process::exit(if report.ok && printed { code } else { 1 })
}

/// How a storm ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its time had passed.
    Over,
    /// Ctrl-C ended it.
    Stopped,
    /// A thread is stuck, so nothing more can be checked.
    Stuck,
}

/// The storm itself, and whether Ctrl-C ended it. An error only if it could not start at all.
fn raise(args: &StormArgs, seed: u64, interrupt: &Interrupt) -> Result<(Report, bool), String> {
    let shared = Arc::new(Shared {
        module_slots: (0..args.modules).map(|_| RwLock::default()).collect(),
        totals: Totals::default(),
        barrier: Barrier::of(args.threads + 1),
        cpus: worker::usable_cpus()?,
        latencies: Mutex::default(),
    });
    let totals = &shared.totals;
    driver::make_ready(&shared.cpus, totals);
    let mut checker = Checker::new(WorkerCtx::new(0, seed))?;
    if args.report.is_some() {
        record::begin(Duration::from_secs(args.seconds), &shared.cpus);
    }

    let mut crew = Vec::with_capacity(args.threads + 1);
    for id in 1..=args.threads as u64 + 1 {
        let (shared_too, ctx) = (Arc::clone(&shared), WorkerCtx::new(id, seed));
        let (name, task): (_, fn(&Shared, WorkerCtx)) =
            if id == 1 { ("driver".to_string(), driver::drive) } else { (format!("worker {}", id - 1), worker::work) };
        let spawned = thread::Builder::new().name(name).spawn(move || {
            let _guard = LeaveOnPanic;
            task(&shared_too, ctx);
        });
        match spawned {
            Ok(thread) => crew.push(thread),
            Err(e) => {
                shared.barrier.end();
                crew.into_iter().for_each(|thread| drop(thread.join()));
                return Err(format!(
                    "the system cannot create thread {id} of {}: {e}. Give fewer --threads.",
                    args.threads + 1
                ));
            }
        }
    }

    let began = Instant::now();
    let ended = coordinate(args, &shared, &mut checker, began, interrupt);
    let elapsed = began.elapsed();
    let mut comparison = None;
    if ended != End::Stuck {
        crew.into_iter().for_each(|thread| drop(thread.join()));
        if args.latency && ended == End::Over {
            comparison = legs::compare(&shared.cpus, seed, totals)?;
        }
        checker.clear_away(&shared);
    }
    let stopped = ended == End::Stopped;
    let mut report = Report::new(args, seed, elapsed, &shared, checker.valid(), comparison);
    if stopped {
        interrupt::clean_line();
        report.note(format!("Ctrl-C ended it after {:.1} s of {} s", elapsed.as_secs_f64(), args.seconds));
    }
    Ok((report, stopped))
}

/// Lets the storm run, and checks at every round and at its end.
fn coordinate(args: &StormArgs, shared: &Shared, checker: &mut Checker, began: Instant, interrupt: &Interrupt) -> End {
    let bar = progress(args.seconds);
    let end = Duration::from_secs(args.seconds);
    let mut next = ROUND.min(end);
    loop {
        let now = began.elapsed();
        let stopped = interrupt.is_asked();
        if now < next && !stopped {
            let step = record::record().map_or(SLEEP_MAX, |record| record.bin().min(SLEEP_MAX));
            thread::sleep((next - now).min(step));
            if let Some(record) = record::record() {
                record.sample(module::NAME);
            }
            bar.set_position(began.elapsed().as_millis() as u64);
            bar.set_message(summary(&shared.totals));
            continue;
        }
        let over = now >= end || stopped;
        if let Err(present) = shared.barrier.request(STUCK_AFTER) {
            bar.finish_and_clear();
            shared.totals.complain(format!(
                "only {present} of {} threads reached the barrier within {} s: the others are stuck in the allocator",
                args.threads + 1,
                STUCK_AFTER.as_secs()
            ));
            return End::Stuck;
        }
        checker.check(shared);
        if over {
            shared.barrier.end();
        }
        shared.barrier.release();
        if over {
            bar.finish_and_clear();
            return if stopped { End::Stopped } else { End::Over };
        }
        next = (began.elapsed() + ROUND).min(end);
    }
}

/// A bar on standard error, if that is a terminal.
fn progress(seconds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seconds * 1000);
    let style = ProgressStyle::with_template("{elapsed:>3} {msg} {wide_bar}");
    bar.set_style(style.expect("the template is a constant that is right").progress_chars("=> "));
    bar
}

fn summary(totals: &Totals) -> String {
    let so_far = totals.read();
    let faults = so_far.lost + so_far.doubled + so_far.stranded + so_far.corrupt;
    line(so_far.allocs, so_far.caches_created, so_far.transitions(), faults)
}

/// The figures so far. With the time before it the line fits 60 columns; the bar takes what is left of a wider
/// terminal.
fn line(objects: u64, caches: u64, moves: u64, faults: u64) -> String {
    let verdict = if faults == 0 { "no fault".to_string() } else { format!("{} FAULTS", brief(faults)) };
    format!("{} objects, {} caches, {} CPU moves, {verdict}", brief(objects), brief(caches), brief(moves))
}

/// A number in five characters or fewer: from four digits on it is `1.2k` or `34M`.
fn brief(number: u64) -> String {
    let units = [("", 1), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000u64)];
    let (unit, size) = units.into_iter().rev().find(|(_, size)| number >= *size).unwrap_or(units[0]);
    let whole = number / size;
    if whole >= 10 || size == 1 {
        format!("{whole}{unit}")
    } else {
        format!("{whole}.{}{unit}", number % size * 10 / size)
    }
}

/// A thread that panics would never reach a barrier, so the whole storm ends with it.
struct LeaveOnPanic;

impl Drop for LeaveOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kmem storm: a thread panicked, see above");
            std::process::exit(101);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_as_they_are_written() {
        assert_eq!(seed("0x1f"), Ok(31));
        assert_eq!(seed("31"), Ok(31));
        assert!(seed("-1").is_err());
        assert!(seed("0x").is_err());
    }

    #[test]
    fn the_line_of_a_storm_fits_sixty_columns() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1.0k"), (9_999, "9.9k"), (123_456, "123k"), (1_234_567, "1.2M")]
        {
            assert_eq!(brief(number), text);
        }
        for number in [0, 999, 999_999, 123_456_789, 999_999_999_999] {
            let line = line(number, number.min(999_999), number.min(999_999), number.min(999));
            assert!("59s ".len() + line.len() < 60, "{line}");
        }
    }

    #[test]
    fn senseless_numbers_are_refused() {
        for text in ["0", "-1", "", "ten", "99999999999999999999", "1.5"] {
            assert!(threads(text).is_err(), "{text:?}");
            assert!(seconds(text).is_err(), "{text:?}");
            assert!(modules(text).is_err(), "{text:?}");
        }
    }
}
