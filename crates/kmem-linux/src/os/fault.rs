//! Refusals of the kernel, for tests. Looked at in slow calls only; without a test nothing is ever refused.
//!
//! A test says from which call on a kind of call fails. One switch leaves the fences out: the negative control of the
//! stress test, which must then find objects handed out twice.

use kmem_core::sync::{AtomicU32, AtomicUsize, Ordering};

/// A kind of call that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Mapping metadata.
    Map,
    /// Reserving the window.
    Reserve,
    /// Committing a piece of the window.
    Commit,
    /// Moving pages of the window.
    Move,
    /// Announcing fences.
    Register,
    /// A fence, after they were announced: the process ends.
    Fence,
    /// Reading the affinity mask.
    Affinity,
    /// Registering a thread's own rseq area.
    Thread,
    /// Creating the thread of upkeep.
    Upkeep,
    /// Reading what control groups say: quota and pressure.
    Cgroup,
    /// A socket for the kernel's events.
    Netlink,
    /// Making the page that others read.
    Page,
    /// Asking whether the kernel has concurrency ids.
    Ids,
}

const CALLS: usize = Call::Ids as usize + 1;
const NEVER: usize = usize::MAX;

/// How many calls of a kind still succeed.
static LEFT: [AtomicUsize; CALLS] = [const { AtomicUsize::new(NEVER) }; CALLS];
static NO_FENCES: AtomicU32 = AtomicU32::new(0);

/// Lets the next `successes` calls of a kind succeed, and all after them fail.
pub fn fail_after(call: Call, successes: usize) {
    LEFT[call as usize].store(successes, Ordering::Relaxed);
}

/// Lets calls of a kind succeed again.
pub fn heal(call: Call) {
    fail_after(call, NEVER);
}

/// Leaves the fences out.
///
/// # Safety
/// Objects may be handed out twice from here on: the caller does not use what it is handed out.
pub unsafe fn leave_out_fences(yes: bool) {
    NO_FENCES.store(u32::from(yes), Ordering::Relaxed);
}

pub(crate) fn fences_left_out() -> bool {
    NO_FENCES.load(Ordering::Relaxed) != 0
}

/// Whether this call is to fail.
pub(crate) fn refused(call: Call) -> bool {
    let left = &LEFT[call as usize];
    if left.load(Ordering::Relaxed) == NEVER {
        return false;
    }
    let step = |left: usize| if left == NEVER { Some(NEVER) } else { Some(left.saturating_sub(1)) };
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step) == Ok(0)
}
