//! Which CPUs the threads of this process may run on.
//!
//! Most of the time one mask is enough: that of the main thread, which shows what happens to all threads at once
//! (offlining, a cpuset, `taskset -a`). Only where it leaves out a CPU on which something is cached are all threads of
//! the program asked. The mask of a thread of ours says nothing of the program.

use core::ffi::CStr;

use kmem_core::cpu::CpuSet;

use super::unavailable::{Unavailable, UnavailableSet};
use crate::os::{descriptors, sys, topology};
use crate::process::thread;

/// Where in an entry of a directory its length and its name are.
const ENTRY_LEN: usize = 16;
const ENTRY_NAME: usize = 19;

fn add(set: &mut CpuSet, cpus: &CpuSet) {
    cpus.iter().for_each(|cpu| set.insert(cpu));
}

/// The CPUs that any thread may run on, exactly so unless fewer are `enough`; `None` where the kernel does not tell.
pub(super) fn allowed(enough: impl Fn(&CpuSet) -> bool, unavailable: &mut UnavailableSet) -> Option<CpuSet> {
    let mut allowed = CpuSet::new();
    // A main thread that ended has no mask.
    if let Ok((_, main)) = topology::affinity(sys::getpid()) {
        add(&mut allowed, &main);
    }
    if allowed.is_empty() || !enough(&allowed) {
        unavailable.set(Unavailable::ThreadList, !of_all(&mut allowed));
    }
    (!allowed.is_empty()).then_some(allowed)
}

/// Adds the CPUs of all threads of the program; `false` where they cannot be listed.
#[cold]
fn of_all(allowed: &mut CpuSet) -> bool {
    each(|number| {
        // One that ended meanwhile has no mask.
        if !thread::is(number)
            && let Ok((_, cpus)) = topology::affinity(number)
        {
            add(allowed, &cpus);
        }
    })
}

/// Lets the calling thread run wherever any other thread of the process may, however it was pinned by who started it.
pub(crate) fn run_where_others_do() {
    let Ok((_, own)) = topology::affinity(0) else { return };
    let mut all = own;
    if of_all(&mut all) && all != own {
        topology::run_on(&all);
    }
}

/// Calls `visit` with the number of each thread of the process.
fn each(mut visit: impl FnMut(usize)) -> bool {
    let Ok(directory) = descriptors::open_directory(c"/proc/self/task") else { return false };
    let mut buffer = [0u8; 1024];
    let listed = loop {
        match descriptors::entries(directory, &mut buffer) {
            Ok(0) => break true,
            Ok(len) => names(&buffer[..len], &mut visit),
            Err(_) => break false,
        }
    };
    descriptors::close(directory);
    listed
}

/// Calls `visit` with each entry whose name is a number.
fn names(mut entries: &[u8], visit: &mut impl FnMut(usize)) {
    while let Some(&[low, high]) = entries.get(ENTRY_LEN..ENTRY_LEN + 2) {
        let len = usize::from(u16::from_ne_bytes([low, high])).clamp(ENTRY_NAME, entries.len());
        let name = CStr::from_bytes_until_nul(&entries[ENTRY_NAME..len]).ok();
        if let Some(thread) = name.and_then(|name| name.to_str().ok()?.parse().ok()) {
            visit(thread);
        }
        entries = &entries[len..];
    }
}

/// How many threads the program has, a thread of ours not counted; a main thread that ended still counts. `None` where
/// the kernel does not tell.
#[cold]
pub(super) fn count() -> Option<usize> {
    let mut text = [0; 512];
    let len = sys::read_file(c"/proc/self/stat", &mut text).ok()?;
    let all = parse_count(&text[..len])?;
    Some(all.saturating_sub(usize::from(thread::exists())).max(1))
}

/// The name of the program stands in brackets, and may hold anything.
fn parse_count(stat: &[u8]) -> Option<usize> {
    let after_name = &stat[stat.iter().rposition(|byte| *byte == b')')? + 1..];
    let mut fields = after_name.split(|byte| *byte == b' ').skip(1);
    core::str::from_utf8(fields.nth(17)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_threads_whatever_the_program_is_called() {
        for name in ["cat", "a) R 1 (b", "x y"] {
            let stat = std::format!("12 ({name}) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 3 0 77");
            assert_eq!(parse_count(stat.as_bytes()), Some(3));
        }
        assert!(parse_count(b"12 (cat").is_none());
    }

    #[test]
    fn counts_the_threads_that_the_kernel_lists() {
        // The harness begins and ends threads of its own meanwhile, so the two looks agree soon, not always.
        let agree = |_| count() == Some(std::fs::read_dir("/proc/self/task").expect("proc").count());
        assert!((0..1_000).any(agree), "the count in stat and the list of tasks never agree");
    }

    #[test]
    fn finds_every_thread() {
        // The kernel's list ends early where a thread ends that it is at, and the harness ends threads of its own.
        let both = |_| {
            let mut found = std::vec::Vec::new();
            assert!(each(|thread| found.push(thread)));
            found.contains(&sys::gettid()) && found.contains(&sys::getpid())
        };
        assert!((0..1_000).any(both), "this thread and the main thread are never listed");
    }
}
