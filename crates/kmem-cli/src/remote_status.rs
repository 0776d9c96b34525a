//! The status of another process: its page, found and read without stopping the process.
//!
//! The page is a file in memory that a process on kmem maps (see `kmem::status`). It is found by its name in
//! `/proc/PID/maps`, and read among the descriptors of the process's thread named `kmem`. A process without that thread
//! has closed the file; then the mapping is read through `/proc/PID/mem`, for which the kernel asks whether we may
//! trace the process.
//!
//! What is found may be forged, since a process can give a file any name. So a file is opened, without blocking, only
//! if it has the name that the kernel gives such memory; it is accepted only if it is the one that is mapped; no more
//! is read than a page can hold; and the contents are copied first and validated afterwards ([`Snapshot`]).

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kmem::status::{Snapshot, Unreadable, layout};

/// The preloaded library, by its name in maps.
const LIBRARY: &str = "libkmem_malloc.so";
/// The kernel's name for the page's file.
const FILE: &str = "/memfd:kmem-page (deleted)";
/// Bytes of the header.
const HEADER: usize = layout::header::WORDS * 8;
/// How many bytes of maps are read: enough for the 65,530 mappings that a process may have, with long names.
const MAPS: u64 = 64 << 20;
/// Opening neither blocks on a pipe nor acquires a controlling terminal.
const O_NONBLOCK_NOCTTY: i32 = 0o4000 | 0o400;
/// Input/output error: the page lies past the end of a file that was truncated.
const EIO: i32 = 5;
/// How many torn copies are retried before something must be wrong.
const TRIES: usize = 200;

/// Why the status of a process cannot be read.
#[derive(Debug)]
pub enum OutsideError {
    /// No process has this number, or it has ended.
    NoSuchProcess(u32),
    /// It belongs to another user, or is not dumpable.
    NotAllowed(u32),
    /// It is visible, but its memory may not be read.
    NotTraceable(u32),
    /// It has nothing of kmem in it.
    NotOnKmem(u32),
    /// It runs on kmem, and has published nothing (yet).
    NotPublished(u32),
    /// Its page is malformed.
    Unreadable(u32, Unreadable),
    /// Any other error of the system.
    System(u32, io::Error),
}

impl fmt::Display for OutsideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProcess(pid) => write!(f, "there is no process {pid}"),
            Self::NotAllowed(pid) => {
                write!(f, "process {pid} belongs to another user (or is protected): run this as that user, or as root")
            }
            Self::NotTraceable(pid) => write!(
                f,
                "process {pid} has no upkeep thread, and its memory may not be read (kernel.yama.ptrace_scope): \
                 run this as root, or start the process with KMEM_UPKEEP=always"
            ),
            Self::NotOnKmem(pid) => write!(
                f,
                "process {pid} does not run on kmem: start it with `kmem run -- PROGRAM`. (A program with kmem linked \
                 in appears some time after its start.)"
            ),
            Self::NotPublished(pid) => write!(
                f,
                "process {pid} runs on kmem and has published nothing: it has one thread, or has hardly allocated so \
                 far, or has KMEM_UPKEEP=off. Start it with KMEM_UPKEEP=always"
            ),
            Self::Unreadable(pid, why) => write!(f, "process {pid}: {why}"),
            Self::System(pid, error) => write!(f, "process {pid} cannot be inspected: {error}"),
        }
    }
}

/// A process's page, open for reading.
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
        let maps = maps(pid)?;
        let Some(mapped) = maps.lines().find_map(Mapped::of_line) else {
            let on_kmem = maps.contains(LIBRARY);
            return Err(if on_kmem { OutsideError::NotPublished(pid) } else { OutsideError::NotOnKmem(pid) });
        };
        let (file, at) = match descriptor(&root, &mapped) {
            Some(file) => (file, 0),
            None => (File::open(root.join("mem")).map_err(|error| of_memory(pid, error))?, mapped.first),
        };
        let len = usize::try_from(mapped.len).unwrap_or(usize::MAX).min(layout::LONGEST);
        Ok(Self { pid, file, at, bytes: vec![0; len.max(HEADER)] })
    }

    /// Its contents now.
    pub fn read(&mut self) -> Result<Snapshot<'_>, OutsideError> {
        let pid = self.pid;
        let (mut before, mut after) = (0, 0);
        for _ in 0..TRIES {
            before = self.sequence()?;
            self.file.read_exact_at(&mut self.bytes, self.at).map_err(|error| of_memory(pid, error))?;
            after = self.sequence()?;
            match Snapshot::new(&self.bytes, before, after) {
                Err(Unreadable::BeingWritten | Unreadable::Empty) => std::thread::sleep(Duration::from_millis(1)),
                // The borrow ends here; the copy is validated again below.
                _ => break,
            }
        }
        Snapshot::new(&self.bytes, before, after).map_err(|why| OutsideError::Unreadable(pid, why))
    }

    /// The page's sequence now.
    fn sequence(&self) -> Result<u64, OutsideError> {
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, self.at).map_err(|error| of_memory(self.pid, error))?;
        Ok(Snapshot::sequence_of(&header))
    }
}

/// What a process has mapped.
pub fn maps(pid: u32) -> Result<String, OutsideError> {
    let mut maps = Vec::new();
    let read = File::open(format!("/proc/{pid}/maps")).and_then(|file| file.take(MAPS).read_to_end(&mut maps));
    read.map_err(|error| of_maps(pid, error))?;
    Ok(String::from_utf8_lossy(&maps).into_owned())
}

/// A mapping of a page, from its line of maps.
struct Mapped {
    first: u64,
    len: u64,
    inode: u64,
}

impl Mapped {
    /// Parses `START-END rw-s 00000000 DEVICE INODE  NAME`, if it is the mapping of a page.
    fn of_line(line: &str) -> Option<Self> {
        let before = line.strip_suffix(FILE)?.trim_end();
        let mut words = before.split_ascii_whitespace();
        let (first, end) = words.next()?.split_once('-')?;
        let (first, end) = (u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let (rights, offset, _device) = (words.next()?, words.next()?, words.next()?);
        let inode = words.next()?.parse().ok()?;
        let is_page = rights.ends_with('s') && offset.bytes().all(|digit| digit == b'0') && words.next().is_none();
        is_page.then_some(Self { first, len: end.checked_sub(first)?, inode })
    }
}

/// Whether a process still runs, and is not just a zombie.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    // The main thread may have ended while others still run.
    state != Some('X') && (state != Some('Z') || fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|t| t.count() > 1))
}

/// Finds the page among the descriptors of the upkeep thread.
fn descriptor(root: &Path, mapped: &Mapped) -> Option<File> {
    let threads = fs::read_dir(root.join("task")).ok()?.flatten();
    let of_kmem = |thread: &PathBuf| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == "kmem\n");
    threads.map(|thread| thread.path()).filter(of_kmem).find_map(|thread| {
        let descriptors = fs::read_dir(thread.join("fd")).ok()?.flatten().map(|descriptor| descriptor.path());
        let is_page = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to == Path::new(FILE));
        descriptors.into_iter().filter(is_page).find_map(|path| opened(&path, mapped))
    })
}

/// Opens the file, if it is the one that is mapped.
fn opened(path: &Path, mapped: &Mapped) -> Option<File> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK_NOCTTY).open(path).ok()?;
    let known = file.metadata().ok()?;
    (known.is_file() && known.ino() == mapped.inode).then_some(file)
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
        // It is shorter than its mapping, so it was truncated.
        io::ErrorKind::UnexpectedEof => OutsideError::Unreadable(pid, Unreadable::NotAStatusPage),
        _ if error.raw_os_error() == Some(EIO) => OutsideError::Unreadable(pid, Unreadable::NotAStatusPage),
        _ => OutsideError::System(pid, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_is_taken_for_one() {
        let line =
            "7f1200000000-7f1200003000 rw-s 00000000 00:01 2077                       /memfd:kmem-page (deleted)";
        let page = Mapped::of_line(line).expect("a page");
        assert_eq!((page.first, page.len, page.inode), (0x7f12_0000_0000, 0x3000, 2077));
        assert!(FILE.contains(layout::NAME));
        for (what, by) in [
            ("rw-s", "rw-p"),
            ("00000000", "00001000"),
            ("7f1200003000", "7f11ffffffff"),
            ("2077", "x"),
            ("/memfd:kmem-page", "/tmp/memfd:kmem-page"),
            (" (deleted)", ""),
            ("7f1200000000-", ""),
        ] {
            assert!(Mapped::of_line(&line.replace(what, by)).is_none(), "{what} -> {by}");
        }
        assert!(Mapped::of_line(FILE).is_none());
    }
}
