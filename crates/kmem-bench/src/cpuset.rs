//! A cpuset for one child: a cgroup whose CPUs decide where the child may run.
//!
//! Only root can create one, and not in every container; otherwise affinity masks are used instead. The system's own
//! groups are not changed, and the group is removed when it is no longer needed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

/// Where version 1 and version 2 of cgroups are mounted.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup/cpuset", "/sys/fs/cgroup"];

/// A group, initially without processes.
pub struct Cpuset(PathBuf);

/// The CPUs that this process may run on, as a list such as `0-3,8`.
pub fn own_cpus() -> io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(|list| list.trim().to_string()).ok_or_else(|| io::Error::other("/proc/self/status lists no CPUs"))
}

impl Cpuset {
    /// Creates a group with these CPUs.
    ///
    /// # Errors
    /// Why it cannot be created in the last place that was tried.
    pub fn make(cpus: &str) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("kmem-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let mut why = String::from("no cpuset controller is mounted below /sys/fs/cgroup");
        for mount in MOUNTS.map(Path::new).into_iter().filter(|mount| is_cpuset(mount)) {
            let path = mount.join(&name);
            if let Err(error) = fs::create_dir(&path) {
                why = format!("{}: {error}", path.display());
                continue;
            }
            let group = Self(path);
            // Version 1 needs the nodes before it accepts a process; version 2 inherits them.
            let nodes = fs::read_to_string(mount.join("cpuset.mems")).unwrap_or_default();
            let _ = fs::write(group.0.join("cpuset.mems"), nodes.trim());
            match group.set(cpus) {
                Ok(()) => return Ok(group),
                Err(error) => why = format!("{}/cpuset.cpus: {error}", group.0.display()),
            }
        }
        Err(why)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Changes its CPUs.
    pub fn set(&self, cpus: &str) -> io::Result<()> {
        fs::write(self.0.join("cpuset.cpus"), cpus)
    }

    /// Moves a process into it.
    pub fn take_in(&self, pid: u32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
    }
}

fn is_cpuset(mount: &Path) -> bool {
    ["cpuset.cpus.effective", "cpuset.cpus"].iter().any(|file| mount.join(file).exists())
}

impl Drop for Cpuset {
    /// The kernel refuses while a process of the group is still ending.
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cpuset, own_cpus};

    #[test]
    fn a_group_is_there_and_then_gone() {
        let group = match Cpuset::make(&own_cpus().expect("this process may run on some CPU")) {
            Ok(group) => group,
            Err(why) => return println!("skipped: {why}"),
        };
        let path = group.path().to_path_buf();
        assert!(path.join("cgroup.procs").exists());
        drop(group);
        assert!(!path.exists());
    }
}
