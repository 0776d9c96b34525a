//! Cases that need a process of their own: the test `child`, which is ignored otherwise, asks `KMEM_CASE` which it is.

use std::process::Command;

/// What chooses how kmem works, for a test that says all of that itself.
#[allow(dead_code, reason = "not every test does")]
pub const MODES: [&str; 4] = ["KMEM_RSEQ", "GLIBC_TUNABLES", "KMEM_UPKEEP", "KMEM_CPUS"];

/// The process of a case, with the variables of this one but those in `cleared`.
pub fn case(name: &str, cleared: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    for variable in cleared {
        command.env_remove(variable);
    }
    command.args(["--ignored", "--exact", "child", "--nocapture"]).env("KMEM_CASE", name);
    command
}

/// Runs it to its end, which has to be a good one, and passes on what it says of the case.
#[track_caller]
pub fn passes(command: &mut Command) {
    let output = command.output().expect("a child process");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text.lines().filter(|line| line.starts_with("case ")).for_each(|line| println!("{line}"));
}
