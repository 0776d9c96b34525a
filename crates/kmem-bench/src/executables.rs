//! The C programs of this crate, as files that can be executed.
//!
//! They are embedded in the library, and are written to the user's cache folder under names that depend on their
//! contents, so two versions of the command never run each other's.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const WORKLOADS: &[u8] = include_bytes!(env!("KMEM_BENCH_WORKLOADS"));
const EMPTY: &[u8] = include_bytes!(env!("KMEM_BENCH_EMPTY"));
const NOTHING: &[u8] = include_bytes!(env!("KMEM_BENCH_NOTHING"));

/// Paths of the programs.
pub struct Executables {
    /// All C workloads.
    pub workloads: PathBuf,
    /// A program that does nothing.
    pub nothing: PathBuf,
    /// A library whose malloc and free do nothing.
    pub empty: PathBuf,
}

impl Executables {
    /// Writes those that are not there yet.
    pub fn unpack() -> io::Result<Self> {
        let folder = cache_folder().join("bench");
        Ok(Self {
            workloads: unpack(&folder, "workloads", WORKLOADS)?,
            nothing: unpack(&folder, "nothing", NOTHING)?,
            empty: unpack(&folder, "empty", EMPTY)?,
        })
    }
}

/// Where the command keeps files that it can create again: `$XDG_CACHE_HOME/kmem`, or `~/.cache/kmem`.
pub fn cache_folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    caches.unwrap_or_else(std::env::temp_dir).join("kmem")
}

fn unpack(folder: &Path, name: &str, content: &[u8]) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let path = folder.join(format!("{name}-{:016x}", hasher.finish()));
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(folder)?;
    // Written under another name and renamed, because another command may do the same at this moment, and an executable
    // that is open for writing cannot be run.
    let aside = folder.join(format!("{name}.{}", std::process::id()));
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&aside)?.write_all(content)?;
    fs::rename(&aside, &path)?;
    Ok(path)
}
