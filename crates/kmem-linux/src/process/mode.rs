//! Which kind of section this process can have, found out once.
//!
//! ```text
//! KMEM_RSEQ=off                                     -> Fallback(DisabledByEnvironment)
//! nobody wrote sections for this processor          -> Fallback(NoSections)
//! the kernel does not abort each sequence           -> Fallback(KernelForgetsAborts)
//! CPU numbers unknown, or beyond the table          -> Fallback(CpusUnknown | TooManyCpus)
//! the kernel has no rseq (seccomp, valgrind, old)   -> Fallback(NoRseqSyscall)
//! KMEM_RSEQ=own, or libc knows nothing of rseq      -> OwnRseq, if the kernel takes our area
//!                                                     else Fallback(AreaTaken)
//! libc registered none                              -> Fallback(DisabledByLibc): the user switched it off
//! libc registered its area                          -> Rseq, if this thread has a CPU number
//!                                                     else Fallback(UnregisteredThread)
//! and KMEM_RSEQ=cid                                 -> Cid, if the kernel has concurrency ids, and kmem sections
//!                                                     by id for this processor
//! and then, without a fence for sequences           -> Fallback(NoMembarrier)
//! ```
//! A process that asked for `cid` and has another mode is told so: [`Linux::lacks_ids`](crate::Linux::lacks_ids).
//!
//! A section without a fence would be fast and wrong, so the last line has no exception.

use core::fmt;

use kmem_core::cpu::MAX_CPUS;
use kmem_core::sync::Ordering;

use super::registration;
use crate::os::fault::{self, Call};
use crate::os::kernel;
use crate::os::libc::{self, LibcArea};
use crate::os::settings::{self, Setting};
use crate::os::sys;
use crate::rseq::{self, ids, thread_data};

/// How sections are kept apart in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Mode {
    /// Restartable sequences, on the area that libc registers for each thread.
    Rseq,
    /// Restartable sequences, on an area of our own that each thread registers at its first miss.
    OwnRseq,
    /// Restartable sequences on libc's area, in which concurrency ids stand for CPUs.
    Cid,
    /// A try-lock a CPU, on slow paths; every fast path misses.
    Fallback(FallbackReason),
}

/// Why there are no restartable sequences.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FallbackReason {
    /// rseq(2) is unavailable: the kernel is too old, or a seccomp filter or an emulator rejects the call.
    NoRseqSyscall,
    /// libc could have registered its area and was told not to.
    DisabledByLibc,
    /// The kernel cannot fence restartable sequences.
    NoMembarrier,
    /// `KMEM_RSEQ=off`.
    DisabledByEnvironment,
    /// libc registered its area, but not for the thread that asked first.
    UnregisteredThread,
    /// Another part of the process has an rseq area registered.
    AreaTaken,
    /// libc has no place left for the destructor that ends a thread's registration.
    NoThreadExit,
    /// The kernel does not say how many CPUs there may be.
    CpusUnknown,
    /// There may be more CPUs than the table has entries.
    TooManyCpus,
    /// There is no memory for an allocator.
    NoMemory,
    /// kmem has no restartable sequences for this processor.
    NoSections,
    /// The kernel does not abort each sequence that it interrupts (arm64, Linux 6.19 to 7.0.13).
    KernelForgetsAborts,
}

impl FallbackReason {
    /// All of them, by code.
    const ALL: [Self; 12] = [
        Self::NoRseqSyscall,
        Self::DisabledByLibc,
        Self::NoMembarrier,
        Self::DisabledByEnvironment,
        Self::UnregisteredThread,
        Self::AreaTaken,
        Self::NoThreadExit,
        Self::CpusUnknown,
        Self::TooManyCpus,
        Self::NoMemory,
        Self::NoSections,
        Self::KernelForgetsAborts,
    ];
}

impl Mode {
    /// A number for it, for other processes; never 0.
    ///
    /// ```
    /// let mode = kmem::info().mode;
    /// assert_eq!(kmem::Mode::from_code(mode.code()), Some(mode));
    /// ```
    pub const fn code(self) -> u64 {
        match self {
            Self::Rseq => 1,
            Self::OwnRseq => 2,
            Self::Cid => 3,
            Self::Fallback(why) => 16 + why as u64,
        }
    }

    /// The mode of a number.
    ///
    /// ```
    /// assert_eq!(kmem::Mode::from_code(0), None);
    /// assert_eq!(kmem::Mode::from_code(kmem::Mode::Rseq.code()), Some(kmem::Mode::Rseq));
    /// ```
    pub fn from_code(code: u64) -> Option<Self> {
        let all = [Self::Rseq, Self::OwnRseq, Self::Cid].into_iter().chain(FallbackReason::ALL.map(Self::Fallback));
        all.into_iter().find(|mode| mode.code() == code)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rseq => f.write_str("rseq"),
            Self::OwnRseq => f.write_str("rseq (own registration)"),
            Self::Cid => f.write_str("rseq by concurrency id"),
            Self::Fallback(why) => write!(f, "fallback: {why}"),
        }
    }
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRseqSyscall => "no rseq system call (Linux before 4.18, seccomp, or valgrind)",
            Self::DisabledByLibc => {
                "libc did not register rseq (GLIBC_TUNABLES=glibc.pthread.rseq=0): unset the tunable, or set KMEM_RSEQ=own"
            }
            Self::NoMembarrier => "no membarrier for rseq (Linux before 5.10, or seccomp)",
            Self::DisabledByEnvironment => "KMEM_RSEQ=off",
            Self::UnregisteredThread => "libc registered rseq, but not for the first thread",
            Self::AreaTaken => "another rseq area is registered in this process (libc's, with KMEM_RSEQ=own, or a library's)",
            Self::NoThreadExit => "libc has no key left for thread-specific data",
            Self::CpusUnknown => "sched_getaffinity is refused, so the number of possible CPUs is unknown (seccomp)",
            Self::TooManyCpus => "more possible CPUs than the table has entries (1024)",
            Self::NoMemory => "no memory for the allocator (RLIMIT_AS, a memory cgroup)",
            Self::NoSections => "kmem has no restartable sequences for this processor",
            Self::KernelForgetsAborts => {
                "this kernel does not abort sequences of threads that are preempted (arm64, Linux 6.19 to 7.0.13): use another"
            }
        })
    }
}

/// What `KMEM_RSEQ` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    Auto,
    Off,
    Own,
    Cid,
}

fn choice() -> Choice {
    match settings::word(Setting::Rseq) {
        Some("off") => Choice::Off,
        Some("own") => Choice::Own,
        Some("cid") => Choice::Cid,
        _ => Choice::Auto,
    }
}

/// What was found out.
pub(crate) struct Found {
    pub mode: Mode,
    /// Where the area in use is; `None`: our own.
    pub offset: Option<usize>,
    /// Whether concurrency ids were asked for, and are not available.
    pub lacks_ids: bool,
}

/// Finds out. `cpus` is the kernel's number of possible CPUs, where it told.
pub(crate) fn find(cpus: Option<usize>) -> Found {
    let choice = choice();
    let (mode, offset) = sections(choice, cpus).unwrap_or_else(|why| (Mode::Fallback(why), None));
    Found { mode, offset, lacks_ids: choice == Choice::Cid && mode != Mode::Cid }
}

fn sections(choice: Choice, cpus: Option<usize>) -> Result<(Mode, Option<usize>), FallbackReason> {
    if choice == Choice::Off {
        return Err(FallbackReason::DisabledByEnvironment);
    }
    if !rseq::SECTIONS {
        return Err(FallbackReason::NoSections);
    }
    if kernel::forgets_to_abort() {
        return Err(FallbackReason::KernelForgetsAborts);
    }
    if cpus.ok_or(FallbackReason::CpusUnknown)? > MAX_CPUS {
        return Err(FallbackReason::TooManyCpus);
    }
    if !sys::rseq_exists() {
        return Err(FallbackReason::NoRseqSyscall);
    }
    let found = match libc::rseq_area() {
        Some(area) if choice != Choice::Own => {
            let offset = Some(libc_offset(area)?);
            (if choice == Choice::Cid && ids::exist() { Mode::Cid } else { Mode::Rseq }, offset)
        }
        _ => {
            own_area()?;
            (Mode::OwnRseq, None)
        }
    };
    if fault::refused(Call::Register) || sys::membarrier_register().is_err() {
        return Err(FallbackReason::NoMembarrier);
    }
    Ok(found)
}

/// The offset of libc's area, if it is registered.
fn libc_offset(area: LibcArea) -> Result<usize, FallbackReason> {
    if area.size == 0 {
        return Err(FallbackReason::DisabledByLibc);
    }
    // SAFETY: libc says that the area is there, in each thread.
    let cpu = unsafe { thread_data::area_at(area.offset) }.cpu_id.load(Ordering::Relaxed);
    if (cpu as i32) < 0 { Err(FallbackReason::UnregisteredThread) } else { Ok(area.offset) }
}

fn own_area() -> Result<(), FallbackReason> {
    if !registration::possible() {
        return Err(FallbackReason::AreaTaken);
    }
    if !registration::prepare_thread_exit() {
        return Err(FallbackReason::NoThreadExit);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_codes() {
        let all = [Mode::Rseq, Mode::OwnRseq, Mode::Cid].into_iter().chain(FallbackReason::ALL.map(Mode::Fallback));
        assert!(all.into_iter().all(|mode| Mode::from_code(mode.code()) == Some(mode)));
        assert_eq!(Mode::from_code(0), None);
    }
}
