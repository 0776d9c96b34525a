//! Another process, seen from outside: its page, found and read without stopping it.
//!
//! The page is a file in memory that a process on kmem maps (see `kmem::page`). It is found by its name in
//! `/proc/PID/maps`, and read among the descriptors of the process's thread named `kmem`. A process without that thread
//! has closed the file; then the mapping is read through `/proc/PID/mem`, for which the kernel asks whether we may trace
//! the process.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kmem::page::{Snapshot, Unreadable, layout};

/// The library that serves unmodified programs, as maps show it.
const LIBRARY: &str = "libkmem_malloc.so";
/// Bytes of the header.
const HEADER: usize = layout::header::WORDS * 8;
/// Copies that may be torn before something is wrong.
const TRIES: usize = 200;

/// Why a process cannot be seen.
#[derive(Debug)]
pub enum OutsideError {
    /// There is none with this number, or it ended.
    NoSuchProcess(u32),
    /// It is another user's, or guarded.
    NotAllowed(u32),
    /// It may be seen, but its memory may not be read.
    NotTraceable(u32),
    /// Nothing of kmem's is in it.
    NotOnKmem(u32),
    /// It is on kmem, and has published nothing (yet).
    NotPublished(u32),
    /// Its page makes no sense.
    Unreadable(u32, Unreadable),
    /// The system says something else.
    System(u32, io::Error),
}

impl fmt::Display for OutsideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProcess(pid) => write!(f, "there is no process {pid}"),
            Self::NotAllowed(pid) => {
                write!(f, "process {pid} is another user's (or guards itself): ask as that user, or as root")
            }
            Self::NotTraceable(pid) => write!(
                f,
                "process {pid} has no thread of upkeep, and its memory may not be read (kernel.yama.ptrace_scope): \
                 ask as root, or start it with KMEM_UPKEEP=always"
            ),
            Self::NotOnKmem(pid) => write!(
                f,
                "process {pid} is not on kmem: start it by `kmem run -- PROGRAM`. (A program with kmem linked in shows \
                 up some time after its start.)"
            ),
            Self::NotPublished(pid) => write!(
                f,
                "process {pid} is on kmem and has published nothing: it has one thread, or has hardly allocated so far, \
                 or has KMEM_UPKEEP=off. Start it with KMEM_UPKEEP=always"
            ),
            Self::Unreadable(pid, why) => write!(f, "process {pid}: {why}"),
            Self::System(pid, error) => write!(f, "process {pid} cannot be looked at: {error}"),
        }
    }
}

/// Where a process's page can be read.
pub struct Page {
    pid: u32,
    file: File,
    /// Where in the file the page begins.
    at: u64,
    bytes: Vec<u8>,
}

impl Page {
    /// Finds the page of a process.
    pub fn find(pid: u32) -> Result<Self, OutsideError> {
        let root = PathBuf::from(format!("/proc/{pid}"));
        let maps = fs::read_to_string(root.join("maps")).map_err(|error| of_maps(pid, error))?;
        let Some((first, end)) = maps.lines().find(|line| line.contains(layout::NAME)).and_then(range) else {
            let on_kmem = maps.contains(LIBRARY);
            return Err(if on_kmem { OutsideError::NotPublished(pid) } else { OutsideError::NotOnKmem(pid) });
        };
        let len = usize::try_from(end - first).unwrap_or(0);
        let (file, at) = match descriptor(&root) {
            Some(file) => (file, 0),
            None => (File::open(root.join("mem")).map_err(|error| of_memory(pid, error))?, first),
        };
        Ok(Self { pid, file, at, bytes: vec![0; len] })
    }

    /// What is in it now.
    pub fn read(&mut self) -> Result<Snapshot<'_>, OutsideError> {
        let pid = self.pid;
        for _ in 0..TRIES {
            let mut header = [0; HEADER];
            self.file.read_exact_at(&mut header, self.at).map_err(|error| of_memory(pid, error))?;
            self.file.read_exact_at(&mut self.bytes, self.at).map_err(|error| of_memory(pid, error))?;
            match Snapshot::new(&self.bytes, Snapshot::sequence_of(&header)) {
                // The borrow ends where the copy was torn; it is looked at again outside.
                Ok(_) => break,
                Err(Unreadable::BeingWritten | Unreadable::Empty) => std::thread::sleep(Duration::from_millis(1)),
                Err(why) => return Err(OutsideError::Unreadable(pid, why)),
            }
        }
        Snapshot::new(&self.bytes, Snapshot::sequence_of(&self.bytes)).map_err(|why| OutsideError::Unreadable(pid, why))
    }
}

/// Whether a process is still there, and not just waiting to be buried.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    // The main thread may have ended before others.
    state != Some('X') && (state != Some('Z') || fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|t| t.count() > 1))
}

fn range(line: &str) -> Option<(u64, u64)> {
    let (first, end) = line.split_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// The page among the descriptors of the thread of upkeep.
fn descriptor(root: &Path) -> Option<File> {
    let threads = fs::read_dir(root.join("task")).ok()?.flatten();
    let of_kmem = |thread: &PathBuf| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == "kmem\n");
    threads.map(|thread| thread.path()).filter(of_kmem).find_map(|thread| {
        let descriptors = fs::read_dir(thread.join("fd")).ok()?.flatten().map(|descriptor| descriptor.path());
        let is_page = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains(layout::NAME));
        descriptors.into_iter().find(is_page).and_then(|path| File::open(path).ok())
    })
}

fn of_maps(pid: u32, error: io::Error) -> OutsideError {
    match error.kind() {
        io::ErrorKind::NotFound => OutsideError::NoSuchProcess(pid),
        io::ErrorKind::PermissionDenied => OutsideError::NotAllowed(pid),
        _ if !is_alive(pid) => OutsideError::NoSuchProcess(pid),
        _ => OutsideError::System(pid, error),
    }
}

fn of_memory(pid: u32, error: io::Error) -> OutsideError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => OutsideError::NotTraceable(pid),
        _ if !is_alive(pid) => OutsideError::NoSuchProcess(pid),
        _ => OutsideError::System(pid, error),
    }
}
