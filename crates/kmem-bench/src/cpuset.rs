//! A cpuset for one child: the group of the system's cgroups whose CPUs decide where it may run.
//!
//! Only root may make one, and not in every container. Who cannot have one takes affinity masks instead. Nothing of the
//! system's own groups is changed, and the group is removed when it is no longer needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

/// Where version 1 and version 2 have their groups.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup/cpuset", "/sys/fs/cgroup"];

/// A group without processes, which has all CPUs that this process has.
pub struct Cpuset(PathBuf);

impl Cpuset {
    /// Makes a group; none where the system does not let us.
    pub fn make() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("kmem-bench-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let cpus = fs::read_to_string("/proc/self/status").ok()?;
        let cpus = cpus.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
        MOUNTS.iter().map(Path::new).find_map(|mount| {
            let path = mount.join(&name);
            fs::create_dir(&path).ok()?;
            let group = Self(path);
            // Version 1 wants to know the nodes before it takes a process; version 2 inherits them.
            let nodes = fs::read_to_string(mount.join("cpuset.mems")).unwrap_or_default();
            let _ = fs::write(group.0.join("cpuset.mems"), nodes.trim());
            fs::write(group.0.join("cpuset.cpus"), cpus).ok()?;
            Some(group)
        })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cpuset {
    /// The kernel refuses as long as a process is on its way out.
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
    use super::Cpuset;

    #[test]
    fn a_group_is_there_and_then_gone() {
        let Some(group) = Cpuset::make() else { return println!("skipped: no group can be made here") };
        let path = group.path().to_path_buf();
        assert!(path.join("cgroup.procs").exists());
        drop(group);
        assert!(!path.exists());
    }
}
