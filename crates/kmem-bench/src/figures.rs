//! The result of measuring, as `--json` writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that was measured, and on what.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// The machine and the settings that figures depend on.
    pub machine: Machine,
    /// Whether workloads were shortened, so that figures are rough.
    pub quick: bool,
    /// Whether measuring was stopped, so that only workloads that were finished by then are here.
    #[serde(default)]
    pub stopped: bool,
    /// All allocators that were asked for, including the missing ones.
    pub allocators: Vec<Measured>,
    /// In the order of the catalogue.
    pub workloads: Vec<Outcome>,
}

/// Where figures come from.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// CPUs that the workloads may use.
    pub cpus: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Name and release of the kernel.
    pub kernel: String,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`: RSS depends on it.
    pub transparent_huge_pages: String,
    /// The mode of kmem on this machine: rseq or fallback.
    pub kmem_mode: String,
}

/// An allocator that was measured, or why it was not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// As `--allocators` names it.
    pub name: String,
    /// The version that was measured.
    pub version: String,
    /// Where the library is from, and what its environment had.
    pub how: String,
    /// Why it was not measured.
    pub missing: Option<String>,
}

/// One workload under every allocator.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// As `--only` names it.
    pub name: String,
    /// What it does.
    pub about: String,
    /// What one operation is.
    pub unit: String,
    /// The figure that allocators are compared by; less is better in all of them.
    pub compared: String,
    /// Which of the families of the catalogue: `core`, `caches`, `program`.
    pub family: String,
    /// Why it was not run at all, such as a program that is not installed.
    pub skipped: Option<String>,
    /// One for each allocator.
    pub results: Vec<Served>,
}

/// One workload under one allocator.
#[derive(Debug, Serialize, Deserialize)]
pub struct Served {
    /// The allocator's name.
    pub allocator: String,
    /// What went wrong in the first run that failed.
    pub failed: Option<String>,
    /// By name: `ns`, `cpu_ns`, `cycles` an operation, `peak_kib`, `settled_kib`, and the workload's own.
    pub figures: BTreeMap<String, Figure>,
}

/// One figure over all runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The middle run; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
    /// The figure of each run, in order.
    pub runs: Vec<f64>,
}

impl Figure {
    /// The figure of these runs, if there is at least one.
    pub fn of(runs: Vec<f64>) -> Option<Self> {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, min, max, runs })
    }
}

impl Results {
    /// The workload of this name.
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.workloads.iter().find(|outcome| outcome.name == name)
    }

    /// The allocators that were measured.
    pub fn present(&self) -> impl Iterator<Item = &Measured> {
        self.allocators.iter().filter(|allocator| allocator.missing.is_none())
    }
}

impl Outcome {
    /// The median of a figure under an allocator, if no run failed.
    pub fn median(&self, allocator: &str, figure: &str) -> Option<f64> {
        self.served(allocator)?.figure(figure).map(|figure| figure.median)
    }

    /// The result of this allocator.
    pub fn served(&self, allocator: &str) -> Option<&Served> {
        self.results.iter().find(|served| served.allocator == allocator)
    }
}

impl Served {
    /// A figure, if no run failed.
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        if self.failed.is_some() { None } else { self.figures.get(name) }
    }
}

/// The geometric mean of ratios; `None` if there are none.
pub fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let sum: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (!ratios.is_empty()).then(|| (sum / ratios.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_middle_of_its_runs() {
        let odd = Figure::of(vec![5.0, 1.0, 3.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (3.0, 1.0, 5.0));
        assert_eq!(odd.runs, [5.0, 1.0, 3.0]);
        assert_eq!(Figure::of(vec![4.0, 1.0, 2.0, 8.0]).unwrap().median, 3.0);
        assert_eq!(Figure::of(vec![]), None);
    }

    #[test]
    fn ratios_that_cancel_have_the_mean_one() {
        assert!((geometric_mean(&[2.0, 0.5]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }

    #[test]
    fn a_failure_has_no_figures() {
        let figures = BTreeMap::from([("ns".to_string(), Figure::of(vec![1.0]).unwrap())]);
        let failed = Served { allocator: "a".into(), failed: Some("signal 11".into()), figures };
        assert_eq!(failed.figure("ns"), None);
    }
}
