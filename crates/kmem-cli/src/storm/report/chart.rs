//! Charts as SVG: a frame with two labelled axes, and what is drawn into it.
//!
//! Colours are classes, which the page's style gives a colour in light and in dark.

use std::fmt::Write;

/// The size of all charts, in units of the SVG; the page scales them to its width.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 42.0;

/// What a value is on its axis.
#[derive(Clone, Copy)]
pub enum Scale {
    /// From 0 to this.
    Linear(f64),
    /// From one power of ten to another.
    Decades(i32, i32),
}

impl Scale {
    /// From 0 to a round number that all of `values` fit under.
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max).max(1e-9);
        let unit = 10_f64.powf(most.log10().floor());
        // Their quarters are round, too.
        let round =
            [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0].into_iter().find(|factor| factor * unit >= most);
        Self::Linear(round.unwrap_or(10.0) * unit)
    }

    /// The powers of ten around all of `values`, which are positive.
    pub fn decades(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1.0).log10().floor() as i32;
        let most = values.fold(1.0, f64::max).log10().ceil() as i32;
        if least < most { Self::Decades(least, most) } else { Self::Decades(0, 1) }
    }

    /// The place of a value, from 0 to 1.
    fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear(most) => value / most,
            Self::Decades(least, most) => (value.max(1e-9).log10() - f64::from(least)) / f64::from(most - least),
        };
        place.clamp(0.0, 1.0)
    }

    /// Where the axis has its marks.
    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear(most) => (0..=4).map(|quarter| most * f64::from(quarter) / 4.0).collect(),
            Self::Decades(least, most) => (least..=most).map(|power| 10_f64.powi(power)).collect(),
        }
    }
}

/// A chart that is being drawn.
pub struct Chart {
    svg: String,
    height: f64,
    x: Scale,
    y: Scale,
}

impl Chart {
    /// A frame with its axes. `label` writes a value of the vertical axis; `title` is for who hears the page.
    pub fn new(title: &str, height: f64, x: (Scale, &str), y: (Scale, &str), label: impl Fn(f64) -> String) -> Self {
        let total = height + TOP + BOTTOM;
        let mut chart = Self { svg: String::new(), height, x: x.0, y: y.0 };
        let _ = writeln!(chart.svg, r#"<svg viewBox="0 0 {WIDTH} {total}" role="img" aria-label="{title}">"#);
        for tick in y.0.ticks() {
            let at = chart.y(tick);
            chart.line("grid", (LEFT, at), (WIDTH - RIGHT, at));
            chart.text("end", (LEFT - 8.0, at + 4.0), &label(tick));
        }
        chart.across(x.1);
        let middle = TOP + height / 2.0;
        let _ = writeln!(
            chart.svg,
            r#"<text class="axis" text-anchor="middle" transform="translate(14 {middle}) rotate(-90)">{}</text>"#,
            y.1
        );
        chart
    }

    /// A frame of lanes, one for each name.
    pub fn lanes(title: &str, names: &[String], x: (Scale, &str)) -> Self {
        let lane = Self::lane_height(names.len());
        let height = lane * names.len() as f64;
        let mut chart = Self { svg: String::new(), height, x: x.0, y: Scale::Linear(1.0) };
        let total = height + TOP + BOTTOM;
        let _ = writeln!(chart.svg, r#"<svg viewBox="0 0 {WIDTH} {total}" role="img" aria-label="{title}">"#);
        for (number, name) in names.iter().enumerate() {
            chart.text("end", (LEFT - 8.0, TOP + lane * (number as f64 + 0.5) + 4.0), name);
        }
        chart.across(x.1);
        chart
    }

    /// The axis of time, below.
    fn across(&mut self, name: &str) {
        let floor = TOP + self.height;
        self.line("floor", (LEFT, floor), (WIDTH - RIGHT, floor));
        let Scale::Linear(most) = self.x else { return };
        for tick in (0..=10).map(|tenth| most * f64::from(tenth) / 10.0) {
            let at = self.x(tick);
            self.line("floor", (at, floor), (at, floor + 4.0));
            self.text("middle", (at, floor + 17.0), &number(tick));
        }
        self.text("middle", ((LEFT + WIDTH - RIGHT) / 2.0, floor + 36.0), name);
    }

    fn lane_height(lanes: usize) -> f64 {
        if lanes <= 16 { 26.0 } else { 14.0 }
    }

    /// A stretch of a lane: from and to on the axis of time, and which part of the lane's height, from its floor.
    pub fn stretch(&mut self, class: &str, (lane, lanes): (usize, usize), time: (f64, f64), part: (f64, f64)) {
        let room = Self::lane_height(lanes);
        let inside = room - 4.0;
        let floor = TOP + room * lane as f64 + 2.0 + inside;
        let (left, right) = (self.x(time.0), self.x(time.1));
        let _ = writeln!(
            self.svg,
            r#"<rect class="{class}" x="{left:.2}" y="{:.2}" width="{:.2}" height="{:.2}"/>"#,
            floor - part.1 * inside,
            right - left,
            (part.1 - part.0) * inside
        );
    }

    /// A line through points.
    pub fn path(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points = self.points(points);
        let _ = writeln!(self.svg, r#"<polyline class="{class}" points="{points}"/>"#);
    }

    /// The area between two lines over the same times.
    pub fn area(&mut self, class: &str, points: &[(f64, f64, f64)]) {
        let above = points.iter().map(|&(x, _, high)| (x, high));
        let below = points.iter().rev().map(|&(x, low, _)| (x, low));
        let points = self.points(above.chain(below));
        let _ = writeln!(self.svg, r#"<polygon class="{class}" points="{points}"/>"#);
    }

    /// The whole SVG.
    pub fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }

    fn points(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        points.fold(String::new(), |mut text, (x, y)| {
            let _ = write!(text, "{:.1},{:.1} ", self.x(x), self.y(y));
            text
        })
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (1.0 - self.y.place(value)) * self.height
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(self.svg, r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#);
    }

    fn text(&mut self, anchor: &str, (x, y): (f64, f64), text: &str) {
        let _ = writeln!(self.svg, r#"<text class="axis" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{text}</text>"#);
    }
}

/// A number with as many digits as it needs.
pub fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// Nanoseconds in a unit that makes them short.
pub fn duration(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{} ns", number(ns)),
        ns if ns < 1e6 => format!("{} µs", number(ns / 1e3)),
        ns if ns < 1e9 => format!("{} ms", number(ns / 1e6)),
        ns => format!("{} s", number(ns / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        assert!(matches!(Scale::linear([3.0, 41.0].into_iter()), Scale::Linear(most) if most == 60.0));
        assert!(matches!(Scale::decades([30.0, 41_000.0].into_iter()), Scale::Decades(1, 5)));
        assert_eq!(Scale::Decades(1, 3).place(100.0), 0.5);
        assert_eq!(Scale::Linear(4.0).place(9.0), 1.0);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([number(0.5), number(10.0), number(0.0)], ["0.5", "10", "0"]);
        assert_eq!([duration(30.0), duration(4_500.0), duration(1e9)], ["30 ns", "4.5 µs", "1 s"]);
    }
}
