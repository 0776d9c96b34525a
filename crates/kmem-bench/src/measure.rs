//! Taking turns: every workload under every allocator, run after run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::allocators::{Allocator, Field, KMEM, KMEM_FALLBACK};
use crate::catalogue::{self, Kind, Workload};
use crate::child::{Cost, Failure, Job};
use crate::executables::Executables;
use crate::figures::{Figure, Outcome, Results, Served};
use crate::machine;

/// What is measured, and how long.
pub struct Plan {
    /// Less work and fewer runs: figures for orientation, within a minute.
    pub quick: bool,
    /// Names of workloads; all where there is none.
    pub only: Vec<String>,
    /// Runs of each workload under each allocator; none: as many as fit the plan.
    pub runs: Option<usize>,
    /// The command that runs [`caches::run`](crate::caches::run) when called with these arguments, a name and `full` or
    /// `quick`, and prints the answer.
    pub caches_command: (PathBuf, Vec<&'static str>),
}

/// No workload has this name.
#[derive(Debug)]
pub struct UnknownWorkload(String);

impl fmt::Display for UnknownWorkload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = catalogue::ALL.iter().map(|workload| workload.name).collect();
        write!(f, "no workload is called '{}'; there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownWorkload {}

/// Where measuring is: the workload that begins, its place among all, and how many there are.
pub type Progress<'a> = dyn FnMut(&str, usize, usize) + 'a;

type Sample = Result<BTreeMap<String, f64>, String>;

impl Plan {
    /// The workloads that are asked for.
    ///
    /// # Errors
    /// A name that is no workload's.
    pub fn workloads(&self) -> Result<Vec<&'static Workload>, UnknownWorkload> {
        let known = |name: &String| catalogue::ALL.iter().any(|workload| workload.name == name);
        if let Some(unknown) = self.only.iter().find(|name| !known(name)) {
            return Err(UnknownWorkload(unknown.clone()));
        }
        let wanted = |workload: &&Workload| self.only.is_empty() || self.only.iter().any(|name| name == workload.name);
        Ok(catalogue::ALL.iter().filter(wanted).collect())
    }

    /// Measures.
    ///
    /// # Errors
    /// A name that is no workload's.
    pub fn measure(
        &self,
        field: Field,
        executables: &Executables,
        progress: &mut Progress<'_>,
    ) -> Result<Results, UnknownWorkload> {
        let workloads = self.workloads()?;
        let mut outcomes = Vec::new();
        for (done, workload) in workloads.iter().enumerate() {
            progress(workload.name, done, workloads.len());
            outcomes.push(self.turns(workload, &field.present, executables));
        }
        Ok(Results { machine: machine::here(), quick: self.quick, allocators: field.measured, workloads: outcomes })
    }

    /// One workload, everyone in turn: A B A B.
    fn turns(&self, workload: &Workload, everyone: &[Allocator], executables: &Executables) -> Outcome {
        let (skipped, served) = match self.runner(workload, executables) {
            Err(why) => (Some(why), Vec::new()),
            Ok(runner) => {
                let takes_part = |allocator: &&Allocator| match workload.kind {
                    Kind::Caches => allocator.name == KMEM || allocator.name == KMEM_FALLBACK,
                    _ => true,
                };
                let mut series: Vec<Series> = everyone.iter().filter(takes_part).map(Series::new).collect();
                for _ in 0..self.runs_of(workload) {
                    for group in series.chunks_mut(at_once(workload)) {
                        run_group(group, &*runner);
                    }
                }
                (None, series.into_iter().map(Series::result).collect())
            }
        };
        Outcome {
            name: workload.name.into(),
            about: workload.about.into(),
            unit: workload.unit.into(),
            compared: workload.compared.into(),
            family: workload.family.name().into(),
            skipped,
            results: served,
        }
    }

    fn runs_of(&self, workload: &Workload) -> usize {
        self.runs.unwrap_or(match (self.quick, &workload.kind) {
            (true, Kind::Waiting(_) | Kind::Program(_)) => 1,
            (true, _) => 3,
            (false, _) => 5,
        })
    }

    /// How one run of a workload is made, or why it cannot be.
    fn runner<'a>(&'a self, workload: &'a Workload, executables: &'a Executables) -> Result<Box<Runner<'a>>, String> {
        let patience = Duration::from_secs(if self.quick { 20 } else { 90 });
        let amount = if self.quick { "quick" } else { "full" };
        let job = move |program: &PathBuf, arguments: Vec<_>, environment| Job {
            program: program.clone(),
            arguments,
            environment,
            patience,
        };
        Ok(match &workload.kind {
            Kind::C | Kind::Waiting(_) => Box::new(move |allocator: &Allocator| {
                let arguments = vec![workload.name.into(), amount.into()];
                told(job(&executables.workloads, arguments, allocator.environment()).run())
            }),
            Kind::Floored => Box::new(move |allocator: &Allocator| {
                let run = |environment| {
                    told(job(&executables.workloads, vec![workload.name.into(), amount.into()], environment).run())
                };
                let mut figures = run(allocator.environment())?;
                let floor = run(vec![("LD_PRELOAD".into(), executables.empty.clone().into())])?;
                let of_time = ["ns", "cpu_ns", "cycles"];
                figures.extend(of_time.iter().filter_map(|name| Some((format!("floor_{name}"), *floor.get(*name)?))));
                Ok(figures)
            }),
            Kind::Starting => Box::new(move |allocator: &Allocator| {
                let mut arguments = vec![workload.name.into(), amount.into(), executables.nothing.clone().into()];
                arguments.extend(allocator.environment().into_iter().map(|(name, value)| {
                    let mut setting = std::ffi::OsString::from(name + "=");
                    setting.push(value);
                    setting
                }));
                told(job(&executables.workloads, arguments, vec![]).run())
            }),
            Kind::Caches => Box::new(move |allocator: &Allocator| {
                let mut arguments: Vec<_> = self.caches_command.1.iter().map(Into::into).collect();
                arguments.extend([workload.name.into(), amount.into()]);
                let mut environment = allocator.environment();
                environment.retain(|(name, _)| name != "LD_PRELOAD");
                told(job(&self.caches_command.0, arguments, environment).run())
            }),
            Kind::Program(program) => {
                let ready = program.prepare(self.quick, patience)?;
                Box::new(move |allocator: &Allocator| {
                    let cost = ready.run(allocator).map_err(|failure| failure.to_string())?;
                    Ok(BTreeMap::from([
                        ("ns".to_string(), cost.wall.as_nanos() as f64),
                        ("cpu_ns".to_string(), cost.cpu.as_nanos() as f64),
                        ("peak_kib".to_string(), cost.peak_kib as f64),
                    ]))
                })
            }
        })
    }
}

type Runner<'a> = dyn Fn(&Allocator) -> Sample + Sync + 'a;

/// How many allocators may run a workload at the same time.
fn at_once(workload: &Workload) -> usize {
    match workload.kind {
        Kind::Waiting(mib) => ((machine::available_mib() / mib) as usize).clamp(1, 4),
        _ => 1,
    }
}

/// One run of each of a group, at once if there are several.
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

    /// One more run, unless one has failed: who hangs would hang again.
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

/// The figures that a process told: lines of a name and a number.
fn told(ended: Result<Cost, Failure>) -> Sample {
    let output = ended.map_err(|failure| failure.to_string())?.output;
    let figures: Option<BTreeMap<_, _>> = output
        .lines()
        .map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_string(), value.parse::<f64>().ok().filter(|value| value.is_finite())?))
        })
        .collect();
    figures.filter(|figures| !figures.is_empty()).ok_or_else(|| format!("told no figures, but {output:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(output: &str) -> Result<Cost, Failure> {
        Ok(Cost { wall: Duration::ZERO, cpu: Duration::ZERO, peak_kib: 0, output: output.into() })
    }

    #[test]
    fn figures_are_read_and_nonsense_is_not() {
        assert_eq!(
            told(cost("ns 1.5\npeak_kib 2\n")).unwrap(),
            BTreeMap::from([("ns".into(), 1.5), ("peak_kib".into(), 2.0)])
        );
        for nonsense in ["", "ns\n", "ns nan\n", "ns 1.5\nhello world\n"] {
            assert!(told(cost(nonsense)).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn names_are_found_and_unknown_ones_told() {
        let plan = |only: &[&str]| Plan {
            quick: true,
            only: only.iter().map(ToString::to_string).collect(),
            runs: None,
            caches_command: ("/".into(), vec![]),
        };
        assert_eq!(plan(&[]).workloads().unwrap().len(), catalogue::ALL.len());
        assert_eq!(plan(&["pair"]).workloads().unwrap()[0].name, "pair");
        let unknown = plan(&["pare"]).workloads().err().unwrap().to_string();
        assert!(unknown.contains("'pare'") && unknown.contains("burst_lifo"), "{unknown}");
    }
}
