//! Taking turns: every workload under every allocator, run after run.

use std::collections::BTreeMap;
use std::thread;

use crate::allocators::{Allocator, Field, KMEM, KMEM_FALLBACK};
use crate::catalogue::{Kind, Workload};
use crate::executables::Executables;
use crate::figures::{Figure, Outcome, Results, Served};
use crate::machine;
use crate::plan::{Plan, UnknownWorkload};
use crate::runs::Runner;

/// Called when a workload begins, with its name, its index and the number of workloads.
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

/// Whether measuring is to stop. Asked before each run; a run that has begun is finished.
pub type Stop<'a> = dyn Fn() -> bool + 'a;

impl Plan {
    /// Measures. If it is stopped, unfinished workloads are missing from the result.
    ///
    /// # Errors
    /// A name that no workload has.
    pub fn measure(
        &self,
        field: Field,
        executables: &Executables,
        progress: &mut Progress<'_>,
        stop: &Stop<'_>,
    ) -> Result<Results, UnknownWorkload> {
        let workloads = self.workloads()?;
        let mut outcomes = Vec::new();
        for (done, workload) in workloads.iter().enumerate() {
            progress(workload.name, done, workloads.len());
            let Some(outcome) = self.turns(workload, &field.present, executables, stop) else { break };
            outcomes.push(outcome);
        }
        Ok(Results {
            machine: machine::here(),
            quick: self.quick,
            stopped: outcomes.len() < workloads.len(),
            allocators: field.measured,
            workloads: outcomes,
        })
    }

    /// Runs one workload under each allocator in turn: A B C, B C A, C A B. None if it was stopped.
    fn turns(
        &self,
        workload: &Workload,
        everyone: &[Allocator],
        executables: &Executables,
        stop: &Stop<'_>,
    ) -> Option<Outcome> {
        let (skipped, served) = match self.runner(workload, executables) {
            Err(why) => (Some(why), Vec::new()),
            Ok(runner) => {
                let takes_part = |allocator: &&Allocator| match workload.kind {
                    Kind::Storm => allocator.name == KMEM,
                    Kind::Caches => allocator.name == KMEM || allocator.name == KMEM_FALLBACK,
                    _ => true,
                };
                let mut series: Vec<Series> = everyone.iter().filter(takes_part).map(Series::new).collect();
                // Each run begins with another allocator, so that if the machine slows down during a run, it does not
                // always affect the same ones.
                for run in 0..self.runs_of(workload) {
                    let first = run % series.len().max(1);
                    series.rotate_left(first);
                    for group in series.chunks_mut(at_once(workload)) {
                        if stop() {
                            return None;
                        }
                        run_group(group, &*runner);
                    }
                    series.rotate_right(first);
                }
                (None, series.into_iter().map(Series::result).collect())
            }
        };
        Some(Outcome {
            name: workload.name.into(),
            about: workload.about.into(),
            unit: workload.unit.into(),
            compared: workload.compared.into(),
            family: workload.family.name().into(),
            skipped,
            results: served,
        })
    }
}

/// How many allocators may run a workload at the same time.
fn at_once(workload: &Workload) -> usize {
    match workload.kind {
        Kind::Leaving => 4,
        Kind::Waiting(mib) => ((machine::available_mib() / mib) as usize).clamp(1, 4),
        _ => 1,
    }
}

/// One run under each allocator of a group, all at once.
fn run_group(group: &mut [Series<'_>], runner: &Runner<'_>) {
    if let [one] = group {
        return one.run(runner);
    }
    thread::scope(|scope| {
        for series in group {
            scope.spawn(|| series.run(runner));
        }
    });
}

/// The runs of one workload under one allocator.
struct Series<'a> {
    allocator: &'a Allocator,
    runs: BTreeMap<String, Vec<f64>>,
    failed: Option<String>,
}

impl<'a> Series<'a> {
    fn new(allocator: &'a Allocator) -> Self {
        Self { allocator, runs: BTreeMap::new(), failed: None }
    }

    /// One more run, unless one has failed: an allocator that hangs would hang again.
    fn run(&mut self, runner: &Runner<'_>) {
        if self.failed.is_some() {
            return;
        }
        match runner(self.allocator) {
            Ok(figures) => {
                for (name, value) in figures {
                    self.runs.entry(name).or_default().push(value);
                }
            }
            Err(why) => self.failed = Some(why),
        }
    }

    fn result(self) -> Served {
        let figures = self.runs.into_iter().filter_map(|(name, runs)| Some((name, Figure::of(runs)?))).collect();
        Served { allocator: self.allocator.name.clone(), failed: self.failed, figures }
    }
}
