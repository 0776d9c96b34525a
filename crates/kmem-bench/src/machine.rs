//! The machine's properties that figures depend on.

use std::fs;

use crate::figures::Machine;

/// This machine, now.
pub fn here() -> Machine {
    let name = rustix::system::uname();
    Machine {
        processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: kib("MemTotal") / 1024,
        kernel: format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()),
        transparent_huge_pages: chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        kmem_mode: kmem::info().mode.to_string(),
    }
}

/// Memory that is available now, in MiB.
pub fn available_mib() -> u64 {
    kib("MemAvailable") / 1024
}

fn kib(name: &str) -> u64 {
    let value = field("/proc/meminfo", name).unwrap_or_default();
    value.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The value of the first line `NAME: VALUE`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// The word in brackets: `always [madvise] never`.
fn chosen(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let word = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(word, _)| word);
    word.unwrap_or("unknown").to_string()
}
