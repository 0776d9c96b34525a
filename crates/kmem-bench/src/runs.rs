//! How a workload is run once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::allocators::{Allocator, KMEM, KMEM_FALLBACK};
use crate::catalogue::{Kind, Workload};
use crate::child::{Cost, Failure, Job};
use crate::cpuset::{Cpuset, own_cpus};
use crate::executables::Executables;
use crate::plan::Plan;

/// The figures of a run by name, or why there are none.
pub(crate) type Sample = Result<BTreeMap<String, f64>, String>;

/// Runs a workload once under an allocator.
pub(crate) type Runner<'a> = dyn Fn(&Allocator) -> Sample + Sync + 'a;

type Environment = Vec<(String, OsString)>;

impl Plan {
    /// How a workload is run, or why it cannot be.
    pub(crate) fn runner<'a>(
        &'a self,
        workload: &'a Workload,
        executables: &'a Executables,
    ) -> Result<Box<Runner<'a>>, String> {
        let own = self.arguments(workload);
        Ok(match &workload.kind {
            Kind::C | Kind::Waiting(_) => Box::new(move |allocator: &Allocator| {
                told(self.job(&executables.workloads, own.clone(), allocator.environment()).run())
            }),
            Kind::Floored => Box::new(move |allocator: &Allocator| {
                let run = |environment| told(self.job(&executables.workloads, own.clone(), environment).run());
                let mut figures = run(allocator.environment())?;
                let floor = run(vec![("LD_PRELOAD".into(), executables.empty.clone().into())])?;
                let of_time = ["ns", "cpu_ns", "cycles"];
                figures.extend(of_time.iter().filter_map(|name| Some((format!("floor_{name}"), *floor.get(*name)?))));
                Ok(figures)
            }),
            Kind::Starting => Box::new(move |allocator: &Allocator| {
                let mut arguments = own.clone();
                arguments.push(executables.nothing.clone().into());
                arguments.extend(allocator.environment().into_iter().map(|(name, value)| {
                    let mut setting = OsString::from(name + "=");
                    setting.push(value);
                    setting
                }));
                told(self.job(&executables.workloads, arguments, vec![]).run())
            }),
            Kind::Leaving => {
                if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
                    return Err("it needs two CPUs or more, and there is one: allow it more (taskset)".into());
                }
                Box::new(move |allocator: &Allocator| {
                    let group = own_cpus().ok().and_then(|cpus| Cpuset::make(&cpus).ok());
                    let mut arguments = own.clone();
                    let mut environment = allocator.environment();
                    arguments.push(group.as_ref().map_or_else(OsString::new, |group| group.path().into()));
                    if allocator.name == KMEM || allocator.name == KMEM_FALLBACK {
                        arguments.extend([self.command.clone().into(), "bench-left".into()]);
                        // Without traffic kmem follows CPUs only if asked to.
                        environment.push(("KMEM_UPKEEP".into(), "always".into()));
                    }
                    told(self.job(&executables.workloads, arguments, environment).run())
                })
            }
            Kind::Caches => Box::new(move |allocator: &Allocator| {
                let mut arguments = vec!["bench-caches".into()];
                arguments.extend(own.clone());
                let mut environment = allocator.environment();
                environment.retain(|(name, _)| name != "LD_PRELOAD");
                told(self.job(&self.command, arguments, environment).run())
            }),
            Kind::Storm => Box::new(move |_| {
                let seconds = if self.quick { "1" } else { "10" };
                let arguments = ["storm", "--latency", "--json", "--seconds", seconds].map(OsString::from);
                let ended = self.job(&self.command, arguments.into(), vec![]).run();
                of_storm(&ended.map_err(|failure| failure.to_string())?.output)
            }),
            Kind::Program(program) => {
                let ready = program.prepare(self.quick, self.patience())?;
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

    fn patience(&self) -> Duration {
        Duration::from_secs(if self.quick { 20 } else { 90 })
    }

    /// A workload's name and the amount of work.
    fn arguments(&self, workload: &Workload) -> Vec<OsString> {
        vec![workload.name.into(), if self.quick { "quick" } else { "full" }.into()]
    }

    fn job(&self, program: &Path, arguments: Vec<OsString>, environment: Environment) -> Job {
        Job { program: PathBuf::from(program), arguments, environment, patience: self.patience() }
    }
}

/// The figures that a process printed: lines of a name and a number.
fn told(ended: Result<Cost, Failure>) -> Sample {
    let output = ended.map_err(|failure| failure.to_string())?.output;
    let figures: Option<BTreeMap<_, _>> = output
        .lines()
        .map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_string(), value.parse::<f64>().ok().filter(|value| value.is_finite())?))
        })
        .collect();
    figures.filter(|figures| !figures.is_empty()).ok_or_else(|| format!("printed no figures, but {output:?}"))
}

/// The figures of a storm's report: the slowest 1 in 10,000 allocations beside it and in calm, in nanoseconds, and
/// their ratio; the objects that were lost, doubled, stranded or corrupt; and the number of transitions of CPUs and
/// caches.
fn of_storm(report: &str) -> Sample {
    let report: Value = serde_json::from_str(report).map_err(|e| format!("the storm's report is not JSON: {e}"))?;
    let bystanders = &report["latency_ns"]["bystanders"];
    let faults = ["lost_objects", "duplicated_objects", "stranded_objects", "corrupt_objects"];
    let transitions = ["cpu_up", "cpu_down", "caches_created", "caches_destroyed"];
    let sum = |names: &[&str]| names.iter().map(|name| report[*name].as_f64()).sum::<Option<f64>>();
    [
        ("ratio", bystanders["ratio_p99_99"].as_f64()),
        ("calm_ns", bystanders["calm"]["p99_99"].as_f64()),
        ("storm_ns", bystanders["storm"]["p99_99"].as_f64()),
        ("faults", sum(&faults)),
        ("transitions", sum(&transitions)),
    ]
    .into_iter()
    .map(|(name, value)| Some((name.to_string(), value?)))
    .collect::<Option<BTreeMap<_, _>>>()
    .ok_or_else(|| "the storm's report has no latencies: it needs two CPUs or more".into())
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
    fn a_storms_report_is_read_and_one_without_latencies_is_not() {
        let report = |bystanders: &str| {
            format!(
                r#"{{"lost_objects":1,"duplicated_objects":0,"stranded_objects":2,"corrupt_objects":0,"cpu_up":3,
                "cpu_down":4,"caches_created":5,"caches_destroyed":6,"latency_ns":{{"bystanders":{bystanders}}}}}"#
            )
        };
        let legs = r#"{"ratio_p99_99":4.5,"calm":{"p99_99":300},"storm":{"p99_99":1500}}"#;
        let figures = of_storm(&report(legs)).unwrap();
        assert_eq!((figures["ratio"], figures["faults"], figures["transitions"]), (4.5, 3.0, 18.0));
        assert!(of_storm(&report("null")).unwrap_err().contains("two CPUs"));
        assert!(of_storm("storm").is_err());
    }
}
