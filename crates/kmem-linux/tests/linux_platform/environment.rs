//! What the environment says, what is not understood of it, and where messages go.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use kmem_linux::os::sys;

use super::{OFF, passes, prepared};

/// The lines that begin as ours do.
fn said(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("kmem: ")).collect()
}

#[test]
fn what_is_not_understood_is_named_once_with_what_is() {
    let wrong = [
        ("KMEM_RSEQ", "foo"),
        ("KMEM_UPKEEP", "never"),
        ("KMEM_CPUS", "2"),
        ("KMEM_HUGE", "on"),
        ("KMEM_STORM", "-3"),
        ("KMEM_UPKEP", "off"),
        ("KMEM_OF_SOMEBODY_ELSE", "1"),
    ];
    let text = passes("mode", &wrong);
    let mut lines = said(&text);
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "kmem: KMEM_CPUS=2 is not understood: fixed",
            "kmem: KMEM_HUGE=on is not understood: off",
            "kmem: KMEM_RSEQ=foo is not understood: off, own, cid",
            "kmem: KMEM_STORM=-3 is not understood: a number from 1 on",
            "kmem: KMEM_UPKEEP=never is not understood: off, always",
            "kmem: KMEM_UPKEP is not known: is KMEM_UPKEEP meant?",
        ]
    );
}

#[test]
fn what_is_understood_is_not_spoken_of() {
    let right = [OFF, ("KMEM_UPKEEP", "off"), ("KMEM_CPUS", "fixed"), ("KMEM_HUGE", ""), ("KMEM_STATS", "0")];
    let text = passes("mode", &right);
    assert!(said(&text).is_empty() && text.contains("DisabledByEnvironment"), "{text}");
}

/// A process whose real user is not its effective one counts as one that was given rights: the kernel says AT_SECURE.
#[test]
fn with_other_rights_than_the_callers_nothing_counts_and_nothing_is_said() {
    let test = std::env::current_exe().expect("this executable");
    let mut command = Command::new("setpriv");
    command.args(["--ruid", "65534"]).arg(test);
    let output = prepared(command, "mode", &[OFF, ("KMEM_HUGE", "foo")]).output();
    let text = output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    );
    match text.lines().find(|line| line.contains("mode: ")) {
        Some(mode) => assert!(!mode.contains("DisabledByEnvironment") && said(&text).is_empty(), "{text}"),
        None => println!("skipped: only root can have another real user: {text}"),
    }
}

unsafe extern "C" {
    fn close_range(first: u32, last: u32, flags: u32) -> i32;
}

/// A thread with a table of descriptors of its own, in which there is none, says something.
pub fn own_table() {
    let thread = std::thread::spawn(|| {
        const UNSHARE: u32 = 2;
        // SAFETY: the thread gets a table of its own, and nothing in it is used.
        assert_eq!(unsafe { close_range(0, u32::MAX, UNSHARE) }, 0, "Linux 5.9");
        sys::report(&["kmem: ", "said"]);
    });
    thread.join().expect("a thread that ends");
}

#[test]
fn messages_reach_standard_error_whatever_that_is() {
    let run = |stderr: OwnedFd| {
        let mut command = prepared(Command::new(std::env::current_exe().expect("this executable")), "own-table", &[]);
        let status = command.stdout(Stdio::null()).stderr(stderr).status().expect("a child process");
        assert!(status.success(), "{status}");
    };
    let (mut here, there) = UnixStream::pair().expect("sockets");
    run(there.into());
    let mut text = String::new();
    here.read_to_string(&mut text).expect("what was said");
    assert_eq!(said(&text), ["kmem: said"]);

    // A file that is not appended to: whoever opens it anew overwrites what is there.
    let path = std::env::temp_dir().join(format!("kmem-said-{}", std::process::id()));
    let mut file = File::create(&path).expect("a file");
    file.write_all(b"before\n").expect("room");
    run(file.into());
    let text = std::fs::read_to_string(&path).expect("the file");
    std::fs::remove_file(&path).expect("the file");
    assert_eq!(text.lines().collect::<Vec<_>>(), ["before", "kmem: said"]);
}
