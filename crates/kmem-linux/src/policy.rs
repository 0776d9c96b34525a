//! What the program asked for, and how upkeep is taken care of.

use kmem_core::sync::{AtomicU32, Ordering};

use crate::os::settings::{self, Setting};

/// What becomes of CPUs that leave or are idle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CpuPolicy {
    /// A CPU that no thread of the process may run on is taken down within a second, idle ones release what they cache,
    /// and what is cached is bounded by the process's CPU budget. This is the policy at first.
    TrackAffinity,
    /// CPUs are left as they are, for an embedder that drives them itself: `kmem::hotplug` takes them down and
    /// up. Also `KMEM_CPUS=fixed` in the environment.
    Fixed,
}

const UNREAD: u32 = 0;
const FOLLOW: u32 = 1;
const FIXED: u32 = 2;

static POLICY: AtomicU32 = AtomicU32::new(UNREAD);

/// Says what becomes of CPUs that leave or are idle, from the next turn of upkeep on.
///
/// ```
/// use kmem::CpuPolicy;
///
/// kmem::set_cpu_policy(CpuPolicy::Fixed);
/// assert_eq!(kmem::cpu_policy(), CpuPolicy::Fixed);
/// ```
pub fn set_cpu_policy(policy: CpuPolicy) {
    let code = match policy {
        CpuPolicy::TrackAffinity => FOLLOW,
        CpuPolicy::Fixed => FIXED,
    };
    POLICY.store(code, Ordering::Relaxed);
}

/// What becomes of CPUs that leave or are idle: by the last [`set_cpu_policy`], or by `KMEM_CPUS`.
///
/// ```
/// if kmem::cpu_policy() == kmem::CpuPolicy::TrackAffinity {
///     println!("CPUs that leave are taken down");
/// }
/// ```
pub fn cpu_policy() -> CpuPolicy {
    match POLICY.load(Ordering::Relaxed) {
        UNREAD => {
            let fixed = settings::word(Setting::Cpus) == Some("fixed");
            let policy = if fixed { CpuPolicy::Fixed } else { CpuPolicy::TrackAffinity };
            set_cpu_policy(policy);
            policy
        }
        FIXED => CpuPolicy::Fixed,
        _ => CpuPolicy::TrackAffinity,
    }
}

/// How upkeep is taken care of in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Upkeep {
    /// Not at all: it was switched off.
    Off,
    /// By a thread named `kmem`, which stays.
    Thread,
    /// On slow paths, and by frees.
    SlowPaths,
}
