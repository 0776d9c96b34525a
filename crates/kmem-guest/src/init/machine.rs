//! Mounts the kernel's file systems, and restarts the machine.

use std::fs;
use std::io;

use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

/// The mount point of cgroups.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// Mounts what programs expect, and enables the controller of CPUs for children of the root.
pub fn prepare() -> io::Result<()> {
    for (kind, place) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp"), ("cgroup2", CGROUPS)]
    {
        fs::create_dir_all(place)?;
        mount(kind, place, kind, MountFlags::empty(), None)?;
    }
    enable("cpuset")
}

/// Enables a controller for children of the root.
pub fn enable(controller: &str) -> io::Result<()> {
    fs::write(format!("{CGROUPS}/cgroup.subtree_control"), format!("+{controller}"))
}

/// Restarts the machine, which ends the emulator.
pub fn end() -> ! {
    let refused = reboot(RebootCommand::Restart);
    unreachable!("process 1 may restart the machine: {refused:?}");
}
