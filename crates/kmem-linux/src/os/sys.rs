//! All system calls, as thin functions.
//!
//! They are made by the processor's instruction for that, not through libc, for three reasons: `errno` belongs to the
//! program and is never touched by an allocator that also runs inside `free`; the calls work before libc has set itself
//! up (the dynamic linker calls `malloc` early); and an interposer of `mmap` or `madvise` cannot call back into us.
//!
//! No function here keeps state, retries, or judges an error: callers do. Those on descriptors are in
//! `descriptors`.

use core::ffi::{CStr, c_int, c_void};
use core::fmt;

use crate::arch;
use crate::arch::RSEQ_SIGNATURE;
pub(crate) use crate::arch::nr;

/// Why the kernel refused: the positive error number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl Errno {
    /// Interrupted by a signal.
    pub const INTR: Self = Self(4);
    /// No such descriptor.
    pub const BADF: Self = Self(9);
    /// Try again.
    pub const AGAIN: Self = Self(11);
    /// No memory.
    pub const NOMEM: Self = Self(12);
    /// The place is taken.
    pub const EXIST: Self = Self(17);
    /// Invalid argument.
    pub const INVAL: Self = Self(22);
    /// No such system call.
    pub const NOSYS: Self = Self(38);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}", self.0)
    }
}

/// Pages may be read.
pub(crate) const PROT_READ: usize = 1;
/// Pages may be written.
pub(crate) const PROT_WRITE: usize = 2;
/// Pages may not be touched.
pub(crate) const PROT_NONE: usize = 0;
/// A private mapping without a file.
pub(crate) const MAP_PRIVATE_ANON: usize = 0x02 | 0x20;
/// No memory is set aside for the mapping.
pub(crate) const MAP_NORESERVE: usize = 0x4000;
/// At this address or not at all. A kernel before 4.17 takes the address for a hint: compare the answer.
pub(crate) const MAP_FIXED_NOREPLACE: usize = 0x10_0000;

/// MREMAP_MAYMOVE and MREMAP_FIXED.
const MREMAP_MAYMOVE_FIXED: usize = 3;
const MADV_DONTNEED: usize = 4;
const MADV_HUGEPAGE: usize = 14;
const MADV_NOHUGEPAGE: usize = 15;
const MADV_POPULATE_READ: usize = 22;
const MADV_GUARD_INSTALL: usize = 102;
const MADV_GUARD_REMOVE: usize = 103;
const PR_SET_NAME: usize = 15;
/// Paths begin where the process is.
const AT_FDCWD: usize = -100_isize as usize;
const O_RDONLY_CLOEXEC: usize = 0o200_0000;
const O_WRONLY_APPEND_CLOEXEC: usize = 0o200_2001;
const O_WRONLY_CREATE_CLOEXEC: usize = 0o200_1101;
const F_DUPFD_CLOEXEC: usize = 1030;
const FUTEX_WAIT_PRIVATE: usize = 128;
const FUTEX_WAKE_PRIVATE: usize = 1 | 128;
const CLOCK_MONOTONIC: c_int = 1;
const CLOCK_MONOTONIC_COARSE: c_int = 6;
const SCHED_OTHER: usize = 0;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const RLIMIT_AS: usize = 9;
const MPOL_F_MEMS_ALLOWED: usize = 4;
const SIGABRT: usize = 6;
const SIG_UNBLOCK: usize = 1;
const SIG_SETMASK: usize = 2;
const MEMBARRIER_PRIVATE_EXPEDITED_RSEQ: usize = 1 << 7;
const MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ: usize = 1 << 8;
const MEMBARRIER_FLAG_CPU: usize = 1;
/// Bytes of an rseq area as every kernel since 4.18 accepts it.
pub(crate) const RSEQ_LEN: usize = 32;
const RSEQ_FLAG_UNREGISTER: usize = 1;
/// Makes a system call.
///
/// # Safety
/// The call does nothing to memory that the caller has no right to.
#[inline]
pub(crate) unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: passed on.
    let answer = unsafe { arch::call(number, arguments) };
    if (-4095..0).contains(&answer) { Err(Errno(-answer as i32)) } else { Ok(answer as usize) }
}

/// Opens a file.
pub(crate) fn open(path: &CStr, flags: usize) -> Result<usize, Errno> {
    // SAFETY: the kernel reads the path.
    unsafe { call(nr::OPENAT, [AT_FDCWD, path.as_ptr() as usize, flags, 0, 0, 0]) }
}

/// Maps anonymous memory.
///
/// # Safety
/// With [`MAP_FIXED_NOREPLACE`] or a hint nothing existing is harmed; other fixed mappings are the caller's business.
pub(crate) unsafe fn mmap(addr: usize, len: usize, prot: usize, flags: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's promise; file descriptor -1 and offset 0 are those of anonymous mappings.
    unsafe { call(nr::MMAP, [addr, len, prot, flags, usize::MAX, 0]) }
}

/// Ends mappings.
///
/// # Safety
/// The range is the caller's and not in use.
pub(crate) unsafe fn munmap(addr: usize, len: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(nr::MUNMAP, [addr, len, 0, 0, 0, 0]) }
}

/// Whether nothing is mapped at this page. (A kernel that refuses to tell: no.)
pub(crate) fn is_unmapped(page: usize) -> bool {
    let mut resident = 0u8;
    // SAFETY: the kernel writes one byte, for one page.
    let asked = unsafe { call(nr::MINCORE, [page, 1, (&raw mut resident) as usize, 0, 0, 0]) };
    asked == Err(Errno::NOMEM)
}

/// Whether a page at this address could be mapped, and nothing is there: it is tried.
pub(crate) fn is_mappable(page: usize, len: usize) -> bool {
    // SAFETY: an existing mapping is not replaced; what was made is ended, wherever it is.
    unsafe {
        let made = mmap(page, len, PROT_NONE, MAP_PRIVATE_ANON | MAP_NORESERVE | MAP_FIXED_NOREPLACE);
        made.is_ok_and(|at| munmap(at, len).is_ok() && at == page)
    }
}

/// Changes what may be done to pages.
///
/// # Safety
/// The range is the caller's and no right that goes away is needed.
pub(crate) unsafe fn mprotect(addr: usize, len: usize, prot: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(nr::MPROTECT, [addr, len, prot, 0, 0, 0]) }
}

/// Moves a mapping, pages and all, to a place that is ended as by munmap first, and is `longer` bytes long afterwards.
///
/// # Safety
/// The range is the caller's, and no longer there afterwards; so is what was at `to`.
pub(crate) unsafe fn mremap_fixed(addr: usize, len: usize, to: usize, longer: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(nr::MREMAP, [addr, len, longer, MREMAP_MAYMOVE_FIXED, to, 0]) }
}

/// Releases the pages; they read as zero from then on.
///
/// # Safety
/// The range is the caller's and what is in it is not needed.
pub(crate) unsafe fn madvise_dontneed(addr: usize, len: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(nr::MADVISE, [addr, len, MADV_DONTNEED, 0, 0, 0]) }
}

/// Ends what pages hold and lets no access reach them, or lets it again (Linux 6.13).
///
/// # Safety
/// The range is the caller's and what is in it is not needed.
pub(crate) unsafe fn madvise_guard(addr: usize, len: usize, guard: bool) -> Result<usize, Errno> {
    let advice = if guard { MADV_GUARD_INSTALL } else { MADV_GUARD_REMOVE };
    // SAFETY: the caller's promise.
    unsafe { call(nr::MADVISE, [addr, len, advice, 0, 0, 0]) }
}

/// Says whether pages there may be huge.
///
/// # Safety
/// Nobody else depends on the size of the pages.
pub(crate) unsafe fn madvise_huge(addr: usize, len: usize, huge: bool) -> Result<usize, Errno> {
    let advice = if huge { MADV_HUGEPAGE } else { MADV_NOHUGEPAGE };
    // SAFETY: the caller's promise.
    unsafe { call(nr::MADVISE, [addr, len, advice, 0, 0, 0]) }
}

/// Brings pages in for reading; whether they can be read (Linux 5.14; before, nothing is said to be readable).
pub(crate) fn can_be_read(page: usize, len: usize) -> bool {
    // SAFETY: what is in memory stays as it is.
    unsafe { call(nr::MADVISE, [page, len, MADV_POPULATE_READ, 0, 0, 0]) }.is_ok()
}

/// Opens a file for writing, empty.
pub(crate) fn create(path: &CStr) -> Result<usize, Errno> {
    const MODE: usize = 0o666;
    // SAFETY: the kernel reads the path.
    unsafe { call(nr::OPENAT, [AT_FDCWD, path.as_ptr() as usize, O_WRONLY_CREATE_CLOEXEC, MODE, 0, 0]) }
}

/// Closes a descriptor.
pub(crate) fn close(fd: usize) {
    // SAFETY: touches no memory.
    let _ = unsafe { call(nr::CLOSE, [fd, 0, 0, 0, 0, 0]) };
}

/// Where a symbolic link leads to, as much of it as fits.
pub(crate) fn read_link(path: &CStr, into: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads the path and writes into the bytes given.
    unsafe { call(nr::READLINKAT, [AT_FDCWD, path.as_ptr() as usize, into.as_mut_ptr() as usize, into.len(), 0, 0]) }
}

/// Sleeps while the word at `word` is `expected`, at most `nanoseconds` if given.
pub fn futex_wait(word: *const u32, expected: u32, nanoseconds: Option<u64>) -> Result<usize, Errno> {
    let time = nanoseconds.map(|n| [n / 1_000_000_000, n % 1_000_000_000]);
    let time = time.as_ref().map_or(0, |t| t.as_ptr() as usize);
    // SAFETY: the kernel reads the word, and returns EFAULT where there is none.
    unsafe { call(nr::FUTEX, [word as usize, FUTEX_WAIT_PRIVATE, expected as usize, time, 0, 0]) }
}

/// Wakes up to `count` threads that sleep on `word`.
pub(crate) fn futex_wake(word: *const u32, count: i32) -> Result<usize, Errno> {
    // SAFETY: the kernel uses the address as a key.
    unsafe { call(nr::FUTEX, [word as usize, FUTEX_WAKE_PRIVATE, count as usize, 0, 0, 0]) }
}

/// Announces that the process will fence restartable sequences.
pub(crate) fn membarrier_register() -> Result<usize, Errno> {
    // SAFETY: touches no memory.
    unsafe { call(nr::MEMBARRIER, [MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0, 0, 0, 0]) }
}

/// Restarts the sequences that this process is in, on one CPU or on all.
pub(crate) fn membarrier_rseq(cpu: Option<usize>) -> Result<usize, Errno> {
    let flags = if cpu.is_some() { MEMBARRIER_FLAG_CPU } else { 0 };
    // SAFETY: touches no memory.
    unsafe { call(nr::MEMBARRIER, [MEMBARRIER_PRIVATE_EXPEDITED_RSEQ, flags, cpu.unwrap_or(0), 0, 0, 0]) }
}

/// Registers an area of `len` bytes, [`RSEQ_LEN`] at least, for the calling thread.
///
/// # Safety
/// `area` has so many bytes, aligned to 32, that live until it is unregistered or the thread has ended: the kernel
/// writes there.
pub(crate) unsafe fn rseq_register(area: *mut c_void, len: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(nr::RSEQ, [area as usize, len, 0, RSEQ_SIGNATURE, 0, 0]) }
}

/// Ends the registration of `area`, which was registered with `len` bytes; the kernel writes -1 as the CPU number
/// first.
///
/// # Safety
/// As for `rseq_register`, up to the end of this call.
pub unsafe fn rseq_unregister(area: *mut c_void, len: usize) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(nr::RSEQ, [area as usize, len, RSEQ_FLAG_UNREGISTER, RSEQ_SIGNATURE, 0, 0]) }
}

/// Whether the kernel knows restartable sequences: a malformed call is refused as malformed, not as unknown.
pub(crate) fn rseq_exists() -> bool {
    // SAFETY: a null area is refused and nothing is touched.
    unsafe { call(nr::RSEQ, [0, 0, 0, 0, 0, 0]) == Err(Errno::INVAL) }
}

/// The CPUs that a thread may run on (0: the calling one); returns how many bytes of `mask` the kernel filled.
pub(crate) fn sched_getaffinity(thread: usize, mask: &mut [u64]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most the length given.
    unsafe { call(nr::SCHED_GETAFFINITY, [thread, size_of_val(mask), mask.as_mut_ptr() as usize, 0, 0, 0]) }
}

/// Lets the calling thread run on the CPUs of `mask` only.
pub(crate) fn sched_setaffinity(mask: &[u64]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads the length given.
    unsafe { call(nr::SCHED_SETAFFINITY, [0, size_of_val(mask), mask.as_ptr() as usize, 0, 0, 0]) }
}

/// Names the calling thread, by up to 15 bytes.
pub(crate) fn name_thread(name: &CStr) {
    // SAFETY: the kernel reads the string. A thread without a name is a thread all the same.
    let _ = unsafe { call(nr::PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0, 0]) };
}

/// The CPU and the node that the calling thread runs on.
pub(crate) fn getcpu() -> Result<(usize, usize), Errno> {
    let (mut cpu, mut node) = (0u32, 0u32);
    // SAFETY: the kernel writes the two words.
    unsafe { call(nr::GETCPU, [&raw mut cpu as usize, &raw mut node as usize, 0, 0, 0, 0])? };
    Ok((cpu as usize, node as usize))
}

/// The nodes that the process may have memory on.
pub(crate) fn mems_allowed(mask: &mut [u64]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most as many bits as given.
    unsafe {
        call(nr::GET_MEMPOLICY, [0, mask.as_mut_ptr() as usize, size_of_val(mask) * 8, 0, MPOL_F_MEMS_ALLOWED, 0])
    }
}

#[link(name = "c")]
unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut [u64; 2]) -> c_int;
}

/// Whole seconds of the same clock, as of the last tick: without the instruction that reads the processor's counter,
/// which debuggers that record a program may not know.
pub(crate) fn coarse_seconds() -> Option<u64> {
    read_clock(CLOCK_MONOTONIC_COARSE).map(|[seconds, _]| seconds)
}

/// Nanoseconds since some fixed point.
pub(crate) fn clock_monotonic() -> Option<u64> {
    read_clock(CLOCK_MONOTONIC).map(|[seconds, nanoseconds]| seconds * 1_000_000_000 + nanoseconds)
}

/// Seconds and nanoseconds. This is the one thing that is asked of libc: it reads the clock from the page that the
/// kernel maps for that, in 30 ns and without a system call, of which some sandboxes kill the process. libc has to be
/// set up.
fn read_clock(clock: c_int) -> Option<[u64; 2]> {
    let mut time = [0; 2];
    // SAFETY: libc writes the two words.
    let answer = unsafe { clock_gettime(clock, &raw mut time) };
    (answer == 0).then_some(time)
}

/// Blocks all signals on the calling thread, libc's own among them; returns the mask of before.
pub(crate) fn block_all_signals() -> u64 {
    set_signal_mask(u64::MAX)
}

/// Blocks just the signals of a mask that [`block_all_signals`] returned.
pub(crate) fn restore_signals(mask: u64) {
    set_signal_mask(mask);
}

fn set_signal_mask(mask: u64) -> u64 {
    let (new, mut old) = (mask, 0u64);
    // SAFETY: the kernel reads the one mask and writes the other. It cannot fail.
    let _ = unsafe {
        call(nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const new as usize, &raw mut old as usize, size_of::<u64>(), 0, 0])
    };
    old
}

/// Lets the calling thread run as an ordinary one, whatever it was started by.
pub(crate) fn schedule_ordinarily() {
    let priority = 0u32;
    // SAFETY: the kernel reads the priority. A refusal leaves the thread as it is.
    let _ = unsafe { call(nr::SCHED_SETSCHEDULER, [0, SCHED_OTHER, &raw const priority as usize, 0, 0, 0]) };
}

/// Gives up the calling thread's capabilities, and the right to get new ones.
pub(crate) fn give_up_rights() {
    let (header, none) = ([LINUX_CAPABILITY_VERSION_3, 0], [0u32; 6]);
    // SAFETY: the kernel reads both. What is refused was given up before.
    unsafe {
        let _ = call(nr::PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0]);
        let _ = call(nr::CAPSET, [header.as_ptr() as usize, none.as_ptr() as usize, 0, 0, 0, 0]);
    }
}

/// The soft limit of address space in bytes; `None` where there is none.
pub(crate) fn address_space_limit() -> Option<usize> {
    let mut limits = [u64::MAX; 2];
    // SAFETY: the kernel writes the two words.
    unsafe { call(nr::PRLIMIT64, [0, RLIMIT_AS, 0, limits.as_mut_ptr() as usize, 0, 0]).ok()? };
    (limits[0] != u64::MAX).then_some(limits[0] as usize)
}

/// Lets other threads run.
pub fn sched_yield() {
    // SAFETY: touches no memory.
    let _ = unsafe { call(nr::SCHED_YIELD, [0; 6]) };
}

/// Sleeps for so many nanoseconds, or less.
pub(crate) fn sleep(nanoseconds: u64) {
    let nobody_wakes = 0;
    // A signal ends it early.
    let _ = futex_wait(&raw const nobody_wakes, 0, Some(nanoseconds));
}

/// Bytes of a name, how many of them there are, and which is the release, in the kernel's answer to [`uname`].
pub(crate) const UTS_NAME: usize = 65;
pub(crate) const UTS_NAMES: usize = 6;
pub(crate) const UTS_RELEASE: usize = 2;

/// The names of the system.
pub(crate) fn uname(names: &mut [[u8; UTS_NAME]; UTS_NAMES]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes the six names.
    unsafe { call(nr::UNAME, [names.as_mut_ptr() as usize, 0, 0, 0, 0, 0]) }
}

/// The kernel's number of the process.
pub(crate) fn getpid() -> usize {
    // SAFETY: touches no memory; cannot fail.
    unsafe { call(nr::GETPID, [0; 6]) }.unwrap_or(0)
}

/// The kernel's number of the calling thread.
pub(crate) fn gettid() -> usize {
    // SAFETY: touches no memory; cannot fail.
    unsafe { call(nr::GETTID, [0; 6]) }.unwrap_or(0)
}

/// Writes to a file descriptor.
///
/// # Safety
/// The descriptor is the caller's to write to, or standard error.
pub unsafe fn write(fd: usize, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads the bytes given.
    unsafe { call(nr::WRITE, [fd, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
}

/// Another descriptor for the same file, at least `from`, closed at exec.
///
/// # Safety
/// The descriptor is the caller's, or standard error.
pub unsafe fn duplicate(fd: usize, from: usize) -> Result<usize, Errno> {
    // SAFETY: touches no memory.
    unsafe { call(nr::FCNTL, [fd, F_DUPFD_CLOEXEC, from, 0, 0, 0]) }
}

/// The beginning of a file, as much of it as fits, and how many bytes that were.
pub(crate) fn read_file(path: &CStr, into: &mut [u8]) -> Result<usize, Errno> {
    let fd = open(path, O_RDONLY_CLOEXEC)?;
    // SAFETY: the kernel writes into the bytes given.
    unsafe {
        let count = call(nr::READ, [fd, into.as_mut_ptr() as usize, into.len(), 0, 0, 0]);
        // The descriptor is gone either way.
        let _ = call(nr::CLOSE, [fd, 0, 0, 0, 0, 0]);
        count
    }
}

/// Reads memory of this process into a buffer, and returns how much was there to be read.
pub(crate) fn read_own(from: usize, into: usize, len: usize) -> usize {
    let (local, remote) = ([into, len], [from, len]);
    // SAFETY: the kernel writes into the buffer, as the caller has it.
    let read =
        unsafe { call(nr::PROCESS_VM_READV, [getpid(), local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0]) };
    read.unwrap_or(0)
}

/// Calls `visit` with the bytes of a file, piece by piece, in a buffer of the caller's.
pub(crate) fn for_each_piece(path: &CStr, buffer: &mut [u8], mut visit: impl FnMut(&[u8])) {
    let Ok(fd) = open(path, O_RDONLY_CLOEXEC) else { return };
    // SAFETY: the kernel writes into the buffer; the descriptor is this function's.
    unsafe {
        while let Ok(count) = call(nr::READ, [fd, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0])
            && count > 0
        {
            visit(&buffer[..count]);
        }
        let _ = call(nr::CLOSE, [fd, 0, 0, 0, 0, 0]);
    }
}

/// Writes the parts and a line end to standard error, all of it if possible, in pieces that the stack has room for,
/// few: other processes may write there too.
#[cold]
pub fn report(parts: &[&str]) {
    let (mut line, mut len, mut fd) = ([0; 96], 0, 2);
    for byte in parts.iter().flat_map(|part| part.bytes()).chain([b'\n']) {
        if len == line.len() {
            fd = write_all(fd, &line);
            len = 0;
        }
        line[len] = byte;
        len += 1;
    }
    fd = write_all(fd, &line[..len]);
    if fd != 2 {
        // SAFETY: the copy was made for this.
        let _ = unsafe { call(nr::CLOSE, [fd, 0, 0, 0, 0, 0]) };
    }
}

/// Writes all of it if possible; returns the descriptor that took it, for a thread that has none of this number.
fn write_all(mut fd: usize, mut left: &[u8]) -> usize {
    while !left.is_empty() {
        // SAFETY: it is standard error, or a copy of it.
        match unsafe { write(fd, left) } {
            Ok(written) => left = &left[written.min(left.len())..],
            Err(Errno::INTR) => {}
            Err(Errno::BADF) if fd == 2 => fd = copy_of_stderr().unwrap_or(usize::MAX),
            Err(_) => break,
        }
    }
    fd
}

/// Standard error, as the program has it: a thread of ours has a table of its own, and this is not in it.
///
/// The descriptor itself is fetched, whatever it is: a socket cannot be opened by its name, and a file that is opened
/// anew has an offset of its own, at which it would write over what is there. Before Linux 5.6 it is opened by its
/// name.
fn copy_of_stderr() -> Result<usize, Errno> {
    // SAFETY: touches no memory; the descriptors are new ones.
    let copy = || unsafe {
        let process = call(nr::PIDFD_OPEN, [getpid(), 0, 0, 0, 0, 0])?;
        let copy = call(nr::PIDFD_GETFD, [process, 2, 0, 0, 0, 0]);
        let _ = call(nr::CLOSE, [process, 0, 0, 0, 0, 0]);
        copy
    };
    copy().or_else(|_| open(c"/proc/self/fd/2", O_WRONLY_APPEND_CLOEXEC))
}

/// Says why on standard error, then ends the process by SIGABRT, or, where that is handled or ignored, with exit code
/// 134.
#[cold]
pub fn fatal(parts: &[&str]) -> ! {
    report(parts);
    end()
}

/// Sends a signal to the calling thread.
pub(crate) fn raise(signal: usize) {
    // SAFETY: touches no memory.
    let _ = unsafe { call(nr::TGKILL, [getpid(), gettid(), signal, 0, 0, 0]) };
}

/// Ends the process by SIGABRT, or, where that is handled or ignored, with exit code 134.
#[cold]
pub(crate) fn end() -> ! {
    let mask = 1u64 << (SIGABRT - 1);
    // SAFETY: the kernel reads the mask; the signal goes to the calling thread.
    unsafe {
        let _ = call(nr::RT_SIGPROCMASK, [SIG_UNBLOCK, &raw const mask as usize, 0, size_of::<u64>(), 0, 0]);
    }
    raise(SIGABRT);
    loop {
        // SAFETY: ends the process.
        let _ = unsafe { call(nr::EXIT_GROUP, [134, 0, 0, 0, 0, 0]) };
    }
}
