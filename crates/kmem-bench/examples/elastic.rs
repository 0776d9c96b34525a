//! Draws what `benchmarks/elastic` measured: memory and latency of a server whose container shrinks and grows.
//!
//! ```text
//! cargo run -p kmem-bench --example elastic -- SAMPLES DIRECTORY
//! ```
//!
//! It reads a sample a line, writes `memory.svg` and `latency.svg` to the directory, and prints a table.

use std::error::Error;
use std::path::Path;

use kmem_bench::charts::axes::{Chart, Scale, duration};
use serde_json::Value;

/// What happens when, in seconds: as in kmem-guest's scenario.
const EVENTS: [(f64, &str); 4] = [(4.0, "expire"), (9.0, "1 CPU"), (14.0, "limit / 2"), (19.0, "8 CPUs")];
/// Pauses of the table: a time well after each event, and before the next.
const SPANS: [(&str, f64, f64); 5] = [
    ("full", 1.0, 4.0),
    ("expired", 6.0, 9.0),
    ("one CPU", 11.0, 14.0),
    ("half the limit", 16.0, 19.0),
    ("all CPUs", 21.0, 24.0),
];
const CLASSES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
const MIB: f64 = 1048576.0;
const WIDTH: f64 = 860.0;

struct Run {
    name: String,
    samples: Vec<Value>,
}

impl Run {
    fn of(&self, key: &str) -> impl Iterator<Item = (f64, f64)> {
        self.samples.iter().filter_map(move |sample| Some((sample["seconds"].as_f64()?, sample[key].as_f64()?)))
    }

    fn mean(&self, key: &str, from: f64, to: f64) -> f64 {
        let values: Vec<f64> = self.of(key).filter(|(at, _)| (from..to).contains(at)).map(|(_, value)| value).collect();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(samples), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: elastic SAMPLES DIRECTORY".into());
    };
    let mut runs: Vec<Run> = Vec::new();
    for line in std::fs::read_to_string(&samples)?.lines() {
        let sample: Value = serde_json::from_str(line)?;
        let name = sample["allocator"].as_str().ok_or("a sample without an allocator")?;
        match runs.iter_mut().find(|run| run.name == name) {
            Some(run) => run.samples.push(sample),
            None => runs.push(Run { name: name.to_owned(), samples: vec![sample] }),
        }
    }
    let memory =
        chart(&runs, "resident_bytes", "Resident memory", "MiB", &|bytes| bytes / MIB, &|mib| format!("{mib:.0}"));
    let latency = chart(&runs, "p99_us", "Slowest hundredth", "", &|us| us * 1e3, &|ns| duration(ns));
    std::fs::write(Path::new(&directory).join("memory.svg"), memory)?;
    std::fs::write(Path::new(&directory).join("latency.svg"), latency)?;
    table(&runs);
    Ok(())
}

/// A line for each run. Latencies have decades.
fn chart(
    runs: &[Run],
    key: &str,
    title: &str,
    unit: &str,
    value: &dyn Fn(f64) -> f64,
    label: &dyn Fn(f64) -> String,
) -> String {
    let values = runs.iter().flat_map(|run| run.of(key)).map(|(_, y)| value(y)).collect::<Vec<_>>();
    let y = match unit {
        "" => Scale::decades(values.iter().copied()),
        _ => Scale::linear(values.iter().copied()),
    };
    let mut chart = Chart::new(title, 240.0, (Scale::Linear(25.0), "seconds"), (y, unit), label);
    for (at, name) in EVENTS {
        chart.mark(at, name);
    }
    let names: Vec<_> = CLASSES.into_iter().zip(runs.iter().map(|run| run.name.as_str())).collect();
    chart.legend(&names);
    for (run, class) in runs.iter().zip(CLASSES) {
        chart.path(class, run.of(key).map(|(x, y)| (x, value(y))));
    }
    chart.file(WIDTH)
}

fn table(runs: &[Run]) {
    println!("| allocator | {} |", SPANS.map(|(name, ..)| name).join(" | "));
    println!("|---|{}", "---|".repeat(SPANS.len()));
    for run in runs {
        let cells = SPANS.map(|(_, from, to)| {
            let resident = run.mean("resident_bytes", from, to) / MIB;
            let slowest = run.mean("p99_us", from, to) * 1e3;
            format!("{resident:.1} MiB, {}", duration(slowest))
        });
        println!("| {} | {} |", run.name, cells.join(" | "));
    }
}
