//! `kmem tune`: a running process is asked, and answers; what cannot be is refused with a reason, and the process goes
//! on.

mod filled;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use filled::Filled;

/// Allocates and frees bursts of objects of 64 bytes, more than a CPU caches, until its input ends; in a child
/// of fork too if there is an argument.
const BURSTS: &str = r#"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    void *objects[4000];
    struct pollfd input = {0, POLLIN, 0};
    pid_t child = argc > 1 ? fork() : -1;
    (void)argv;
    if (child > 0) {
        printf("%d\n", (int)child);
        fflush(stdout);
    }
    do {
        for (int i = 0; i < 4000; i++)
            objects[i] = malloc(64);
        for (int i = 0; i < 4000; i++)
            free(objects[i]);
    } while (poll(&input, 1, 1) == 0);
    return 0;
}
"#;

struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Busy {
    fn start(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bursts-{name}"));
        let source = program.with_extension("c");
        std::fs::write(&source, BURSTS).unwrap();
        assert!(
            Command::new("cc")
                .arg("-O1")
                .arg("-fno-builtin")
                .arg("-o")
                .arg(&program)
                .arg(&source)
                .status()
                .unwrap()
                .success()
        );
        let mut command = Command::new(cargo_bin("kmem"));
        command.args(["run", "--"]).arg(program).args(arguments);
        command.env_remove("LD_PRELOAD").env_remove("KMEM_UPKEEP").envs(variables.iter().copied());
        let busy = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        // `kmem run` becomes the program.
        let exe = format!("/proc/{}/exe", busy.0.id());
        while std::fs::read_link(&exe).is_ok_and(|path| path.ends_with("kmem")) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        busy
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

fn tune(pid: u32, arguments: &[&str]) -> Output {
    Command::new(cargo_bin("kmem")).arg("tune").arg(pid.to_string()).args(arguments).output().unwrap()
}

/// Asserts that the command succeeds, and returns what it prints.
fn done(pid: u32, arguments: &[&str]) -> String {
    let output = tune(pid, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that the command fails with this code, and returns what it complains of.
fn refused(pid: u32, arguments: &[&str], code: i32) -> String {
    let output = tune(pid, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_process_without_a_thread_of_ours_is_tuned_on_its_slow_paths() {
    for (name, variables) in
        [("plain", &[][..]), ("off", &[("KMEM_UPKEEP", "off")]), ("fallback", &[("KMEM_RSEQ", "off")])]
    {
        let mut busy = Busy::start(name, &[], variables);
        let said = done(busy.pid(), &["kmalloc-64", "limit=7"]);
        assert!(said.contains("kmalloc-64: limit=7, on ") && said.contains(" CPUs at once"), "{said}");
        let said = done(busy.pid(), &["kmalloc-64", "limit=9"]);
        assert!(said.contains("limit=9"), "asked again: {said}");
        assert!(busy.0.try_wait().unwrap().is_none(), "it goes on");
    }
}

#[test]
fn with_a_thread_of_ours_it_need_do_nothing() {
    let filled = Filled::start("tune-always", &[("KMEM_UPKEEP", "always")]);
    done(filled.pid(), &["kmalloc-64", "limit=7"]);
}

#[test]
fn what_is_out_of_range_or_unknown_is_refused_with_a_reason() {
    let mut busy = Busy::start("refused", &[], &[]);
    let pid = busy.pid();
    let why = refused(pid, &["nobody", "limit=7"], 1);
    assert!(why.contains("no cache is named 'nobody'"), "{why}");
    assert!(refused(pid, &["kmalloc-64", "limit=0"], 1).contains("limit=0: a CPU caches 1 to 2047 objects"));
    assert!(refused(pid, &["kmalloc-64", "limit=2048"], 1).contains("limit=2048"));
    assert!(refused(pid, &["kmalloc-64", "limit=18446744073709551614"], 1).contains("limit=18446744073709551614"));
    assert!(refused(pid, &["kmalloc-64", "limit=8", "batch=9"], 1).contains("batch=9: with this limit, a batch"));
    assert!(refused(pid, &["kmalloc-64", "batch=0"], 1).contains("1 to "));
    assert!(refused(pid, &["kmalloc-64", "depot=257"], 1).contains("depot=257: a depot holds 0 to 256 magazines"));
    done(pid, &["kmalloc-64", "limit=8", "batch=4", "depot=0"]);
    done(pid, &["kmalloc-64", "depot=3"]);
    assert!(refused(pid, &["kmalloc-64", "limit=many"], 2).contains("limit=many"));
    assert!(refused(pid, &["kmalloc-64", "size=7"], 2).contains("'size' is not known: limit=N"));
    assert!(refused(pid, &["kmalloc-64"], 2).contains("NAME=VALUE"));
    assert!(refused(pid, &[&"x".repeat(65), "limit=7"], 2).contains("65 bytes"));
    assert!(busy.0.try_wait().unwrap().is_none(), "it goes on");
}

#[test]
fn a_process_that_does_not_look_is_named() {
    let filled = Filled::start("tune-quiet", &[]);
    let said = refused(filled.pid(), &["--wait", "1", "kmalloc-64", "limit=7"], 1);
    assert!(said.contains("has made no slow path of malloc or free for 1 s"), "{said}");
    assert!(said.contains("KMEM_UPKEEP=always"), "{said}");
}

#[test]
fn a_child_of_fork_is_asked_for_itself() {
    let mut busy = Busy::start("forks", &["and its child"], &[]);
    let mut line = String::new();
    BufReader::new(busy.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child: u32 = line.trim().parse().unwrap();
    done(busy.pid(), &["kmalloc-64", "limit=7"]);
    done(child, &["kmalloc-64", "limit=9"]);
}

#[test]
fn other_processes_are_named() {
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    let said = refused(sleep.id(), &["kmalloc-64", "limit=7"], 1);
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    assert!(said.contains("does not run on kmem"), "{said}");
    assert!(refused(sleep.id(), &["kmalloc-64", "limit=7"], 1).contains("there is no process"));
}
