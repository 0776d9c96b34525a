//! The figures in Prometheus's text form, by its conventions: a prefix, base units, `_total` for what only grows, a
//! help and a type for each name, and all samples of a name together.

use std::fmt::Write;

use crate::holdings::{CacheRow, Holdings};
use crate::inspect::Inspected;

/// Figures of a process: name, help, figure.
type OfProcess = (&'static str, &'static str, fn(&Holdings) -> Option<u64>);
/// Figures of a cache.
type OfCache = (&'static str, &'static str, fn(&CacheRow) -> u64);

const PROCESS: &[OfProcess] = &[
    ("in_use_bytes", "Bytes of objects and large blocks that the process holds.", |held| Some(held.in_use_bytes)),
    ("cached_bytes", "Bytes of free objects in CPU caches and depots.", |held| Some(held.cached_bytes)),
    ("free_bytes", "Bytes of free objects on slabs and of free pages that hold memory.", |held| Some(held.free_bytes)),
    ("committed_bytes", "Bytes of address space for objects that is usable.", |held| Some(held.committed_bytes)),
    ("resident_bytes", "Bytes of it that hold memory.", |held| held.resident_bytes),
    ("huge_page_bytes", "Bytes of it in huge pages.", |held| held.huge_bytes),
    ("purged_bytes", "Bytes of free pages whose memory was released.", |held| Some(held.purged_bytes)),
    ("metadata_bytes", "Bytes of the descriptors and magazines of the allocator.", |held| Some(held.metadata_bytes)),
    ("slab_bytes", "Bytes of all slabs.", |held| Some(held.slab_bytes)),
    ("large_bytes", "Bytes of large blocks, which belong to no cache.", |held| Some(held.large_bytes)),
    ("caches", "Caches that exist.", |held| Some(held.cache_count)),
];

const CACHE_GAUGES: &[OfCache] = &[
    ("cache_object_bytes", "Bytes of an object.", |cache| cache.object_size),
    ("cache_active_objects", "Objects that the process holds.", |cache| cache.active_objects),
    ("cache_objects", "Objects on all slabs.", |cache| cache.total_objects),
    ("cache_cached_objects", "Free objects in CPU caches and depots.", |cache| {
        cache.cached_on_cpus.saturating_add(cache.cached_in_depots)
    }),
    ("cache_high_objects", "The most objects that were ever in use or cached.", |cache| cache.high_mark),
    ("cache_slabs", "Slabs.", |cache| cache.total_slabs),
    ("cache_active_slabs", "Slabs with an object in use or cached.", |cache| cache.active_slabs),
    ("cache_held_bytes", "Bytes of all slabs of the cache.", |cache| cache.held_bytes),
    ("cache_in_use_bytes", "Bytes of objects that the process holds.", |cache| cache.in_use_bytes),
];

const CACHE_COUNTERS: &[OfCache] = &[
    ("cache_slabs_grown_total", "Slabs made.", |cache| cache.grown),
    ("cache_slabs_reaped_total", "Slabs released.", |cache| cache.reaped),
    ("cache_refills_total", "Batches that depots and slabs handed out.", |cache| cache.refills),
    ("cache_flushes_total", "Batches that depots and slabs took back.", |cache| cache.flushes),
    ("cache_failures_total", "Allocations that failed.", |cache| cache.failures),
];

/// A text as the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All figures of these processes; `None` for one that could not be read.
pub fn text(seen: &[(u32, Option<Inspected>)]) -> String {
    let mut out = String::new();
    let processes: Vec<(String, &Inspected)> = seen
        .iter()
        .filter_map(|(pid, process)| {
            let process = process.as_ref()?;
            Some((format!("pid=\"{pid}\",program=\"{}\"", escaped(&process.program)), process))
        })
        .collect();
    family(&mut out, "up", "gauge", "Whether the process could be read.");
    for (pid, process) in seen {
        sample(&mut out, "up", &format!("pid=\"{pid}\""), u64::from(process.is_some()));
    }
    for (name, help, figure) in PROCESS {
        let samples =
            processes.iter().filter_map(|(labels, process)| Some((labels.clone(), figure(&process.holdings)?)));
        samples_of(&mut out, name, "gauge", help, samples);
    }
    for (kind, figures) in [("gauge", CACHE_GAUGES), ("counter", CACHE_COUNTERS)] {
        for (name, help, figure) in figures {
            let of_process = |(labels, process): &(String, &Inspected)| {
                let of_cache =
                    |cache: &CacheRow| (format!("{labels},cache=\"{}\"", escaped(&cache.name)), figure(cache));
                process.holdings.caches.iter().map(of_cache).collect::<Vec<_>>()
            };
            samples_of(&mut out, name, kind, help, processes.iter().flat_map(of_process));
        }
    }
    accounts(&mut out, &processes);
    large(&mut out, &processes);
    cpus(&mut out, &processes);
    out
}

fn accounts(out: &mut String, processes: &[(String, &Inspected)]) {
    let rows = || {
        processes.iter().flat_map(|(labels, process)| {
            let each = process.holdings.accounts.iter().flatten();
            each.map(move |account| (format!("{labels},account=\"{}\"", escaped(&account.name)), account))
        })
    };
    let used = rows().map(|(labels, account)| (labels, account.used_bytes));
    samples_of(out, "account_used_bytes", "gauge", "Bytes that are charged to an account.", used);
    let high = rows().map(|(labels, account)| (labels, account.high_bytes));
    samples_of(out, "account_high_bytes", "gauge", "The most bytes that were ever charged to it.", high);
    let limit = rows().filter_map(|(labels, account)| Some((labels, account.limit_bytes?)));
    samples_of(out, "account_limit_bytes", "gauge", "Bytes that may be charged to it, if it has a limit.", limit);
    let refused = rows().map(|(labels, account)| (labels, account.refused));
    samples_of(out, "account_refused_total", "counter", "Allocations that failed because of it.", refused);
}

fn large(out: &mut String, processes: &[(String, &Inspected)]) {
    let rows = || {
        processes.iter().flat_map(|(labels, process)| {
            let each = process.holdings.large.iter();
            each.map(move |row| (format!("{labels},from_bytes=\"{}\"", row.from_bytes), row))
        })
    };
    let help = "Large blocks in use, from this length on up to twice as long.";
    samples_of(out, "large_blocks", "gauge", help, rows().map(|(labels, row)| (labels, row.blocks)));
    let help = "Bytes of large blocks, from this length on up to twice as long.";
    samples_of(out, "large_block_bytes", "gauge", help, rows().map(|(labels, row)| (labels, row.bytes)));
}

fn cpus(out: &mut String, processes: &[(String, &Inspected)]) {
    let rows = || {
        processes.iter().flat_map(|(labels, process)| {
            process.cpus.iter().map(move |cpu| (format!("{labels},cpu=\"{}\"", cpu.cpu), cpu))
        })
    };
    let cached = rows().map(|(labels, cpu)| (labels, cpu.cached_bytes));
    samples_of(out, "cpu_cached_bytes", "gauge", "Bytes of free objects that a CPU caches.", cached);
    let drained = rows().map(|(labels, cpu)| (labels, cpu.drained_objects));
    samples_of(
        out,
        "cpu_drained_objects_total",
        "counter",
        "Objects taken out of a CPU's cache from outside.",
        drained,
    );
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP kmem_{name} {help}\n# TYPE kmem_{name} {kind}\n");
}

fn sample(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "kmem_{name}{{{labels}}} {value}");
}

/// A name with its samples; nothing where there are none.
fn samples_of(out: &mut String, name: &str, kind: &str, help: &str, samples: impl Iterator<Item = (String, u64)>) {
    let mut samples = samples.peekable();
    if samples.peek().is_some() {
        family(out, name, kind, help);
        samples.for_each(|(labels, value)| sample(out, name, &labels, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn a_process_that_is_gone_is_down() {
        let text = text(&[(7, None)]);
        assert!(text.ends_with("kmem_up{pid=\"7\"} 0\n") && text.lines().count() == 3, "{text}");
    }
}
