//! What must hold while CPUs go away and come back.
//!
//! - The storm finds no fault: of the objects of hundreds of caches none is lost, and none has two holders.
//! - An ordinary program that knows nothing of kmem prints what it prints without it.
//! - The sections conserve objects if each instruction can be interrupted, and the control without fences fails there.
//!   If it did not, that emulator would prove nothing.
//!
//! Each runs in rseq mode and in the fallback, and by concurrency id if the kernel has those (6.1 does not); if not,
//! `kmem info` must say so.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use super::child::{self, Mode, Running};
use super::cpus::{self, Way};
use super::memory;

/// Something that must hold.
pub struct Check {
    pub name: &'static str,
    pub run: fn() -> Result<String, String>,
}

/// The checks for an emulator of this pace.
pub fn of(pace: &str) -> &'static [Check] {
    match (std::env::consts::ARCH, pace) {
        ("aarch64", "blocks") => ARM64_BLOCKS,
        ("aarch64", "steps") => ARM64_STEPS,
        (_, "blocks") => BLOCKS,
        (_, "steps") => STEPS,
        (_, other) => panic!("the pace '{other}' is neither blocks nor steps"),
    }
}

const BLOCKS: &[Check] = &[
    Check { name: "storm, hotplug, rseq", run: || storm(Mode::Rseq, Way::Hotplug, 10) },
    Check { name: "storm, hotplug, fallback", run: || storm(Mode::Fallback, Way::Hotplug, 10) },
    Check { name: "storm, hotplug, cid", run: || with_ids(|| storm(Mode::Cid, Way::Hotplug, 10)) },
    Check { name: "storm, cpuset, rseq", run: || storm(Mode::Rseq, Way::Cpuset, 5) },
    Check { name: "storm, cpuset, fallback", run: || storm(Mode::Fallback, Way::Cpuset, 5) },
    Check { name: "program, hotplug, rseq", run: || program(Mode::Rseq, Way::Hotplug) },
    Check { name: "program, hotplug, fallback", run: || program(Mode::Fallback, Way::Hotplug) },
    Check { name: "program, hotplug, cid", run: || with_ids(|| program(Mode::Cid, Way::Hotplug)) },
    Check { name: "program, cpuset, rseq", run: || program(Mode::Rseq, Way::Cpuset) },
    Check { name: "memory, hotplug, rseq", run: || memory::follows(Mode::Rseq, Way::Hotplug) },
    Check { name: "memory, hotplug, fallback", run: || memory::follows(Mode::Fallback, Way::Hotplug) },
    Check { name: "memory, cpuset, rseq", run: || memory::follows(Mode::Rseq, Way::Cpuset) },
    Check { name: "memory, cpuset, fallback", run: || memory::follows(Mode::Fallback, Way::Cpuset) },
];

const STEPS: &[Check] = &[
    Check { name: "control, rseq", run: || control(Mode::Rseq) },
    Check { name: "control, cid", run: || with_ids(|| control(Mode::Cid)) },
    Check { name: "control, fallback", run: || control(Mode::Fallback) },
    Check { name: "sections, rseq", run: || sections(Mode::Rseq) },
    Check { name: "sections, cid", run: || with_ids(|| sections(Mode::Cid)) },
    Check { name: "sections, fallback", run: || sections(Mode::Fallback) },
    Check { name: "storm, rseq", run: || storm(Mode::Rseq, Way::Hotplug, 5) },
    Check { name: "storm, fallback", run: || storm(Mode::Fallback, Way::Hotplug, 5) },
];

/// On arm64 programs are linked statically, with kmem in them: there is no loader in the guest.
const ARM64_BLOCKS: &[Check] = &[
    Check { name: "sections, rseq", run: || sections_for(Mode::Rseq, "0.4") },
    Check { name: "sections, own registration", run: || sections_for(Mode::Own, "0.4") },
    Check { name: "sections, fallback", run: || sections_for(Mode::Fallback, "0.2") },
    Check { name: "control without fences, rseq", run: || control(Mode::Rseq) },
    Check { name: "programs in C, rseq", run: || programs_in_c(Mode::Rseq) },
    Check { name: "programs in C, own registration", run: || programs_in_c(Mode::Own) },
];

const ARM64_STEPS: &[Check] = &[
    Check { name: "control without the bind, rseq", run: unbound },
    Check { name: "control without fences, rseq", run: || control(Mode::Rseq) },
    Check { name: "sections, rseq", run: || sections_for(Mode::Rseq, "0.4") },
    Check { name: "sections, own registration", run: || sections_for(Mode::Own, "0.4") },
];

/// The longest time for one program: it may wait in the guest, and the guest on the host.
const LIMIT: Duration = Duration::from_secs(120);

/// A check in mode cid; or the statement that the kernel has no concurrency ids.
fn with_ids(check: fn() -> Result<String, String>) -> Result<String, String> {
    static THERE_ARE: OnceLock<bool> = OnceLock::new();
    if THERE_ARE.get().is_none() {
        let _ = THERE_ARE.set(are_there_ids()?);
    }
    match THERE_ARE.get() {
        Some(true) => check(),
        _ => Ok("this kernel has no concurrency ids, and kmem info says so".into()),
    }
}

/// Whether the kernel has concurrency ids, by `kmem info`, which must say so or that it has none.
fn are_there_ids() -> Result<bool, String> {
    let printed = child::run(Mode::Cid.command("/bin/kmem", &["info", "--json"]), LIMIT)?;
    let told: Value = serde_json::from_str(&printed).map_err(|e| format!("no info: {e}: {printed}"))?;
    let off = told["off"].as_array().is_some_and(|off| off.iter().any(|off| off["what"] == "cid"));
    match (told["mode"].as_str(), off) {
        (Some("cid"), false) => Ok(true),
        (Some("rseq"), true) => Ok(false),
        _ => Err(format!("neither concurrency ids nor a reason why not: {told:#}")),
    }
}

/// `kmem storm`, which takes CPUs away from the engine while the kernel takes them away from both.
fn storm(mode: Mode, way: Way, seconds: u32) -> Result<String, String> {
    let (printed, left) = cpus::while_they_leave(way, LIMIT, |group| {
        let storm =
            mode.command("/bin/kmem", &["storm", "--json", "--threads", "6", "--seconds", &seconds.to_string()]);
        let storm = Running::start(storm, group)?;
        // It counts the CPUs that it may run on before it starts its threads.
        storm.until_threads(2)?;
        Ok(storm)
    })?;
    let report: Value = serde_json::from_str(&printed).map_err(|e| format!("no report: {e}: {printed}"))?;
    let number = |key: &str| report[key].as_u64().ok_or_else(|| format!("no '{key}' in {report:#}"));
    for key in ["lost_objects", "duplicated_objects", "stranded_objects", "corrupt_objects"] {
        if number(key)? != 0 {
            return Err(format!("{key} is not 0: {report:#}"));
        }
    }
    if report["ok"] != true || report["mode"] != mode.word() || number("cpus")? != cpus::LAST as u64 + 1 {
        return Err(format!("the storm found faults, or was not in {} mode on all CPUs: {report:#}", mode.word()));
    }
    enough("CPUs left", left, seconds / 2)?;
    enough("caches were destroyed", number("caches_destroyed")? as u32, 20)?;
    let (allocs, transitions) = (number("allocs")?, number("cpu_up")? + number("cpu_down")?);
    Ok(format!("CPUs left {left} times, {transitions} transitions of the engine, {allocs} objects"))
}

/// A C++ program with threads and all kinds of containers.
fn program(mode: Mode, way: Way) -> Result<String, String> {
    let alone = alone()?;
    let program = mode.command("/bin/kmem", &["run", "--", "/bin/containers"]);
    let (served, left) = cpus::while_they_leave(way, LIMIT, |group| Running::start(program, group))?;
    if served != alone {
        return Err(format!("with kmem it prints:\n{served}\nand without:\n{alone}"));
    }
    enough("CPUs left", left, 10)?;
    Ok(format!("CPUs left {left} times, same output"))
}

/// What the program prints without kmem; it is run once.
fn alone() -> Result<&'static str, String> {
    static PRINTED: OnceLock<String> = OnceLock::new();
    if PRINTED.get().is_none() {
        let _ = PRINTED.set(child::run(Mode::Rseq.command("/bin/containers", &[]), LIMIT)?);
    }
    match PRINTED.get().map(String::as_str) {
        None | Some("") => Err("the program prints nothing, so nothing can be compared".into()),
        Some(printed) => Ok(printed),
    }
}

/// The stress test of the Linux platform: sections against a thread that drains.
fn stress(mode: Mode, seconds: &str, fenced: bool) -> Result<(String, u64, u64), String> {
    stress_by("/bin/rseq_stress", mode, seconds, fenced)
}

/// The same by another program.
fn stress_by(program: &str, mode: Mode, seconds: &str, fenced: bool) -> Result<(String, u64, u64), String> {
    let mut command = mode.command(program, &["--ignored", "--exact", "child", "--nocapture"]);
    command.env("KMEM_STRESS_SECONDS", seconds);
    if !fenced {
        command.env("KMEM_STRESS_NO_FENCE", "1");
    }
    // The control runs without hotplug, which would repeatedly stop all CPUs while one is interrupted.
    let (printed, left) = match fenced {
        true => cpus::while_they_leave(Way::Hotplug, LIMIT, |group| Running::start(command, group))?,
        false => (child::run(command, LIMIT)?, 0),
    };
    let line = printed.lines().find_map(|line| line.find("mode=").map(|at| &line[at..]));
    let line = line.ok_or_else(|| format!("no report: {printed}"))?;
    let number = |key: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        value.and_then(|value| value.parse::<u64>().ok()).ok_or_else(|| format!("no {key} in {line}"))
    };
    let word = match mode {
        Mode::Rseq => "mode=Rseq ",
        Mode::Own => "mode=OwnRseq ",
        Mode::Cid => "mode=Cid ",
        Mode::Fallback => "mode=Fallback",
    };
    if !line.contains(word) {
        return Err(format!("not in {} mode: {line}", mode.word()));
    }
    Ok((format!("CPUs left {left} times, {line}"), number("twice")?, number("lost")?))
}

/// Checks that with fences objects are conserved.
fn sections(mode: Mode) -> Result<String, String> {
    sections_for(mode, "15")
}

/// The same within so many seconds.
fn sections_for(mode: Mode, seconds: &str) -> Result<String, String> {
    match stress(mode, seconds, true)? {
        (words, 0, 0) => Ok(words),
        (words, ..) => Err(words),
    }
}

/// Checks that without fences an object is allocated twice, sooner or later.
fn control(mode: Mode) -> Result<String, String> {
    match stress(mode, "100", false)? {
        (words, 0, _) => {
            Err(format!("no fault was found without fences, so finding none with them proves nothing: {words}"))
        }
        (words, ..) => Ok(words),
    }
}

fn enough(what: &str, times: u32, least: u32) -> Result<(), String> {
    if times >= least { Ok(()) } else { Err(format!("{what} only {times} times, but {least} are needed")) }
}

/// Checks that sections which are never bound, so that no preemption aborts them, allocate an object twice.
fn unbound() -> Result<String, String> {
    match stress_by("/bin/rseq_stress.unbound", Mode::Rseq, "100", true)? {
        (words, 0, 0) => Err(format!("no fault was found without the bind, so nothing here tests aborts: {words}")),
        (words, ..) => Ok(words),
    }
}

/// The programs in `/bin` whose names begin with `c-`: each says itself what it checked.
fn programs_in_c(mode: Mode) -> Result<String, String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/bin").map_err(|e| e.to_string())? {
        let name = entry.map_err(|e| e.to_string())?.file_name().to_string_lossy().into_owned();
        let Some(program) = name.strip_prefix("c-") else { continue };
        let mut command = mode.command(&format!("/bin/{name}"), &[]);
        let printed = child::run(
            {
                command.env("KMEM_EXPECT", "static");
                command
            },
            LIMIT,
        )?;
        if !printed.contains(" 0 failed") {
            return Err(format!("{program}: {printed}"));
        }
        all.push(program.to_owned());
    }
    if all.is_empty() { Err("there are no programs".into()) } else { Ok(all.join(", ")) }
}
