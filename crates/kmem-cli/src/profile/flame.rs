//! A flame graph: a box for each function, as wide as what is held below it, on top of the box of its caller.

use std::collections::BTreeMap;

use indicatif::{BinaryBytes, HumanCount};
use maud::{PreEscaped, html};

use super::Weighted;
use super::symbols::Symbols;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 18.0;
/// Width of a letter, for cutting names.
const LETTER: f64 = 6.6;
/// Boxes narrower than this are left out.
const NARROWEST: f64 = 0.4;
const TOP: f64 = 34.0;

/// A function in one chain of callers.
#[derive(Default)]
struct Node {
    bytes: f64,
    objects: f64,
    callees: BTreeMap<String, Node>,
}

impl Node {
    fn depth(&self) -> usize {
        1 + self.callees.values().map(Node::depth).max().unwrap_or(0)
    }
}

/// Draws what is live.
pub fn draw(weighted: &Weighted, symbols: &mut Symbols, title: &str) -> String {
    let mut root = Node::default();
    for site in &weighted.sites {
        let mut names: Vec<String> = Vec::new();
        for caller in &site.callers {
            names.extend(symbols.functions(caller - 1).into_iter().map(|function| function.name));
        }
        let (bytes, objects) = (site.values.live_bytes, site.values.live_objects);
        if bytes <= 0.0 {
            continue;
        }
        let mut node = &mut root;
        (node.bytes, node.objects) = (node.bytes + bytes, node.objects + objects);
        for name in names.into_iter().rev() {
            node = node.callees.entry(name).or_default();
            (node.bytes, node.objects) = (node.bytes + bytes, node.objects + objects);
        }
    }
    let height = TOP + ROW * (root.depth() as f64 + 1.0);
    let mut boxes = Vec::new();
    place("all", &root, 0.0, height - ROW * 1.5, WIDTH / root.bytes.max(1.0), &mut boxes);
    html! {
        (PreEscaped("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"))
        svg xmlns="http://www.w3.org/2000/svg" width=(WIDTH) height=(height) viewBox=(format!("0 0 {WIDTH} {height}"))
            font-family="monospace" font-size="11" {
            rect width="100%" height="100%" fill="#ffffff" {}
            text x=(WIDTH / 2.0) y="20" font-size="14" text-anchor="middle" { (title) }
            @for one in &boxes {
                g {
                    title { (one.title) }
                    rect x=(format!("{:.1}", one.x)) y=(format!("{:.1}", one.y)) width=(format!("{:.1}", one.width))
                        height=(ROW - 1.0) rx="1" fill=(one.colour) {}
                    @if !one.text.is_empty() {
                        text x=(format!("{:.1}", one.x + 3.0)) y=(format!("{:.1}", one.y + 13.0)) { (one.text) }
                    }
                }
            }
        }
    }
    .into_string()
}

struct Drawn {
    x: f64,
    y: f64,
    width: f64,
    title: String,
    text: String,
    colour: String,
}

fn place(name: &str, node: &Node, x: f64, y: f64, scale: f64, boxes: &mut Vec<Drawn>) {
    let width = node.bytes * scale;
    if width < NARROWEST {
        return;
    }
    let letters = ((width - 6.0) / LETTER).max(0.0) as usize;
    let text = match name.chars().count() {
        fits if fits <= letters => name.to_string(),
        _ if letters > 3 => name.chars().take(letters - 2).chain("..".chars()).collect(),
        _ => String::new(),
    };
    let (bytes, objects) = (BinaryBytes(node.bytes as u64), HumanCount(node.objects as u64));
    // A function has the same colour everywhere.
    let hash = name.bytes().fold(5381u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    boxes.push(Drawn {
        x,
        y,
        width,
        title: format!("{name}: {bytes} in {objects} objects"),
        text,
        colour: format!("hsl({}, {}%, {}%)", 20 + hash % 40, 70 + hash / 64 % 20, 62 + hash / 4096 % 14),
    });
    let mut left = x;
    for (name, callee) in &node.callees {
        place(name, callee, left, y - ROW, scale, boxes);
        left += callee.bytes * scale;
    }
}
