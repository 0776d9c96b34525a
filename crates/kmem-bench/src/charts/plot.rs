//! Shapes and words of a chart, as SVG.
//!
//! Horizontal positions are shares of the plot's width, from 0 to 1, written as percentages; vertical positions are in
//! pixels. So a plot in a page is as wide as there is room for, and its words keep their size. The points of a polyline
//! cannot be percentages, so polylines are drawn in a frame of `STRETCHED` units, which is stretched to the width.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

/// The colours, for the page and for each plot that is a file.
pub const STYLE: &str = include_str!("plot.css");

/// The width of the frame that lines are drawn in.
const STRETCHED: f64 = 1000.0;

/// A plot: the room for names beside it, its height, its title, and what is in it.
pub struct Plot {
    left: f64,
    right: f64,
    height: f64,
    title: String,
    body: String,
}

impl Plot {
    /// An empty plot with `left` and `right` pixels beside it.
    pub fn new(title: &str, (left, right): (f64, f64), height: f64) -> Self {
        Self { left, right, height, title: title.to_string(), body: String::new() }
    }

    fn push(&mut self, shape: &Markup) {
        self.body.push_str(&shape.0);
        self.body.push('\n');
    }

    /// Words that begin at a place, or end or are centred there, depending on their class; moved by `aside` pixels.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), aside: f64, text: &str) {
        self.push(&html! { text class=(class) x=(share(x)) dx=(pixels(aside)) y=(pixels(y)) { (text) } });
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(&html! { line class=(class) x1=(share(x1)) y1=(pixels(y1)) x2=(share(x2)) y2=(pixels(y2)) {} });
    }

    /// A filled rectangle.
    pub fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        self.push(
            &html! { rect class=(class) x=(share(x)) y=(pixels(y)) width=(share(width)) height=(pixels(height)) {} },
        );
    }

    /// A dot with a tooltip.
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, told: &str) {
        self.push(&html! { circle class=(class) cx=(share(x)) cy=(pixels(y)) r=(radius) { title { (told) } } });
    }

    /// A line through points.
    pub fn path(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points = listed(points);
        let line = html! { polyline class=(class) points=(points) {} };
        self.stretched(&line);
    }

    /// The area inside a line through points.
    pub fn area(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points = listed(points);
        let area = html! { polygon class=(class) points=(points) {} };
        self.stretched(&area);
    }

    fn stretched(&mut self, shape: &Markup) {
        let Self { height, .. } = self;
        let frame = format!("0 0 {STRETCHED} {height}");
        let shape = html! {
            svg viewBox=(frame) preserveAspectRatio="none" width="100%" height=(height) { "\n" (shape) "\n" }
        };
        self.push(&shape);
    }

    /// As a part of a page, as wide as there is room for.
    pub fn inline(&self) -> Markup {
        let Self { left, right, height, title, body } = self;
        html! {
            div class="plot" style={ "padding: 0 " (right) "px 0 " (left) "px" } {
                "\n"
                svg role="img" aria-label=(title) height=(height) { "\n" (PreEscaped(body)) }
            }
            "\n"
        }
    }

    /// As a file, `width` pixels wide.
    pub fn file(&self, width: f64) -> String {
        let Self { left, right, height, title, body } = self;
        let file = html! {
            svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox={ "0 0 " (width) " " (height) } role="img"
                aria-label=(title)
            {
                style { "\n" (PreEscaped(STYLE)) }
                "\n"
                svg x=(left) width=(width - left - right) height=(height) overflow="visible" { "\n" (PreEscaped(body)) }
            }
        };
        file.into_string() + "\n"
    }
}

fn listed(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.fold(String::new(), |mut text, (x, y)| {
        let _ = write!(text, "{:.1},{y:.1} ", x * STRETCHED);
        text
    })
}

fn share(x: f64) -> String {
    format!("{:.2}%", x * 100.0)
}

fn pixels(y: f64) -> String {
    format!("{y:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_escaped_and_places_are_shares() {
        let mut plot = Plot::new("a < \"b\"", (10.0, 20.0), 30.0);
        plot.text("name", (0.5, 4.0), -8.0, "<script>");
        plot.path("one", [(0.0, 1.0), (1.0, 2.0)].into_iter());
        let (inline, file) = (plot.inline().into_string(), plot.file(100.0));
        for document in [&inline, &file] {
            assert!(!document.contains("<script") && document.contains("aria-label=\"a &lt; &quot;b&quot;\""));
            assert!(
                document.contains("x=\"50.00%\" dx=\"-8.0\"") && document.contains("points=\"0.0,1.0 1000.0,2.0 \"")
            );
        }
        assert!(file.contains("width=\"70\"") && file.starts_with("<svg xmlns="), "{file}");
    }
}
