//! The page for a person: one file that needs nothing else, in light and in dark.

use std::fmt::Write;

use super::svg::{self, escaped};
use super::{notes, provenance, remarks, short};
use crate::allocators::KMEM;
use crate::figures::{Outcome, Results};
use crate::targets::Verdict;

const FRAME: &str = include_str!("page.html");

/// Families as headings, in the order of the page.
const FAMILIES: [(&str, &str, &str); 4] = [
    ("core", "One property each", "What programs do with memory, one thing at a time."),
    ("suite", "A suite", "Workloads of the kinds that public suites of allocators consist of."),
    ("program", "Real programs", "Processor time of programs that were not written to measure allocators."),
    ("own", "Only here", "What the others do not have: typed caches, and CPUs that come and go."),
];

/// The whole page.
pub fn page(results: &Results, verdicts: &[Verdict]) -> String {
    let mut body = head(results, verdicts);
    body += &targets(verdicts);
    for remark in remarks(results) {
        let _ = writeln!(body, "<p>{}</p>", escaped(&remark));
    }
    let _ = writeln!(
        body,
        "<h2>All workloads</h2><p>Each dot is a peer, in multiples of kmem's figure: left of the line it is better than \
         kmem, right of it kmem is. Names in blue: no peer is better.</p><div class=\"wide\">{}</div>",
        svg::overview(results).inline()
    );
    for (family, title, explained) in FAMILIES {
        let cards: String =
            results.workloads.iter().filter(|outcome| outcome.family == family).filter_map(card).collect();
        if !cards.is_empty() {
            let _ = writeln!(body, "<h2>{title}</h2><p>{explained}</p><div class=\"cards\">{cards}</div>");
        }
    }
    body += "<h2>Who was measured, and what failed</h2><ul class=\"plain\">";
    for note in notes(results) {
        let _ = write!(body, "<li>{}</li>", escaped(&note));
    }
    body += "</ul>";
    FRAME.replace("{style}", svg::STYLE).replace("{body}", &body)
}

fn head(results: &Results, verdicts: &[Verdict]) -> String {
    let count = |met| verdicts.iter().filter(|verdict| verdict.met == met).count();
    let compared: Vec<_> = results.workloads.iter().filter_map(svg::ratios).collect();
    let lost = compared.iter().filter(|ratios| ratios.iter().any(|(_, ratio)| *ratio < 1.0)).count();
    let tiles = [
        ("good", count(Some(true)), "targets met"),
        ("bad", count(Some(false)), "targets not met"),
        ("open", count(None), "targets open"),
        ("good", compared.len() - lost, "workloads where no peer is better"),
        ("bad", lost, "workloads where one is"),
    ];
    let tiles =
        tiles.map(|(class, count, name)| format!("<li><b class=\"{class}\">{count}</b><span>{name}</span></li>"));
    format!(
        "<h1>Allocators, side by side</h1><p>{}.</p><p>Every figure is the median of runs in fresh processes that took \
         turns; less is better. The thin line on a bar goes from the least run to the greatest.</p>\
         <ul class=\"tiles\">{}</ul>\n",
        escaped(&provenance(results)),
        tiles.concat()
    )
}

fn targets(verdicts: &[Verdict]) -> String {
    let mut rows = String::new();
    for verdict in verdicts {
        let figure = |value: Option<f64>| escaped(&value.map_or("–".into(), |value| short(value, &verdict.unit)));
        let class = match verdict.met {
            Some(true) => "good",
            Some(false) => "bad",
            None => "open",
        };
        let mut peers = verdict.peers.clone();
        peers.sort_by(|a, b| a.1.total_cmp(&b.1));
        let peers: Vec<_> =
            peers.iter().map(|(name, value)| format!("{} {}", escaped(name), figure(Some(*value)))).collect();
        let peers = if peers.is_empty() { format!("from {}", escaped(&verdict.source)) } else { peers.join(", ") };
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td>{}<br><small>{}</small></td><td class=\"figure\">{}</td><td class=\"figure\">{}</td>\
             <td class=\"word {class}\">{}</td><td><small>{peers}</small></td></tr>",
            escaped(&verdict.id),
            escaped(&verdict.what),
            escaped(&verdict.target),
            figure(verdict.kmem),
            figure(verdict.limit),
            verdict.word()
        );
    }
    format!(
        "<h2>Targets</h2><div class=\"wide\"><table><tr><th></th><th>what, and what is to be reached</th><th class=\"figure\">kmem</th>\
         <th class=\"figure\">limit</th><th></th><th>peers, best first</th></tr>{rows}</table></div>"
    )
}

/// One workload; none where nobody has a figure.
fn card(outcome: &Outcome) -> Option<String> {
    outcome.results.iter().find(|served| served.figure(&outcome.compared).is_some())?;
    let standing = match svg::ratios(outcome) {
        Some(mut ratios) => {
            ratios.sort_by(|a, b| a.1.total_cmp(&b.1));
            let (name, ratio) = ratios[0];
            let name = escaped(name);
            if ratio < 1.0 {
                format!("<small class=\"bad\">{:.2} times {name}</small>", 1.0 / ratio)
            } else {
                format!("<small class=\"good\">best; then {name}, {ratio:.2} times</small>")
            }
        }
        None if outcome.served(KMEM).is_some_and(|served| served.failed.is_some()) => {
            "<small class=\"bad\">kmem failed</small>".into()
        }
        None => String::new(),
    };
    Some(format!(
        "<section class=\"card\"><h3>{}{standing}</h3><p>{}. Compared: {} a {}.</p>{}</section>",
        escaped(&outcome.name),
        escaped(&outcome.about),
        escaped(&outcome.compared),
        escaped(&outcome.unit),
        svg::workload(outcome).inline()
    ))
}
