//! The museum as pages: `index.html` with a drawing of each schedule, and `museum.md` with a diagram of each for pages
//! of Markdown.
//!
//! A drawing has a lane for each CPU, coloured by its state, and time to the right. Each step is a dot on the lane of
//! the CPU where it happened, the step that kills in red. The table below says what each step is and what it changes.

use std::fmt::Write;
use std::path::Path;

use kmem_bench::charts::plot::Plot;
use kmem_bench::charts::{self, section};
use kmem_sim::museum::{ROOMS, statement};
use kmem_sim::race::Violation;
use kmem_sim::story::{Line, Standing};
use maud::{Markup, html};

use super::mermaid;
use super::museum::{Found, under};

/// Pixels of a lane.
const LANE: f64 = 26.0;

/// What stands at the head of museum.md.
const HEAD: &str = include_str!("museum.txt");

/// Writes both pages, and says on standard error why not.
pub fn write(folder: &Path, found: &[Found]) -> bool {
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join("index.html"), page(found)))
        .and_then(|()| std::fs::write(folder.join("museum.md"), markdown(found)));
    if let Err(e) = &written {
        eprintln!("kmem race: cannot write the museum to {}: {e}", folder.display());
    }
    written.is_ok()
}

/// The rooms, each with what was found of it.
fn rooms(found: &[Found]) -> impl Iterator<Item = (&'static str, &[Found])> {
    let mut from = 0;
    ROOMS.iter().map(move |(name, exhibits)| {
        let begin = from;
        from += exhibits.len();
        (*name, &found[begin.min(found.len())..from.min(found.len())])
    })
}

fn page(found: &[Found]) -> String {
    let legend = [("online", "online"), ("coming", "coming up"), ("draining", "going down"), ("gone", "offline")];
    let body = html! {
        h1 { "The museum of races" }
        p {
            "Mistakes of slab allocators and of CPU hotplug. In each, this engine does one thing as it was done there, "
            "and the explorer finds the schedule that it dies of. The same scenario fails nowhere in what ships."
        }
        ul class="legend" { @for (class, name) in legend { li { i class=(class) {} (name) } } }
        @for (room, exhibits) in rooms(found) {
            h2 { (room) }
            @for one in exhibits { (exhibit(one)) }
        }
    };
    charts::page("The museum of races", &body)
}

fn exhibit(found: &Found) -> Markup {
    let exhibit = found.exhibit;
    let title = format!("{}. {}, {}", found.number, exhibit.name, exhibit.year);
    let Some(violation) = found.violation() else {
        return section(&title, "It was not found.", &[], &html! {});
    };
    let steps = violation.steps();
    let drawing = html! {
        p { "Where: " (exhibit.source) "." }
        p { "Breaks I" (exhibit.invariant) ": " (statement(exhibit.invariant)) " Here: " (exhibit.right) }
        (lanes(violation, &steps))
        (table(violation, &steps))
        p class="verdict failed" { (violation.what) ", under " (under(exhibit.protocol)) "." }
        p { code { (found.replay()) } }
    };
    section(&title, exhibit.wrong, &[], &drawing)
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Online => "online",
        Standing::Coming => "coming",
        Standing::Draining => "draining",
        Standing::Gone => "gone",
    }
}

fn lanes(violation: &Violation, steps: &[Line]) -> Markup {
    let scenario = violation.scenario;
    let height = LANE * scenario.possible as f64;
    let mut plot = Plot::new("The schedule: CPUs from top to bottom, steps from left to right", (52.0, 12.0), height);
    let width = 1.0 / steps.len().max(1) as f64;
    let middle = |cpu: usize| (cpu as f64 + 0.5) * LANE;
    for cpu in 0..scenario.possible {
        plot.text("name", (0.0, middle(cpu) + 4.0), -8.0, &format!("CPU {cpu}"));
        for (index, step) in steps.iter().enumerate() {
            let at = (index as f64 * width, middle(cpu) - 3.0);
            plot.bar(step.standing.get(cpu).map_or("gone", |standing| class(*standing)), at, (width, 6.0));
        }
    }
    let place = |(index, step): (usize, &Line)| ((index as f64 + 0.5) * width, middle(step.cpu));
    plot.path("one", steps.iter().enumerate().map(place));
    for (index, step) in steps.iter().enumerate() {
        let (class, radius) = if step.fatal { ("loss", 8.0) } else { ("win", 5.0) };
        plot.dot(class, place((index, step)), radius, &format!("{}. {}: {}", index + 1, step.thread, step.text));
    }
    plot.inline()
}

/// The steps in words, with a column for each CPU and one for what changed.
fn table(violation: &Violation, steps: &[Line]) -> Markup {
    let possible = violation.scenario.possible;
    let mut last = String::new();
    let changes: Vec<String> = steps
        .iter()
        .map(|step| {
            if step.caches == last {
                String::new()
            } else {
                last.clone_from(&step.caches);
                last.clone()
            }
        })
        .collect();
    html! {
        div class="wide" {
            table {
                tr {
                    th {}
                    @for cpu in 0..possible { th { "CPU " (cpu) } }
                    th { "what is different" }
                }
                tr { td {} td colspan=(possible) { (violation.opening()) } td {} }
                @for ((step, change), number) in steps.iter().zip(&changes).zip(1..) {
                    tr {
                        td class="figure" { (number) }
                        @for cpu in 0..possible {
                            td class=[(step.fatal && cpu == step.cpu).then_some("bad")] {
                                @if cpu == step.cpu { (step.text) " " small { (step.thread) } }
                            }
                        }
                        td { small { (change) } }
                    }
                }
            }
        }
        "\n"
    }
}

/// The page of Markdown.
fn markdown(found: &[Found]) -> String {
    let mut out = HEAD.to_string();
    for (room, exhibits) in rooms(found) {
        let _ = writeln!(out, "\n## {room}");
        for one in exhibits {
            let exhibit = one.exhibit;
            let _ = writeln!(out, "\n### {}. {} ({})\n", one.number, exhibit.name, exhibit.year);
            let _ = writeln!(out, "{}\n", exhibit.wrong);
            let _ = writeln!(out, "- **Where.** {}.", exhibit.source);
            let _ = writeln!(out, "- **I{}.** {}", exhibit.invariant, statement(exhibit.invariant));
            let _ = writeln!(out, "- **Here.** {}", exhibit.right);
            let Some(violation) = one.violation() else { continue };
            let _ = writeln!(out, "- **Seen.** {}, under {}.", violation.what, under(exhibit.protocol));
            let _ = writeln!(out, "  `{}`", one.replay());
            let _ = writeln!(out, "\n{}.", violation.opening());
            let _ = writeln!(out, "\n```mermaid\n{}```", mermaid::diagram(violation));
        }
    }
    out
}
