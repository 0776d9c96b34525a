//! Eighteen planted bugs, each reported with its line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/debug/planted.cc");

/// What each is found by, and as what.
const BUGS: [(&[&str], &str); 18] = [
    (&["--debug=FZPU"], "double free"),
    (&["--debug=FZPU"], "inside of the object"),
    (&["--debug=FZPU"], "not the beginning of anything"),
    (&["--debug=FZPU"], "overflow"),
    (&["--debug=FZPU"], "overflow"),
    (&["--debug=FZPU"], "underflow"),
    (&["--debug=FZPU"], "use after free"),
    (&["--guard=1"], "use after free"),
    (&["--debug=FZPU"], "read 5a5a5a5a"),
    (&["--debug=FZPU"], "wrong size"),
    (&["--debug=FZPU"], "realloc of"),
    (&["--debug=FZPU"], "overflow"),
    (&["--debug=FZPU"], "overflow"),
    (&["--leaks"], "LEAK: not reachable: 40 bytes in 1 objects"),
    (&["--debug=FZPU"], "which operator new allocated (alloc-dealloc mismatch)"),
    (&["--debug=FZPU"], "which operator new allocated (alloc-dealloc mismatch)"),
    (&["--debug=FZPU"], "which operator new[] allocated (alloc-dealloc mismatch)"),
    (&["--debug=FZPU"], "which malloc allocated (alloc-dealloc mismatch)"),
];

fn program(folder: &Path) -> PathBuf {
    let program = folder.join("planted");
    let compiler = Command::new("g++").args(["-g", "-O0", "-w", "-o"]).arg(&program).arg(SOURCE).status();
    assert!(compiler.expect("g++ is installed").success());
    program
}

fn run(program: &Path, options: &[&str], bug: usize) -> Output {
    let mut kmem = Command::new(cargo_bin("kmem"));
    kmem.env_remove("LD_PRELOAD").arg("run").arg("--quiet").args(options).arg("--").arg(program).arg(bug.to_string());
    kmem.output().unwrap()
}

#[test]
fn each_is_reported_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    let source = std::fs::read_to_string(SOURCE).unwrap();
    for (number, (options, kind)) in (1..).zip(BUGS) {
        let output = run(&program, options, number);
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(kind), "{number}: {text}");
        if number == 9 {
            continue; // The program itself shows what it read.
        }
        let marker = format!("// planted {number}");
        let line = 1 + source.lines().position(|line| line.ends_with(&marker)).unwrap();
        assert!(text.contains(&format!("planted.cc:{line}")), "{number}, line {line}: {text}");
        assert!(!output.status.success() || number == 14, "{number}: {text}");
    }
}

#[test]
fn letters_that_are_none_are_named_and_the_others_count() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    let output = run(&program, &["--debug=xF"], 1);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("KMEM_DEBUG: x is no letter of it: F, Z, P, U, T, Q, M"), "{text}");
    assert!(text.contains("double free"), "{text}");
    let named = run(&program, &["--debug=F,dentry*"], 4);
    assert!(named.status.success(), "{named:?}");
}

#[test]
fn forms_may_be_mixed_where_that_is_said_or_memory_is_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    for bug in 15..=18 {
        for options in ["--debug=FZPUM", "--secure", "--leaks"] {
            let output = run(&program, &[options], bug);
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !text.contains("BUG"), "{bug}, {options}: {text}");
        }
        // On a page of its own the object is known as well.
        let output = run(&program, &["--debug=F", "--guard=1"], bug);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("(alloc-dealloc mismatch)"), "{bug}: {text}");
    }
}

#[test]
fn hardened_memory_ends_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    for bug in [1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 13] {
        let output = run(&program, &["--secure"], bug);
        assert!(!output.status.success(), "{bug}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("kmem: "), "{bug}");
    }
}
