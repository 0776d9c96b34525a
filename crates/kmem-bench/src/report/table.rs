//! The result as files: CSV with every run, and the Markdown of BENCHMARKS.md.

use std::fmt::Write;

use super::{compared, least, short};
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

/// The targets with everybody's figures, the workloads, and who was measured.
pub fn markdown(results: &Results, verdicts: &[Verdict]) -> String {
    let machine = &results.machine;
    let mut out = format!(
        "# Benchmarks\n\nMade by `kmem bench --peers --report DIR` on {}: {}, {} CPUs, {} MiB, {}, transparent huge pages: {}, kmem: {}{}.\n\
         Each figure is the median of runs in fresh processes that took turns; the CSV beside has every run. Less is better.\n\n\
         ## Targets\n\n| | what | target | kmem | limit | | peers, best first |\n|---|---|---|---|---|---|---|\n",
        machine.date,
        machine.processor,
        machine.cpus,
        machine.memory_mib,
        machine.kernel,
        machine.transparent_huge_pages,
        machine.kmem_mode,
        if results.quick { "; quick" } else { "" }
    );
    for verdict in verdicts {
        let figure = |value: Option<f64>| value.map_or("?".into(), |value| short(value, &verdict.unit));
        let mut peers = verdict.peers.clone();
        peers.sort_by(|a, b| a.1.total_cmp(&b.1));
        let peers: Vec<_> = peers.iter().map(|(name, value)| format!("{name} {}", figure(Some(*value)))).collect();
        let word = verdict.met.map_or("open", |met| if met { "met" } else { "**not met**" });
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {word} | {} |",
            verdict.id,
            verdict.what,
            verdict.target,
            figure(verdict.kmem),
            figure(verdict.limit),
            peers.join(", ")
        );
    }
    let names: Vec<&str> = results.present().map(|allocator| allocator.name.as_str()).collect();
    let _ = writeln!(
        out,
        "\n## Workloads\n\n| | compared | {} |\n|---|---|{}",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for outcome in &results.workloads {
        let best = least(outcome);
        let _ = write!(out, "| {}: {} | {} |", outcome.name, outcome.about, outcome.compared);
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
    out.push_str("\n## Who was measured\n\n");
    for allocator in &results.allocators {
        let _ = match &allocator.missing {
            None => writeln!(out, "- {} {}: {}", allocator.name, allocator.version, allocator.how),
            Some(why) => writeln!(out, "- {}: not measured: {why}", allocator.name),
        };
    }
    for outcome in &results.workloads {
        if let Some(why) = &outcome.skipped {
            let _ = writeln!(out, "- {}: not run: {why}", outcome.name);
        }
        for served in outcome.results.iter().filter(|served| served.failed.is_some()) {
            let why = served.failed.as_deref().unwrap_or_default();
            let _ = writeln!(out, "- {} failed with {}: {why}", outcome.name, served.allocator);
        }
    }
    out
}
