//! `kmem info`: in which mode a process runs on this machine.
//!
//! Everything else depends on the mode: with rseq a pair of alloc and free stays on its CPU (in mode `cid` on its
//! concurrency id) without a lock or an atomic instruction; in fallback mode the same slabs are reached through locked
//! shards. The command asks the engine in its own process, so the result is that of its environment (`GLIBC_TUNABLES`,
//! `taskset`, seccomp, `ulimit -v`), not that of the machine in the abstract.
//!
//! `kmem info PID` reports on a running process instead, from what it publishes: its mode, its CPUs, what is cached on
//! each, and which features are off and why.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use indicatif::{BinaryBytes, HumanCount};
use kmem::status::Snapshot;
use kmem::{Mode, UnavailableSet, Upkeep};
use serde::Serialize;

use crate::remote_status::Page;

/// Arguments of `kmem info`.
#[derive(Args)]
pub struct InfoArgs {
    /// A running process on kmem; without it, this command reports its own mode
    #[arg(value_name = "PID")]
    pid: Option<u32>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// The document of `kmem info --json`; the field names are the JSON keys.
#[derive(Serialize)]
struct Told {
    version: &'static str,
    /// `rseq`, `cid` or `fallback`.
    mode: &'static str,
    /// In words: whose rseq registration it is, or why there is none.
    mode_detail: String,
    /// Why rseq is not used; null if it is.
    fallback_because: Option<String>,
    /// The features that are off, and why.
    off: Vec<Off>,
    possible_cpus: usize,
    /// CPUs that this process may run on.
    online_cpus: usize,
    nodes: usize,
    page_size: usize,
    /// Bytes of reserved address space.
    reservation: usize,
}

/// The mode as one word: whose rseq registration it is does not matter to the question 'is it the fast one?'.
pub fn mode_word(mode: &Mode) -> &'static str {
    match mode {
        Mode::Fallback(_) => "fallback",
        Mode::Cid => "cid",
        _ => "rseq",
    }
}

/// What a row stands for: a CPU, or in one mode a concurrency id.
pub fn slots_word(mode: Option<&Mode>) -> &'static str {
    if matches!(mode, Some(Mode::Cid)) { "cid" } else { "cpu" }
}

/// The features that are off, one by one.
fn off(unavailable: UnavailableSet) -> Vec<Off> {
    unavailable.iter().map(|facility| Off { what: facility.name(), why: facility.to_string() }).collect()
}

/// Prints the mode of this process, or what another one publishes.
pub fn info(args: &InfoArgs) -> ExitCode {
    if let Some(pid) = args.pid {
        return info_of(pid, args.json);
    }
    let info = kmem::info();
    let told = Told {
        version: info.version,
        mode: mode_word(&info.mode),
        mode_detail: info.mode.to_string(),
        fallback_because: match &info.mode {
            Mode::Fallback(why) => Some(why.to_string()),
            _ => None,
        },
        off: off(info.unavailable),
        possible_cpus: info.possible_cpus,
        online_cpus: info.online_cpus.len(),
        nodes: info.nodes,
        page_size: info.page_size,
        reservation: info.reservation,
    };
    let document = if args.json { crate::json(&told) } else { table(&told) };
    ExitCode::from(u8::from(!crate::print(&document)))
}

/// The same as text.
fn table(told: &Told) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<16}{value}");
    };
    row("version", told.version.to_string());
    row("mode", told.mode_detail.clone());
    for off in &told.off {
        row("off", format!("{}: {}", off.what, off.why));
    }
    row("possible CPUs", HumanCount(told.possible_cpus as u64).to_string());
    row("online CPUs", HumanCount(told.online_cpus as u64).to_string());
    row("nodes", told.nodes.to_string());
    row("page size", BinaryBytes(told.page_size as u64).to_string());
    row("reservation", format!("{} of address space", BinaryBytes(told.reservation as u64)));
    out
}

/// The document of `kmem info PID --json`; the field names are the JSON keys.
#[derive(Serialize)]
struct Seen {
    pid: u32,
    /// `rseq`, `cid` or `fallback`.
    mode: &'static str,
    mode_detail: String,
    fallback_because: Option<String>,
    /// What does the upkeep: `thread`, `slow paths`, `off`.
    upkeep: &'static str,
    /// Whether CPUs that leave are followed.
    follows_cpus: bool,
    /// The features that are off, and what that means.
    off: Vec<Off>,
    possible_cpus: usize,
    /// CPUs that the process may run on; null if that is unknown.
    allowed_cpus: Option<usize>,
    /// The number of CPUs that the process's cache budget is for.
    entitled_cpus: usize,
    /// How long ago the figures were written.
    seconds_ago: f64,
    /// Bytes of slabs: objects in use, cached, and free on them.
    slab_bytes: u64,
    /// Bytes of large objects, which belong to no cache.
    large_bytes: u64,
    /// Bytes of free pages that still hold memory.
    idle_bytes: u64,
    /// CPUs; in mode `cid` concurrency ids.
    cpus: Vec<SeenCpu>,
    #[serde(skip)]
    slots_word: &'static str,
}

#[derive(Serialize)]
struct Off {
    what: &'static str,
    why: String,
}

#[derive(Serialize)]
struct SeenCpu {
    cpu: usize,
    state: &'static str,
    cached_bytes: u64,
    cached_objects: u64,
    drained_objects: u64,
}

/// What does the upkeep, in a word or two.
pub fn upkeep_word(upkeep: Upkeep) -> &'static str {
    match upkeep {
        Upkeep::Off => "off",
        Upkeep::Thread => "thread",
        _ => "slow paths",
    }
}

fn info_of(pid: u32, json: bool) -> ExitCode {
    match Page::find(pid).and_then(|mut page| page.read().map(|snapshot| seen(pid, &snapshot))) {
        Ok(seen) => {
            let document = if json { crate::json(&seen) } else { seen_table(&seen) };
            ExitCode::from(u8::from(!crate::print(&document)))
        }
        Err(error) => {
            eprintln!("kmem info: {error}");
            ExitCode::FAILURE
        }
    }
}

fn seen(pid: u32, page: &Snapshot<'_>) -> Seen {
    let mode = page.mode();
    let because = match mode {
        Some(Mode::Fallback(why)) => Some(why.to_string()),
        _ => None,
    };
    let mut off = off(page.unavailable());
    if let Some(why) = &because {
        off.insert(0, Off { what: "rseq", why: why.clone() });
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let age = (now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64).saturating_sub(page.updated());
    Seen {
        pid,
        slots_word: slots_word(mode.as_ref()),
        mode: mode.as_ref().map_or("unknown", mode_word),
        mode_detail: mode.map_or_else(|| "unknown".to_string(), |mode| mode.to_string()),
        fallback_because: because,
        upkeep: upkeep_word(page.upkeep()),
        follows_cpus: page.tracks_affinity(),
        off,
        possible_cpus: page.possible_cpus(),
        allowed_cpus: page.allowed_cpus(),
        entitled_cpus: page.cpu_budget(),
        seconds_ago: (age / 1_000_000) as f64 / 1000.0,
        slab_bytes: page.slab_bytes(),
        large_bytes: page.large_bytes(),
        idle_bytes: page.idle_bytes(),
        cpus: page
            .cpus()
            .map(|row| SeenCpu {
                cpu: row.cpu,
                state: row.state.name(),
                cached_bytes: row.cached_bytes,
                cached_objects: row.cached_objects,
                drained_objects: row.drained_objects,
            })
            .collect(),
    }
}

/// The same as text.
fn seen_table(seen: &Seen) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<16}{value}");
    };
    row("process", seen.pid.to_string());
    row("mode", seen.mode_detail.clone());
    row("upkeep", format!("{}, {:.3} s ago", seen.upkeep, seen.seconds_ago));
    let allowed = seen.allowed_cpus.map_or_else(|| "unknown".to_string(), |cpus| HumanCount(cpus as u64).to_string());
    let followed = if seen.follows_cpus { "followed" } else { "fixed" };
    row("CPUs", format!("{allowed} allowed, {} worth caching for, {followed}", HumanCount(seen.entitled_cpus as u64)));
    let [slabs, large, idle] = [seen.slab_bytes, seen.large_bytes, seen.idle_bytes].map(BinaryBytes);
    row("memory", format!("{slabs} in slabs, {large} in large objects, {idle} in free pages"));
    for off in &seen.off {
        row("off", format!("{}: {}", off.what, off.why));
    }
    for cpu in &seen.cpus {
        let cached = format!(
            "{:<10} {:>10} objects {:>12} cached {:>10} drained",
            cpu.state,
            HumanCount(cpu.cached_objects).to_string(),
            BinaryBytes(cpu.cached_bytes).to_string(),
            HumanCount(cpu.drained_objects).to_string(),
        );
        row(&format!("{} {}", seen.slots_word, cpu.cpu), cached);
    }
    out
}
