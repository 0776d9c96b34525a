//! A result for people.

mod table;
mod text;

use std::io;
use std::path::Path;

pub use table::{csv, markdown};
pub use text::text;

use crate::figures::{Figure, Outcome, Results};
use crate::targets::Verdict;

/// Writes `figures.csv` and `BENCHMARKS.md` into a folder, which is made if it is not there.
///
/// # Errors
/// The folder cannot be written to.
pub fn write(folder: &Path, results: &Results, verdicts: &[Verdict]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("figures.csv"), csv(results))?;
    std::fs::write(folder.join("BENCHMARKS.md"), markdown(results, verdicts))
}

/// The figure that a workload is compared by.
fn compared<'a>(outcome: &'a Outcome, allocator: &str) -> Option<&'a Figure> {
    outcome.served(allocator)?.figure(&outcome.compared)
}

/// The least of the compared figure.
fn least(outcome: &Outcome) -> Option<f64> {
    let figures = outcome.results.iter().filter_map(|served| served.figure(&outcome.compared));
    figures.map(|figure| figure.median).reduce(f64::min)
}

/// A number with three digits that count, and a unit that fits it.
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
