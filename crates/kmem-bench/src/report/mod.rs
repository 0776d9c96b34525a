//! The report of a result.

mod page;
mod plots;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::fs;
use std::io;
use std::path::Path;

pub use page::page;
pub use table::{csv, markdown};
pub use text::text;

use crate::figures::{Figure, Outcome, Results};
use crate::targets::Verdict;

/// Writes a folder, which is created if it does not exist: `index.html` for people; `figures.csv` and `figures.json`
/// for programs; `BENCHMARKS.md`; and in `plots` a plot of each workload and one of all.
///
/// # Errors
/// The folder cannot be written to.
pub fn write(folder: &Path, results: &Results, verdicts: &[Verdict]) -> io::Result<()> {
    let plots = folder.join("plots");
    fs::create_dir_all(&plots)?;
    for outcome in results.workloads.iter().filter(|outcome| least(outcome).is_some()) {
        fs::write(plots.join(format!("{}.svg", outcome.name)), plots::workload(outcome).file(plots::WORKLOAD_WIDTH))?;
    }
    fs::write(plots.join("overview.svg"), plots::overview(results).file(plots::OVERVIEW_WIDTH))?;
    fs::write(folder.join("figures.csv"), csv(results))?;
    fs::write(folder.join("figures.json"), serde_json::to_string(results)? + "\n")?;
    fs::write(folder.join("BENCHMARKS.md"), markdown(results, verdicts))?;
    fs::write(folder.join("index.html"), page(results, verdicts))
}

/// The machine that everything was measured on, in a line.
fn provenance(results: &Results) -> String {
    let machine = &results.machine;
    format!(
        "{}, {} CPUs, {} MiB, {}, transparent huge pages: {}, kmem: {}{}",
        machine.processor,
        machine.cpus,
        machine.memory_mib,
        machine.kernel,
        machine.transparent_huge_pages,
        machine.kmem_mode,
        match (results.stopped, results.quick) {
            (true, _) => "; stopped by Ctrl-C, so workloads are missing",
            (false, true) => "; a quick run, so figures are rough",
            (false, false) => "",
        }
    )
}

/// Remarks on the targets, from figures that have no row of their own.
fn remarks(results: &Results) -> Vec<String> {
    let least = |workload: &str, figure: &str| {
        let served = results.outcome(workload)?.results.iter();
        served.filter_map(|served| served.figure(figure)).map(|figure| figure.median).reduce(f64::min)
    };
    let calls = least("pair", "floor_cycles").zip(least("pair", "near_cycles")).map(|(floor, near)| {
        format!(
            "T1: two empty calls into a preloaded library cost {floor:.1} cycles, which is the floor for any \
             preloaded library; two into the program itself, through the same kind of table, cost {near:.1}."
        )
    });
    let storm = least("storm", "transitions").map(|transitions| {
        format!("T11, T13: a run of the storm had {transitions:.0} transitions of CPUs and caches (the median).")
    });
    calls.into_iter().chain(storm).collect()
}

/// What was measured and what was not, what was not run, and what failed.
fn notes(results: &Results) -> Vec<String> {
    let measured = results.allocators.iter().map(|allocator| match &allocator.missing {
        None => format!("{} {}: {}", allocator.name, allocator.version, allocator.how),
        Some(why) => format!("{}: not measured: {why}", allocator.name),
    });
    let skipped = results.workloads.iter().filter_map(|outcome| {
        let why = outcome.skipped.as_ref()?;
        Some(format!("{}: not run: {why}", outcome.name))
    });
    let failed = results.workloads.iter().flat_map(|outcome| {
        outcome.results.iter().filter_map(|served| {
            let why = served.failed.as_ref()?;
            Some(format!("{} failed with {}: {why}", outcome.name, served.allocator))
        })
    });
    measured.chain(skipped).chain(failed).collect()
}

/// The figure that a workload is compared by.
fn compared<'a>(outcome: &'a Outcome, allocator: &str) -> Option<&'a Figure> {
    outcome.served(allocator)?.figure(&outcome.compared)
}

/// The lowest of the compared figures.
fn least(outcome: &Outcome) -> Option<f64> {
    let figures = outcome.results.iter().filter_map(|served| served.figure(&outcome.compared));
    figures.map(|figure| figure.median).reduce(f64::min)
}

/// A number with three significant digits, and a suitable unit.
fn short(value: f64, figure: &str) -> String {
    let (value, unit) = if figure.ends_with("ns") {
        match value {
            v if v >= 1e9 => (v / 1e9, " s"),
            v if v >= 1e6 => (v / 1e6, " ms"),
            v if v >= 1e4 => (v / 1e3, " us"),
            v => (v, " ns"),
        }
    } else if figure.ends_with("kib") || figure == "KiB" {
        if value >= 10_240.0 { (value / 1024.0, " MiB") } else { (value, " KiB") }
    } else if figure.ends_with("percent") || figure == "%" {
        (value, " %")
    } else {
        (value, "")
    };
    let decimals = if value >= 100.0 { 0 } else { usize::from(value < 10.0) + 1 };
    format!("{value:.decimals$}{unit}")
}
