//! `kmem race`: reproduces the crashes of the slab allocator of 2004, and shows what prevents them.
//!
//! The engine runs on virtual CPUs ([`kmem_sim`]), one thread at a time, through one order of steps after another,
//! under one of four protocols: with the gate or without it, with caches listed while they are drained or not. For a
//! protocol that fails, the schedule that breaks it is printed step by step, with a column per CPU ([`page`]). The
//! machine itself is not touched: no real CPU goes offline.
//!
//! The [museum] shows the mistakes of others in the same way, each in a scenario of its own.
//!
//! A schedule is written as a short text, from which it can be replayed: under the protocol that it breaks, to see it
//! again, and under another, to see that a defence is sufficient.

#![forbid(unsafe_code)]

mod gallery;
mod mermaid;
mod museum;
mod page;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use kmem_sim::Protocol as Defences;
use kmem_sim::catalogue::SCENARIOS;
use kmem_sim::explore::{Explored, Limits, Schedule};
use kmem_sim::race::{Report, Violation, race as explore, replay};
use kmem_sim::scenario::Scenario;
use kmem_sim::story::Line;
use serde::Serialize;

use crate::interrupt::{self, EXIT_STOPPED, Interrupt};

/// Time for all scenarios together; each has an equal share, and begins no schedule after it.
const TIME: Duration = Duration::from_secs(28);

/// Arguments of `kmem race`.
#[derive(Args)]
#[command(
    after_help = "Exit code: 0 if no schedule failed, 1 if there were violations (2004 has some, the others never should).\n\n\
                  To replay a schedule: kmem race --scenario 1 --replay '0>1 10>0'. Under another protocol this \
                  shows whether that defence is sufficient.\n\n\
                  With --museum: 0 if every exhibit was found and fails nowhere in what ships, 1 if not."
)]
pub struct RaceArgs {
    /// Which defences are enabled
    #[arg(long, value_enum, default_value_t = Protocol::Y2004)]
    protocol: Protocol,
    /// Seed of the choice of schedules, where not all are run
    #[arg(long, value_name = "X", default_value = "2004", value_parser = crate::storm::seed)]
    seed: u64,
    /// Maximum number of schedules per scenario
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    schedules: u32,
    /// Run only this scenario: its number in the list, or a unique part of its name
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    scenario: Option<usize>,
    /// Replay one schedule of a scenario or an exhibit, given as it was printed
    #[arg(long, value_name = "SCHEDULE", conflicts_with_all = ["seed", "schedules"])]
    replay: Option<Schedule>,
    /// List the scenarios, or the exhibits
    #[arg(long, conflicts_with_all = ["protocol", "seed", "schedules", "scenario", "replay"])]
    list: bool,
    /// Show the museum: mistakes of other allocators and kernels, and the schedules that they die of
    #[arg(long, conflicts_with_all = ["protocol", "scenario", "schedules"])]
    museum: bool,
    /// Show only this exhibit: its number in the list, or a unique part of its name
    #[arg(long, value_name = "NAME", requires = "museum", value_parser = museum::exhibit)]
    exhibit: Option<usize>,
    /// Also write the museum to this folder: a page with drawings (index.html), and museum.md
    #[arg(long, value_name = "DIR", requires = "museum", conflicts_with_all = ["list", "exhibit", "replay"])]
    report: Option<PathBuf>,
    /// Print each schedule as a sequence diagram for Mermaid
    #[arg(long, conflicts_with_all = ["json", "list"])]
    mermaid: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// The index of one of these names, by its number or a part of it.
fn chosen(text: &str, names: &[&str], what: &str) -> Result<usize, String> {
    if let Some(index) = text.parse().ok().and_then(|number: usize| number.checked_sub(1)) {
        return Some(index).filter(|index| *index < names.len()).ok_or_else(|| format!("there are {}", names.len()));
    }
    let part = text.to_lowercase();
    // A whole name may be a part of another.
    if let Some(index) = names.iter().position(|name| name.to_lowercase() == part) {
        return Ok(index);
    }
    let found: Vec<usize> = (0..names.len()).filter(|index| names[*index].to_lowercase().contains(&part)).collect();
    match found[..] {
        [index] => Ok(index),
        [] => Err(format!("no {what} has that in its name; see --list")),
        _ => Err(format!("{} {what}s have that in their names; see --list", found.len())),
    }
}

fn scenario(text: &str) -> Result<usize, String> {
    chosen(text, &SCENARIOS.each_ref().map(|scenario| scenario.name), "scenario")
}

/// The number of a scenario in the list.
fn number(scenario: &Scenario) -> usize {
    1 + SCENARIOS.iter().position(|other| other.name == scenario.name).unwrap_or(0)
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// Neither: the kernel before the fix
    #[value(name = "2004")]
    Y2004,
    /// The historic fix: the order of 2004, under the gate
    Gate,
    /// No gate: caches stay listed while they are drained, and are given no slots meanwhile
    Listed,
    /// Both, as kmem itself runs
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

/// The document of `kmem race --json`; the field names are the JSON keys.
#[derive(Serialize)]
struct Told<'a> {
    protocol: String,
    seed: u64,
    schedules: usize,
    seconds: f64,
    /// Whether Ctrl-C ended it.
    stopped: bool,
    scenarios: Vec<ToldScenario<'a>>,
    violations: Vec<ToldViolation<'a>>,
}

#[derive(Serialize)]
struct ToldScenario<'a> {
    name: &'a str,
    schedules: usize,
    /// Every schedule with up to this many preemptions was run; null if not even those without any.
    complete_to_preemptions: Option<usize>,
    failed: usize,
}

#[derive(Serialize)]
struct ToldViolation<'a> {
    /// 1 or 2, the two races of 2004; null for any other fault.
    race: Option<u8>,
    /// Its number in docs/invariants.md.
    invariant: u8,
    what: &'a str,
    scenario: &'a str,
    /// How many schedules of the scenario were run until it was found.
    found_after: usize,
    /// The decisions that do not let the running thread continue.
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

#[derive(Serialize)]
struct Listed {
    number: usize,
    name: &'static str,
    /// What its threads do, as commands.
    threads: Vec<String>,
}

/// Explores and prints what was found, or replays one schedule, or lists the scenarios.
pub fn race(args: &RaceArgs) -> ExitCode {
    if args.museum {
        return museum::museum(args);
    }
    if args.replay.is_some() && args.scenario.is_none() {
        eprintln!("kmem race: --replay needs the --scenario whose schedule it is, or an --exhibit of the --museum");
        return ExitCode::from(2);
    }
    if args.list {
        let listed = listed();
        let document = if args.json { crate::json(&listed) } else { page::list(&listed) };
        return ExitCode::from(u8::from(!crate::print(&document)));
    }
    let begun = Instant::now();
    let scenarios = args.scenario.map_or(&SCENARIOS[..], |index| &SCENARIOS[index..=index]);
    let report = match &args.replay {
        Some(schedule) => again(args.protocol.defences(), &scenarios[0], schedule),
        None => explored(args, scenarios),
    };
    let seconds = begun.elapsed().as_secs_f64();
    let document = match (args.json, args.mermaid) {
        (true, _) => crate::json(&told(args, &report, seconds)),
        (_, true) => report.violations.iter().map(mermaid::diagram).collect(),
        _ => page::page(args, &report, seconds),
    };
    let printed = crate::print(&document);
    match (printed && report.violations.is_empty(), report.stopped) {
        (true, true) => ExitCode::from(EXIT_STOPPED),
        (sound, _) => ExitCode::from(u8::from(!sound)),
    }
}

fn listed() -> Vec<Listed> {
    let listed = |scenario: &'static Scenario| Listed {
        number: number(scenario),
        name: scenario.name,
        threads: scenario.actors.iter().map(|actor| format!("CPU {}: {}", actor.cpu, actor.name)).collect(),
    };
    SCENARIOS.iter().map(listed).collect()
}

fn explored(args: &RaceArgs, scenarios: &'static [Scenario]) -> Report {
    let share = TIME / scenarios.len() as u32;
    let stop = Some(Interrupt::watch().flag());
    let limits = Limits { time: Some(share), stop, ..Limits::of(args.schedules as usize, args.seed) };
    let style = ProgressStyle::with_template("{bar:20} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(scenarios.len() as u64).with_style(style);
    let report = explore(args.protocol.defences(), scenarios, &limits, |scenario| {
        bar.inc(1);
        bar.set_message(scenario.name);
    });
    bar.finish_and_clear();
    if report.stopped {
        interrupt::clean_line();
    }
    report
}

/// The result of one schedule, as a search that ran only this one.
fn again(defences: Defences, scenario: &'static Scenario, schedule: &Schedule) -> Report {
    let violations = Vec::from_iter(replay(defences, scenario, schedule));
    let explored = Explored { schedules: 1, failures: violations.len(), ..Explored::default() };
    Report { scenarios: vec![(scenario.name, explored)], violations, stopped: false }
}

fn steps(violation: &Violation) -> Vec<ToldStep> {
    let told = |line: Line| ToldStep { cpu: line.cpu, thread: line.thread, text: line.text };
    violation.steps().into_iter().map(told).collect()
}

fn told<'a>(args: &RaceArgs, report: &'a Report, seconds: f64) -> Told<'a> {
    let scenario = |(name, explored): &(&'static str, Explored)| ToldScenario {
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
        steps: steps(violation),
    };
    Told {
        protocol: args.protocol.name(),
        seed: args.seed,
        schedules: report.schedules(),
        seconds: (seconds * 1000.0).round() / 1000.0,
        stopped: report.stopped,
        scenarios: report.scenarios.iter().map(scenario).collect(),
        violations: report.violations.iter().map(violation).collect(),
    }
}
