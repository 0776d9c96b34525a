//! `kmem info`: in which mode a process runs on this machine.
//!
//! Everything else depends on the mode: with rseq a pair of alloc and free stays on its CPU (in mode `cid` on its
//! concurrency id) without a lock or an atomic instruction; in fallback mode the same slabs are reached through locked
//! shards. The command asks the engine in its own process, so the result is that of its environment (`GLIBC_TUNABLES`,
//! `taskset`, seccomp, `ulimit -v`), not that of the machine in the abstract.
//!
//! `kmem info PID` looks into a running process instead ([`inspect`](crate::inspect)): what holds its memory, first of
//! all, by caches and large blocks; its mode, its CPUs, and which features are off and why.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use indicatif::{BinaryBytes, HumanCount};
use kmem::Mode;
use serde::Serialize;

use crate::holdings::{AccountRow, Holdings};
use crate::inspect::{CpuSeen, Inspected, Off, Source, inspect, off};

/// Arguments of `kmem info`.
#[derive(Args)]
pub struct InfoArgs {
    /// A running process on kmem; without it, this command reports its own mode
    #[arg(value_name = "PID")]
    pid: Option<u32>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// List all caches and large blocks, not only those that hold the most
    #[arg(long, requires = "pid")]
    all: bool,
    /// Read only this source of what the process holds, instead of the memory and otherwise the page
    #[arg(long, requires = "pid", value_name = "SOURCE")]
    from: Option<Source>,
    /// Print the caches in the form of /proc/slabinfo, version 2.1
    #[arg(long, requires = "pid", conflicts_with_all = ["json", "all"])]
    slabinfo: bool,
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

/// Prints the mode of this process, or what another one publishes.
pub fn info(args: &InfoArgs) -> ExitCode {
    if let Some(pid) = args.pid {
        return info_of(pid, args);
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
struct Seen<'a> {
    pid: u32,
    program: &'a str,
    /// Where the figures of memory are from: `memory` (of this moment) or `page`.
    source: &'static str,
    /// `rseq`, `cid` or `fallback`.
    mode: &'static str,
    mode_detail: String,
    fallback_because: Option<String>,
    /// What does the upkeep: `thread`, `slow paths`, `off`; `no thread` where nothing more is known.
    upkeep: &'static str,
    /// Whether CPUs that leave are followed.
    follows_cpus: bool,
    /// The features that are off, and what that means.
    off: &'a [Off],
    possible_cpus: usize,
    /// CPUs that the process may run on; null if that is unknown.
    allowed_cpus: Option<usize>,
    /// The number of CPUs that the process's cache budget is for; null if it publishes none.
    entitled_cpus: Option<usize>,
    /// How long ago its page was written.
    seconds_ago: f64,
    #[serde(flatten)]
    holdings: &'a Holdings,
    /// CPUs; in mode `cid` concurrency ids.
    cpus: &'a [CpuSeen],
}

fn info_of(pid: u32, args: &InfoArgs) -> ExitCode {
    match inspect(pid, args.from) {
        Ok(seen) => {
            let document = if args.json {
                json(&seen)
            } else if args.slabinfo {
                crate::slabinfo::text(&seen.holdings)
            } else {
                page(&seen, args.all)
            };
            ExitCode::from(u8::from(!crate::print(&document)))
        }
        Err(error) => {
            eprintln!("kmem info: {error}");
            ExitCode::FAILURE
        }
    }
}

fn json(seen: &Inspected) -> String {
    crate::json(&Seen {
        pid: seen.pid,
        program: &seen.program,
        source: seen.source,
        mode: seen.mode.as_ref().map_or("unknown", mode_word),
        mode_detail: seen.mode.as_ref().map_or_else(|| "unknown".to_string(), ToString::to_string),
        fallback_because: match &seen.mode {
            Some(Mode::Fallback(why)) => Some(why.to_string()),
            _ => None,
        },
        upkeep: seen.upkeep,
        follows_cpus: seen.follows_cpus,
        off: &seen.off,
        possible_cpus: seen.possible_cpus,
        allowed_cpus: seen.allowed_cpus,
        entitled_cpus: seen.entitled_cpus,
        seconds_ago: seen.seconds_ago,
        holdings: &seen.holdings,
        cpus: &seen.cpus,
    })
}

/// The same as text: what holds the memory, then how the process runs, then its CPUs.
fn page(seen: &Inspected, all: bool) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<16}{value}");
    };
    row("process", &format!("{} ({})", seen.pid, seen.program));
    let held = &seen.holdings;
    let [used, cached, free] = [held.in_use_bytes, held.cached_bytes, held.free_bytes].map(BinaryBytes);
    row("memory", &format!("{used} in use, {cached} cached, {free} free"));
    let [committed, purged, own] = [held.committed_bytes, held.purged_bytes, held.metadata_bytes].map(BinaryBytes);
    let [resident, huge] = [held.resident_bytes, held.huge_bytes]
        .map(|bytes| bytes.map_or_else(|| "unknown".to_string(), |bytes| BinaryBytes(bytes).to_string()));
    row("", &format!("{resident} resident ({huge} in huge pages) of {committed} committed"));
    row("", &format!("{purged} purged, {own} of kmem's own tables"));
    holders(held, all).lines().for_each(|line| row("", line));
    accounts(held.accounts.as_deref().unwrap_or_default()).lines().for_each(|line| row("", line));
    let mode = seen.mode.as_ref().map_or_else(|| "unknown".to_string(), ToString::to_string);
    row("mode", &mode);
    if seen.entitled_cpus.is_some() {
        row("upkeep", &format!("{}, {:.3} s ago", seen.upkeep, seen.seconds_ago));
    } else {
        row("upkeep", seen.upkeep);
    }
    if let Some(entitled) = seen.entitled_cpus {
        let allowed = seen.allowed_cpus.map_or_else(|| "unknown".to_string(), |n| HumanCount(n as u64).to_string());
        let followed = if seen.follows_cpus { "followed" } else { "fixed" };
        let entitled = HumanCount(entitled as u64);
        row("CPUs", &format!("{allowed} allowed, {entitled} worth caching for, {followed}"));
    }
    for off in &seen.off {
        row("off", &format!("{}: {}", off.what, off.why));
    }
    for cpu in &seen.cpus {
        let cached = format!(
            "{:<10} {:>10} objects {:>12} cached {:>10} drained",
            cpu.state,
            HumanCount(cpu.cached_objects).to_string(),
            BinaryBytes(cpu.cached_bytes).to_string(),
            HumanCount(cpu.drained_objects).to_string(),
        );
        row(&format!("{} {}", slots_word(seen.mode.as_ref()), cpu.cpu), &cached);
    }
    out
}

/// How many holders are listed, so that all of a process is on a screen.
const LISTED: usize = 10;

/// Who holds the memory: caches, and large blocks by length, those first that hold the most.
fn holders(held: &Holdings, all: bool) -> String {
    struct Holder {
        name: String,
        held: u64,
        in_use: u64,
        objects: u64,
        size: u64,
    }
    let caches = held.caches.iter().filter(|cache| cache.held_bytes > 0).map(|cache| Holder {
        name: crate::inspect::printable(&cache.name),
        held: cache.held_bytes,
        in_use: cache.in_use_bytes,
        objects: cache.active_objects,
        size: cache.object_size,
    });
    let large = held.large.iter().map(|row| Holder {
        name: "large blocks".to_string(),
        held: row.bytes,
        in_use: row.bytes,
        objects: row.blocks,
        size: row.from_bytes,
    });
    let mut rows: Vec<Holder> = caches.chain(large).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.held));
    let shown = if all { rows.len() } else { rows.len().min(LISTED) };
    let mut out = format!("{:<24} {:>12} {:>12} {:>10} {:>10}\n", "held by", "bytes", "in use", "objects", "size");
    for row in &rows[..shown] {
        let large = if row.name == "large blocks" { "+" } else { "" };
        let _ = writeln!(
            out,
            "{:<24} {:>12} {:>12} {:>10} {:>10}",
            row.name,
            BinaryBytes(row.held).to_string(),
            BinaryBytes(row.in_use).to_string(),
            HumanCount(row.objects).to_string(),
            format!("{}{large}", short(row.size)),
        );
    }
    if shown < rows.len() {
        let rest: u64 = rows[shown..].iter().map(|row| row.held).fold(0, u64::saturating_add);
        let name = format!("{} more (--all)", HumanCount((rows.len() - shown) as u64));
        let _ = writeln!(out, "{name:<24} {:>12}", BinaryBytes(rest).to_string());
    }
    out
}

/// The accounts of a process, if it has any.
fn accounts(accounts: &[AccountRow]) -> String {
    let mut out = String::new();
    if !accounts.is_empty() {
        let _ = writeln!(out, "{:<24} {:>12} {:>12} {:>12} {:>8}", "account", "charged", "limit", "most", "refused");
    }
    for account in accounts {
        let limit = account.limit_bytes.map_or_else(|| "none".to_string(), |bytes| BinaryBytes(bytes).to_string());
        let [used, high] = [account.used_bytes, account.high_bytes].map(|bytes| BinaryBytes(bytes).to_string());
        let (name, refused) = (crate::inspect::printable(&account.name), HumanCount(account.refused).to_string());
        let _ = writeln!(out, "{name:<24} {used:>12} {limit:>12} {high:>12} {refused:>8}");
    }
    out
}

/// A size in few characters: exact below 10 KiB, else with one digit after the point.
pub fn short(bytes: u64) -> String {
    let (shift, unit) = match bytes {
        0..10_240 => return bytes.to_string(),
        10_240..0x10_0000 => (10, 'K'),
        0x10_0000..0x4000_0000 => (20, 'M'),
        0x4000_0000..0x100_0000_0000 => (30, 'G'),
        _ => (40, 'T'),
    };
    let tenth = (u128::from(bytes) * 10) >> shift;
    if tenth.is_multiple_of(10) {
        format!("{}{unit}", tenth / 10)
    } else {
        format!("{}.{}{unit}", tenth / 10, tenth % 10)
    }
}
