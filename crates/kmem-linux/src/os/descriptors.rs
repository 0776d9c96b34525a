//! System calls on descriptors, as thin functions: what [`sys`] says holds here too.
//!
//! # Whose descriptors
//! A program's descriptors are its own: it closes all that it does not know, and counts them. So nothing here is kept
//! open in its table. The thread of upkeep has a table of its own ([`own_table`]), in which it keeps what it waits for,
//! under numbers that are nobody's standard error.

use core::ffi::CStr;
use core::ptr::NonNull;

use super::sys::{self, Errno, call, nr};
use crate::arch::O_DIRECTORY;

const O_DIRECTORY_CLOEXEC: usize = O_DIRECTORY | 0o200_0000;
const CLOSE_RANGE_UNSHARE: usize = 2;
const MFD_CLOEXEC_ALLOW_SEALING: usize = 1 | 2;
/// Linux 6.3; some systems make no file in memory without it.
const MFD_NOEXEC_SEAL: usize = 8;
const F_ADD_SEALS: usize = 1033;
const F_SEAL_SEAL_SHRINK_GROW: usize = 1 | 2 | 4;
/// Linux 5.1.
const F_SEAL_FUTURE_WRITE: usize = 16;
const OWNER_READS: usize = 0o400;
const PROT_READ_WRITE: usize = 3;
const MAP_SHARED: usize = 1;
const MADV_DONTFORK: usize = 10;
const AF_NETLINK: u16 = 16;
const SOCK_DGRAM_CLOEXEC_NONBLOCK: usize = 2 | 0o200_0000 | 0o4000;
const NETLINK_KOBJECT_UEVENT: usize = 15;
/// The kernel's own events, not those that udev passes on.
const GROUP_KERNEL: u32 = 1;
const MSG_DONTWAIT: usize = 0x40;
const IN_CLOEXEC_NONBLOCK: usize = 0o200_0000 | 0o4000;
const IN_CLOSE_WRITE: usize = 8;
const POLLIN: i16 = 1;

/// Descriptors that are kept have numbers from here on.
const KEPT_FROM: usize = 8;

/// An open descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fd(i32);

/// What [`poll`] waits for, one descriptor each.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    fd: i32,
    events: i16,
    revents: i16,
}

impl Waiting {
    /// Waits until there is something to read; without a descriptor, for nothing.
    pub(crate) fn for_input(fd: Option<Fd>) -> Self {
        Self { fd: fd.map_or(-1, |fd| fd.0), events: POLLIN, revents: 0 }
    }

    /// Whether there was something.
    pub(crate) fn is_ready(&self) -> bool {
        self.revents & POLLIN != 0
    }
}

/// Gives the calling thread a table of descriptors of its own, with none in it, which nobody else ever sees or keeps
/// open. Linux 5.9.
pub(crate) fn own_table() -> Result<usize, Errno> {
    // SAFETY: no descriptor of the shared table is touched.
    unsafe { call(nr::CLOSE_RANGE, [0, u32::MAX as usize, CLOSE_RANGE_UNSHARE, 0, 0, 0]) }
}

/// The same file under a number from [`KEPT_FROM`] on, if there is one: what is fatal is said on 2.
fn kept(fd: usize) -> Fd {
    // SAFETY: the descriptor was just made, for this.
    let Ok(kept) = (unsafe { sys::duplicate(fd, KEPT_FROM) }) else { return Fd(fd as i32) };
    close(Fd(fd as i32));
    Fd(kept as i32)
}

/// Ends a descriptor.
pub(crate) fn close(fd: Fd) {
    // SAFETY: the descriptor is one of ours. It is gone either way.
    let _ = unsafe { call(nr::CLOSE, [fd.0 as usize, 0, 0, 0, 0, 0]) };
}

/// Opens a directory for [`entries`].
pub(crate) fn open_directory(path: &CStr) -> Result<Fd, Errno> {
    sys::open(path, O_DIRECTORY_CLOEXEC).map(|fd| Fd(fd as i32))
}

/// The next entries of a directory, as the kernel writes them (`linux_dirent64`), and how many bytes that are; 0 at the
/// end.
pub(crate) fn entries(directory: Fd, into: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most the length given.
    unsafe { call(nr::GETDENTS64, [directory.0 as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0]) }
}

/// A file that is memory, of `len` bytes, all zero, which can be [sealed](seal).
pub(crate) fn memory_file(name: &CStr, len: usize) -> Result<Fd, Errno> {
    // SAFETY: the kernel reads the name.
    let made = |flags| unsafe { call(nr::MEMFD_CREATE, [name.as_ptr() as usize, flags, 0, 0, 0, 0]) };
    let fd = match made(MFD_CLOEXEC_ALLOW_SEALING | MFD_NOEXEC_SEAL) {
        Err(Errno::INVAL) => made(MFD_CLOEXEC_ALLOW_SEALING)?,
        answer => answer?,
    };
    // SAFETY: touches no memory.
    match unsafe { call(nr::FTRUNCATE, [fd, len, 0, 0, 0, 0]) } {
        Ok(_) => Ok(kept(fd)),
        Err(error) => {
            close(Fd(fd as i32));
            Err(error)
        }
    }
}

/// Sees to it that a file of [`memory_file`] keeps its length for ever, and that it is written only through the
/// mappings that there are: as far as the kernel (or a filter before it) grants that. One that does not know the last
/// lets those write who may trace the process.
pub(crate) fn seal(file: Fd) {
    let fd = file.0 as usize;
    // SAFETY: touches no memory.
    let add = |seals| unsafe { call(nr::FCNTL, [fd, F_ADD_SEALS, seals, 0, 0, 0]) };
    if add(F_SEAL_SEAL_SHRINK_GROW | F_SEAL_FUTURE_WRITE) == Err(Errno::INVAL) {
        let _ = add(F_SEAL_SEAL_SHRINK_GROW);
    }
    // SAFETY: touches no memory.
    let _ = unsafe { call(nr::FCHMOD, [fd, OWNER_READS, 0, 0, 0, 0]) };
}

/// Maps a file of [`memory_file`], shared with all that map it, but not with a child that fork makes.
pub(crate) fn map_shared(file: Fd, len: usize) -> Result<NonNull<u8>, Errno> {
    // SAFETY: a new mapping covers no other.
    unsafe {
        let address = call(nr::MMAP, [0, len, PROT_READ_WRITE, MAP_SHARED, file.0 as usize, 0])?;
        if let Err(error) = call(nr::MADVISE, [address, len, MADV_DONTFORK, 0, 0, 0]) {
            let _ = call(nr::MUNMAP, [address, len, 0, 0, 0, 0]);
            return Err(error);
        }
        NonNull::new(address as *mut u8).ok_or(Errno::NOMEM)
    }
}

/// A socket on which the kernel tells of devices that come and go, CPUs among them.
#[cold]
pub(crate) fn kernel_events() -> Result<Fd, Errno> {
    #[repr(C)]
    struct Address {
        family: u16,
        pad: u16,
        port: u32,
        groups: u32,
    }
    let address = Address { family: AF_NETLINK, pad: 0, port: 0, groups: GROUP_KERNEL };
    // SAFETY: the kernel reads the address.
    unsafe {
        let fd = call(nr::SOCKET, [AF_NETLINK as usize, SOCK_DGRAM_CLOEXEC_NONBLOCK, NETLINK_KOBJECT_UEVENT, 0, 0, 0])?;
        match call(nr::BIND, [fd, &raw const address as usize, size_of::<Address>(), 0, 0, 0]) {
            Ok(_) => Ok(kept(fd)),
            Err(error) => {
                close(Fd(fd as i32));
                Err(error)
            }
        }
    }
}

/// The next message, without waiting; longer ones are cut off.
pub(crate) fn receive(socket: Fd, into: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most the length given.
    unsafe { call(nr::RECVFROM, [socket.0 as usize, into.as_mut_ptr() as usize, into.len(), MSG_DONTWAIT, 0, 0]) }
}

/// Where the kernel tells of files that were written.
pub(crate) fn watcher() -> Result<Fd, Errno> {
    // SAFETY: touches no memory.
    unsafe { call(nr::INOTIFY_INIT1, [IN_CLOEXEC_NONBLOCK, 0, 0, 0, 0, 0]).map(kept) }
}

/// Adds a file to those watched.
pub(crate) fn watch(watcher: Fd, path: &CStr) -> Result<usize, Errno> {
    // SAFETY: the kernel reads the path.
    unsafe { call(nr::INOTIFY_ADD_WATCH, [watcher.0 as usize, path.as_ptr() as usize, IN_CLOSE_WRITE, 0, 0, 0]) }
}

/// Takes what a descriptor has to say, without waiting.
pub(crate) fn read(fd: Fd, into: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most the length given.
    unsafe { call(nr::READ, [fd.0 as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0]) }
}

/// Waits until one of the descriptors is ready, at most so many milliseconds; returns how many are.
pub(crate) fn poll(waiting: &mut [Waiting], milliseconds: u32) -> Result<usize, Errno> {
    let mut time = [u64::from(milliseconds / 1000), u64::from(milliseconds % 1000) * 1_000_000];
    // SAFETY: the kernel reads and writes the array, and reads the time, which it may change to what is left.
    unsafe { call(nr::PPOLL, [waiting.as_mut_ptr() as usize, waiting.len(), time.as_mut_ptr() as usize, 0, 0, 0]) }
}
