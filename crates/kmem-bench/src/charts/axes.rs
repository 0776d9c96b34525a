//! Charts over time: a frame with two labelled axes, or lanes, and what is drawn into it.

use maud::Markup;

use super::plot::Plot;

/// Room for the labels of the vertical axis, at the right end of the other one, above and below.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 42.0;

/// What a value is on its axis.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    /// From 0 to this.
    Linear(f64),
    /// From one power of ten to another.
    Decades(i32, i32),
}

impl Scale {
    /// From 0 to a round number that is not below any of `values`.
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max).max(1e-9);
        let unit = 10_f64.powf(most.log10().floor());
        // Their quarters are round as well.
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

    /// The position of a value, from 0 to 1.
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
    plot: Plot,
    height: f64,
    x: Scale,
    y: Scale,
}

impl Chart {
    /// A frame with its axes. `label` writes a value of the vertical axis; a reader of the screen reads `title` out.
    pub fn new(title: &str, height: f64, x: (Scale, &str), y: (Scale, &str), label: impl Fn(f64) -> String) -> Self {
        let mut chart = Self::framed(title, height, x, y.0);
        for tick in y.0.ticks() {
            let at = chart.y(tick);
            chart.plot.line("grid", (0.0, at), (1.0, at));
            chart.plot.text("axis end", (0.0, at + 4.0), -8.0, &label(tick));
        }
        chart.plot.text("axis", (0.0, TOP - 9.0), 0.0, y.1);
        chart
    }

    /// A frame of lanes, one for each name.
    pub fn lanes(title: &str, names: &[String], x: (Scale, &str)) -> Self {
        let lane = Self::lane_height(names.len());
        let mut chart = Self::framed(title, lane * names.len() as f64, x, Scale::Linear(1.0));
        for (number, name) in names.iter().enumerate() {
            chart.plot.text("axis end", (0.0, TOP + lane * (number as f64 + 0.5) + 4.0), -8.0, name);
        }
        chart
    }

    /// A frame with the axis of time below it.
    fn framed(title: &str, height: f64, (x, name): (Scale, &str), y: Scale) -> Self {
        let mut plot = Plot::new(title, (LEFT, RIGHT), height + TOP + BOTTOM);
        let floor = TOP + height;
        plot.line("floor", (0.0, floor), (1.0, floor));
        if let Scale::Linear(most) = x {
            for tenth in 0..=10 {
                let at = f64::from(tenth) / 10.0;
                // A narrow page omits the odd ones.
                let class = if tenth % 2 == 0 { "axis tick" } else { "axis tick odd" };
                plot.line("floor", (at, floor), (at, floor + 4.0));
                plot.text(class, (at, floor + 17.0), 0.0, &number(at * most));
            }
        }
        plot.text("axis tick", (0.5, floor + 36.0), 0.0, name);
        Self { plot, height, x, y }
    }

    fn lane_height(lanes: usize) -> f64 {
        if lanes <= 16 { 26.0 } else { 14.0 }
    }

    /// A stretch of a lane: its beginning and end on the axis of time, and the part of the lane's height, from its
    /// floor.
    pub fn stretch(&mut self, class: &str, (lane, lanes): (usize, usize), time: (f64, f64), part: (f64, f64)) {
        let room = Self::lane_height(lanes);
        let inside = room - 4.0;
        let floor = TOP + room * lane as f64 + 2.0 + inside;
        let (left, right) = (self.x.place(time.0), self.x.place(time.1));
        self.plot.bar(class, (left, floor - part.1 * inside), (right - left, (part.1 - part.0) * inside));
    }

    /// A line through points.
    pub fn path(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<_> = points.map(|(x, y)| (self.x.place(x), self.y(y))).collect();
        self.plot.path(class, points.into_iter());
    }

    /// The area between two lines over the same times.
    pub fn area(&mut self, class: &str, points: &[(f64, f64, f64)]) {
        let above = points.iter().map(|&(x, _, high)| (x, high));
        let below = points.iter().rev().map(|&(x, low, _)| (x, low));
        let points: Vec<_> = above.chain(below).map(|(x, y)| (self.x.place(x), self.y(y))).collect();
        self.plot.area(class, points.into_iter());
    }

    /// A time at which something happened, with its name.
    pub fn mark(&mut self, x: f64, name: &str) {
        let at = self.x.place(x);
        self.plot.line("grid", (at, TOP), (at, TOP + self.height));
        self.plot.text("axis", (at, TOP + 10.0), 4.0, name);
    }

    /// The names of lines, in their colours, above the chart.
    pub fn legend(&mut self, names: &[(&str, &str)]) {
        for (number, (class, name)) in names.iter().enumerate() {
            let at = 0.22 + 0.78 * number as f64 / names.len() as f64;
            self.plot.text(class, (at, TOP - 9.0), 0.0, name);
        }
    }

    /// The chart as a file, `width` pixels wide.
    pub fn file(&self, width: f64) -> String {
        self.plot.file(width)
    }

    /// The chart, for a page.
    pub fn finish(self) -> Markup {
        self.plot.inline()
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (1.0 - self.y.place(value)) * self.height
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
