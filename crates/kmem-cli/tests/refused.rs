//! A feature that the kernel denies a process, by a seccomp filter or because a file is missing, is off; the process
//! continues, and `kmem info PID` says so, as text and as JSON.

mod filled;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr::null;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter};
use seccompiler::{SeccompRule, TargetArch};

use filled::{Filled, two_cpus};

/// System calls of x86-64.
const SOCKET: i64 = 41;
const SCHED_GETAFFINITY: i64 = 204;
const GETDENTS64: i64 = 217;
const MEMBARRIER: i64 = 324;
const RSEQ: i64 = 334;
const CLOSE_RANGE: i64 = 436;
const AF_NETLINK: u64 = 16;
const ENOSYS: u32 = 38;

/// A filter that denies one call; if an argument is given, only with this first argument.
fn without(call: i64, argument: Option<u64>) -> impl FnOnce(&mut Command) {
    let condition =
        |value| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).expect("a condition");
    let rules = argument.map(|value| SeccompRule::new(vec![condition(value)]).expect("a rule"));
    let rules = BTreeMap::from([(call, rules.into_iter().collect())]);
    let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(ENOSYS));
    let filter = SeccompFilter::new(rules, allow, refuse, TargetArch::x86_64).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    move |command| {
        let refuse = move || seccompiler::apply_filter(&program).map_err(std::io::Error::other);
        // SAFETY: two system calls, and no allocation except for an error.
        unsafe { command.pre_exec(refuse) };
    }
}

/// Waits until both outputs of `kmem info PID` say that `what` is off, and returns the mode of the process.
fn says(filled: &Filled, what: &str) -> String {
    let since = Instant::now();
    loop {
        let info = filled.info();
        let off = info["off"].as_array().unwrap().iter().find(|off| off["what"] == what).cloned();
        if let Some(off) = off {
            let output = Command::new(cargo_bin("kmem")).args(["info", &filled.pid().to_string()]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let line = text.lines().find(|line| line.starts_with("off") && line.contains(&format!("{what}: ")));
            assert!(line.is_some_and(|line| line.contains(off["why"].as_str().unwrap())), "{off} is not in\n{text}");
            return info["mode"].as_str().unwrap().to_string();
        }
        assert!(since.elapsed() < Duration::from_secs(5), "{what} is not off: {info}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const ALWAYS: [(&str, &str); 1] = [("KMEM_UPKEEP", "always")];

/// Starts a process that is denied a call, checks that it continues and what is reported about it, and returns its
/// mode.
fn refused(name: &str, call: i64, argument: Option<u64>, what: &str) -> String {
    let mut filled = Filled::start_as(name, &ALWAYS, |command| {
        // The program complains, because it also asks for its CPUs.
        command.stderr(Stdio::null());
        without(call, argument)(command);
    });
    let mode = says(&filled, what);
    assert!(filled.resident() > 0, "it continues");
    mode
}

#[test]
fn without_rseq_it_is_the_fallback() {
    assert_eq!(refused("no-rseq", RSEQ, None, "rseq"), "fallback");
}

#[test]
fn without_membarrier_it_is_the_fallback() {
    assert_eq!(refused("no-membarrier", MEMBARRIER, None, "rseq"), "fallback");
}

#[test]
fn without_affinity_nobody_follows() {
    refused("no-affinity", SCHED_GETAFFINITY, None, "affinity");
}

#[test]
fn without_netlink_there_are_no_events() {
    refused("no-netlink", SOCKET, Some(AF_NETLINK), "netlink");
}

/// Hides the files of control groups under an empty file system, in a mount namespace of the process's own.
fn without_groups(command: &mut Command) {
    let hide = || {
        // SAFETY: in the child, which has one thread; the strings end with 0, and the mounts take no data.
        unsafe {
            let done = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(c"none".as_ptr(), c"/".as_ptr(), null(), libc::MS_REC | libc::MS_PRIVATE, null()) == 0
                && libc::mount(c"none".as_ptr(), c"/sys/fs/cgroup".as_ptr(), c"tmpfs".as_ptr(), 0, null()) == 0;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        }
    };
    // SAFETY: three system calls, and no allocation.
    unsafe { command.pre_exec(hide) };
}

#[test]
fn without_control_groups_no_quota_bounds_it() {
    // SAFETY: returns a number.
    if unsafe { libc::geteuid() } != 0 || !std::path::Path::new("/sys/fs/cgroup").is_dir() {
        return println!("skipped: only root can hide /sys/fs/cgroup, which must be there");
    }
    let mut filled = Filled::start_as("no-groups", &ALWAYS, without_groups);
    says(&filled, "cgroup");
    assert!(filled.resident() > 0, "it continues");
}

#[test]
fn without_a_table_of_its_own_the_thread_has_no_descriptors() {
    refused("no-table", CLOSE_RANGE, None, "descriptors");
}

#[test]
fn without_the_list_of_threads_it_is_said_once_a_cpu_left() {
    let Some((first, _)) = two_cpus() else { return println!("skipped: there is one CPU only") };
    let filled = Filled::start_as("no-list", &ALWAYS, without(GETDENTS64, None));
    let pid = filled.pid().to_string();
    let status = Command::new("taskset").args(["-acp", &first.to_string(), &pid]).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    says(&filled, "threads");
}
