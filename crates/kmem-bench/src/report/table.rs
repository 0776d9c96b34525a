//! The result as files: CSV with every run, and the Markdown of BENCHMARKS.md.

use std::fmt::Write;

use super::{compared, least, notes, provenance, remarks, short};
use crate::figures::Results;
use crate::targets::Verdict;

/// One line for each figure of each workload under each allocator.
pub fn csv(results: &Results) -> String {
    let mut out = String::from("workload,allocator,figure,median,min,max,runs\n");
    for outcome in &results.workloads {
        for served in &outcome.results {
            for (name, figure) in &served.figures {
                let runs: Vec<_> = figure.runs.iter().map(ToString::to_string).collect();
                let (workload, allocator, runs) = (&outcome.name, &served.allocator, runs.join(" "));
                let _ = writeln!(
                    out,
                    "{workload},{allocator},{name},{},{},{},{runs}",
                    figure.median, figure.min, figure.max
                );
            }
        }
    }
    out
}

/// The targets with all figures, the workloads, and what was measured.
pub fn markdown(results: &Results, verdicts: &[Verdict]) -> String {
    let mut out = format!(
        "# Benchmarks\n\n{}.\n\n\
         Each figure is the median of runs in fresh processes that took turns; the CSV file has every run. Less is \
         better.\n\n## Targets\n\n| | what | target | kmem | limit | | peers, best first |\n|---|---|---|---|---|---|---|\n",
        provenance(results)
    );
    for verdict in verdicts {
        let figure = |value: Option<f64>| value.map_or("?".into(), |value| short(value, &verdict.unit));
        let mut peers = verdict.peers.clone();
        peers.sort_by(|a, b| a.1.total_cmp(&b.1));
        let peers: Vec<_> = peers.iter().map(|(name, value)| format!("{name} {}", figure(Some(*value)))).collect();
        let word = if verdict.met == Some(true) { "met".into() } else { format!("**{}**", verdict.word()) };
        let peers = if peers.is_empty() { format!("from {}", verdict.source) } else { peers.join(", ") };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {word} | {} |",
            verdict.id,
            plain(&verdict.what),
            plain(&verdict.target),
            figure(verdict.kmem),
            figure(verdict.limit),
            peers
        );
    }
    for remark in remarks(results) {
        let _ = write!(out, "\n{remark}\n");
    }
    out.push_str(
        "\n## All workloads\n\n![Each peer in multiples of kmem's figure, for all workloads](plots/overview.svg)\n",
    );
    let names: Vec<&str> = results.present().map(|allocator| allocator.name.as_str()).collect();
    let _ = writeln!(out, "\n| | compared | {} |\n|---|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for outcome in &results.workloads {
        let best = least(outcome);
        let _ = write!(out, "| {}: {} | {} |", outcome.name, plain(&outcome.about), outcome.compared);
        for name in &names {
            let cell = match compared(outcome, name) {
                Some(figure) => {
                    let text = format!(
                        "{} ({} to {})",
                        short(figure.median, &outcome.compared),
                        short(figure.min, &outcome.compared),
                        short(figure.max, &outcome.compared)
                    );
                    if Some(figure.median) == best { format!("**{text}**") } else { text }
                }
                None if outcome.served(name).is_some() => "failed".into(),
                None => String::new(),
            };
            let _ = write!(out, " {cell} |");
        }
        out.push('\n');
    }
    out.push_str("\n## What was measured, and what failed\n\n");
    for note in notes(results) {
        let _ = writeln!(out, "- {}", plain(&note));
    }
    out
}

/// Escapes text so that Markdown takes it neither for the end of a cell nor for markup.
fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}
