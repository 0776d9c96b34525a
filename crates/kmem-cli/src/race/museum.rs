//! `kmem race --museum`: the mistakes of others, each found anew, as text, as JSON, and as a page.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kmem_bench::terminal::wrapped;
use kmem_sim::Protocol;
use kmem_sim::explore::Limits;
use kmem_sim::museum::{Exhibit, Shown, exhibits, statement};
use kmem_sim::race::Violation;
use serde::Serialize;

use super::{RaceArgs, ToldStep, chosen, gallery, mermaid, page, steps};
use crate::interrupt::{EXIT_STOPPED, Interrupt};

/// Time for one exhibit. It takes a second at most.
const TIME: Duration = Duration::from_secs(60);
/// Schedules of one exhibit, and of its twin.
const SCHEDULES: usize = 100_000;
const OF_TWIN: usize = 300;

/// An exhibit as it was found.
pub struct Found {
    pub number: usize,
    pub exhibit: &'static Exhibit,
    pub shown: Shown,
    pub twin: Shown,
}

impl Found {
    /// Whether it is what the exhibit says, and its twin is sound.
    fn is_right(&self) -> bool {
        self.violation().is_some_and(|violation| self.exhibit.is_shown_by(violation)) && self.twin.violation.is_none()
    }

    /// The violation.
    pub fn violation(&self) -> Option<&Violation> {
        self.shown.violation.as_ref()
    }

    /// The command that replays it.
    pub fn replay(&self) -> String {
        let schedule = self.violation().map_or_else(String::new, |violation| violation.finding.schedule.to_string());
        format!("kmem race --museum --exhibit {} --replay '{schedule}'", self.number)
    }
}

/// What a protocol is called.
pub fn under(protocol: Protocol) -> &'static str {
    match (protocol.gate, protocol.keep_listed) {
        (true, true) => "both defences",
        (true, false) => "the gate alone",
        (false, true) => "listing alone",
        (false, false) => "no defence",
    }
}

#[derive(Serialize)]
struct Told {
    seed: u64,
    seconds: f64,
    /// Whether every exhibit was found, and its twin fails nowhere.
    complete: bool,
    exhibits: Vec<ToldExhibit>,
}

#[derive(Serialize)]
struct ToldExhibit {
    number: usize,
    name: &'static str,
    year: u16,
    source: &'static str,
    /// Its number in docs/invariants.md.
    invariant: u8,
    statement: &'static str,
    wrong: &'static str,
    right: &'static str,
    /// Which defences stand: both, one, or none.
    under: &'static str,
    scenario: &'static str,
    /// Null if it was not found.
    schedule: Option<String>,
    what: Option<String>,
    found_after: usize,
    seconds: f64,
    before: Option<String>,
    steps: Vec<ToldStep>,
    /// Schedules of the same scenario under what ships, and whether none failed.
    twin_schedules: usize,
    twin_is_sound: bool,
}

#[derive(Serialize)]
struct Listed {
    number: usize,
    name: &'static str,
    year: u16,
    invariant: u8,
}

/// The index of an exhibit, by its number or a part of its name.
pub fn exhibit(text: &str) -> Result<usize, String> {
    let names: Vec<&str> = exhibits().map(|exhibit| exhibit.name).collect();
    chosen(text, &names, "exhibit")
}

/// Shows the museum, or one exhibit, or a schedule of it.
pub fn museum(args: &RaceArgs) -> ExitCode {
    let numbered = || exhibits().zip(1..).map(|(exhibit, number)| (number, exhibit));
    if args.list {
        let list = numbered().map(|(number, exhibit)| {
            let Exhibit { name, year, invariant, .. } = *exhibit;
            Listed { number, name, year, invariant }
        });
        let list: Vec<Listed> = list.collect();
        let document = if args.json { crate::json(&list) } else { listed(&list) };
        return ExitCode::from(u8::from(!crate::print(&document)));
    }
    let begun = Instant::now();
    let stop = Interrupt::watch().flag();
    let limits = Limits { time: Some(TIME), stop: Some(stop), ..Limits::of(SCHEDULES, args.seed) };
    let chosen = numbered().filter(|(number, _)| args.exhibit.is_none_or(|index| index + 1 == *number));
    if let Some(schedule) = &args.replay {
        let Some((number, exhibit)) = chosen.last().filter(|_| args.exhibit.is_some()) else {
            eprintln!("kmem race: --replay needs the --exhibit whose schedule it is");
            return ExitCode::from(2);
        };
        let shown = Shown { violation: exhibit.replay(schedule), schedules: 1, seconds: begun.elapsed().as_secs_f64() };
        let failed = shown.violation.is_some();
        let twin = Shown { violation: None, schedules: 0, seconds: 0.0 };
        let printed = print(args, &[Found { number, exhibit, shown, twin }], begun);
        return ExitCode::from(u8::from(failed || !printed));
    }
    let found: Vec<Found> = chosen
        .map(|(number, exhibit)| {
            let (shown, twin) = (exhibit.find(&limits), exhibit.twin(&Limits::of(OF_TWIN, args.seed)));
            Found { number, exhibit, shown, twin }
        })
        .collect();
    let printed = print(args, &found, begun);
    let written = args.report.as_ref().is_none_or(|folder| gallery::write(folder, &found));
    if stop.load(std::sync::atomic::Ordering::Relaxed) {
        return ExitCode::from(EXIT_STOPPED);
    }
    ExitCode::from(u8::from(!(printed && written && found.iter().all(Found::is_right))))
}

fn print(args: &RaceArgs, found: &[Found], begun: Instant) -> bool {
    let seconds = begun.elapsed().as_secs_f64();
    let document = match (args.json, args.mermaid) {
        (true, _) => crate::json(&told(args, found, seconds)),
        (_, true) => found.iter().filter_map(Found::violation).map(mermaid::diagram).collect(),
        _ => text(found, seconds),
    };
    crate::print(&document)
}

fn told(args: &RaceArgs, found: &[Found], seconds: f64) -> Told {
    let rounded = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
    let exhibit = |found: &Found| {
        let Exhibit { name, year, source, invariant, wrong, right, protocol, scenario, .. } = *found.exhibit;
        let violation = found.violation();
        ToldExhibit {
            number: found.number,
            name,
            year,
            source,
            invariant,
            statement: statement(invariant),
            wrong,
            right,
            under: under(protocol),
            scenario: scenario.name,
            schedule: violation.map(|violation| violation.finding.schedule.to_string()),
            what: violation.map(|violation| violation.what.clone()),
            found_after: found.shown.schedules,
            seconds: rounded(found.shown.seconds),
            before: violation.map(Violation::opening),
            steps: violation.map(steps).unwrap_or_default(),
            twin_schedules: found.twin.schedules,
            twin_is_sound: found.twin.violation.is_none(),
        }
    };
    Told {
        seed: args.seed,
        seconds: rounded(seconds),
        complete: found.iter().all(Found::is_right),
        exhibits: found.iter().map(exhibit).collect(),
    }
}

fn listed(list: &[Listed]) -> String {
    list.iter().fold(String::new(), |mut out, exhibit| {
        let _ = writeln!(out, "{:>2}  {}  {} (I{})", exhibit.number, exhibit.year, exhibit.name, exhibit.invariant);
        out
    })
}

fn text(found: &[Found], seconds: f64) -> String {
    let width = page::width();
    let mut out = String::new();
    let paragraph = |out: &mut String, text: &str| {
        wrapped(text, width - 2, 0).iter().for_each(|line| _ = writeln!(out, "  {line}"));
    };
    for one in found {
        let exhibit = one.exhibit;
        let _ = writeln!(out, "{}. {}, {}\n", one.number, exhibit.name, exhibit.year);
        paragraph(&mut out, exhibit.wrong);
        paragraph(&mut out, &format!("Where: {}.", exhibit.source));
        paragraph(&mut out, &format!("It breaks I{}: {}", exhibit.invariant, statement(exhibit.invariant)));
        paragraph(&mut out, &format!("Here: {}", exhibit.right));
        out.push('\n');
        match one.violation() {
            None => paragraph(&mut out, "Not found."),
            Some(violation) => {
                page::columns(&mut out, violation, width);
                paragraph(&mut out, &format!("{}. (Under {}.)", violation.what, under(exhibit.protocol)));
                paragraph(&mut out, &one.replay());
            }
        }
        out.push('\n');
    }
    let right = found.iter().filter(|one| one.is_right()).count();
    let twins: usize = found.iter().map(|one| one.twin.schedules).sum();
    if twins > 0 {
        let _ = writeln!(
            out,
            "{right} of {} exhibits were found in {seconds:.1} s, and in what ships none in {twins} schedules.",
            found.len()
        );
    }
    out
}
