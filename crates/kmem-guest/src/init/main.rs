//! Process 1 of the guest: takes CPUs away from programs that run on kmem, and reports what happens.
//!
//! ```text
//! machine   mounts the kernel's file systems, restarts the machine
//! cpus      takes CPUs away and brings them back: by hotplug, or by a cpuset that shrinks and grows
//! child     programs that run for a limited time
//! elastic   a server's container that shrinks and grows, with several allocators: no check of .ci/guest
//! checks    what must hold
//! memory    one of the checks: what was cached on a CPU that went away is released within a second
//! ```
//!
//! The kernel passes on what follows `--` on its command line: the pace of the emulator, which selects the checks, and
//! a part of a name, which excludes others. Each check prints one line on the serial line, and the last line is the
//! verdict: see `boot.rs` on the host's side. A panic ends process 1, so the kernel panics and the emulator ends,
//! without a verdict.

#![forbid(unsafe_code)]

mod checks;
mod child;
mod cpus;
mod elastic;
mod machine;
mod memory;

use std::time::Instant;

fn main() {
    assert_eq!(std::process::id(), 1, "this is process 1 of a guest: .ci/guest boots it");
    machine::prepare().expect("the kernel's file systems are mounted");
    let mut arguments = std::env::args().skip(1);
    let pace = arguments.next().expect("the pace of the emulator is on the kernel's command line");
    let only = arguments.next().unwrap_or_default();
    // The host may change the pace of the emulator now.
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).expect("the host says when to begin");
    let (mut held, mut failed) = (0, 0);
    let mut judge = |name: &str, run: &dyn Fn() -> Result<String, String>| {
        println!("begin {name}");
        let began = Instant::now();
        let outcome = run();
        let seconds = began.elapsed().as_secs_f64();
        match outcome {
            Ok(words) => {
                held += 1;
                println!("check {name}: ok, {seconds:.1} s: {words}");
            }
            Err(words) => {
                failed += 1;
                println!("check {name}: FAILED, {seconds:.1} s: {words}");
            }
        }
    };
    if pace == "elastic" {
        for allocator in elastic::allocators().iter().filter(|allocator| allocator.name.contains(&only)) {
            judge(&allocator.name, &|| elastic::scenario(allocator));
        }
    } else {
        for check in checks::of(&pace).iter().filter(|check| check.name.contains(&only)) {
            judge(check.name, &check.run);
        }
    }
    println!("verdict: {held} held, {failed} failed");
    machine::end();
}
