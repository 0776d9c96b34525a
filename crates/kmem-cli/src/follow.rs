//! `kmem follow`: the CPUs of a running process, live.
//!
//! One line per CPU: its state, what is cached there, and how many objects were drained from its magazines since the
//! command started, because the CPU went away or was idle. On a terminal each update overwrites the previous one, with
//! as many lines as fit; elsewhere each update appends its lines, and with `--json` it is one document per line. Lines
//! are at most 60 columns wide. The command ends when the process does, or on Ctrl-C, and then prints a summary.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{Child, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use clap::Args;
use console::Term;
use indicatif::{BinaryBytes, HumanCount};
use kmem::status::{CpuRow, Snapshot, Unreadable};
use serde::Serialize;

use crate::interrupt::{self, EXIT_STOPPED, Interrupt};
use crate::remote_status::{OutsideError, Page, is_alive};
use crate::run;

/// Arguments of `kmem follow`.
#[derive(Args)]
pub struct FollowArgs {
    /// The process to follow
    #[arg(value_name = "PID", required_unless_present = "program", conflicts_with = "program")]
    pid: Option<u32>,
    /// Print one JSON document per line
    #[arg(long)]
    json: bool,
    /// Stop after N updates (a program started by this command still runs to its end)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Milliseconds between updates
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    interval: u64,
    /// A program to start on kmem, and its arguments, after `--`
    #[arg(value_name = "PROGRAM ARGS", last = true)]
    program: Vec<OsString>,
}

/// One update; the field names are the JSON keys.
#[derive(Serialize)]
struct Look {
    pid: u32,
    /// Since the command started.
    seconds: f64,
    upkeep: &'static str,
    /// CPUs; in mode `cid` concurrency ids.
    cpus: Vec<Lane>,
    #[serde(skip)]
    slots_word: &'static str,
}

#[derive(Serialize)]
struct Lane {
    cpu: usize,
    state: &'static str,
    cached_bytes: u64,
    cached_objects: u64,
    drained_since: u64,
}

/// Follows until the process ends, or for as many updates as were asked for.
pub fn follow(args: &FollowArgs) -> ExitCode {
    let mut child = None;
    let pid = match args.pid {
        Some(pid) => pid,
        None => match start(&args.program) {
            Ok(started) => child.insert(started).id(),
            Err(code) => return code,
        },
    };
    let mut following = Following::of(pid, args.json);
    let interval = Duration::from_millis(args.interval);
    let result = following.looks(args.count.unwrap_or(u64::MAX), interval, &mut child);
    let stopped = following.interrupt.is_asked();
    if let Err(error) = &result {
        eprintln!("kmem follow: {error}");
    } else if stopped {
        interrupt::clean_line();
        eprintln!("kmem follow: {}", following.summary());
    }
    match child.map(|mut child| child.wait()) {
        Some(Ok(status)) => of_program(status),
        Some(Err(_)) => ExitCode::FAILURE,
        None if stopped => ExitCode::from(EXIT_STOPPED),
        None => ExitCode::from(u8::from(result.is_err())),
    }
}

fn start(program: &[OsString]) -> Result<Child, ExitCode> {
    let mut command = run::served(program).map_err(|error| {
        eprintln!("kmem follow: {error}");
        ExitCode::from(run::EXIT_SETUP)
    })?;
    // So that even a small program publishes its status.
    command.env("KMEM_UPKEEP", "always");
    command.spawn().map_err(|error| run::say_not_started("follow", &program[0], &error))
}

/// The program's own exit code, or 128 plus the signal, by the shells' convention.
fn of_program(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

struct Following {
    pid: u32,
    json: bool,
    since: Instant,
    /// Each CPU's count of drained objects when it was first seen.
    first: BTreeMap<usize, u64>,
    /// Lines on the terminal that the next update overwrites.
    drawn: usize,
    /// Updates that found a status, and the objects that had been drained by the last of them.
    seen: u64,
    drained: u64,
    interrupt: Interrupt,
}

impl Following {
    fn of(pid: u32, json: bool) -> Self {
        let (since, first) = (Instant::now(), BTreeMap::new());
        Self { pid, json, since, first, drawn: 0, seen: 0, drained: 0, interrupt: Interrupt::watch() }
    }

    fn looks(&mut self, count: u64, interval: Duration, child: &mut Option<Child>) -> Result<(), OutsideError> {
        let mut done = 0;
        while done < count && !self.interrupt.is_asked() && self.goes_on(child) {
            // Searched for anew each time: the process may have executed another program, or begun a new page.
            match Page::find(self.pid).and_then(|mut page| page.read().map(|seen| self.look(&seen))) {
                Ok(look) => {
                    done += 1;
                    if !self.show(&look) {
                        return Ok(());
                    }
                }
                // A program that has just started, that is still too small to publish anything, or that was stopped in
                // the middle of a write may be readable later.
                Err(OutsideError::NotPublished(_)) => {}
                Err(OutsideError::Unreadable(_, Unreadable::BeingWritten | Unreadable::Empty)) => {}
                Err(OutsideError::NotOnKmem(_)) if child.is_some() => {}
                Err(_) if done > 0 && !self.goes_on(child) => return Ok(()),
                Err(OutsideError::NoSuchProcess(_)) if child.is_some() => return Ok(()),
                Err(error) => return Err(error),
            }
            if done < count {
                self.interrupt.sleep(interval);
            }
        }
        if done == 0 && child.is_none() && !self.interrupt.is_asked() {
            Err(OutsideError::NoSuchProcess(self.pid))
        } else {
            Ok(())
        }
    }

    fn goes_on(&self, child: &mut Option<Child>) -> bool {
        match child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => is_alive(self.pid),
        }
    }

    fn look(&mut self, seen: &Snapshot<'_>) -> Look {
        let mut lane = |row: CpuRow| {
            let first = *self.first.entry(row.cpu).or_insert(row.drained_objects);
            Lane {
                cpu: row.cpu,
                state: row.state.name(),
                cached_bytes: row.cached_bytes,
                cached_objects: row.cached_objects,
                drained_since: row.drained_objects.saturating_sub(first),
            }
        };
        let cpus: Vec<Lane> = seen.cpus().map(&mut lane).collect();
        self.seen += 1;
        self.drained = cpus.iter().map(|lane| lane.drained_since).sum();
        let upkeep = crate::inspect::upkeep_word(seen.upkeep());
        let slots_word = crate::info::slots_word(seen.mode().as_ref());
        let seconds = (self.since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        Look { pid: self.pid, seconds, upkeep, cpus, slots_word }
    }

    /// Prints an update; `false` if its reader has gone.
    fn show(&mut self, look: &Look) -> bool {
        if self.json {
            let mut line = serde_json::to_string(look).expect("plain numbers and strings always serialise");
            line.push('\n');
            return crate::print(&line);
        }
        let (lines, drawn) = self.lines(look);
        self.drawn = drawn;
        crate::print(&lines)
    }

    /// The text of an update, and how many lines of the terminal the next one overwrites.
    fn lines(&self, look: &Look) -> (String, usize) {
        let term = Term::stdout();
        let lines = look.cpus.iter().map(|lane| line(look, lane));
        if !term.is_term() {
            let head = if self.seen == 1 { head(look) } else { String::new() };
            return (head + &lines.collect::<String>(), 0);
        }
        // On a terminal that cannot move its cursor, lines are appended.
        let _ = term.clear_last_lines(self.drawn);
        // Lines that scrolled off the screen cannot be overwritten, so all must fit: these, a heading, a remainder and
        // the cursor.
        let room = usize::from(term.size().0).saturating_sub(3).max(1);
        let shown = if look.cpus.len() <= room + 1 { look.cpus.len() } else { room };
        let mut text = head(look) + &lines.take(shown).collect::<String>();
        if shown < look.cpus.len() {
            text += &rest(&look.cpus[shown..]);
        }
        let drawn = text.lines().count();
        (text, drawn)
    }

    /// What was seen so far, in a sentence.
    fn summary(&self) -> String {
        format!(
            "stopped after {:.1} s and {} updates; {} objects were drained",
            self.since.elapsed().as_secs_f64(),
            HumanCount(self.seen),
            HumanCount(self.drained)
        )
    }
}

fn head(look: &Look) -> String {
    format!(
        "{:>8}  {:>4}  {:<9} {:>10} {:>11} {:>10}\n",
        "seconds", look.slots_word, "state", "objects", "cached", "drained"
    )
}

fn line(look: &Look, lane: &Lane) -> String {
    format!("{:>8.2}  {:>4}  {:<9} {}\n", look.seconds, lane.cpu, lane.state, figures(std::slice::from_ref(lane)))
}

/// The CPUs that do not fit, summed up in one line.
fn rest(lanes: &[Lane]) -> String {
    format!("{:>14}  {:<9} {}\n", format!("{} more", HumanCount(lanes.len() as u64)), "", figures(lanes))
}

/// Objects, bytes and drained objects of some CPUs.
fn figures(lanes: &[Lane]) -> String {
    let sum = |figure: fn(&Lane) -> u64| lanes.iter().map(figure).sum::<u64>();
    format!(
        "{:>10} {:>11} {:>10}",
        HumanCount(sum(|lane| lane.cached_objects)).to_string(),
        BinaryBytes(sum(|lane| lane.cached_bytes)).to_string(),
        HumanCount(sum(|lane| lane.drained_since)).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_sixty_columns_and_stand_below_their_heads() {
        let lane = |cpu, figure| Lane {
            cpu,
            state: "held down",
            cached_bytes: figure * 1000,
            cached_objects: figure,
            drained_since: figure,
        };
        let cpus = vec![lane(0, 0), lane(7, 1023), lane(1023, 99_999_999)];
        let look = Look { pid: 1, seconds: 86_399.99, upkeep: "thread", cpus, slots_word: "cpu" };
        let head = head(&look);
        assert!(head.len() <= 60, "{head}");
        for lane in &look.cpus {
            assert!(line(&look, lane).len() <= head.len(), "{}", line(&look, lane));
        }
        assert_eq!(rest(&look.cpus[..2]).len(), head.len());
    }
}
