//! The text report of `kmem race`: each race step by step, with a column per CPU, and everything else in a sentence.

use std::fmt::Write;

use indicatif::HumanCount;
use kmem_bench::terminal::wrapped;
use kmem_sim::race::{Report, Violation};

use super::{Listed, Protocol, RaceArgs, number};

/// Columns assumed if the terminal does not say how many it has.
const WIDTH: usize = 120;

/// The columns of the terminal.
pub fn width() -> usize {
    console::Term::stdout().size_checked().map_or(WIDTH, |(_, columns)| usize::from(columns)).max(60)
}

/// The report as text: each race of 2004 step by step, other faults in a sentence each.
pub fn page(args: &RaceArgs, report: &Report, seconds: f64) -> String {
    let width = width();
    let mut out = String::new();
    // A schedule that was asked for is shown step by step in any case.
    let (stories, others): (Vec<&Violation>, Vec<&Violation>) =
        report.violations.iter().partition(|violation| violation.race.is_some() || args.replay.is_some());
    for violation in stories {
        story(&mut out, violation, args, width);
    }
    if !others.is_empty() {
        let _ = writeln!(out, "What else goes wrong\n");
        for violation in others {
            let _ = writeln!(out, "  I{}: {} ({})", violation.invariant, violation.what, violation.scenario.name);
            let _ = writeln!(out, "      {}", replay_of(violation, args));
        }
        out.push('\n');
    }
    verdict(&mut out, args, report, seconds);
    out
}

fn verdict(out: &mut String, args: &RaceArgs, report: &Report, seconds: f64) {
    let protocol = args.protocol.name();
    let failed: usize = report.scenarios.iter().map(|(_, explored)| explored.failures).sum();
    if let Some(schedule) = &args.replay {
        let verdict = if failed == 0 { "runs without a violation" } else { "fails" };
        let _ = writeln!(out, "Protocol {protocol}: the schedule '{schedule}' {verdict}.");
        return;
    }
    let verdict =
        if failed == 0 { "no violation".to_string() } else { format!("{} of them fail", HumanCount(failed as u64)) };
    let scenarios = match report.scenarios[..] {
        [(name, _)] => format!("'{name}'"),
        _ => format!("{} scenarios", report.scenarios.len()),
    };
    let schedules = HumanCount(report.schedules() as u64);
    let _ = writeln!(out, "Protocol {protocol}: {schedules} schedules of {scenarios} in {seconds:.1} s, {verdict}.");
    if report.stopped {
        let _ = writeln!(out, "Ctrl-C ended it before all of them were run.");
    }
    if args.protocol == Protocol::Y2004 {
        let advice = "Either defence alone prevents this: try --protocol gate, --protocol listed, --protocol both.";
        let _ = writeln!(out, "{advice}");
    }
}

/// The scenarios and what their threads do.
pub fn list(listed: &[Listed]) -> String {
    let mut out = String::new();
    for scenario in listed {
        let _ = writeln!(out, "{:>2}  {}", scenario.number, scenario.name);
        for thread in &scenario.threads {
            let _ = writeln!(out, "      {thread}");
        }
    }
    out
}

/// The command that replays a violation.
fn replay_of(violation: &Violation, args: &RaceArgs) -> String {
    let (protocol, number) = (args.protocol.name(), number(violation.scenario));
    format!("kmem race --protocol {protocol} --scenario {number} --replay '{}'", violation.finding.schedule)
}

/// The schedule in columns, one per CPU.
fn story(out: &mut String, violation: &Violation, args: &RaceArgs, width: usize) {
    let race = violation.race.map_or_else(String::new, |race| format!("Race {race}: "));
    let _ = writeln!(out, "{race}{}\n", violation.scenario.name);
    columns(out, violation, width);
    let what = format!("I{}: {}.", violation.invariant, violation.what);
    wrapped(&what, width - 2, 2).iter().for_each(|line| _ = writeln!(out, "  {line}"));
    if args.replay.is_none() {
        let after = HumanCount(violation.finding.after as u64);
        let _ = writeln!(out, "  Found after {after} schedules; to see it again:\n  {}", replay_of(violation, args));
    }
    out.push('\n');
}

/// The state at the beginning, and the steps, with a column per CPU.
pub fn columns(out: &mut String, violation: &Violation, width: usize) {
    let scenario = violation.scenario;
    wrapped(&format!("Before: {}.", violation.opening()), width - 2, 2)
        .iter()
        .for_each(|line| _ = writeln!(out, "  {line}"));
    out.push('\n');
    let column = (width - 2) / scenario.possible - 2;
    let heads: Vec<String> = (0..scenario.possible)
        .map(|cpu| match scenario.actors.iter().find(|actor| actor.cpu == cpu) {
            Some(actor) => format!("CPU {cpu}: {}", actor.name),
            None => format!("CPU {cpu}"),
        })
        .collect();
    let padded = |text: &String| format!("{text:column$}");
    let head = heads.iter().map(padded).collect::<Vec<_>>().join("  ");
    let rule = heads.iter().map(|_| "-".repeat(column)).collect::<Vec<_>>().join("  ");
    let _ = writeln!(out, "  {}\n  {rule}", head.trim_end());
    for step in violation.steps() {
        for line in wrapped(&step.text, column, 2) {
            // Red only on a terminal.
            let line = if step.fatal { console::style(line).red().bold().to_string() } else { line };
            let _ = writeln!(out, "  {}{line}", " ".repeat(step.cpu * (column + 2)));
        }
    }
    out.push('\n');
}
