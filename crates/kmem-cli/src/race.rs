//! `kmem race`: how the slab allocator of 2004 died, found again, and what keeps it from dying.
//!
//! The engine runs on virtual CPUs ([`kmem_sim`]), its threads one at a time, in one order of steps after the other,
//! under one of four protocols: with the gate or without, with caches listed while they are drained or not. For a
//! protocol that falls, the schedule that kills it is printed step by step, CPU by CPU in columns. Nothing of the
//! machine is touched: no CPU really goes.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use kmem_sim::explore::Limits;
use kmem_sim::race::{Report, Violation, race as explore};
use kmem_sim::{Protocol as Defences, catalogue::SCENARIOS};
use serde::Serialize;

/// No scenario begins a schedule after its share of this.
const TIME: Duration = Duration::from_secs(28);
/// Columns of a terminal that does not say how many it has.
const WIDTH: usize = 120;

/// Arguments of `kmem race`.
#[derive(Args)]
#[command(
    after_help = "Exit code: 0 if no schedule failed, 1 if violations were found (2004 always does, the others never should)."
)]
pub struct RaceArgs {
    /// Which defences stand between caches and CPUs
    #[arg(long, value_enum, default_value_t = Protocol::Y2004)]
    protocol: Protocol,
    /// Decides which schedules are run, where not all are
    #[arg(long, value_name = "X", default_value = "2004", value_parser = crate::storm::seed)]
    seed: u64,
    /// Most schedules of each scenario
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    schedules: u32,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// Neither: the kernel before the fix
    #[value(name = "2004")]
    Y2004,
    /// The historic fix: the order of 2004, under the gate
    Gate,
    /// No gate: caches stay listed while they are drained, and get no slots then
    Listed,
    /// Both, as kmem runs
    Both,
}

impl Protocol {
    fn defences(self) -> Defences {
        match self {
            Self::Y2004 => Defences::Y2004,
            Self::Gate => Defences::GATE,
            Self::Listed => Defences::LISTED,
            Self::Both => Defences::BOTH,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}

/// What `kmem race --json` tells; the field names are the JSON keys.
#[derive(Serialize)]
struct Told<'a> {
    protocol: String,
    seed: u64,
    schedules: usize,
    seconds: f64,
    scenarios: Vec<ToldScenario<'a>>,
    violations: Vec<ToldViolation<'a>>,
}

#[derive(Serialize)]
struct ToldScenario<'a> {
    name: &'a str,
    schedules: usize,
    /// Every schedule with up to so many preemptions was run; null if not even those without.
    complete_to_preemptions: Option<usize>,
    failed: usize,
}

#[derive(Serialize)]
struct ToldViolation<'a> {
    /// 1 or 2, the races of the seed; null for what else goes wrong.
    race: Option<u8>,
    /// Its number in INVARIANTS.md.
    invariant: u8,
    what: &'a str,
    scenario: &'a str,
    /// Schedules of the scenario until it was found.
    found_after: usize,
    /// The decisions that differ from letting the running thread run.
    schedule: String,
    before: String,
    steps: Vec<ToldStep>,
}

#[derive(Serialize)]
struct ToldStep {
    cpu: usize,
    thread: &'static str,
    text: String,
}

/// Explores, and prints what was found.
pub fn race(args: &RaceArgs) -> ExitCode {
    let begun = Instant::now();
    let share = TIME / SCENARIOS.len() as u32;
    let limits = Limits { time: Some(share), ..Limits::of(args.schedules as usize, args.seed) };
    let style = ProgressStyle::with_template("{bar:20} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    // On standard error, and only where that is a terminal.
    let bar = ProgressBar::new(SCENARIOS.len() as u64).with_style(style);
    let report = explore(args.protocol.defences(), &limits, |scenario| {
        bar.inc(1);
        bar.set_message(scenario.name);
    });
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let document = if args.json { crate::json(&told(args, &report, seconds)) } else { page(args, &report, seconds) };
    let printed = crate::print(&document);
    ExitCode::from(u8::from(!printed || !report.violations.is_empty()))
}

fn told<'a>(args: &RaceArgs, report: &'a Report, seconds: f64) -> Told<'a> {
    let scenario = |(name, explored): &(&'static str, kmem_sim::explore::Explored)| ToldScenario {
        name,
        schedules: explored.schedules,
        complete_to_preemptions: explored.all_with_preemptions,
        failed: explored.failures,
    };
    let violation = |violation: &'a Violation| ToldViolation {
        race: violation.race,
        invariant: violation.invariant,
        what: &violation.what,
        scenario: violation.scenario.name,
        found_after: violation.finding.after,
        schedule: violation.finding.schedule.to_string(),
        before: violation.opening(),
        steps: violation
            .steps()
            .into_iter()
            .map(|line| ToldStep { cpu: line.cpu, thread: line.thread, text: line.text })
            .collect(),
    };
    Told {
        protocol: args.protocol.name(),
        seed: args.seed,
        schedules: report.schedules(),
        seconds: (seconds * 1000.0).round() / 1000.0,
        scenarios: report.scenarios.iter().map(scenario).collect(),
        violations: report.violations.iter().map(violation).collect(),
    }
}

/// The same for a person: each race of the seed as a story, the rest in a sentence each.
fn page(args: &RaceArgs, report: &Report, seconds: f64) -> String {
    let width = console::Term::stdout().size_checked().map_or(WIDTH, |(_, columns)| usize::from(columns)).max(60);
    let mut out = String::new();
    for violation in report.violations.iter().filter(|violation| violation.race.is_some()) {
        story(&mut out, violation, width);
    }
    let others: Vec<&Violation> = report.violations.iter().filter(|violation| violation.race.is_none()).collect();
    if !others.is_empty() {
        let _ = writeln!(out, "What else goes wrong\n");
        for violation in others {
            let _ = writeln!(out, "  I{}: {} ({})", violation.invariant, violation.what, violation.scenario.name);
        }
        out.push('\n');
    }
    let failed: usize = report.scenarios.iter().map(|(_, explored)| explored.failures).sum();
    let verdict =
        if failed == 0 { "no violation".to_string() } else { format!("{} of them fail", HumanCount(failed as u64)) };
    let _ = writeln!(
        out,
        "Protocol {}: {} schedules of {} scenarios in {seconds:.1} s, {verdict}.",
        args.protocol.name(),
        HumanCount(report.schedules() as u64),
        report.scenarios.len(),
    );
    let _ = match args.protocol {
        Protocol::Y2004 => writeln!(
            out,
            "With either defence alone nothing is found: try --protocol gate, --protocol listed, --protocol both."
        ),
        _ => Ok(()),
    };
    out
}

/// The schedule in columns, one a CPU.
fn story(out: &mut String, violation: &Violation, width: usize) {
    let scenario = violation.scenario;
    let race = violation.race.map_or_else(String::new, |race| format!("Race {race}: "));
    let _ = writeln!(out, "{race}{}\n", scenario.name);
    wrap(&format!("Before: {}.", violation.opening()), width - 2).iter().for_each(|line| _ = writeln!(out, "  {line}"));
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
        for line in wrap(&step.text, column) {
            let _ = writeln!(out, "  {}{line}", " ".repeat(step.cpu * (column + 2)));
        }
    }
    let _ = writeln!(
        out,
        "\n  Found after {} schedules; the schedule is '{}'.\n",
        HumanCount(violation.finding.after as u64),
        violation.finding.schedule
    );
}

/// The text in lines of at most `width` characters, where its words allow; lines but the first are indented.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let continued = lines.len() > 1 || !lines[0].is_empty();
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if continued && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(format!("  {word}"));
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_kept() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "  def"]);
        assert_eq!(wrap("unbreakable x", 4), ["unbreakable", "  x"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
