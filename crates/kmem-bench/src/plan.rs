//! What is to be measured, and how long.

use std::fmt;
use std::path::PathBuf;

use crate::catalogue::{self, Kind, Workload};

/// What is measured, and how long.
pub struct Plan {
    /// Less work and fewer runs: rough figures within a minute.
    pub quick: bool,
    /// Names of workloads; empty means all.
    pub only: Vec<String>,
    /// Runs of each workload under each allocator; `None` is the plan's own number.
    pub runs: Option<usize>,
    /// The command `kmem`. `kmem bench-caches NAME full|quick` runs [`caches::run`](crate::caches::run) and prints the
    /// result; `kmem bench-left PID CPU` prints what a process on kmem caches for a CPU, as the figure `cached_bytes`;
    /// `kmem storm --latency --json` is the storm.
    pub command: PathBuf,
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

impl Plan {
    /// The workloads that are asked for.
    ///
    /// # Errors
    /// A name that no workload has.
    pub fn workloads(&self) -> Result<Vec<&'static Workload>, UnknownWorkload> {
        let known = |name: &String| catalogue::ALL.iter().any(|workload| workload.name == name);
        if let Some(unknown) = self.only.iter().find(|name| !known(name)) {
            return Err(UnknownWorkload(unknown.clone()));
        }
        let wanted = |workload: &&Workload| self.only.is_empty() || self.only.iter().any(|name| name == workload.name);
        Ok(catalogue::ALL.iter().filter(wanted).collect())
    }

    /// How often a workload is run under each allocator.
    pub(crate) fn runs_of(&self, workload: &Workload) -> usize {
        self.runs.unwrap_or(match (self.quick, &workload.kind) {
            (true, Kind::Floored) => 3,
            (true, _) => 1,
            (false, _) => 5,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_unknown_ones_told() {
        let plan = |only: &[&str]| Plan {
            quick: true,
            only: only.iter().map(ToString::to_string).collect(),
            runs: None,
            command: "/".into(),
        };
        assert_eq!(plan(&[]).workloads().unwrap().len(), catalogue::ALL.len());
        assert_eq!(plan(&["pair"]).workloads().unwrap()[0].name, "pair");
        let unknown = plan(&["pare"]).workloads().err().unwrap().to_string();
        assert!(unknown.contains("'pare'") && unknown.contains("burst_lifo"), "{unknown}");
    }
}
