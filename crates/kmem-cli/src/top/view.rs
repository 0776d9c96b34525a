//! What is on the screen, as lines of text: the same for a terminal and for a pipe.

use std::collections::HashMap;

use clap::ValueEnum;
use indicatif::{BinaryBytes, HumanCount};

use crate::info::{short, slots_word};
use crate::inspect::{Inspected, printable};

/// Columns from which on a row also has what slabtop shows of slabs.
const WIDE: usize = 80;

/// By what rows are sorted: slabtop's letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Sort {
    /// Active objects
    #[value(name = "a")]
    Active,
    /// Objects a slab
    #[value(name = "b")]
    PerSlab,
    /// Bytes of all slabs: what the cache holds
    #[value(name = "c")]
    Bytes,
    /// Slabs
    #[value(name = "l")]
    Slabs,
    /// Slabs in use
    #[value(name = "v")]
    ActiveSlabs,
    /// Name
    #[value(name = "n")]
    Name,
    /// Objects
    #[value(name = "o")]
    Objects,
    /// Pages a slab
    #[value(name = "p")]
    Pages,
    /// Bytes of an object
    #[value(name = "s")]
    Size,
    /// The part of objects that is in use
    #[value(name = "u")]
    Used,
}

impl Sort {
    /// That of a key, by the letters above.
    pub fn of_key(key: char) -> Option<Self> {
        let letter = key.to_string();
        Self::value_variants()
            .iter()
            .copied()
            .find(|sort| sort.to_possible_value().is_some_and(|v| v.get_name() == letter))
    }

    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active objects",
            Self::PerSlab => "objects a slab",
            Self::Bytes => "bytes held",
            Self::Slabs => "slabs",
            Self::ActiveSlabs => "active slabs",
            Self::Name => "name",
            Self::Objects => "objects",
            Self::Pages => "pages a slab",
            Self::Size => "object size",
            Self::Used => "use",
        }
    }
}

/// A cache, or the large blocks of about one length.
#[derive(Clone, Debug, Default)]
struct Row {
    name: String,
    objects: u64,
    active: u64,
    size: u64,
    slabs: u64,
    active_slabs: u64,
    per_slab: u64,
    pages: u64,
    bytes: u64,
    in_use: u64,
}

impl Row {
    /// Hundredths of the objects that are in use.
    fn used(&self) -> u64 {
        (u128::from(self.active) * 100).checked_div(u128::from(self.objects)).unwrap_or(0) as u64
    }
}

/// What is wanted of the screen, and what was on it.
#[derive(Debug)]
pub struct View {
    pub sort: Sort,
    /// Only rows whose name contains this.
    pub filter: String,
    /// The CPUs instead of the caches.
    pub cpus: bool,
    /// Bytes in use by name: at the first look, and at the last two.
    first: Option<HashMap<String, u64>>,
    before: HashMap<String, u64>,
    last: HashMap<String, u64>,
}

/// The lines of a look: those that stay, and those that scroll.
#[derive(Debug)]
pub struct Lines {
    pub head: Vec<String>,
    /// Each with whether it grew since the look before.
    pub rows: Vec<(String, bool)>,
}

impl View {
    pub fn new(sort: Sort, filter: String, cpus: bool) -> Self {
        Self { sort, filter, cpus, first: None, before: HashMap::new(), last: HashMap::new() }
    }

    /// Whether there was a look.
    pub fn has_looked(&self) -> bool {
        self.first.is_some()
    }

    /// Notes what there is now, so that later looks know what grew.
    pub fn note(&mut self, seen: &Inspected) {
        let now: HashMap<String, u64> = rows(seen).into_iter().map(|row| (row.name, row.in_use)).collect();
        if self.first.is_none() {
            self.last = now.clone();
            self.first = Some(now.clone());
        }
        self.before = std::mem::replace(&mut self.last, now);
    }

    /// What is to be shown in `width` columns.
    pub fn lines(&self, seen: &Inspected, width: usize) -> Lines {
        let mut head = summary(seen, self);
        let rows = if self.cpus {
            head.push(cpu_head(seen));
            cpu_rows(seen)
        } else {
            head.push(row_head(width));
            let rows = self.sorted(rows(seen));
            rows.iter().map(|row| self.line(row, width)).collect()
        };
        Lines { head, rows }
    }

    fn sorted(&self, mut rows: Vec<Row>) -> Vec<Row> {
        rows.retain(|row| row.name.contains(&self.filter));
        let key = |row: &Row| match self.sort {
            Sort::Active => row.active,
            Sort::PerSlab => row.per_slab,
            Sort::Bytes => row.bytes,
            Sort::Slabs => row.slabs,
            Sort::ActiveSlabs => row.active_slabs,
            Sort::Name => 0,
            Sort::Objects => row.objects,
            Sort::Pages => row.pages,
            Sort::Size => row.size,
            Sort::Used => row.used(),
        };
        rows.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.name.cmp(&b.name)));
        rows
    }

    /// A row's line: `+` if it grew since the first look, `++` if also since the last.
    fn line(&self, row: &Row, width: usize) -> (String, bool) {
        let was = |looks: &HashMap<String, u64>| looks.get(&row.name).copied().unwrap_or(0);
        let grew = row.in_use > was(&self.before);
        let mark = match self.first.as_ref().is_some_and(|first| row.in_use > was(first)) {
            true if grew => "++",
            true => "+",
            false => "",
        };
        let (objects, active, size, bytes) = (count(row.objects), count(row.active), short(row.size), short(row.bytes));
        let used = row.used();
        let line = if width < WIDE {
            format!("{objects:>8} {active:>8} {used:>3}% {size:>8} {bytes:>8} {mark:<2} {}", row.name)
        } else {
            let (slabs, per_slab) = (count(row.slabs), row.per_slab);
            format!(
                "{objects:>8} {active:>8} {used:>3}% {size:>8} {slabs:>8} {per_slab:>8} {bytes:>10} {mark:<2} {}",
                row.name
            )
        };
        (line, grew && !mark.is_empty())
    }
}

/// A number in eight columns.
fn count(number: u64) -> String {
    match number {
        0..100_000_000 => number.to_string(),
        100_000_000..100_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

fn row_head(width: usize) -> String {
    if width < WIDE {
        format!("{:>8} {:>8} {:>4} {:>8} {:>8}    NAME", "OBJS", "ACTIVE", "USE", "OBJ SIZE", "HELD")
    } else {
        format!(
            "{:>8} {:>8} {:>4} {:>8} {:>8} {:>8} {:>10}    NAME",
            "OBJS", "ACTIVE", "USE", "OBJ SIZE", "SLABS", "OBJ/SLAB", "CACHE SIZE"
        )
    }
}

/// The lines above the table.
fn summary(seen: &Inspected, view: &View) -> Vec<String> {
    let held = &seen.holdings;
    let bytes = |bytes: u64| BinaryBytes(bytes).to_string();
    let resident = held.resident_bytes.map_or_else(|| "unknown".to_string(), bytes);
    let filter = if view.filter.is_empty() { String::new() } else { format!(", only *{}*", printable(&view.filter)) };
    let what = if view.cpus { "by CPU".to_string() } else { format!("by {}", view.sort.name()) };
    let states = states(seen);
    vec![
        format!("kmem top: {} ({}), {} caches, {what}{filter}", seen.pid, seen.program, HumanCount(held.cache_count)),
        format!(
            "in use {}, cached {}, free {}",
            bytes(held.in_use_bytes),
            bytes(held.cached_bytes),
            bytes(held.free_bytes)
        ),
        format!("resident {resident}, committed {}, large {}", bytes(held.committed_bytes), bytes(held.large_bytes)),
        format!("{}s: {states}", slots_word(seen.mode.as_ref())),
        String::new(),
    ]
}

/// How many CPUs are in which state.
fn states(seen: &Inspected) -> String {
    let mut states: Vec<(&str, usize)> = Vec::new();
    for cpu in &seen.cpus {
        match states.iter_mut().find(|(state, _)| *state == cpu.state) {
            Some((_, count)) => *count += 1,
            None => states.push((cpu.state, 1)),
        }
    }
    states.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

fn rows(seen: &Inspected) -> Vec<Row> {
    let caches = seen.holdings.caches.iter().map(|cache| Row {
        name: printable(&cache.name),
        objects: cache.total_objects,
        active: cache.active_objects,
        size: cache.object_size,
        slabs: cache.total_slabs,
        active_slabs: cache.active_slabs,
        per_slab: cache.objects_per_slab,
        pages: cache.pages_per_slab,
        bytes: cache.held_bytes,
        in_use: cache.in_use_bytes,
    });
    let large = seen.holdings.large.iter().map(|row| Row {
        name: format!("large-{}", short(row.from_bytes)),
        objects: row.blocks,
        active: row.blocks,
        size: row.from_bytes,
        bytes: row.bytes,
        in_use: row.bytes,
        ..Row::default()
    });
    caches.chain(large).collect()
}

fn cpu_head(seen: &Inspected) -> String {
    let word = slots_word(seen.mode.as_ref()).to_uppercase();
    format!("{word:>5}  {:<10} {:>10} {:>12} {:>10}", "STATE", "OBJECTS", "CACHED", "DRAINED")
}

fn cpu_rows(seen: &Inspected) -> Vec<(String, bool)> {
    let line = |cpu: &crate::inspect::CpuSeen| {
        let (objects, drained) = (count(cpu.cached_objects), count(cpu.drained_objects));
        let cached = BinaryBytes(cpu.cached_bytes).to_string();
        format!("{:>5}  {:<10} {objects:>10} {cached:>12} {drained:>10}", cpu.cpu, cpu.state)
    };
    seen.cpus.iter().map(|cpu| (line(cpu), false)).collect()
}

/// The help screen.
pub fn help() -> Vec<String> {
    let mut lines = vec!["kmem top: keys".to_string(), String::new()];
    lines.extend(Sort::value_variants().iter().map(|sort| {
        let letter = sort.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string());
        format!("  {letter}      sort by {}", sort.name())
    }));
    for (key, what) in [
        ("/", "show only names that contain a text; Enter ends it, Esc clears it"),
        ("1", "CPUs instead of caches, and back"),
        ("Up Dn", "scroll, also by PgUp and PgDn"),
        ("space", "look again now"),
        ("h ?", "this help, and back"),
        ("q", "quit, as Ctrl-C"),
    ] {
        lines.push(format!("  {key:<6} {what}"));
    }
    lines.push(String::new());
    lines.push("  +  has more in use than at the start".to_string());
    lines.push("  ++ and more than at the last look".to_string());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holdings::{CacheRow, Holdings, LargeBlocks, Totals};
    use crate::inspect::CpuSeen;

    fn seen(rows: &[(&str, u64, u64)]) -> Inspected {
        let caches = rows.iter().map(|&(name, active, size)| CacheRow {
            name: name.to_string(),
            object_size: size,
            active_objects: active,
            total_objects: 2 * active,
            objects_per_slab: 10,
            total_slabs: active / 5,
            grown: 1,
            in_use_bytes: active * size,
            held_bytes: 2 * active * size,
            ..CacheRow::default()
        });
        let large = vec![LargeBlocks { from_bytes: 1 << 20, blocks: 3, bytes: 3 << 20 }];
        Inspected {
            pid: 4_194_303,
            program: "fifteen-letters".to_string(),
            source: "memory",
            mode: None,
            upkeep: "no thread",
            follows_cpus: false,
            off: Vec::new(),
            possible_cpus: 4,
            allowed_cpus: None,
            entitled_cpus: None,
            seconds_ago: 0.0,
            holdings: Holdings::of(Totals::default(), caches.collect(), large),
            cpus: vec![CpuSeen {
                cpu: 1023,
                state: "held down",
                cached_bytes: u64::MAX,
                cached_objects: u64::MAX,
                drained_objects: 99_999_999,
            }],
        }
    }

    fn names(lines: &Lines) -> Vec<&str> {
        lines.rows.iter().map(|(line, _)| line.split_whitespace().last().unwrap()).collect()
    }

    #[test]
    fn rows_are_sorted_filtered_and_marked_where_they_grow() {
        let mut view = View::new(Sort::Bytes, String::new(), false);
        let looks = [[("a", 5, 8), ("b", 500, 8), ("c", 50, 64)], [("a", 6, 8), ("b", 500, 8), ("c", 51, 64)]];
        view.note(&seen(&looks[0]));
        assert!(view.lines(&seen(&looks[0]), 80).rows.iter().all(|(line, grew)| !line.contains('+') && !grew));
        view.note(&seen(&looks[1]));
        let lines = view.lines(&seen(&looks[1]), 80);
        assert_eq!(names(&lines), ["large-1M", "b", "c", "a"]);
        assert!(lines.rows[2].0.contains(" ++ c") && lines.rows[2].1 && !lines.rows[1].1);
        view.note(&seen(&looks[1]));
        assert!(view.lines(&seen(&looks[1]), 80).rows[2].0.contains(" +  c"));
        view.sort = Sort::Name;
        assert_eq!(names(&view.lines(&seen(&looks[1]), 60))[..3], ["a", "b", "c"]);
        view.filter = "b".to_string();
        assert_eq!(names(&view.lines(&seen(&looks[1]), 60)), ["b"]);
    }

    #[test]
    fn figures_stand_below_their_heads_in_sixty_columns_and_in_eighty() {
        let big = seen(&[("x", u64::MAX / 1_000_000, 4096)]);
        for (width, cpus) in [(60, false), (80, false), (60, true)] {
            let lines = View::new(Sort::Bytes, String::new(), cpus).lines(&big, width);
            assert!(lines.head.iter().all(|line| line.chars().count() <= 80), "{:?}", lines.head);
            let head = lines.head.last().unwrap();
            let ends = |line: &str| line.find("NAME").unwrap_or(line.len());
            for (line, _) in lines.rows.iter().filter(|_| !cpus) {
                assert!(line[..ends(head)].ends_with(' '), "{head}\n{line}");
                assert!(line.len() <= width, "{line}");
            }
        }
    }

    #[test]
    fn each_sort_has_a_key_and_a_line_of_help() {
        for key in "abclvnopsu".chars() {
            let name = Sort::of_key(key).unwrap().name();
            assert!(help().iter().any(|line| line.starts_with(&format!("  {key} ")) && line.ends_with(name)));
        }
        assert_eq!(Sort::of_key('x'), None);
        assert!(help().len() <= 24 && help().iter().all(|line| line.len() <= 76));
    }
}
