//! Forged pages, and the seals of a genuine one: a process that forges, truncates or keeps writing a page does no harm
//! to a reader, which ends with a message, soon and with little memory.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use kmem::status::outline::Outline;
use serde_json::Value;

#[path = "../filled/mod.rs"]
mod filled;

/// A process with a forged page; it is killed when the test ends.
struct Forger(Child);

impl Drop for Forger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn forger(arguments: &[&str]) -> Forger {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    forger_of(&BUILT, "forge", arguments)
}

/// A process with a forged note instead.
fn noted(arguments: &[&str]) -> Forger {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    forger_of(&BUILT, "note", arguments)
}

fn forger_of(built: &OnceLock<PathBuf>, name: &str, arguments: &[&str]) -> Forger {
    let program = built.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/forged/{name}.c"));
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let status = Command::new("cc").args(["-O1", "-Wall", "-o"]).arg(&program).arg(source).status().unwrap();
        assert!(status.success());
        program
    });
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{arguments:?}");
    Forger(child)
}

/// The output of one of our commands about a process; the command has a gigabyte of address space and ten seconds.
fn asked(command: &str, pid: u32) -> Output {
    let since = Instant::now();
    let script = "ulimit -v 1048576; exec timeout 10 \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(cargo_bin("kmem")).args(command.split(' ')).arg(pid.to_string());
    let output = shell.output().unwrap();
    assert!(since.elapsed() < Duration::from_secs(10), "{command} does not end");
    output
}

/// Both commands end with a message that contains `why`, whether they read the file or the process's memory.
fn refused(way: &str, why: &[&str]) {
    for arguments in [&[way][..], &[way, "closed"][..]] {
        let (forger, by_memory) = (forger(arguments), arguments.len() > 1);
        for command in ["info", "info --json", "follow"] {
            let output = asked(command, forger.0.id());
            let said = String::from_utf8_lossy(&output.stderr);
            let untraceable = by_memory && said.contains("ptrace_scope");
            let expected = why.iter().any(|why| said.contains(why)) && output.stdout.is_empty();
            assert_eq!(output.status.code(), Some(1), "{way}, {command}: {output:?}");
            assert!(expected || untraceable, "{way}, {command}: {said}");
        }
    }
}

#[test]
fn a_page_of_another_version_ends_readers_with_a_message() {
    refused("version", &["has version 7"]);
}

#[test]
fn tables_without_end_or_beyond_it_are_refused() {
    refused("endless", &["no page of kmem's"]);
    refused("beyond", &["no page of kmem's"]);
    refused("huge", &["no page of kmem's"]);
}

#[test]
fn a_truncated_page_is_refused() {
    refused("truncated", &["no page of kmem's"]);
}

#[test]
fn a_page_that_is_always_being_written_ends_info() {
    let forger = forger(&["written"]);
    let output = asked("info", forger.0.id());
    assert!(String::from_utf8_lossy(&output.stderr).contains("being written"), "{output:?}");
}

#[test]
fn what_has_the_pages_name_and_is_none_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let forger = forger(&["pipe", folder.path().to_str().unwrap()]);
    let output = asked("info --json", forger.0.id());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("ptrace_scope"), "{output:?}");
}

/// An engine that is none: whatever its outline and its state say, readers end, soon and with little memory, and only
/// say that something is there if nothing that they met was impossible.
#[test]
fn a_forged_engine_ends_readers() {
    let words = Outline::WORDS.to_string();
    let mut ways = vec![
        (vec!["magic", &words, "0"], Some("no state of kmem's")),
        (vec!["version", &words, "0"], Some("with layout 77")),
        (vec!["words", &words, "0"], Some("no state of kmem's")),
        (vec!["far", &words, "0xffffffffffffffff"], Some("no state of kmem's")),
        (vec!["far", &words, "0"], Some("no state of kmem's")),
    ];
    for fill in ["1", "8", "16", "64", "1024", "0x40000000"] {
        for way in ["far", "endless", "small"] {
            ways.push((vec![way, &words, fill], None));
        }
    }
    for (arguments, why) in ways {
        let forger = noted(&arguments);
        for command in ["info --json", "info", "census", "top --once", "metrics"] {
            let output = asked(command, forger.0.id());
            let said = String::from_utf8_lossy(&output.stderr);
            if said.contains("ptrace_scope") {
                return println!("skipped: one process may not read the memory of another");
            }
            assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}, {command}: {output:?}");
            if let Some(why) = why {
                let refused = said.contains(why) && said.lines().count() == 1 && output.stdout.is_empty();
                assert!(refused && output.status.code() == Some(1), "{arguments:?}, {command}: {output:?}");
            }
        }
    }
}

/// A reader that checks the sequence only before its copy would accept torn copies: here all figures of a page are the
/// same number, unless the copy is of two moments.
#[test]
fn copies_are_of_one_moment() {
    let forger = forger(&["torn"]);
    let (mut taken, mut last) = (0, 0);
    for _ in 0..60 {
        let output = asked("info --json", forger.0.id());
        if !output.status.success() {
            assert!(String::from_utf8_lossy(&output.stderr).contains("being written"), "{output:?}");
            continue;
        }
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = told["cpus"].as_array().unwrap();
        let number = rows[0]["cached_bytes"].as_u64().unwrap();
        let figures = ["cached_bytes", "cached_objects", "drained_objects"];
        let torn = rows.iter().find(|row| figures.iter().any(|figure| row[figure] != number));
        assert!(rows.len() == 1024 && torn.is_none(), "of {number}, and {}", torn.unwrap());
        taken += 1;
        last = last.max(number);
    }
    println!("{taken} of 60 attempts had a copy; the last was of number {last}");
    assert!(taken >= 20, "{taken} of 60 attempts had a copy");
}

/// The page of a process that runs on kmem: no other process can write to it or truncate it.
#[test]
fn the_page_is_sealed() {
    let filled = filled::Filled::start("sealed", &[("KMEM_UPKEEP", "always")]);
    let before = filled.info();
    let threads = std::fs::read_dir(format!("/proc/{}/task", filled.pid())).unwrap().flatten();
    let descriptors = threads.flat_map(|thread| std::fs::read_dir(thread.path().join("fd")).into_iter().flatten());
    let is_page =
        |path: &PathBuf| std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("memfd:kmem-page"));
    let page = descriptors.flatten().map(|descriptor| descriptor.path()).find(is_page);
    let Some(page) = page else { return println!("skipped: no thread keeps the page open") };
    // Only root may open it for writing, if anyone.
    if let Ok(mut file) = OpenOptions::new().write(true).open(&page) {
        assert!(file.write(b"forged").is_err(), "the page can be written");
        assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err(), "the page has another length");
    }
    let after = filled.info();
    assert_eq!(before["mode"], after["mode"]);
    assert!(after["large_bytes"].is_u64() && after["slab_bytes"].as_u64().unwrap() > 0, "{after:#}");
}
