//! `kmem run` becomes the program: its exit code, signal, arguments and environment are the program's own. With reports
//! to name places in, it is the parent of a program that ends as it would.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;

const LIBRARY: &str = "libkmem_malloc.so";
/// The name by which linked programs ask for it.
const SONAME: &str = "libkmem_malloc.so.0";

/// Variables that the command reads; they are removed unless a test sets them.
const READ: [&str; 5] = ["LD_PRELOAD", "KMEM_STATS", "KMEM_STORM", "KMEM_RSEQ", "GLIBC_TUNABLES"];

fn kmem() -> Command {
    let mut kmem = Command::new(cargo_bin("kmem"));
    for variable in READ {
        kmem.env_remove(variable);
    }
    kmem
}

/// A copy of the command in a directory of its own.
fn moved_to(directory: &Path) -> Command {
    let copy = directory.join("kmem");
    // Copied by another process: a descriptor open for writing here could be inherited by a process that another test
    // forks, and the copy would be busy when it is run.
    let copied = std::process::Command::new("cp").arg(cargo_bin("kmem")).arg(&copy).status().unwrap();
    assert!(copied.success());
    let mut kmem = Command::new(copy);
    kmem.env_remove("LD_PRELOAD");
    kmem
}

/// A library that the loader ignores, written `age` seconds ago.
fn library(path: PathBuf, age: u64) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    path
}

#[test]
fn the_exit_code_is_the_programs() {
    for code in [0, 1, 7, 125, 255] {
        kmem().args(["run", "--", "sh", "-c", &format!("exit {code}")]).assert().code(code);
    }
}

#[test]
fn the_signal_that_ends_the_program_ends_us() {
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11)] {
        let script = format!("kill -{name} $$");
        let output = kmem().args(["run", "--", "sh", "-c", &script]).output().unwrap();
        assert_eq!(output.status.signal(), Some(number), "{name}");
    }
}

#[test]
fn input_output_and_arguments_pass_through() {
    let script = r#"printf '<%s>' "$@"; cat; echo seen >&2"#;
    kmem()
        .args(["run", "sh", "-c", script, "sh", "--stats", "two words", "", "-x"])
        .write_stdin("input")
        .assert()
        .success()
        .stdout("<--stats><two words><><-x>input")
        .stderr("seen\n");
}

#[test]
fn the_program_is_told_by_its_environment() {
    kmem()
        .args(["run", "--stats", "--storm", "5", "--", "env"])
        .assert()
        .success()
        .stdout(contains("KMEM_STATS=1\n").and(contains("KMEM_STORM=5\n")))
        .stdout(predicate::function(|text: &str| {
            text.lines().any(|line| line.starts_with("LD_PRELOAD=/") && line.ends_with("/libkmem_malloc.so"))
        }));
    kmem().args(["run", "--", "env"]).assert().success().stdout(contains("KMEM_ST").not());
}

#[test]
fn the_slab_table_is_printed_at_exit() {
    // Not for a program that closes its standard error before the library prints, nor for one that ends with _exit.
    kmem()
        .args(["run", "--stats", "--"])
        .args([cargo_bin("kmem").to_str().unwrap(), "info"])
        .assert()
        .success()
        .stdout(contains("page size"))
        .stderr(
            contains("kmem: kmem (")
                .and(contains("cache"))
                .and(predicate::function(|text: &str| text.lines().count() > 2)),
        );
}

#[test]
fn a_program_runs_inside_a_storm() {
    let script = "i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); x=\"$x.\"; done; echo ${#x}";
    kmem().args(["run", "--storm", "200", "--", "sh", "-c", script]).assert().success().stdout("2000\n");
}

#[test]
fn what_the_caller_preloads_stays_behind_us_and_nothing_stands_there_twice() {
    let directory = tempfile::tempdir().unwrap();
    let ours = library(directory.path().join(LIBRARY), 0);
    let ours = ours.display();
    let mut kmem = moved_to(directory.path());
    kmem.env("LD_PRELOAD", format!("/not/there.so {ours}:/nor/this.so"));
    kmem.args(["run", "--", "env"])
        .assert()
        .success()
        .stdout(contains(format!("LD_PRELOAD={ours}:/not/there.so:/nor/this.so\n")));
}

#[test]
fn the_newer_library_is_taken() {
    for (beside, in_deps) in [(10, 1000), (1000, 10)] {
        let directory = tempfile::tempdir().unwrap();
        let beside_path = library(directory.path().join(LIBRARY), beside);
        let deps_path = library(directory.path().join("deps").join(LIBRARY), in_deps);
        let newer = if beside < in_deps { beside_path } else { deps_path };
        moved_to(directory.path())
            .args(["run", "--", "env"])
            .assert()
            .success()
            .stdout(contains(format!("LD_PRELOAD={}\n", newer.display())));
    }
}

#[test]
fn a_missing_library_is_an_error_that_names_the_places_and_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().canonicalize().unwrap();
    moved_to(&home)
        .args(["run", "--", "true"])
        .assert()
        .code(125)
        .stdout("")
        .stderr(contains(home.join(LIBRARY).display().to_string()))
        .stderr(contains(home.join("deps").join(LIBRARY).display().to_string()))
        .stderr(contains("cargo install").and(contains("cargo build --release -p kmem-malloc")))
        .stderr(contains("make install PREFIX="));
}

#[test]
fn an_installed_command_has_its_library_in_a_lib_beside_its_bin() {
    let triplet =
        format!("lib/{}-linux-{}", std::env::consts::ARCH, if cfg!(target_env = "musl") { "musl" } else { "gnu" });
    for (folder, name) in [("lib", LIBRARY), ("lib", SONAME), (triplet.as_str(), SONAME), ("lib64", SONAME)] {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().canonicalize().unwrap();
        fs::create_dir(prefix.join("bin")).unwrap();
        let ours = library(prefix.join(folder).join(name), 0);
        moved_to(&prefix.join("bin"))
            .args(["run", "--", "env"])
            .assert()
            .success()
            .stdout(contains(format!("LD_PRELOAD={}\n", ours.display())));
    }
}

#[test]
fn a_library_of_another_prefix_is_where_pkg_config_says() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().canonicalize().unwrap();
    let tools = home.join("tools");
    fs::create_dir(&tools).unwrap();
    // Written by another process, for the reason that `moved_to` has.
    let answers = |script: &str| {
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$2"; chmod +x "$2""#;
        let tool = tools.join("pkg-config");
        let written = std::process::Command::new("sh").args(["-c", write, "sh", script]).arg(tool).status().unwrap();
        assert!(written.success());
    };
    let run = || {
        let mut kmem = moved_to(&home);
        kmem.env("PATH", format!("{}:/usr/bin:/bin", tools.display())).args(["run", "--", "env"]);
        kmem.assert()
    };
    let ours = library(home.join("elsewhere").join(SONAME), 0);
    answers(&format!("[ \"$*\" = '--variable=libdir kmem' ] && echo {}", home.join("elsewhere").display()));
    run().success().stdout(contains(format!("LD_PRELOAD={}\n", ours.display())));
    for nothing in ["echo", "echo elsewhere", "exit 1", "echo /not/there"] {
        answers(nothing);
        run().code(125).stdout("").stderr(contains("pkg-config --variable=libdir kmem"));
    }
}

#[test]
fn a_path_that_the_loader_cannot_name_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("two words");
    library(home.join(LIBRARY), 0);
    moved_to(&home).args(["run", "--", "true"]).assert().code(125).stderr(contains("two words").and(contains("Move")));
}

#[test]
fn a_program_that_is_not_there_is_127_and_one_that_cannot_run_is_126() {
    kmem()
        .args(["run", "--", "/not/there"])
        .assert()
        .code(127)
        .stderr(contains("/not/there").and(contains("not found")));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    File::create(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    kmem()
        .args(["run", "--"])
        .arg(&file)
        .assert()
        .code(126)
        .stderr(contains(file.display().to_string()).and(contains("cannot be executed")));
}

#[test]
fn senseless_arguments_are_named() {
    kmem().arg("run").assert().code(2).stderr(contains("PROGRAM"));
    for value in ["0", "-3", "many"] {
        kmem()
            .args(["run", &format!("--storm={value}"), "--", "true"])
            .assert()
            .code(2)
            .stderr(contains(value).and(contains("--storm")));
    }
}

/// A C program that prints `ran`, linked with `flags`.
fn built(folder: &Path, flags: &[&str]) -> PathBuf {
    let (source, program) = (folder.join("program.c"), folder.join("program"));
    fs::write(&source, "#include <stdio.h>\nint main(void) { puts(\"ran\"); return 0; }\n").unwrap();
    let status = std::process::Command::new("cc").args(flags).arg("-o").arg(&program).arg(&source).status().unwrap();
    assert!(status.success());
    program
}

#[test]
fn a_program_that_is_linked_statically_runs_and_its_caller_is_told() {
    for flags in [&["-static"][..], &["-static-pie"]] {
        let directory = tempfile::tempdir().unwrap();
        let program = built(directory.path(), flags);
        let told = contains(program.display().to_string()).and(contains("linked statically"));
        kmem().args(["run", "--"]).arg(&program).assert().success().stdout("ran\n").stderr(told);
        kmem().args(["run", "--quiet", "--"]).arg(&program).assert().success().stdout("ran\n").stderr("");
        // The interpreter is what is executed.
        let script = directory.path().join("script");
        fs::write(&script, format!("#! {} -x\n", program.display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        kmem()
            .args(["run", "--"])
            .arg(&script)
            .assert()
            .success()
            .stdout("ran\n")
            .stderr(contains("linked statically"));
    }
}

#[test]
fn of_a_program_that_is_served_nothing_is_said() {
    let directory = tempfile::tempdir().unwrap();
    for flags in [&["-pie"][..], &["-no-pie"]] {
        let program = built(directory.path(), flags);
        kmem().args(["run", "--"]).arg(&program).assert().success().stdout("ran\n").stderr("");
        // Found on PATH, and started through the loader, which itself is linked statically.
        kmem().env("PATH", directory.path()).args(["run", "program"]).assert().success().stdout("ran\n").stderr("");
        let loader = "/lib64/ld-linux-x86-64.so.2";
        kmem().args(["run", "--", loader]).arg(&program).assert().success().stdout("ran\n").stderr("");
    }
}

#[test]
fn a_program_with_other_rights_or_for_another_processor_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let program = built(directory.path(), &[]);
    let foreign = directory.path().join("foreign");
    let mut bytes = fs::read(&program).unwrap();
    bytes[18] = 183;
    fs::write(&foreign, bytes).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o700)).unwrap();
    kmem().args(["run", "--"]).arg(&foreign).assert().failure().stderr(contains("is not for x86-64"));
    // Only root can change the owner of a file.
    if std::os::unix::fs::chown(&program, Some(12_345), None).is_err() {
        return println!("skipped: a file of another owner needs root");
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    kmem()
        .args(["run", "--"])
        .arg(&program)
        .assert()
        .success()
        .stderr(contains("rights that its caller does not have"));
}

#[test]
fn the_fallback_mode_is_said_with_its_reason() {
    let fallback = |arguments: &[&str]| {
        let mut kmem = kmem();
        kmem.env("KMEM_RSEQ", "off").arg("run").args(arguments).args(["--", "echo", "ran"]);
        kmem.assert().success().stdout("ran\n")
    };
    fallback(&[]).stderr(contains("kmem run: fallback").and(contains("KMEM_RSEQ=off")));
    fallback(&["-q"]).stderr("");
}

/// With reports to name places in, the command is the program's parent.
fn with_reports(script: &str) -> Command {
    let mut kmem = kmem();
    kmem.args(["run", "--quiet", "--guard=1000000", "--", "sh", "-c", script]);
    kmem
}

#[test]
fn a_program_with_reports_ends_as_it_would() {
    with_reports("cat; echo said >&2; exit 7").write_stdin("read\n").assert().code(7).stdout("read\n").stderr("said\n");
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11)] {
        with_reports(&format!("kill -{name} $$")).assert().code(128 + number);
    }
    kmem().args(["run", "--leaks", "--", "/not/there"]).assert().code(127).stderr(contains("/not/there: not found"));
}

#[test]
fn signals_to_end_reach_a_program_with_reports() {
    let script = "trap 'echo asked; exit 3' TERM; kill -TERM $PPID; while :; do sleep 0.01; done";
    with_reports(script).timeout(Duration::from_secs(30)).assert().code(3).stdout("asked\n");
    // What the terminal sends to all is the program's to take or to ignore.
    let script = "kill -INT $PPID; kill -QUIT $PPID; sleep 0.2; exit 4";
    with_reports(script).timeout(Duration::from_secs(30)).assert().code(4);
}

#[test]
fn what_a_program_with_reports_leaves_behind_is_not_waited_for() {
    let begun = Instant::now();
    // It keeps standard error open, and is silent.
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = std::process::Command::new(cargo_bin("kmem"));
    command.args(["run", "--quiet", "--guard=1000000", "--", "sh", "-c", "sleep 20 & echo $! >&2; exit 5"]);
    let status = command.env_remove("LD_PRELOAD").stderr(file.reopen().unwrap()).status().unwrap();
    assert_eq!(status.code(), Some(5));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let sleeper = fs::read_to_string(file.path()).unwrap();
    assert!(std::process::Command::new("kill").arg(sleeper.trim()).status().unwrap().success());
}

#[test]
fn a_prompt_does_not_wait_for_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = std::process::Command::new(cargo_bin("kmem"));
    command.args(["run", "--quiet", "--guard=1000000", "--", "sh", "-c", "printf 'Name? ' >&2; read name; echo $name"]);
    let stderr = file.reopen().unwrap();
    let mut child = command.env_remove("LD_PRELOAD").stderr(stderr).stdin(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while fs::read_to_string(file.path()).unwrap() != "Name? " {
        assert!(begun.elapsed() < Duration::from_secs(30), "no prompt");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().code() == Some(0));
}
