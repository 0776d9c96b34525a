//! `kmem info`: how a process is served on this machine.
//!
//! The mode is the question that everything else hangs on: with rseq a pair of alloc and free stays on its CPU
//! without a lock or an atomic instruction; in fallback mode the same slabs serve through locked shards. The
//! command asks the engine in its own process, so it tells of the environment that it was called in
//! (`GLIBC_TUNABLES`, `taskset`, seccomp, `ulimit -v`), not of the machine in the abstract.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use indicatif::{BinaryBytes, HumanCount};
use kmem::Mode;
use serde::Serialize;

/// Arguments of `kmem info`.
#[derive(Args)]
pub struct InfoArgs {
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// What `kmem info` tells; the field names are the JSON keys.
#[derive(Serialize)]
struct Told {
    version: &'static str,
    /// `rseq` or `fallback`.
    mode: &'static str,
    /// The engine's own words: whose registration, or why there is none.
    mode_detail: String,
    /// Why there is no rseq; null where there is.
    fallback_because: Option<String>,
    possible_cpus: usize,
    /// CPUs that this process may run on.
    online_cpus: usize,
    nodes: usize,
    page_size: usize,
    /// Bytes of reserved address space.
    reservation: usize,
}

/// The mode as one word: whose rseq registration it is matters to nobody who asks 'is it the fast one?'.
pub fn mode_word(mode: &Mode) -> &'static str {
    match mode {
        Mode::Fallback(_) => "fallback",
        _ => "rseq",
    }
}

/// Prints what the engine says of itself.
pub fn info(args: &InfoArgs) -> ExitCode {
    let info = kmem::info();
    let told = Told {
        version: info.version,
        mode: mode_word(&info.mode),
        mode_detail: info.mode.to_string(),
        fallback_because: match &info.mode {
            Mode::Fallback(why) => Some(why.to_string()),
            _ => None,
        },
        possible_cpus: info.possible_cpus,
        online_cpus: info.online_cpus.len(),
        nodes: info.nodes,
        page_size: info.page_size,
        reservation: info.reservation,
    };
    let document = if args.json { crate::json(&told) } else { table(&told) };
    ExitCode::from(u8::from(!crate::print(&document)))
}

/// The same for a person.
fn table(told: &Told) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<16}{value}");
    };
    row("version", told.version.to_string());
    row("mode", told.mode_detail.clone());
    row("possible CPUs", HumanCount(told.possible_cpus as u64).to_string());
    row("online CPUs", HumanCount(told.online_cpus as u64).to_string());
    row("nodes", told.nodes.to_string());
    row("page size", BinaryBytes(told.page_size as u64).to_string());
    row("reservation", format!("{} of address space", BinaryBytes(told.reservation as u64)));
    out
}
