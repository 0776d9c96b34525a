//! Tables for a terminal.

use std::fmt::Write;

use super::{compared, least, notes, provenance, remarks, short};
use crate::figures::Results;
use crate::targets::Verdict;

/// A row for each workload, a column for each allocator, then the targets, then who is missing and what failed.
pub fn text(results: &Results, verdicts: &[Verdict]) -> String {
    let mut out = String::new();
    let names: Vec<&str> = results.present().map(|allocator| allocator.name.as_str()).collect();
    let _ = writeln!(out, "{}\n", provenance(results));
    let _ = write!(out, "{:<18}", "");
    for name in &names {
        let _ = write!(out, "{name:>13}");
    }
    out.push('\n');
    for outcome in &results.workloads {
        let _ = write!(out, "{:<18}", outcome.name);
        let best = least(outcome);
        for name in &names {
            let cell = match (outcome.served(name), compared(outcome, name)) {
                (_, Some(figure)) => {
                    let mark = if Some(figure.median) == best { "*" } else { "" };
                    format!("{mark}{}", short(figure.median, &outcome.compared))
                }
                (Some(served), None) if served.failed.is_some() => "failed".into(),
                _ => String::new(),
            };
            let _ = write!(out, "{cell:>13}");
        }
        out.push('\n');
    }
    out.push_str("\nThe median of the runs; * the least.\n\n");
    for verdict in verdicts {
        let figure = |value: Option<f64>| value.map_or("?".into(), |value| short(value, &verdict.unit));
        let word = verdict.word().to_uppercase();
        let best = verdict.best_peer.as_ref();
        let _ = writeln!(
            out,
            "{:<4}{word:<9} kmem {:>9}, limit {:>9}, best peer {:>9} {:<13} {}: {}",
            verdict.id,
            figure(verdict.kmem),
            figure(verdict.limit),
            figure(best.map(|(_, figure)| *figure)),
            best.map_or("", |(name, _)| name),
            verdict.what,
            verdict.target
        );
        if verdict.met.is_none() {
            let _ = writeln!(out, "{:13}its figure comes from {}", "", verdict.source);
        }
    }
    for remark in remarks(results) {
        let _ = write!(out, "\n{remark}");
    }
    out.push_str("\n\n");
    for note in notes(results) {
        let _ = writeln!(out, "{note}");
    }
    out
}
