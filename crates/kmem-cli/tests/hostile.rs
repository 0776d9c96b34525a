//! What programs may do to the checked heap: signals, forks, many threads, limits, and memory that becomes unreadable.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/debug/hostile.c");
const SEGV: i32 = 11;
const ABRT: i32 = 6;
/// How long a program may take: those that hang have been found out.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program, how it is run, the signal that it ends by (0: none), and what is said.
const CASES: &[(&str, &str, i32, &str)] = &[
    ("sent", "--secure", SEGV, ""),
    ("sent", "--debug=F", SEGV, ""),
    ("small_and_aligned", "--secure", 0, ""),
    ("small_and_aligned", "--guard=1", 0, ""),
    ("lost", "--leaks", 0, "not reachable: 200000 bytes in 5000 objects"),
    ("beside", "--leaks", 0, "not reachable: 0 bytes in 0 objects"),
    ("much", "--leaks", 0, "not reachable: 0 bytes in 0 objects"),
    ("fleeting", "--debug=F", 0, ""),
    ("threads", "--debug=FU", ABRT, "double free"),
    ("threads", "--secure", ABRT, "double free"),
    ("unreadable", "--debug=F", SEGV, "access to"),
    ("forks", "--debug=F", 0, ""),
    ("vforked", "--debug=FU", ABRT, "double free"),
];

fn program(folder: &Path) -> PathBuf {
    let program = folder.join("hostile");
    let arguments = ["-g", "-O1", "-fno-builtin", "-pthread", "-w", "-o"];
    let compiler = Command::new("gcc").args(arguments).arg(&program).arg(SOURCE).status();
    assert!(compiler.expect("gcc is installed").success());
    program
}

/// The signal that a program ended by, or minus its exit code, and what it said.
fn run(folder: &Path, command: &mut Command) -> (i32, String) {
    let said = folder.join("said");
    let file = std::fs::File::create(&said).unwrap();
    let begun = Instant::now();
    let mut child = command.env_remove("LD_PRELOAD").stderr(file).spawn().unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let code = status.code().unwrap_or(0);
    // `kmem run` becomes the program, or is its parent.
    let signal = status.signal().unwrap_or(if code > 128 { code - 128 } else { -code });
    (signal, std::fs::read_to_string(said).unwrap())
}

#[test]
fn each_ends_as_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    for (case, option, signal, text) in CASES {
        let mut kmem = Command::new(cargo_bin("kmem"));
        kmem.args(["run", "--quiet", option, "--"]).arg(&program).arg(case);
        let (ended, said) = run(folder.path(), &mut kmem);
        assert_eq!(ended, *signal, "{case} {option}: {said}");
        assert!(said.contains(text), "{case} {option}: {said}");
        let faults = said.matches("kmem: BUG").count();
        assert!(faults <= 1 || *case == "threads", "{case} {option}: {said}");
    }
}

/// Whatever the limit, the zone leaves the program half of it.
#[test]
fn a_limit_leaves_room_for_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    for kib in [4 << 20, 135_000_000, 400_000_000] {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -v {kib}; exec \"$0\" run --quiet --secure -- \"$1\" limited");
        shell.arg("-c").arg(script).arg(cargo_bin("kmem")).arg(&program);
        let (ended, said) = run(folder.path(), &mut shell);
        assert_eq!(ended, 0, "{kib}: {said}");
    }
}
