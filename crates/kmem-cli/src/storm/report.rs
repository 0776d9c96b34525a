//! The report of a storm: as JSON, as a table, or as a page with charts.

#![forbid(unsafe_code)]

mod page;

use std::fmt::Write;
use std::time::Duration;

use console::{Style, measure_text_width, style};
use indicatif::HumanCount;
use kmem_bench::charts::axes::duration;
use serde::Serialize;

use super::StormArgs;
use super::latency::Summary;
use super::legs::Comparison;
use super::source;
use super::worker::Shared;

/// What a storm did and found; the field names are the JSON keys.
#[derive(Serialize)]
pub struct Report {
    /// No object was lost, doubled, stranded or corrupt, and there are no complaints.
    pub ok: bool,
    seconds: u64,
    seed: u64,
    /// `rseq`, `cid` or `fallback`.
    mode: &'static str,
    caches_created: u64,
    caches_destroyed: u64,
    /// Destroys that were refused with the exact number of held objects.
    destroy_busy: u64,
    cpu_up: u64,
    cpu_down: u64,
    cpu_up_canceled: u64,
    allocs: u64,
    frees: u64,
    lost_objects: u64,
    duplicated_objects: u64,
    stranded_objects: u64,
    validate_ok: bool,
    corrupt_objects: u64,
    threads: usize,
    modules: usize,
    /// CPUs that were taken down and up.
    cpus: usize,
    elapsed_seconds: f64,
    cpu_down_failed: u64,
    /// Caches and objects that were refused for lack of memory (or because there are too many caches).
    create_failed: u64,
    alloc_failed: u64,
    frees_by_other_thread: u64,
    frees_on_other_cpu: u64,
    constructed: u64,
    dropped: u64,
    /// Quiescent points.
    checks: u64,
    latency_ns: Latency,
    complaints: Vec<String>,
    notes: Vec<String>,
    #[serde(skip)]
    mode_detail: String,
}

/// How long single allocations took.
#[derive(Serialize)]
struct Latency {
    /// Those of the workers in the storm. There are more workers than CPUs, so waiting for a CPU is part of it.
    workers: Summary,
    /// Bystanders with a storm beside them and without it; null if not asked for, or if there is only one CPU.
    bystanders: Option<Comparison>,
}

impl Report {
    /// Creates the report after the storm has ended.
    pub fn new(
        args: &StormArgs,
        seed: u64,
        elapsed: Duration,
        shared: &Shared,
        valid: bool,
        bystanders: Option<Comparison>,
    ) -> Self {
        let workers = shared.latencies.lock().unwrap_or_else(|e| e.into_inner()).summary();
        let info = kmem::info();
        let counted = shared.totals.read();
        let mut complaints = shared.totals.complaints();
        let lives = source::lives();
        if counted.allocs == 0 {
            complaints.push("no object was allocated: there was no storm".into());
        }
        let mut notes = Vec::new();
        if shared.cpus.len() == 1 {
            notes.push(format!(
                "this process may run only on CPU {}, and the last CPU cannot go down: \
                 the storm ran without hotplug; allow it two CPUs or more",
                shared.cpus[0]
            ));
        }
        let faults = counted.lost + counted.doubled + counted.stranded + counted.corrupt;
        Self {
            ok: faults == 0 && valid && complaints.is_empty(),
            seconds: args.seconds,
            seed,
            mode: crate::info::mode_word(&info.mode),
            caches_created: counted.caches_created,
            caches_destroyed: counted.caches_destroyed,
            destroy_busy: counted.destroy_busy,
            cpu_up: counted.cpu_up,
            cpu_down: counted.cpu_down,
            cpu_up_canceled: counted.cpu_up_canceled,
            allocs: counted.allocs,
            frees: counted.frees,
            lost_objects: counted.lost,
            duplicated_objects: counted.doubled,
            stranded_objects: counted.stranded,
            validate_ok: valid,
            corrupt_objects: counted.corrupt,
            threads: args.threads,
            modules: args.modules,
            cpus: shared.cpus.len(),
            elapsed_seconds: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            cpu_down_failed: counted.cpu_down_failed,
            create_failed: counted.create_failed,
            alloc_failed: counted.alloc_failed,
            frees_by_other_thread: counted.frees_by_other_thread,
            frees_on_other_cpu: counted.frees_on_other_cpu,
            constructed: lives.constructed,
            dropped: lives.dropped,
            checks: counted.checks,
            latency_ns: Latency { workers, bystanders },
            complaints,
            notes,
            mode_detail: info.mode.to_string(),
        }
    }

    /// Adds a note for the reader of the report.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The report as a table.
    pub fn table(&self) -> String {
        let mut table = Table::default();
        table.title(&format!(
            "A storm of {} s: {} threads, {} modules, {} CPUs, seed {}",
            self.seconds, self.threads, self.modules, self.cpus, self.seed
        ));
        let _ = writeln!(table.text, "Mode: {}", self.mode_detail);
        table.head("What happened");
        table.count("caches created", self.caches_created, &self.a_second(self.caches_created));
        table.count("caches destroyed", self.caches_destroyed, "");
        table.count("destroys refused", self.destroy_busy, "with the exact number of held objects");
        table.count("CPUs down", self.cpu_down, &self.a_second(self.cpu_down));
        table.count("CPUs up", self.cpu_up, "");
        table.count("ups canceled", self.cpu_up_canceled, "a prepare failed and was rolled back");
        table.count("downs failed", self.cpu_down_failed, "a listener refused and the CPU stayed");
        table.count("objects allocated", self.allocs, &self.a_second(self.allocs));
        table.count("objects freed", self.frees, "");
        table.count("  by another thread", self.frees_by_other_thread, "");
        table.count("  on another CPU", self.frees_on_other_cpu, "");
        if self.create_failed + self.alloc_failed > 0 {
            table.count("refused", self.create_failed + self.alloc_failed, "no memory, or too many caches");
        }
        table.latencies(&self.latency_ns);
        table.head("What was found");
        table.fault("lost", self.lost_objects, "counted as held, but not held");
        table.fault("doubled", self.duplicated_objects, "allocated to two holders at a time");
        table.fault("stranded", self.stranded_objects, "left in slots of CPUs that are not online");
        table.fault("corrupt", self.corrupt_objects, "bytes changed while they were held");
        let valid = if self.validate_ok { "sound" } else { "UNSOUND" };
        let meaning = format!("checked at {} quiescent points", HumanCount(self.checks));
        table.row("validation", &outcome(valid, self.validate_ok), &meaning);
        for note in &self.notes {
            table.line(&format!("Note: {note}."));
        }
        if !self.complaints.is_empty() {
            table.head("Faults");
            for complaint in &self.complaints {
                let _ = writeln!(table.text, "  - {complaint}");
            }
        }
        table.line(&outcome(self.sentence(), self.ok));
        table.text
    }

    fn sentence(&self) -> &'static str {
        if self.ok {
            "OK: every object was in exactly one place at every check, and all were freed."
        } else {
            "FAILED: the allocator broke its contract. Repeat the storm with the seed, and report the above."
        }
    }

    fn a_second(&self, count: u64) -> String {
        let rate = count as f64 / self.elapsed_seconds.max(0.001);
        format!("{} a second", HumanCount(rate.round() as u64))
    }
}

fn outcome(text: &str, good: bool) -> String {
    let colour = if good { Style::new().green() } else { Style::new().red().bold() };
    colour.apply_to(text).to_string()
}

/// Three columns: what, how much, what it means; 80 characters in all.
#[derive(Default)]
struct Table {
    text: String,
}

impl Table {
    const NAME: usize = 20;
    const VALUE: usize = 14;
    /// The first column of the latencies, which have more of them.
    const TIMED: usize = 17;

    fn title(&mut self, text: &str) {
        let _ = writeln!(self.text, "{}", style(text).bold());
    }

    fn head(&mut self, text: &str) {
        let _ = writeln!(self.text, "\n{}", style(text).bold());
    }

    fn row(&mut self, name: &str, value: &str, meaning: &str) {
        // The value may contain colour codes, so its width is not its length.
        let gap = " ".repeat(Self::VALUE.saturating_sub(measure_text_width(value)));
        let row = format!("  {name:<width$}{gap}{value}   {meaning}", width = Self::NAME);
        let _ = writeln!(self.text, "{}", row.trim_end());
    }

    fn count(&mut self, name: &str, count: u64, meaning: &str) {
        self.row(name, &HumanCount(count).to_string(), meaning);
    }

    fn fault(&mut self, name: &str, count: u64, meaning: &str) {
        self.row(name, &outcome(&HumanCount(count).to_string(), count == 0), meaning);
    }

    /// One line each, because they are to be compared.
    fn latencies(&mut self, latency: &Latency) {
        self.head("One allocation");
        let titles = ["median", "99 %", "99.9 %", "99.99 %", "slowest", "timed"];
        let row = |name: &str, cells: [String; 6]| {
            let [times @ .., timed] = cells;
            let times = times.map(|time| format!("{time:>10}")).concat();
            format!("  {name:<width$}{times}{timed:>11}\n", width = Self::TIMED)
        };
        self.text += &row("", titles.map(String::from));
        let workers = ("in the storm", &latency.workers);
        let bystanders = latency.bystanders.as_ref();
        let legs = bystanders.map(|legs| [("bystanders, calm", &legs.calm), ("bystanders, storm", &legs.storm)]);
        for (name, figures) in [workers].into_iter().chain(legs.into_iter().flatten()) {
            let Summary { p50, p99, p99_9, p99_99, max, samples } = *figures;
            let [a, b, c, d, e] = [p50, p99, p99_9, p99_99, max].map(|ns| duration(ns as f64));
            self.text += &row(name, [a, b, c, d, e, HumanCount(samples).to_string()]);
        }
        if let Some(legs) = bystanders {
            let _ = writeln!(
                self.text,
                "  The slowest 1 in 10,000 beside the storm: {} times that of calm\n  \
                 (median of {} pairs of legs, {} transitions, {} caches destroyed).",
                legs.ratio_p99_99,
                legs.rounds,
                HumanCount(legs.transitions),
                HumanCount(legs.caches_destroyed)
            );
        }
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "\n{text}");
    }
}
