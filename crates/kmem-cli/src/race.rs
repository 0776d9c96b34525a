//! `kmem race`: how the slab allocator of 2004 died, found again, and what keeps it from dying.
//!
//! The engine runs on virtual CPUs ([`kmem_sim`]), its threads one at a time, in one order of steps after the other,
//! under one of four protocols: with the gate or without, with caches listed while they are drained or not. For a
//! protocol that falls, the schedule that kills it is printed step by step, CPU by CPU in columns ([`page`]). Nothing of
//! the machine is touched: no CPU really goes.
//!
//! A schedule is a short text, and runs again by it: under the protocol that it kills, to see it once more, and under
//! another, to see that a defence is enough.

#![forbid(unsafe_code)]

mod page;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use kmem_sim::Protocol as Defences;
use kmem_sim::catalogue::SCENARIOS;
use kmem_sim::explore::{Explored, Limits, Schedule};
use kmem_sim::race::{Report, Violation, race as explore, replay};
use kmem_sim::scenario::Scenario;
use serde::Serialize;

use crate::interrupt::{self, EXIT_STOPPED, Interrupt};

/// No scenario begins a schedule after its share of this.
const TIME: Duration = Duration::from_secs(28);

/// Arguments of `kmem race`.
#[derive(Args)]
#[command(
    after_help = "Exit code: 0 if no schedule failed, 1 if violations were found (2004 always does, the others never should).\n\n\
                  To see a schedule again: kmem race --scenario 1 --replay '0>1 10>0'. Under another protocol it shows \
                  whether that defence is enough."
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
    /// Only this scenario: its number in the list, or a part of its name that no other has
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    scenario: Option<usize>,
    /// Run one schedule of a scenario again, as it was printed
    #[arg(long, value_name = "SCHEDULE", requires = "scenario", conflicts_with_all = ["seed", "schedules"])]
    replay: Option<Schedule>,
    /// List the scenarios
    #[arg(long, conflicts_with_all = ["protocol", "seed", "schedules", "scenario", "replay"])]
    list: bool,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// The place of a scenario in the catalogue, by its number or a part of its name.
fn scenario(text: &str) -> Result<usize, String> {
    if let Some(index) = text.parse().ok().and_then(|number: usize| number.checked_sub(1)) {
        return Some(index)
            .filter(|index| *index < SCENARIOS.len())
            .ok_or_else(|| format!("there are {}", SCENARIOS.len()));
    }
    let part = text.to_lowercase();
    let found: Vec<usize> =
        (0..SCENARIOS.len()).filter(|index| SCENARIOS[*index].name.to_lowercase().contains(&part)).collect();
    match found[..] {
        [index] => Ok(index),
        [] => Err("no scenario has that in its name; see --list".to_string()),
        _ => Err(format!("{} scenarios have that in their names; see --list", found.len())),
    }
}

/// The number of a scenario, as the list has it.
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
    /// Whether Ctrl-C ended it.
    stopped: bool,
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

#[derive(Serialize)]
struct Listed {
    number: usize,
    name: &'static str,
    /// What its threads do, as a person would type it.
    threads: Vec<String>,
}

/// Explores, and prints what was found; or runs one schedule, or lists the scenarios.
pub fn race(args: &RaceArgs) -> ExitCode {
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
    let document =
        if args.json { crate::json(&told(args, &report, seconds)) } else { page::page(args, &report, seconds) };
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
    // On standard error, and only where that is a terminal.
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

/// What became of one schedule, in the form of a search that ran no other.
fn again(defences: Defences, scenario: &'static Scenario, schedule: &Schedule) -> Report {
    let violations = Vec::from_iter(replay(defences, scenario, schedule));
    let explored = Explored { schedules: 1, failures: violations.len(), ..Explored::default() };
    Report { scenarios: vec![(scenario.name, explored)], violations, stopped: false }
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
        stopped: report.stopped,
        scenarios: report.scenarios.iter().map(scenario).collect(),
        violations: report.violations.iter().map(violation).collect(),
    }
}
