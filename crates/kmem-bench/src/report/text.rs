//! Tables for a terminal.
//!
//! A row is a workload and a column an allocator. If a terminal has no room for all columns there are several tables,
//! each with kmem's column in it; on a narrow terminal sentences are wrapped. Output that is not a terminal gets one
//! table.

use std::fmt::Write;

use super::{compared, least, notes, provenance, remarks, short};
use crate::allocators::KMEM;
use crate::figures::Results;
use crate::targets::Verdict;
use crate::terminal::wrapped;

/// Widths of the columns.
const WORKLOAD: usize = 18;
const FIGURE: usize = 13;
/// The indent of what is said of a target.
const TARGET: usize = 13;
/// The smallest width that lines are fitted to.
const NARROWEST: usize = 60;

/// The workloads under each allocator, then the targets, then what was not measured and what failed. `width` is that of
/// the terminal, if it is one.
pub fn text(results: &Results, verdicts: &[Verdict], width: Option<usize>) -> String {
    let width = width.map_or(usize::MAX, |width| width.max(NARROWEST));
    let mut out = String::new();
    let paragraph = |out: &mut String, text: &str, indent| {
        wrapped(text, width, indent).iter().for_each(|line| _ = writeln!(out, "{line}"));
    };
    paragraph(&mut out, &provenance(results), 0);
    let names: Vec<&str> = results.present().map(|allocator| allocator.name.as_str()).collect();
    for columns in tables(&names, (width - WORKLOAD) / FIGURE) {
        out.push('\n');
        table(&mut out, results, &columns);
    }
    out.push_str("\nThe median of the runs; * is the lowest.\n\n");
    for verdict in verdicts {
        target(&mut out, verdict, width);
    }
    for remark in remarks(results) {
        out.push('\n');
        paragraph(&mut out, &remark, 0);
    }
    out.push('\n');
    for note in notes(results) {
        paragraph(&mut out, &note, 2);
    }
    out
}

/// The columns of each table, if `most` columns fit side by side.
fn tables<'a>(names: &[&'a str], most: usize) -> Vec<Vec<&'a str>> {
    if names.len() <= most {
        return vec![names.to_vec()];
    }
    let (ours, others): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| **name == KMEM);
    others.chunks(most.saturating_sub(ours.len()).max(1)).map(|some| [&ours[..], some].concat()).collect()
}

fn table(out: &mut String, results: &Results, names: &[&str]) {
    let _ = write!(out, "{:<WORKLOAD$}", "");
    for name in names {
        let _ = write!(out, "{name:>FIGURE$}");
    }
    out.push('\n');
    for outcome in &results.workloads {
        let _ = write!(out, "{:<WORKLOAD$}", outcome.name);
        let best = least(outcome);
        for name in names {
            let cell = match (outcome.served(name), compared(outcome, name)) {
                (_, Some(figure)) => {
                    let mark = if Some(figure.median) == best { "*" } else { "" };
                    format!("{mark}{}", short(figure.median, &outcome.compared))
                }
                (Some(served), None) if served.failed.is_some() => "failed".into(),
                _ => String::new(),
            };
            let _ = write!(out, "{cell:>FIGURE$}");
        }
        out.push('\n');
    }
}

/// A target and whether it is met: its figures in columns and then its words, in one line if that fits; otherwise first
/// the words, and the figures below them.
fn target(out: &mut String, verdict: &Verdict, width: usize) {
    let figure = |value: Option<f64>| value.map_or("?".into(), |value| short(value, &verdict.unit));
    let best = verdict.best_peer.as_ref();
    let (kmem, limit) = (figure(verdict.kmem), figure(verdict.limit));
    let (peer, name) = (figure(best.map(|(_, figure)| *figure)), best.map_or("", |(name, _)| name));
    let head = format!("{:<4}{:<9}", verdict.id, verdict.word().to_uppercase());
    let words = format!("{}: {}", verdict.what, verdict.target);
    let line = format!("{head} kmem {kmem:>9}, limit {limit:>9}, best peer {peer:>9} {name:<13} {words}");
    let mut below = Vec::new();
    if line.chars().count() <= width {
        let _ = writeln!(out, "{line}");
    } else {
        let first = format!("{head}{words}");
        wrapped(&first, width, TARGET).iter().for_each(|line| _ = writeln!(out, "{line}"));
        below.push(format!("kmem {kmem}, limit {limit}, best peer {peer} {name}"));
    }
    if verdict.met.is_none() {
        below.push(format!("its figure comes from {}", verdict.source));
    }
    for text in below {
        let lines = wrapped(text.trim_end(), width - TARGET, 0);
        lines.iter().for_each(|line| _ = writeln!(out, "{:TARGET$}{line}", ""));
    }
}
