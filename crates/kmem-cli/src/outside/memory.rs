//! The memory of another process, through `/proc/PID/mem`.
//!
//! The kernel asks whether we may trace the process: it is the same user's (and `kernel.yama.ptrace_scope` allows it),
//! or we are root. The process is not stopped, and notices nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The memory of a process.
pub struct Memory(File);

impl Memory {
    /// That of process `pid`.
    pub fn of(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mem")).map(Self)
    }

    /// `len` bytes at `address`; an error if any of them is not there.
    pub fn read(&self, address: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        // The kernel takes the offset as a signed number; nothing of a program is beyond.
        if i64::try_from(address).is_err() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.0.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    /// The word at `address`.
    pub fn word(&self, address: u64) -> io::Result<u64> {
        self.read(address, 8).map(|bytes| word(&bytes, 0))
    }

    /// The half word at `address`.
    pub fn half(&self, address: u64) -> io::Result<u32> {
        self.read(address, 4).map(|bytes| half(&bytes, 0))
    }
}

/// The word at `at` of a copy; 0 beyond its end.
pub fn word(bytes: &[u8], at: u64) -> u64 {
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
    rest.and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_ne_bytes(*word))
}

/// The half word at `at`.
pub fn half(bytes: &[u8], at: u64) -> u32 {
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
    rest.and_then(|rest| rest.first_chunk()).map_or(0, |half| u32::from_ne_bytes(*half))
}

/// The byte at `at`.
pub fn byte(bytes: &[u8], at: u64) -> u8 {
    usize::try_from(at).ok().and_then(|at| bytes.get(at).copied()).unwrap_or(0)
}
