//! What a process holds, seen from outside: exact once the process has stopped allocating, by both sources.

mod program;

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use program::{Held, figure, large};

/// Longer than the thread rests between two turns.
const TURN: Duration = Duration::from_millis(1200);

/// What the program holds more than in `before`, after its first step.
fn grown(before: &Value, now: &Value) {
    let more = |cache: &str, what: &str| figure(now, cache, what) - figure(before, cache, what);
    // Every other small object was freed.
    assert_eq!(more("kmalloc-48", "active_objects"), 3 * 1500, "{now:#}");
    assert_eq!(more("kmalloc-48", "in_use_bytes"), 3 * 1500 * 48);
    assert_eq!(more("kmalloc-3072", "active_objects"), 3 * 300);
    assert!(more("kmalloc-3072", "refills") >= 3 * 300 / 24 && more("kmalloc-48", "flushes") >= 10);
    assert!(figure(now, "kmalloc-48", "high_mark") >= 3 * 3000);
    assert_eq!(large(now, 1 << 20), (12, 12 << 20));
    assert_eq!(large(now, 4 << 20), (3, 15 << 20));
    let sum = |info: &Value, what: &str| info[what].as_u64().unwrap();
    assert_eq!(sum(now, "large_bytes") - sum(before, "large_bytes"), 27 << 20);
    let small = 3 * (1500 * 48 + 300 * 3072);
    assert_eq!(sum(now, "in_use_bytes") - sum(before, "in_use_bytes"), (27 << 20) + small);
    consistent(now);
}

/// What holds of every document.
fn consistent(info: &Value) {
    let sum = |what: &str| info[what].as_u64().unwrap();
    assert!(sum("in_use_bytes") + sum("cached_bytes") + sum("free_bytes") <= sum("committed_bytes"), "{info:#}");
    assert!(sum("resident_bytes") >= sum("large_bytes"), "{info:#}");
    for row in info["caches"].as_array().unwrap() {
        let figure = |name: &str| row[name].as_u64().unwrap();
        let cached = figure("cached_on_cpus") + figure("cached_in_depots");
        assert_eq!(figure("active_objects") + cached + figure("free_objects"), figure("total_objects"), "{row:#}");
        assert_eq!(figure("total_slabs") * figure("objects_per_slab"), figure("total_objects"), "{row:#}");
        assert_eq!(figure("grown") - figure("reaped"), figure("total_slabs"), "{row:#}");
        assert!(figure("high_mark") >= figure("active_objects") + cached, "{row:#}");
    }
}

fn both_steps(variables: &[(&str, &str)], source: &str, wait: Duration) {
    let mut held = Held::start(variables);
    sleep(wait);
    let before = held.info(source);
    held.step("1");
    sleep(wait);
    let full = held.info(source);
    assert_eq!(full["source"], source);
    grown(&before, &full);
    held.step("2");
    sleep(wait);
    let after = held.info(source);
    assert_eq!(after["in_use_bytes"], before["in_use_bytes"], "all was freed");
    assert_eq!(after["large"], before["large"]);
    consistent(&after);
}

fn may_trace() -> bool {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let may = rustix::process::geteuid().is_root() || scope.trim() == "0" || scope.is_empty();
    if !may {
        println!("skipped: kernel.yama.ptrace_scope keeps one process from reading another");
    }
    may
}

#[test]
fn the_memory_of_an_ordinary_process_is_read_exactly() {
    if may_trace() {
        both_steps(&[], "memory", Duration::ZERO);
        both_steps(&[("KMEM_RSEQ", "off")], "memory", Duration::ZERO);
        both_steps(&[("KMEM_RSEQ", "cid"), ("KMEM_UPKEEP", "always")], "memory", Duration::ZERO);
    }
}

#[test]
fn the_page_is_exact_after_a_turn() {
    both_steps(&[("KMEM_UPKEEP", "always")], "page", TURN);
}

#[test]
fn the_first_screen_says_what_holds_the_memory() {
    let mut held = Held::start(&[("KMEM_UPKEEP", "always")]);
    held.step("1");
    sleep(TURN);
    let output = held.asked("info PID");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() <= 24 + 2, "{text}");
    let first = lines.iter().position(|line| line.contains("held by")).unwrap();
    // 15 MiB in three blocks, 12 MiB in twelve.
    assert!(lines[first + 1].contains("large blocks") && lines[first + 1].contains("15.00 MiB"), "{text}");
    assert!(lines[first + 2].contains("large blocks") && lines[first + 2].contains("12.00 MiB"), "{text}");
    assert!(lines[first + 3].contains("kmalloc-3072"), "{text}");
    // But for the reasons of what is off, which are sentences.
    let figures = lines.iter().filter(|line| !line.starts_with("mode") && !line.starts_with("off"));
    assert!(figures.into_iter().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn slabinfo_has_the_kernels_form() {
    let mut held = Held::start(&[("KMEM_UPKEEP", "always")]);
    held.step("1");
    sleep(TURN);
    let output = held.asked("info PID --slabinfo");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("slabinfo - version: 2.1"));
    assert!(lines.next().unwrap().starts_with("# name            <active_objs> <num_objs> <objsize> "));
    let row = lines.clone().find(|line| line.starts_with("kmalloc-3072 ")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words.len(), 16, "{row}");
    assert_eq!((words[3], words[6], words[7], words[11], words[12]), ("3072", ":", "tunables", ":", "slabdata"));
    let figures: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(figures.len(), 11, "{row}");
    assert!(figures[0] >= 900 && figures[1] >= figures[0], "{row}");
    read_by_slabtop(&text);
}

/// The slabtop of procps reads nothing but /proc/slabinfo: here it is ours, in a mount namespace of its own.
fn read_by_slabtop(text: &str) {
    let is_there = Command::new("slabtop").arg("--version").output().is_ok();
    if !is_there || !rustix::process::geteuid().is_root() || !std::path::Path::new("/proc/slabinfo").exists() {
        return println!("skipped: slabtop reads a file of our own only as root, with /proc/slabinfo to cover");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let script = "mount --bind \"$0\" /proc/slabinfo && slabtop -o";
    let output = Command::new("unshare").args(["-m", "sh", "-c", script]).arg(file.path()).output().unwrap();
    if !output.status.success() {
        return println!("skipped: no mount namespace: {}", String::from_utf8_lossy(&output.stderr));
    }
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.lines().any(|line| line.contains("kmalloc-3072")), "{table}");
}

#[test]
fn what_cannot_be_looked_into_is_said() {
    let refused = |arguments: &[&str], why: &[&str]| {
        let output = Command::new(assert_cmd::cargo::cargo_bin("kmem")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        assert!(why.iter().any(|why| said.contains(why)) && said.lines().count() == 1, "{said}");
    };
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id().to_string();
    refused(&["info", &pid], &["does not run on kmem", "has no upkeep thread"]);
    child.kill().unwrap();
    child.wait().unwrap();
    refused(&["info", &pid], &["there is no process"]);
    refused(&["info", "4294967295"], &["there is no process"]);
    if !rustix::process::geteuid().is_root() {
        refused(&["info", "1"], &["belongs to another user"]);
    }
}
