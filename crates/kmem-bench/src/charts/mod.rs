//! Pages and charts: what `kmem bench --report` and `kmem storm --report` are made of.
//!
//! A page is a single self-contained file, in light and in dark, for a wide screen and for a phone. [`maud`] escapes
//! everything that is written into it and is not markup already. Colours are classes, defined in two style sheets: that
//! of [`plot`] is also embedded in a plot that is a file of its own, and the page adds the other.

pub mod axes;
pub mod plot;

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");

/// A whole page.
pub fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { "\n" (PreEscaped(plot::STYLE)) (PreEscaped(STYLE)) }
            }
            "\n"
            body { "\n" (body) }
        }
    };
    page.into_string() + "\n"
}

/// Numbers with their names, in boxes. The class gives a number its colour.
pub fn tiles<'a>(tiles: impl IntoIterator<Item = (&'a str, String, &'a str)>) -> Markup {
    html! {
        ul class="tiles" {
            @for (class, number, name) in tiles {
                li { b class=(class) { (number) } span { (name) } }
            }
        }
        "\n"
    }
}

/// A heading, what is to be seen, the meaning of each colour, and a chart.
pub fn section(title: &str, explained: &str, legend: &[(&str, &str)], chart: &Markup) -> Markup {
    html! {
        h2 { (title) }
        p { (explained) }
        @if !legend.is_empty() {
            ul class="legend" {
                @for (class, name) in legend {
                    li { i class=(class) {} (name) }
                }
            }
        }
        "\n"
        (chart)
    }
}
