//! `kmem completions` and `kmem man`: the programs they are for accept their output, and it covers everything in `kmem
//! --help`.

use std::fs;
use std::process::Command as Process;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;

fn kmem(arguments: &[&str]) -> Command {
    let mut kmem = Command::new(cargo_bin("kmem"));
    kmem.args(arguments);
    kmem
}

/// The commands that `kmem --help` lists.
fn commands() -> Vec<String> {
    let help = String::from_utf8(kmem(&["--help"]).output().unwrap().stdout).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_string).collect()
}

#[test]
fn every_shell_gets_a_script_with_every_command_and_no_hidden_one() {
    assert!(commands().len() >= 8, "{:?}", commands());
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = kmem(&["completions", shell]).output().unwrap();
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not complete {command}");
        }
        assert!(script.contains("protocol") && !script.contains("bench-caches"), "{shell}");
    }
}

#[test]
fn bash_completes_commands_options_and_values() {
    let script = String::from_utf8(kmem(&["completions", "bash"]).output().unwrap().stdout).unwrap();
    let complete = |words: &str, at: usize| {
        // As bash calls a completion function: with the command, the word to complete and the word before it.
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={at}; \
             _kmem kmem \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{at} - 1]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        String::from_utf8(Process::new("bash").args(["-c", &ask]).output().unwrap().stdout).unwrap()
    };
    assert_eq!(complete("kmem sto", 1), "storm\n");
    assert_eq!(complete("kmem race --proto", 2), "--protocol\n");
    assert_eq!(complete("kmem race --protocol ga", 3), "gate\n");
}

#[test]
fn man_gets_a_page_of_each_command() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("man1");
    kmem(&["man"]).arg(&folder).assert().success().stdout("").stderr("");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let mut expected: Vec<String> = commands().iter().map(|command| format!("kmem-{command}.1")).collect();
    expected.push("kmem.1".to_string());
    expected.sort();
    assert_eq!(names, expected);
    for name in names {
        let page = fs::read_to_string(folder.join(&name)).unwrap();
        assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{name}");
        assert!(page.contains(env!("CARGO_PKG_VERSION")) || name != "kmem.1", "{name}");
    }
    let page = fs::read_to_string(folder.join("kmem-storm.1")).unwrap();
    assert!(page.contains("Duration in seconds"));
}

#[test]
fn what_cannot_be_is_said() {
    kmem(&["completions", "tcsh"]).assert().code(2).stderr(contains("tcsh").and(contains("zsh")));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    kmem(&["man"]).arg(&file).assert().code(1).stderr(contains(file.display().to_string()).and(contains("folder")));
}
