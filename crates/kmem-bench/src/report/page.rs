//! The page: a single self-contained file.

use maud::{Markup, html};

use super::{notes, plots, provenance, remarks, short};
use crate::allocators::KMEM;
use crate::charts;
use crate::figures::{Outcome, Results};
use crate::targets::Verdict;

/// Families as headings, in the order of the page.
const FAMILIES: [(&str, &str, &str); 4] = [
    ("core", "One property each", "What programs do with memory, one thing at a time."),
    ("suite", "A suite", "Workloads of the kinds that public suites of allocators consist of."),
    ("program", "Real programs", "Processor time of programs that were not written to measure allocators."),
    ("own", "Only here", "Features that the others lack: typed caches, and CPUs that go down and come up."),
];

/// The whole page.
pub fn page(results: &Results, verdicts: &[Verdict]) -> String {
    let families = FAMILIES.map(|(family, title, explained)| {
        let of_family = results.workloads.iter().filter(|outcome| outcome.family == family);
        (title, explained, of_family.filter_map(card).collect::<Vec<_>>())
    });
    let body = html! {
        (head(results, verdicts))
        (targets(verdicts))
        @for remark in remarks(results) { p { (remark) } }
        h2 { "All workloads" }
        p {
            "Each dot is a peer, in multiples of kmem's figure: left of the line it is better than kmem, right of it \
             kmem is. Names in blue: no peer is better."
        }
        (plots::overview(results).inline())
        @for (title, explained, cards) in families.iter().filter(|family| !family.2.is_empty()) {
            h2 { (title) }
            p { (explained) }
            div class="cards" { @for card in cards { (card) } }
            "\n"
        }
        h2 { "What was measured, and what failed" }
        ul class="plain" { @for note in notes(results) { li { (note) } "\n" } }
    };
    charts::page("Allocators, side by side", &body)
}

fn head(results: &Results, verdicts: &[Verdict]) -> Markup {
    let count = |met| verdicts.iter().filter(|verdict| verdict.met == met).count();
    let compared: Vec<_> = results.workloads.iter().filter_map(plots::ratios).collect();
    let lost = compared.iter().filter(|ratios| ratios.iter().any(|(_, ratio)| *ratio < 1.0)).count();
    let tiles = [
        ("good", count(Some(true)), "targets met"),
        ("bad", count(Some(false)), "targets not met"),
        ("open", count(None), "targets open"),
        ("good", compared.len() - lost, "workloads where no peer is better"),
        ("bad", lost, "workloads where one is"),
    ];
    html! {
        h1 { "Allocators, side by side" }
        p { (provenance(results)) "." }
        p {
            "Every figure is the median of runs in fresh processes that took turns; less is better. The thin line on a \
             bar goes from the minimum to the maximum of the runs."
        }
        (charts::tiles(tiles.map(|(class, count, name)| (class, count.to_string(), name))))
    }
}

fn targets(verdicts: &[Verdict]) -> Markup {
    let row = |verdict: &Verdict| {
        let figure = |value: Option<f64>| value.map_or("–".into(), |value| short(value, &verdict.unit));
        let class = match verdict.met {
            Some(true) => "good",
            Some(false) => "bad",
            None => "open",
        };
        let mut peers = verdict.peers.clone();
        peers.sort_by(|a, b| a.1.total_cmp(&b.1));
        let peers: Vec<_> = peers.iter().map(|(name, value)| format!("{name} {}", figure(Some(*value)))).collect();
        let peers = if peers.is_empty() { format!("from {}", verdict.source) } else { peers.join(", ") };
        html! {
            tr {
                td { (verdict.id) }
                td { (verdict.what) br; small { (verdict.target) } }
                td class="figure" { (figure(verdict.kmem)) }
                td class="figure" { (figure(verdict.limit)) }
                td class={ "word " (class) } { (verdict.word()) }
                td class="peers" { small { (peers) } }
            }
            "\n"
        }
    };
    html! {
        h2 { "Targets" }
        div class="wide" {
            table {
                tr {
                    th {}
                    th { "what, and the target" }
                    th class="figure" { "kmem" }
                    th class="figure" { "limit" }
                    th {}
                    th class="peers" { "peers, best first" }
                }
                @for verdict in verdicts { (row(verdict)) }
            }
        }
        "\n"
    }
}

/// One workload; none where no allocator has a figure.
fn card(outcome: &Outcome) -> Option<Markup> {
    outcome.results.iter().find(|served| served.figure(&outcome.compared).is_some())?;
    let (class, standing) = match plots::ratios(outcome) {
        Some(mut ratios) => {
            ratios.sort_by(|a, b| a.1.total_cmp(&b.1));
            let (name, ratio) = ratios[0];
            if ratio < 1.0 {
                ("bad", format!("{:.2} times {name}", 1.0 / ratio))
            } else {
                ("good", format!("best; then {name}, {ratio:.2} times"))
            }
        }
        None if outcome.served(KMEM).is_some_and(|served| served.failed.is_some()) => ("bad", "kmem failed".into()),
        None => ("open", String::new()),
    };
    let Outcome { name, about, unit, compared, .. } = outcome;
    Some(html! {
        section class="card" {
            h3 { (name) small class=(class) { (standing) } }
            p { (about) ". Compared: " (compared) " a " (unit) "." }
            (plots::workload(outcome).inline())
        }
        "\n"
    })
}
