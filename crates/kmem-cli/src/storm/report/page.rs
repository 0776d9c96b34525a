//! The page of `kmem storm --report`: a single self-contained file.
//!
//! Time runs to the right in all charts, from the beginning of the storm to its end, so that related events are
//! vertically aligned: a CPU that goes down, what is cached then, and what an allocation costs.

use std::time::Duration;

use indicatif::HumanCount;
use kmem_bench::charts::axes::{Chart, Scale, duration, number};
use kmem_bench::charts::{self, section};
use maud::{Markup, html};

use super::super::latency::{Latencies, SLOWEST, Summary};
use super::super::record::{BINS, Excerpt, Lanes, Record, Sample, Standing};
use super::Report;

const TIME: &str = "seconds since the storm began";

impl Standing {
    /// Its word, which is also the class of its colour.
    fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Coming => "coming",
            Self::Draining => "draining",
            Self::Gone => "gone",
        }
    }
}

impl Report {
    /// The whole page.
    pub fn page(&self, record: &Record) -> String {
        let (lanes, samples, latencies) = record.end();
        let bin = record.bin().as_secs_f64();
        let end = bin * BINS as f64;
        let body = html! {
            (self.head())
            (cpus(&lanes, bin, end))
            @if let Some(excerpt) = &lanes.excerpt { (magnified(excerpt, &lanes.cpus)) }
            (caches(&samples, end))
            (bytes(&samples, end))
            (latency(&latencies, bin, end))
            (self.percentiles())
        };
        charts::page("A storm", &body)
    }

    fn head(&self) -> Markup {
        let tiles = [
            ("objects allocated", self.allocs),
            ("CPUs down", self.cpu_down),
            ("CPUs up", self.cpu_up),
            ("transitions refused", self.cpu_up_canceled + self.cpu_down_failed),
            ("caches created", self.caches_created),
            ("caches destroyed", self.caches_destroyed),
            ("lost", self.lost_objects),
            ("doubled", self.duplicated_objects),
            ("stranded", self.stranded_objects),
            ("corrupt", self.corrupt_objects),
        ];
        let Self { seconds, threads, modules, cpus, seed, .. } = self;
        html! {
            h1 { "A storm of " (seconds) " s" }
            p {
                (threads) " threads, " (modules) " modules, " (cpus) " CPUs, seed " (seed) ". "
                "Mode: " (self.mode_detail) "."
            }
            p class=(if self.ok { "verdict" } else { "verdict failed" }) { (self.sentence()) }
            @for complaint in &self.complaints { p class="verdict failed" { (complaint) } }
            (charts::tiles(tiles.map(|(name, count)| ("", HumanCount(count).to_string(), name))))
        }
    }

    /// All that was timed, as a table.
    fn percentiles(&self) -> Markup {
        let row = |name: &str, figures: &Summary| {
            let Summary { p50, p99, p99_9, p99_99, max, samples } = *figures;
            html! {
                tr {
                    td { (name) }
                    @for ns in [p50, p99, p99_9, p99_99, max] { td class="figure" { (duration(ns as f64)) } }
                    td class="figure" { (HumanCount(samples)) }
                }
            }
        };
        html! {
            h2 { "One allocation" }
            div class="wide" {
                table {
                    tr {
                        th {}
                        @for title in ["median", "99 %", "99.9 %", "99.99 %", "slowest", "timed"] {
                            th class="figure" { (title) }
                        }
                    }
                    (row("workers, in the storm", &self.latency_ns.workers))
                    @if let Some(legs) = &self.latency_ns.bystanders {
                        (row("bystanders, calm", &legs.calm))
                        (row("bystanders, beside a storm", &legs.storm))
                    }
                }
            }
            "\n"
        }
    }
}

/// A lane for each CPU: the share of each bin that it spent in each state.
fn cpus(lanes: &Lanes, bin: f64, end: f64) -> Markup {
    let mut chart = Chart::lanes("States of the CPUs", &names(&lanes.cpus), (Scale::Linear(end), TIME));
    let count = lanes.cpus.len();
    for (lane, bins) in lanes.spent.iter().enumerate() {
        for (number, spent) in bins.iter().enumerate() {
            let time = (number as f64 * bin, (number + 1) as f64 * bin);
            let mut floor = 0.0;
            for standing in Standing::ALL {
                let share = (spent[standing as usize] / bin).min(1.0 - floor);
                if share > 0.0 {
                    chart.stretch(standing.word(), (lane, count), time, (floor, floor + share));
                    floor += share;
                }
            }
        }
    }
    let explained = format!(
        "The share of time in each state, in steps of {}. Where a lane is grey, nothing can be cached on that CPU, and \
         threads that run there are served by the depot.",
        duration(bin * 1e9)
    );
    section("CPUs", &explained, &Standing::ALL.map(|standing| (standing.word(), standing.word())), &chart.finish())
}

/// A few milliseconds, event by event.
fn magnified(excerpt: &Excerpt, cpus: &[usize]) -> Markup {
    let length = Excerpt::LENGTH.as_secs_f64() * 1e3;
    let axis = format!("milliseconds since second {} of the storm", number(excerpt.began.as_secs_f64()));
    let mut chart = Chart::lanes("States of the CPUs, magnified", &names(cpus), (Scale::Linear(length), &axis));
    let since_begin = |at: Duration| at.saturating_sub(excerpt.began).as_secs_f64() * 1e3;
    for lane in 0..cpus.len() {
        let mut standing = (0.0, excerpt.standing[lane]);
        let events = excerpt.events.iter().filter(|event| event.1 == lane);
        let turns = events.map(|&(at, _, next)| (since_begin(at), next)).chain([(length, Standing::Online)]);
        for (at, next) in turns {
            chart.stretch(standing.1.word(), (lane, cpus.len()), (standing.0, at), (0.0, 1.0));
            standing = (at, next);
        }
    }
    let explained = "Every transition within a moment: a lull, with pauses between them, or a gust.";
    section(
        "CPUs, magnified",
        explained,
        &Standing::ALL.map(|standing| (standing.word(), standing.word())),
        &chart.finish(),
    )
}

fn caches(samples: &[Sample], end: f64) -> Markup {
    let points = || samples.iter().map(|sample| (sample.at.as_secs_f64(), sample.caches as f64));
    let y = Scale::linear(points().map(|(_, caches)| caches));
    let mut chart = Chart::new("Caches alive", 130.0, (Scale::Linear(end), TIME), (y, "caches"), number);
    chart.path("one", points());
    section("Caches alive", "Caches of the modules that are loaded at each moment.", &[], &chart.finish())
}

fn bytes(samples: &[Sample], end: f64) -> Markup {
    const KIB: f64 = 1024.0;
    let layers = |sample: &Sample| {
        let slots = sample.in_slots as f64 / KIB;
        (sample.at.as_secs_f64(), slots, slots + sample.in_depots as f64 / KIB)
    };
    let y = Scale::linear(samples.iter().map(|sample| layers(sample).2));
    let mut chart = Chart::new("Cached bytes", 150.0, (Scale::Linear(end), TIME), (y, "KiB"), number);
    let slots: Vec<_> = samples.iter().map(layers).map(|(at, slots, _)| (at, 0.0, slots)).collect();
    let depots: Vec<_> = samples.iter().map(layers).collect();
    chart.area("one", &slots);
    chart.area("two", &depots);
    let held = samples.iter().map(|sample| sample.held as f64 / KIB).sum::<f64>() / samples.len().max(1) as f64;
    let explained = format!("Free objects that are cached. On average, users held {} KiB.", held.round());
    section("Cached bytes", &explained, &[("one", "in slots of CPUs"), ("two", "in depots")], &chart.finish())
}

fn latency(bins: &[Latencies], bin: f64, end: f64) -> Markup {
    let lines =
        [("one", "median", 0.5), ("two", "99 %", 0.99), ("three", "99.99 %", SLOWEST), ("four", "slowest", 1.0)];
    let points = |share: f64| {
        let filled = bins.iter().enumerate().filter(|(_, bin)| bin.len() > 0);
        filled.map(move |(number, times)| ((number as f64 + 0.5) * bin, times.quantile(share) as f64))
    };
    let all: Vec<f64> = lines.iter().flat_map(|line| points(line.2).map(|(_, ns)| ns)).collect();
    let y = Scale::decades(all.iter().copied());
    let mut chart = Chart::new("Latency", 210.0, (Scale::Linear(end), TIME), (y, "one allocation"), duration);
    for (class, _, share) in lines {
        chart.path(class, points(share));
    }
    let explained = "One in 16 allocations of all workers; the scale is logarithmic. There are more workers than CPUs, \
                     so the slowest ones waited for a CPU, not for the allocator.";
    section("Latency", explained, &lines.map(|(class, name, _)| (class, name)), &chart.finish())
}

fn names(cpus: &[usize]) -> Vec<String> {
    cpus.iter().map(|cpu| format!("CPU {cpu}")).collect()
}
