//! Looking into a running process: what `kmem info PID`, `kmem top` and `kmem metrics` show.
//!
//! There are two sources. The memory of the process ([`outside`](crate::outside)) is exact at the moment of the look,
//! and serves for every process; the kernel asks whether we may trace it. The page that a process with an upkeep thread
//! publishes ([`remote_status`](crate::remote_status)) is as old as the last turn, and any process of the same user may
//! read it; only the page tells what the upkeep found. So both are read, and what the process holds is the memory's
//! word where it can be had.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};

use clap::ValueEnum;
use kmem::status::Snapshot;
use kmem::{Mode, UnavailableSet, Upkeep};
use serde::Serialize;

use crate::holdings::Holdings;
use crate::outside::{self, Engine};
use crate::remote_status::{OutsideError, Page};

/// How much of smaps is read: enough for all mappings that a process may have.
const SMAPS: u64 = 256 << 20;

/// One CPU; the field names are the JSON keys.
#[derive(Clone, Debug, Serialize)]
pub struct CpuSeen {
    pub cpu: usize,
    pub state: &'static str,
    pub cached_bytes: u64,
    pub cached_objects: u64,
    pub drained_objects: u64,
}

/// A feature that is off.
#[derive(Clone, Debug, Serialize)]
pub struct Off {
    pub what: &'static str,
    pub why: String,
}

/// A process at a moment.
#[derive(Clone, Debug)]
pub struct Inspected {
    pub pid: u32,
    /// The name of the program, as the kernel has it.
    pub program: String,
    /// Where the figures of its memory are from: `memory` or `page`.
    pub source: &'static str,
    pub mode: Option<Mode>,
    /// What does the upkeep: `thread`, `slow paths`, `off`; without a page, `no thread`.
    pub upkeep: &'static str,
    /// Whether CPUs that leave are followed.
    pub follows_cpus: bool,
    pub off: Vec<Off>,
    pub possible_cpus: usize,
    /// CPUs that the process may run on, if that is known.
    pub allowed_cpus: Option<usize>,
    /// CPUs that the process's cache budget is for, if it has one.
    pub entitled_cpus: Option<usize>,
    /// How long ago the page was written, or 0 where the memory was read.
    pub seconds_ago: f64,
    pub holdings: Holdings,
    /// CPUs; in mode `cid` concurrency ids.
    pub cpus: Vec<CpuSeen>,
}

/// What does the upkeep, in a word or two.
pub fn upkeep_word(upkeep: Upkeep) -> &'static str {
    match upkeep {
        Upkeep::Off => "off",
        Upkeep::Thread => "thread",
        _ => "slow paths",
    }
}

/// The features that are off, one by one.
pub fn off(unavailable: UnavailableSet) -> Vec<Off> {
    unavailable.iter().map(|facility| Off { what: facility.name(), why: facility.to_string() }).collect()
}

/// Which source is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Source {
    /// The memory of the process, which needs the right to trace it
    Memory,
    /// The page that it publishes, if it has an upkeep thread
    Page,
}

/// Looks into a process: by one source, or by both.
pub fn inspect(pid: u32, source: Option<Source>) -> Result<Inspected, OutsideError> {
    let memory = match source {
        Some(Source::Page) => Err(OutsideError::NotOnKmem(pid)),
        _ => Engine::find(pid).and_then(|engine| engine.see()),
    };
    let page = match source {
        Some(Source::Memory) => Err(OutsideError::NotOnKmem(pid)),
        _ => page(pid),
    };
    let (mut seen, window) = match (memory, page) {
        (Ok(memory), page) => {
            let window = Some(memory.window);
            (with_memory(pid, page.ok().map(|(seen, _)| seen), memory), window)
        }
        (Err(_), Ok(page)) => page,
        // The page's reason says more, unless there is none.
        (Err(OutsideError::NotOnKmem(_)), Err(why)) => return Err(why),
        (Err(why), Err(OutsideError::NotOnKmem(_) | OutsideError::NotPublished(_))) => return Err(why),
        (Err(_), Err(why)) => return Err(why),
    };
    if let Some((resident, huge)) = window.and_then(|window| resident(pid, window)) {
        seen.holdings.resident_bytes = Some(resident);
        seen.holdings.huge_bytes = Some(huge);
    }
    Ok(seen)
}

/// A process by its page, and where objects are.
fn page(pid: u32) -> Result<(Inspected, Option<(u64, u64)>), OutsideError> {
    let mut page = Page::find(pid)?;
    page.read().map(|snapshot| of_page(pid, &snapshot))
}

/// The same of a snapshot.
fn of_page(pid: u32, page: &Snapshot<'_>) -> (Inspected, Option<(u64, u64)>) {
    let mode = page.mode();
    let mut off = off(page.unavailable());
    if let Some(Mode::Fallback(why)) = &mode {
        off.insert(0, Off { what: "rseq", why: why.to_string() });
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let age = (now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64).saturating_sub(page.updated());
    let cpus = page.cpus().map(|row| CpuSeen {
        cpu: row.cpu,
        state: row.state.name(),
        cached_bytes: row.cached_bytes,
        cached_objects: row.cached_objects,
        drained_objects: row.drained_objects,
    });
    let seen = Inspected {
        pid,
        program: program(pid),
        source: "page",
        mode,
        upkeep: upkeep_word(page.upkeep()),
        follows_cpus: page.tracks_affinity(),
        off,
        possible_cpus: page.possible_cpus(),
        allowed_cpus: page.allowed_cpus(),
        entitled_cpus: Some(page.cpu_budget()),
        seconds_ago: (age / 1_000_000) as f64 / 1000.0,
        holdings: Holdings::of_page(page),
        cpus: cpus.collect(),
    };
    (seen, page.window())
}

/// The same with what the memory says, or only that.
fn with_memory(pid: u32, page: Option<Inspected>, memory: outside::Seen) -> Inspected {
    let mut seen = page.unwrap_or_else(|| Inspected {
        pid,
        program: program(pid),
        source: "memory",
        mode: memory.mode,
        upkeep: "no thread",
        follows_cpus: false,
        off: Vec::new(),
        possible_cpus: memory.possible_cpus,
        allowed_cpus: None,
        entitled_cpus: None,
        seconds_ago: 0.0,
        holdings: Holdings::default(),
        cpus: Vec::new(),
    });
    if let (Some(Mode::Fallback(why)), true) = (&seen.mode, seen.off.is_empty()) {
        seen.off.push(Off { what: "rseq", why: why.to_string() });
    }
    seen.source = "memory";
    seen.holdings = memory.holdings;
    // Of a CPU that left, only the page knows the state.
    for cpu in memory.cpus {
        let row = CpuSeen {
            cpu: cpu.cpu,
            state: cpu.state,
            cached_bytes: cpu.cached_bytes,
            cached_objects: cpu.cached_objects,
            drained_objects: cpu.drained_objects,
        };
        match seen.cpus.iter_mut().find(|known| known.cpu == cpu.cpu) {
            Some(known) => *known = CpuSeen { state: known.state, ..row },
            None => seen.cpus.push(row),
        }
    }
    seen.cpus.sort_by_key(|cpu| cpu.cpu);
    seen
}

/// The name of a program, as the kernel has it, without what would change a terminal.
pub fn program(pid: u32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    printable(String::from_utf8_lossy(&name).trim_end())
}

/// The text, with a question mark for what is no visible character: a name may be anything.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Bytes of memory in the mappings from `window.0` on, `window.1` bytes, and of them those in huge pages.
fn resident(pid: u32, window: (u64, u64)) -> Option<(u64, u64)> {
    let lines = BufReader::new(File::open(format!("/proc/{pid}/smaps")).ok()?.take(SMAPS)).lines();
    let end = window.0.saturating_add(window.1);
    let (mut inside, mut resident, mut huge) = (false, 0u64, 0u64);
    for line in lines.map_while(Result::ok) {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or("");
        let mut bytes = || words.next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024);
        match first {
            "Rss:" if inside => resident = resident.saturating_add(bytes()),
            "AnonHugePages:" if inside => huge = huge.saturating_add(bytes()),
            _ if first.ends_with(':') => {}
            _ => {
                let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
                let range = first.split_once('-').and_then(|(from, to)| Some((hexadecimal(from)?, hexadecimal(to)?)));
                inside = range.is_some_and(|(from, to)| from < end && to > window.0);
            }
        }
    }
    Some((resident, huge))
}
