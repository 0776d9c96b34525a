//! What a program says of CPUs, and asks of them.

use kmem_core::sync::{AtomicU32, Ordering};

use crate::linux::settings::{self, Setting};
use crate::runtime::existing;
use crate::status::{CpuRow, CpuState};

/// What becomes of CPUs that leave or are idle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CpuPolicy {
    /// A CPU that no thread of the process may run on is taken down within a second, idle ones release what they cache, and what is cached is bounded by the process's CPU budget. This is the policy at first.
    TrackAffinity,
    /// CPUs are left as they are, for an embedder that drives them itself: [`hotplug`](crate::hotplug) takes them down
    /// and up. Also `KMEM_CPUS=fixed` in the environment.
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

/// Calls `visit` with each CPU that was ever used, or may be: its state and what is cached there now. No lock is held
/// meanwhile.
///
/// ```
/// let mut cached = 0;
/// kmem::cpus(|cpu| cached += cpu.cached_bytes);
/// println!("{cached} bytes are cached on all CPUs");
/// ```
pub fn cpus(mut visit: impl FnMut(&CpuRow)) {
    let Some(engine) = existing() else { return };
    for cpu in 0..engine.possible_cpus() {
        let Some(stats) = engine.cpu_stats(cpu) else { continue };
        let state = CpuState::of(cpu, &stats);
        if state == CpuState::Offline && stats.drained == 0 {
            continue;
        }
        let cached = engine.cached_on(cpu);
        visit(&CpuRow {
            cpu,
            state,
            cached_bytes: cached.bytes as u64,
            cached_objects: cached.objects as u64,
            drained_objects: stats.drained as u64,
        });
    }
}
