//! The processes that run on kmem and that we may look into.

use std::fs;

use crate::info::short;
use crate::inspect::program;
use crate::outside::Engine;
use crate::remote_status::Page;

/// A process to choose.
#[derive(Clone, Debug)]
pub struct Running {
    pub pid: u32,
    pub program: String,
    /// Bytes that objects take up, if the memory may be read.
    pub in_use: Option<u64>,
}

/// Those that there are, the largest first.
pub fn running() -> Vec<Running> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut running: Vec<Running> = pids
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let seen = Engine::find(pid).and_then(|engine| engine.see());
            let in_use = seen.ok().map(|seen| seen.holdings.in_use_bytes);
            let is_on_kmem = in_use.is_some() || Page::find(pid).is_ok();
            is_on_kmem.then(|| Running { pid, program: program(pid), in_use })
        })
        .collect();
    running.sort_by_key(|process| (std::cmp::Reverse(process.in_use), process.pid));
    running
}

/// A line each, below a head.
pub fn lines(running: &[Running]) -> Vec<String> {
    if running.is_empty() {
        return vec!["No process that you may look into runs on kmem: `kmem run -- PROGRAM` starts one.".to_string()];
    }
    let mut lines = vec![format!("{:>10} {:>8}  PROGRAM", "PID", "IN USE")];
    lines.extend(running.iter().map(|process| {
        let in_use = process.in_use.map_or_else(|| "-".to_string(), short);
        format!("{:>10} {in_use:>8}  {}", process.pid, process.program)
    }));
    lines
}
