//! Takes CPUs away and brings them back.
//!
//! There are two ways, both through the kernel's own interface: hotplug takes a CPU from all processes; a cpuset that
//! shrinks takes it from the processes in it. CPU 0 of x86 cannot be taken away.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::child::Running;
use super::machine::CGROUPS;

/// CPUs 1 to this one can be taken away.
pub const LAST: usize = 3;

/// How CPUs are taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Hotplug,
    Cpuset,
}

/// Takes a CPU offline, or brings it online.
pub fn set_online(cpu: usize, online: bool) -> io::Result<()> {
    let file = format!("/sys/devices/system/cpu/cpu{cpu}/online");
    for _ in 0..100 {
        match fs::write(&file, if online { "1" } else { "0" }) {
            // The kernel is temporarily busy with something that excludes hotplug.
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => thread::sleep(Duration::from_millis(10)),
            outcome => return outcome,
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// A control group whose processes run on some CPUs.
pub struct Set {
    directory: String,
}

impl Set {
    /// A new group on all CPUs.
    pub fn new(name: &str) -> io::Result<Self> {
        let set = Self { directory: format!("{CGROUPS}/{name}") };
        fs::create_dir(&set.directory)?;
        set.allow_all()?;
        Ok(set)
    }

    /// The file by which processes join the group.
    pub fn members(&self) -> String {
        format!("{}/cgroup.procs", self.directory)
    }

    /// Grows the set to all CPUs.
    pub fn allow_all(&self) -> io::Result<()> {
        self.allow(fs::read_to_string("/sys/devices/system/cpu/possible")?.trim())
    }

    /// Bytes that the group uses.
    pub fn used(&self) -> Result<u64, String> {
        let path = format!("{}/memory.current", self.directory);
        let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        text.trim().parse().map_err(|e| format!("{path}: {e}: {text}"))
    }

    /// Has the kernel reclaim memory, and delay the group, if that uses more.
    pub fn limit(&self, bytes: u64) -> Result<(), String> {
        let path = format!("{}/memory.high", self.directory);
        fs::write(&path, bytes.to_string()).map_err(|e| format!("{path}: {e}"))
    }

    /// Shrinks or grows the set to a list of CPUs like `0-1,3`.
    pub fn allow(&self, cpus: &str) -> io::Result<()> {
        fs::write(format!("{}/cpuset.cpus", self.directory), cpus)
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Starts a program, in a control group if needed, and takes CPUs away and brings them back until it has ended. Returns
/// what it printed, and how many times CPUs were taken away. At the end all are back.
pub fn while_they_leave(
    way: Way,
    limit: Duration,
    start: impl FnOnce(Option<&str>) -> Result<Running, String>,
) -> Result<(String, u32), String> {
    let set = match way {
        Way::Hotplug => None,
        Way::Cpuset => Some(Set::new("leaving").map_err(|e| format!("a cpuset cannot be created: {e}"))?),
    };
    let running = start(set.as_ref().map(Set::members).as_deref())?;
    let over = AtomicBool::new(false);
    let (printed, left) = thread::scope(|scope| {
        let taker = scope.spawn(|| match &set {
            None => hotplug(&over),
            Some(set) => shrink_and_grow(set, &over),
        });
        let printed = running.finish(limit);
        over.store(true, Relaxed);
        (printed, taker.join().expect("the taker does not panic"))
    });
    Ok((printed?, left.map_err(|e| format!("CPUs could not be taken away: {e}"))?))
}

/// Takes one CPU offline after another, each for up to 30 ms; sometimes two at a time.
fn hotplug(over: &AtomicBool) -> io::Result<u32> {
    let mut luck = fastrand::Rng::with_seed(5);
    let mut left = 0;
    while !over.load(Relaxed) {
        let cpu = luck.usize(1..=LAST);
        let another = Some(luck.usize(1..=LAST)).filter(|&another| another != cpu && luck.bool());
        for cpu in [Some(cpu), another].into_iter().flatten() {
            set_online(cpu, false)?;
            left += 1;
        }
        pause(&mut luck);
        for cpu in [another, Some(cpu)].into_iter().flatten() {
            set_online(cpu, true)?;
        }
        pause(&mut luck);
    }
    Ok(left)
}

/// Shrinks and grows a set; its processes always have a CPU.
fn shrink_and_grow(set: &Set, over: &AtomicBool) -> io::Result<u32> {
    let mut luck = fastrand::Rng::with_seed(6);
    let mut left = 0;
    while !over.load(Relaxed) {
        set.allow(["0", "0-1", "2-3", "1,3", "3"][luck.usize(..5)])?;
        left += 1;
        pause(&mut luck);
        set.allow("0-3")?;
        pause(&mut luck);
    }
    Ok(left)
}

fn pause(luck: &mut fastrand::Rng) {
    thread::sleep(Duration::from_micros(luck.u64(..30_000)));
}
