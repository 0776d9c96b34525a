//! CPUs that come and go.

use core::ffi::c_int;

use kmem_linux::hotplug::{self, HotplugError};
use kmem_linux::policy::{CpuPolicy, cpu_policy, set_cpu_policy};

use super::{EBUSY, EDEADLK, EINVAL, ENOMEM, outcome};

/// Numbers of CPUs are below this; not all of them need exist.
#[unsafe(no_mangle)]
pub extern "C" fn kmem_cpus_possible() -> usize {
    hotplug::possible()
}

/// 1 if objects may be cached on a CPU at this moment, or else 0: it is down, or does not exist.
#[unsafe(no_mangle)]
pub extern "C" fn kmem_cpu_is_online(cpu: usize) -> c_int {
    c_int::from(cpu < hotplug::possible() && hotplug::online().contains(cpu))
}

/// Says whether kmem follows the CPUs that the process may run on (1, which is so at first) or leaves them as they are
/// (0), for a program that drives them by kmem_cpu_down and kmem_cpu_up. Followed CPUs that leave are taken down within
/// a second, and what idle ones cache is released. Returns what was so before, or -1 with errno: EINVAL for another
/// number.
#[unsafe(no_mangle)]
pub extern "C" fn kmem_cpus_follow(follow: c_int) -> c_int {
    let policy = match follow {
        0 => CpuPolicy::Fixed,
        1 => CpuPolicy::TrackAffinity,
        _ => return outcome(Err(EINVAL)),
    };
    let before = cpu_policy();
    set_cpu_policy(policy);
    c_int::from(before == CpuPolicy::TrackAffinity)
}

fn changed(result: Result<(), HotplugError>) -> c_int {
    outcome(result.map_err(|error| match error {
        HotplugError::OutOfRange { .. } => EINVAL,
        HotplugError::NoMemory { .. } => ENOMEM,
        HotplugError::InsideCallback => EDEADLK,
        _ => EBUSY,
    }))
}

/// Takes a CPU out of use, until kmem_cpu_up: what is cached there goes to the depots, and threads that still run there
/// are served from these.
///
/// Returns 0, or -1 with errno, and the CPU is as it was: EINVAL if there is no such CPU; EBUSY if it is down already,
/// is the last one, or a listener refused; EDEADLK inside a hotplug callback.
#[unsafe(no_mangle)]
pub extern "C" fn kmem_cpu_down(cpu: usize) -> c_int {
    changed(hotplug::cpu_down(cpu))
}

/// Brings a CPU up that was taken down.
///
/// Returns 0, or -1 with errno, and the CPU is as it was: EINVAL if there is no such CPU; EBUSY if it is up already, or
/// a listener refused; ENOMEM; EDEADLK inside a hotplug callback.
#[unsafe(no_mangle)]
pub extern "C" fn kmem_cpu_up(cpu: usize) -> c_int {
    changed(hotplug::cpu_up(cpu))
}
