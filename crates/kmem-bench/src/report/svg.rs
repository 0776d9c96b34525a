//! Plots as SVG: one workload, and all of them at a glance.
//!
//! Colours are classes, which one style gives a colour in light and in dark. It is part of the page, or of the file where
//! a plot is one. Whatever is written into a plot is escaped here.

use std::fmt::Write;

use super::{compared, short};
use crate::allocators::{KMEM, KMEM_FALLBACK};
use crate::figures::{Figure, Outcome, Results};

/// The colours, for the page and for each file.
pub const STYLE: &str = include_str!("plot.css");

/// A plot: its size, its title, and what is in it.
pub struct Plot {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Plot {
    fn new(width: f64, height: f64, title: &str) -> Self {
        Self { width, height, title: escaped(title), body: String::new() }
    }

    fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let _ = writeln!(self.body, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{}</text>"#, escaped(text));
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(self.body, r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#);
    }

    fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let _ = writeln!(
            self.body,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2"/>"#
        );
    }

    fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, told: &str) {
        let told = escaped(told);
        let _ = writeln!(
            self.body,
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{radius}"><title>{told}</title></circle>"#
        );
    }

    fn wrapped(&self, name_space: &str, style: &str) -> String {
        let Self { width, height, title, body } = self;
        format!(
            "<svg{name_space} class=\"plot\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n\
             {style}{body}</svg>\n"
        )
    }

    /// As a part of a page that has the style.
    pub fn inline(&self) -> String {
        self.wrapped("", "")
    }

    /// As a file.
    pub fn file(&self) -> String {
        self.wrapped(" xmlns=\"http://www.w3.org/2000/svg\"", &format!("<style>{STYLE}</style>\n"))
    }
}

/// One workload: a bar for each allocator, the least first, and a thin line from the least to the greatest run.
pub fn workload(outcome: &Outcome) -> Plot {
    const WIDTH: f64 = 520.0;
    const LEFT: f64 = 104.0;
    const RIGHT: f64 = 92.0;
    const ROW: f64 = 21.0;
    let mut rows: Vec<(&str, &Figure)> = outcome
        .results
        .iter()
        .filter_map(|served| Some((&*served.allocator, compared(outcome, &served.allocator)?)))
        .collect();
    rows.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
    let greatest = rows.iter().map(|(_, figure)| figure.median).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let place = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * (value / greatest).min(1.04);
    let mut plot = Plot::new(WIDTH, ROW * rows.len() as f64 + 6.0, &outcome.name);
    for (number, (name, figure)) in rows.into_iter().enumerate() {
        let top = ROW * number as f64 + 3.0;
        let middle = top + ROW / 2.0;
        let class = if is_ours(name) { "ours" } else { "peer" };
        plot.text(&format!("name {class}"), (LEFT - 8.0, middle + 4.0), name);
        plot.bar(class, (LEFT, top + 3.0), ((place(figure.median) - LEFT).max(1.0), ROW - 6.0));
        plot.line("spread", (place(figure.min), middle), (place(figure.max), middle));
        let right = place(figure.median.max(figure.max)) + 7.0;
        plot.text(&format!("value {class}"), (right, middle + 4.0), &short(figure.median, &outcome.compared));
    }
    plot
}

/// All workloads: where each peer is, in multiples of kmem's figure, on a logarithmic scale. What is left of the line is
/// lost to that peer, what is right of it is won.
pub fn overview(results: &Results) -> Plot {
    const WIDTH: f64 = 960.0;
    const LEFT: f64 = 168.0;
    const RIGHT: f64 = 20.0;
    const TOP: f64 = 46.0;
    const ROW: f64 = 19.0;
    /// Powers of two at both ends of the scale.
    const ENDS: (i32, i32) = (-3, 5);
    let rows: Vec<_> = results.workloads.iter().filter_map(|outcome| Some((outcome, ratios(outcome)?))).collect();
    let floor = TOP + ROW * rows.len() as f64;
    let place = |ratio: f64| {
        let (first, last) = (f64::from(ENDS.0), f64::from(ENDS.1));
        LEFT + (WIDTH - LEFT - RIGHT) * ((ratio.log2().clamp(first, last) - first) / (last - first))
    };
    let mut plot = Plot::new(WIDTH, floor + 30.0, "All workloads: each peer in multiples of kmem's figure");
    for power in ENDS.0..=ENDS.1 {
        let x = place(2_f64.powi(power));
        plot.line(if power == 0 { "even" } else { "grid" }, (x, TOP - 6.0), (x, floor));
        let name = if power < 0 { format!("1/{}", 1 << -power) } else { (1 << power).to_string() };
        plot.text("tick", (x, floor + 17.0), &name);
    }
    plot.text("side loss", (place(1.0) - 12.0, TOP - 18.0), "← the peer is better");
    plot.text("side win", (place(1.0) + 12.0, TOP - 18.0), "kmem is better →");
    for (number, (outcome, ratios)) in rows.iter().enumerate() {
        let middle = TOP + ROW * (number as f64 + 0.5);
        let lost = ratios.iter().any(|(_, ratio)| *ratio < 1.0);
        plot.text(if lost { "name" } else { "name ours" }, (LEFT - 12.0, middle + 4.0), &outcome.name);
        plot.line("grid", (LEFT, middle), (WIDTH - RIGHT, middle));
        for (name, ratio) in ratios {
            let class = if *ratio < 1.0 { "loss" } else { "win" };
            plot.dot(
                class,
                (place(*ratio), middle),
                4.5,
                &format!("{}: {name} takes {ratio:.2} times kmem's", outcome.name),
            );
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

/// Text that HTML and SVG take for nothing else, also within quotation marks.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
