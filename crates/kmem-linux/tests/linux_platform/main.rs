//! The Linux platform by itself: which mode is found, sections before and after the table is published, fences that are
//! refused, fork, and the page source with and without a limit of address space. Each case runs in a process of its
//! own, since the hot words exist once.

mod descriptors;
mod environment;
mod fork;
mod moving;
mod sections;
mod window;
mod world;

use std::process::{Command, Output};

use kmem_core::cpu::CpuSet;
use kmem_core::platform::{Clock, Park, Sections, Topology};
use kmem_linux::os::fault::{self, Call};
use kmem_linux::os::libc;
use kmem_linux::{FallbackReason, Mode};

use world::discover;

const OFF: (&str, &str) = ("KMEM_RSEQ", "off");
const CID: (&str, &str) = ("KMEM_RSEQ", "cid");
const OWN: [(&str, &str); 2] = [("GLIBC_TUNABLES", "glibc.pthread.rseq=0"), ("KMEM_RSEQ", "own")];

/// The command, with the arguments and variables that make it run `case`.
fn prepared(mut command: Command, case: &str, variables: &[(&str, &str)]) -> Command {
    command.args(["--ignored", "--exact", "child", "--nocapture"]).env_remove("KMEM_RSEQ").env_remove("GLIBC_TUNABLES");
    command.env("KMEM_CASE", case).envs(variables.iter().copied());
    command
}

/// Runs `case` in a child process.
fn run(case: &str, variables: &[(&str, &str)]) -> Output {
    let command = Command::new(std::env::current_exe().expect("this executable"));
    prepared(command, case, variables).output().expect("a child process")
}

fn passes(case: &str, variables: &[(&str, &str)]) -> String {
    let output = run(case, variables);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{case} {variables:?}: {}\n{text}", output.status);
    text
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    match std::env::var("KMEM_CASE").as_deref() {
        Ok("mode") => println!("mode: {:?}", discover().mode()),
        Ok("mode-no-fences") => {
            fault::fail_after(Call::Register, 0);
            println!("mode: {:?}", discover().mode());
        }
        Ok("mode-no-cpus") => {
            fault::fail_after(Call::Affinity, 0);
            println!("mode: {:?}", discover().mode());
        }
        Ok("mode-no-ids") => {
            fault::fail_after(Call::Ids, 0);
            let linux = discover();
            println!("mode: {:?}, without ids: {}", linux.mode(), linux.lacks_ids());
        }
        Ok("unregistered") => sections::unregistered(),
        Ok("sections") => sections::sections_before_and_after(),
        Ok("descriptors") => descriptors::descriptors_cover(),
        Ok("fence") => refused_fence(),
        Ok("fork") => fork::forked(),
        Ok("moving") => moving::many(),
        Ok("window") => window::window(discover(), 1 << 40),
        Ok("limited") => window::limited(),
        Ok("place") => window::place(),
        Ok("own-table") => environment::own_table(),
        other => panic!("no such case: {other:?}"),
    }
}

#[test]
fn the_mode_follows_the_environment() {
    let first = passes("mode", &[]);
    assert!(passes("mode", &[OFF]).contains("Fallback(DisabledByEnvironment)"));
    if first.contains("mode: Rseq") {
        assert!(passes("mode", &OWN).contains("mode: OwnRseq"));
        assert!(passes("mode", &OWN[..1]).contains("Fallback(DisabledByLibc)"));
        assert!(passes("mode", &OWN[1..]).contains("Fallback(AreaTaken)"));
        assert!(passes("mode-no-fences", &[]).contains("Fallback(NoMembarrier)"));
        assert!(passes("mode-no-cpus", &[]).contains("Fallback(CpusUnknown)"));
        assert!(passes("mode-no-ids", &[CID]).contains("mode: Rseq, without ids: true"));
        assert!(passes("mode-no-ids", &[]).contains("mode: Rseq, without ids: false"), "nobody asked for them");
        assert!(passes("mode-no-fences", &[CID]).contains("Fallback(NoMembarrier)"));
        println!("with {CID:?}: {}", passes("mode", &[CID]));
    }
}

#[test]
fn modes_say_what_to_do() {
    assert_eq!(Mode::Rseq.to_string(), "rseq");
    let text = Mode::Fallback(FallbackReason::DisabledByLibc).to_string();
    assert!(text.starts_with("fallback: ") && text.contains("KMEM_RSEQ=own"), "{text}");
}

fn refused_fence() {
    let (linux, _) = world::world();
    fault::fail_after(Call::Fence, 1);
    linux.fence(&CpuSet::of(0));
    println!("the first fence was granted");
    linux.fence(&CpuSet::of(0));
    println!("and a refused one was passed over");
}

#[test]
fn a_refused_fence_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    if passes("mode", &[]).contains("Fallback") {
        return;
    }
    let output = run("fence", &[]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("granted") && !out.contains("passed over"), "{out}");
    assert!(err.contains("membarrier is refused"), "{err}");
    assert_eq!(output.status.signal(), Some(6));
}

#[test]
fn cpus_nodes_threads_and_time_are_plausible() {
    let linux = discover();
    assert!(linux.initial_cpus().iter().all(|cpu| cpu < linux.possible_cpus()));
    assert!(linux.nodes() >= 1 && linux.node_of(0) < linux.nodes() && linux.node_of(usize::MAX) == 0);
    let here = linux.thread_token();
    let there = std::thread::scope(|scope| scope.spawn(|| linux.thread_token()).join().expect("a thread"));
    assert!(here != 0 && there != 0 && here != there);
    let stack = libc::initial_stack();
    // SAFETY: the stack begins with the count of arguments.
    assert!(stack.is_null() || unsafe { stack.read() } == std::env::args().count());
    assert!(linux.held_ranks().expect("known").is_empty());
    let before = linux.now();
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert!(linux.now() - before >= 2_000_000);
}
