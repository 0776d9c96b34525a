//! The fence of restartable sequences: membarrier.
//!
//! `membarrier(PRIVATE_EXPEDITED_RSEQ)` interrupts the CPUs that run threads of this process at the moment, and aborts
//! the sequences that they are in. Those of threads that do not run were preempted, and are aborted when they run. It
//! is a full barrier, so what was withdrawn before is seen withdrawn, and what was committed before is seen by the
//! caller. With a CPU it disturbs just that one; by concurrency id that is not known, and the fence is one of all CPUs.
//! It returns 0 for CPUs that do not exist, and it may take half a second while the kernel itself takes CPUs up or
//! down.
//!
//! Once registered it cannot fail, except for want of memory for the mask of all CPUs; one CPU at a time needs none. If
//! it does fail (a seccomp filter installed later), the fence cannot be waited for in any other way, and going on would
//! hand objects out twice: the process ends with a message.
//!
//! # Being there
//! Who runs on a CPU is a fence of it by that alone, and no call is needed: every other thread that was in a sequence
//! there was preempted, and will be aborted; the thread that runs there next comes after a switch of threads, a full
//! barrier, and sees what this thread has seen. The CPU number that sequences go by is that of the moment in which it
//! is read, for the kernel writes it before a thread that it has moved goes on.

use core::sync::atomic::{Ordering, compiler_fence};

use kmem_core::cpu::CpuSet;

use crate::os::fault::{self, Call};
use crate::os::sys::{self, Errno};
use crate::rseq;

/// One call for all CPUs from this many on.
const ALL_FROM: usize = 3;

/// Looks, each with a pause of the CPU's, that take about as long as the interrupt of a membarrier.
pub(crate) const PATIENCE: u32 = 100;

/// Whether the calling thread is on `cpu` at this moment, and so has fenced it.
pub(crate) fn is_here(cpu: usize) -> bool {
    // Between what the caller withdrew, or saw withdrawn, and what it does with it. To the CPU itself, and to whoever
    // runs on it next, this thread's accesses are in the order of its program.
    compiler_fence(Ordering::SeqCst);
    let here = rseq::current_cpu() == cpu;
    compiler_fence(Ordering::SeqCst);
    here
}

/// Waits until no sequence that began before can still commit on these CPUs.
pub(crate) fn fence(cpus: &CpuSet) {
    if cpus.len() < ALL_FROM || barrier(None).is_err() {
        cpus.iter().for_each(fence_one);
    }
}

/// The same for CPUs `0..cpus`, which are all that there may be: one call.
///
/// Where that fails for want of memory one CPU follows the other, which is as good: a sequence that had begun is either
/// still on its CPU when that one's turn comes, or was moved and is aborted.
pub(crate) fn fence_all(cpus: usize) {
    if barrier(None).is_err() {
        (0..cpus).for_each(fence_one);
    }
}

/// Whether a fence would be granted at this moment: it may be refused by a seccomp filter that was installed later.
///
/// Asked for a CPU that cannot exist, for which the kernel grants it and interrupts no thread.
pub(crate) fn is_granted() -> bool {
    !fault::refused(Call::Fence) && sys::membarrier_rseq(Some(i32::MAX as usize)).is_ok()
}

fn fence_one(cpu: usize) {
    while barrier(Some(cpu)).is_err() {
        sys::sched_yield();
    }
}

/// One barrier; the only error that comes back is a want of memory.
fn barrier(cpu: Option<usize>) -> Result<(), Errno> {
    loop {
        let answer = if fault::refused(Call::Fence) { Err(Errno::NOSYS) } else { sys::membarrier_rseq(cpu) };
        match answer {
            Ok(_) => return Ok(()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::NOMEM) => return Err(Errno::NOMEM),
            Err(_) => sys::fatal(&[
                "kmem: membarrier is refused although it was granted at start (a seccomp filter?). ",
                "Without it per-CPU caches cannot be emptied safely. Allow membarrier, or set KMEM_RSEQ=off.",
            ]),
        }
    }
}
