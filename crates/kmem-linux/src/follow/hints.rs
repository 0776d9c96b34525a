//! What wakes the thread of upkeep before its period is over: the kernel's events of CPUs that come and go, and writes
//! to the cpuset files of the process's groups. Hints both: the turn that follows looks at the masks, and would have
//! found out a quarter of a second later.

use kmem_core::platform::Clock;

use super::cgroup::each_group;
use super::unavailable::{Unavailable, UnavailableSet};
use crate::os::descriptors::{self, Fd, Waiting};
use crate::os::fault::{self, Call};
use crate::os::sys;
use crate::platform::Linux;

/// Milliseconds that pass between two turns in any case: events come in swarms.
const PAUSE_MIN_MS: u64 = 20;
const MILLISECOND: u64 = 1_000_000;
const CPU: &[u8] = b"@/devices/system/cpu/cpu";

/// The descriptors that are waited for. They are in the thread's own table.
pub(crate) struct Hints {
    events: Option<Fd>,
    files: Option<Fd>,
}

impl Hints {
    /// Nothing wakes.
    pub(crate) const fn none() -> Self {
        Self { events: None, files: None }
    }

    /// All that can be had.
    pub(crate) fn open(unavailable: &mut UnavailableSet) -> Self {
        let events = if fault::refused(Call::Netlink) { None } else { descriptors::kernel_events().ok() };
        unavailable.set(Unavailable::Events, events.is_none());
        Self { events, files: watch_cpusets() }
    }

    /// Sleeps until a CPU comes or goes, or so many milliseconds are over.
    #[cold]
    pub(crate) fn wait(&self, clock: &Linux, milliseconds: u64) {
        let until = clock.now() + milliseconds * MILLISECOND;
        sys::sleep(PAUSE_MIN_MS * MILLISECOND);
        loop {
            let left = until.saturating_sub(clock.now()).div_ceil(MILLISECOND);
            let mut waiting = [Waiting::for_input(self.events), Waiting::for_input(self.files)];
            let ready = descriptors::poll(&mut waiting, left as u32);
            if left == 0 || ready.is_ok_and(|_| self.is_for_us(&waiting)) {
                return;
            }
        }
    }

    /// Takes what has come, and returns whether any of it is of CPUs.
    fn is_for_us(&self, waiting: &[Waiting; 2]) -> bool {
        let mut ours = false;
        let mut text = [0; 256];
        if let Some(events) = self.events.filter(|_| waiting[0].is_ready()) {
            // An overflow (ENOBUFS) has lost events, of CPUs perhaps.
            loop {
                match descriptors::receive(events, &mut text) {
                    Ok(len) => ours |= text[..len].windows(CPU.len()).any(|window| window == CPU),
                    Err(sys::Errno::AGAIN) => break,
                    Err(_) => {
                        ours = true;
                        break;
                    }
                }
            }
        }
        if let Some(files) = self.files.filter(|_| waiting[1].is_ready()) {
            while descriptors::read(files, &mut text).is_ok_and(|len| len > 0) {
                ours = true;
            }
        }
        ours
    }
}

/// Watches the cpuset files of the groups that the process is in now.
fn watch_cpusets() -> Option<Fd> {
    let files = descriptors::watcher().ok()?;
    let mut watched = 0;
    for controller in [&b""[..], b"cpuset"] {
        each_group(controller, b"cpuset.cpus", |_, path| {
            watched += usize::from(descriptors::watch(files, path).is_ok());
            true
        });
    }
    if watched == 0 {
        descriptors::close(files);
        return None;
    }
    Some(files)
}
