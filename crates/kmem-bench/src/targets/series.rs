//! One figure of kmem and of every peer.

use crate::allocators::{GLIBC, KMEM, KMEM_FALLBACK};
use crate::figures::{Outcome, Results, geometric_mean};

/// What a ratio is relative to.
#[derive(Clone, Copy)]
pub enum Against {
    Glibc,
    /// The lowest of all, including kmem's.
    BestOfEach,
}

impl Against {
    fn base(self, outcome: &Outcome, figure: &str) -> Option<f64> {
        match self {
            Self::Glibc => outcome.median(GLIBC, figure),
            Self::BestOfEach => {
                let all = outcome.results.iter().filter(|served| served.allocator != KMEM_FALLBACK);
                all.filter_map(|served| served.figure(figure)).map(|figure| figure.median).reduce(f64::min)
            }
        }
    }
}

/// kmem's figure, if there is one, and those of the peers that have one.
#[derive(Clone)]
pub struct Series {
    pub kmem: Option<f64>,
    pub peers: Vec<(String, f64)>,
}

impl Series {
    pub fn of(results: &Results, workload: &str, figure: &str) -> Self {
        let outcome = results.outcome(workload);
        Self::each(results, |allocator| outcome?.median(allocator, figure))
    }

    /// A series without figures.
    pub fn none() -> Self {
        Self { kmem: None, peers: Vec::new() }
    }

    fn each(results: &Results, figure: impl Fn(&str) -> Option<f64>) -> Self {
        let peers = results.present().map(|allocator| allocator.name.clone());
        let peers = peers.filter(|name| name != KMEM && name != KMEM_FALLBACK);
        Self { kmem: figure(KMEM), peers: peers.filter_map(|name| Some((name.clone(), figure(&name)?))).collect() }
    }

    /// Geometric means over a family, of this figure or of the one that each workload is compared by. An allocator that
    /// failed in one of them has none.
    pub fn geometric(results: &Results, family: &str, figure: Option<&str>, against: Against) -> Self {
        let of_family = |outcome: &&Outcome| outcome.family == family && !outcome.results.is_empty();
        let outcomes: Vec<_> = results.workloads.iter().filter(of_family).collect();
        Self::each(results, |allocator| {
            let ratio = |outcome: &&Outcome| {
                let figure = figure.unwrap_or(&outcome.compared);
                Some(outcome.median(allocator, figure)? / against.base(outcome, figure)?)
            };
            geometric_mean(&outcomes.iter().map(ratio).collect::<Option<Vec<f64>>>()?)
        })
    }

    pub fn best(&self) -> Option<(String, f64)> {
        self.peers.iter().min_by(|a, b| a.1.total_cmp(&b.1)).cloned()
    }

    /// The lowest figure of all.
    pub fn least(&self) -> Option<f64> {
        self.peers.iter().map(|(_, figure)| *figure).chain(self.kmem).reduce(f64::min)
    }

    pub fn least_of(&self, names: &[&str]) -> Option<f64> {
        let named = self.peers.iter().filter(|(name, _)| names.contains(&name.as_str()));
        named.map(|(_, figure)| *figure).reduce(f64::min)
    }
}
