//! Plots of a result: one workload, and all of them at a glance.

use super::{compared, short};
use crate::allocators::{KMEM, KMEM_FALLBACK};
use crate::charts::plot::Plot;
use crate::figures::{Figure, Outcome, Results};

/// The width of a plot that is a file.
pub const WORKLOAD_WIDTH: f64 = 520.0;
pub const OVERVIEW_WIDTH: f64 = 960.0;

/// One workload: a bar for each allocator, the lowest first, and a thin line from the minimum to the maximum of its
/// runs.
pub fn workload(outcome: &Outcome) -> Plot {
    const ROW: f64 = 21.0;
    let mut rows: Vec<(&str, &Figure)> = outcome
        .results
        .iter()
        .filter_map(|served| Some((&*served.allocator, compared(outcome, &served.allocator)?)))
        .collect();
    rows.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
    let greatest = rows.iter().map(|(_, figure)| figure.median).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let place = |value: f64| (value / greatest).min(1.04);
    let mut plot = Plot::new(&outcome.name, (104.0, 92.0), ROW * rows.len() as f64 + 6.0);
    for (number, (name, figure)) in rows.into_iter().enumerate() {
        let top = ROW * number as f64 + 3.0;
        let middle = top + ROW / 2.0;
        let class = if is_ours(name) { "ours" } else { "peer" };
        plot.text(&format!("name {class}"), (0.0, middle + 4.0), -8.0, name);
        plot.bar(class, (0.0, top + 3.0), (place(figure.median).max(0.003), ROW - 6.0));
        plot.line("spread", (place(figure.min), middle), (place(figure.max), middle));
        let right = place(figure.median.max(figure.max));
        plot.text(&format!("value {class}"), (right, middle + 4.0), 7.0, &short(figure.median, &outcome.compared));
    }
    plot
}

/// All workloads: where each peer is, in multiples of kmem's figure, on a logarithmic scale. Left of the line the peer
/// is better, right of it kmem is.
pub fn overview(results: &Results) -> Plot {
    const TOP: f64 = 46.0;
    const ROW: f64 = 19.0;
    /// Powers of two at both ends of the scale.
    const ENDS: (i32, i32) = (-3, 5);
    let rows: Vec<_> = results.workloads.iter().filter_map(|outcome| Some((outcome, ratios(outcome)?))).collect();
    let floor = TOP + ROW * rows.len() as f64;
    let place = |ratio: f64| {
        let (first, last) = (f64::from(ENDS.0), f64::from(ENDS.1));
        (ratio.log2().clamp(first, last) - first) / (last - first)
    };
    let title = "All workloads: each peer in multiples of kmem's figure";
    let mut plot = Plot::new(title, (152.0, 20.0), floor + 30.0);
    for power in ENDS.0..=ENDS.1 {
        let x = place(2_f64.powi(power));
        plot.line(if power == 0 { "even" } else { "grid" }, (x, TOP - 6.0), (x, floor));
        let name = if power < 0 { format!("1/{}", 1 << -power) } else { (1 << power).to_string() };
        plot.text("tick", (x, floor + 17.0), 0.0, &name);
    }
    plot.text("side loss", (place(1.0), TOP - 18.0), -12.0, "← the peer is better");
    plot.text("side win", (place(1.0), TOP - 18.0), 12.0, "kmem is better →");
    for (number, (outcome, ratios)) in rows.iter().enumerate() {
        let middle = TOP + ROW * (number as f64 + 0.5);
        let lost = ratios.iter().any(|(_, ratio)| *ratio < 1.0);
        plot.text(if lost { "name" } else { "name ours" }, (0.0, middle + 4.0), -12.0, &outcome.name);
        plot.line("grid", (0.0, middle), (1.0, middle));
        for (name, ratio) in ratios {
            let class = if *ratio < 1.0 { "loss" } else { "win" };
            let told = format!("{}: {name} takes {ratio:.2} times kmem's", outcome.name);
            plot.dot(class, (place(*ratio), middle), 4.5, &told);
        }
    }
    plot
}

/// The peers of a workload in multiples of kmem's figure, if there is anything to compare.
pub fn ratios(outcome: &Outcome) -> Option<Vec<(&str, f64)>> {
    let ours = compared(outcome, KMEM)?.median;
    let peers = outcome.results.iter().filter(|served| !is_ours(&served.allocator));
    let ratios: Vec<_> = peers
        .filter_map(|served| Some((&*served.allocator, compared(outcome, &served.allocator)?.median / ours)))
        .filter(|(_, ratio)| ratio.is_finite())
        .collect();
    (!ratios.is_empty()).then_some(ratios)
}

fn is_ours(name: &str) -> bool {
    name == KMEM || name == KMEM_FALLBACK
}
