//! Running a model: every schedule within stated bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Runs `model` under every schedule with at most `preemptions` preemptions, and says how many there were.
pub fn explore(name: &'static str, preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 20_000;
    let begun = Instant::now();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let bound = builder.preemption_bound.map_or("any number of".into(), |bound| format!("at most {bound}"));
    println!(
        "{name}: {} schedules with {bound} preemptions, {:.1} s",
        count.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    );
}
