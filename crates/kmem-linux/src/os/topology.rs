//! CPUs and nodes, as the kernel tells them.
//!
//! The number of *possible* CPUs never changes while the machine runs; a file of sysfs has it. Where a sandbox hides
//! that file, `sched_getaffinity` serves, which returns how many bytes its masks have: the number rounded up, often
//! generously. The affinity mask itself is what the process may run on now, so it shrinks and grows with offlining,
//! cpusets and taskset; it is a hint like every CPU number (I4).
//!
//! Sections index the table by the kernel's number without a test (I5), so the number of possible CPUs may be too large
//! and never too small. A file can be covered by another one in a container; it counts only if all CPUs of the affinity
//! mask, which is the kernel's own word, are within it.

use kmem_core::cpu::{CpuSet, MAX_CPUS};
use kmem_core::sync::{AtomicU32, Ordering};

use super::fault::{self, Call};
use super::sys;

/// Bytes of a mask for 32,768 CPUs, more than a kernel is built for: a page.
const LARGEST_MASK: usize = 4096;
/// Words of a mask for 1,024 nodes, the most that a kernel is built for.
const NODE_WORDS: usize = 16;
/// What [`NODE_OF`] holds where no thread has seen the node yet: zero, so that the table takes memory only where it is
/// used.
const UNKNOWN: u32 = 0;

/// The node of each CPU plus 1, as far as a thread has been there to see.
// Large: see `os/bootstrap.rs`.
#[unsafe(link_section = ".sbss")]
static NODE_OF: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(UNKNOWN) }; MAX_CPUS];

/// What the kernel says about CPUs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    /// CPU ids are below this; `None` where the kernel refuses to tell.
    pub possible: Option<usize>,
    /// The CPUs that the calling thread may run on, or just CPU 0 where that is unknown.
    pub online: CpuSet,
}

/// One more than the last number of a list such as `0-3,8-11`.
fn possible() -> Option<usize> {
    let mut text = [0; 256];
    let len = sys::read_file(c"/sys/devices/system/cpu/possible", &mut text).ok()?;
    let list = text[..len].trim_ascii_end();
    let digits = list.rsplit(|byte| !byte.is_ascii_digit()).next()?;
    let last: usize = core::str::from_utf8(digits).ok()?.parse().ok()?;
    // A list that filled the place may go on after it.
    (len < text.len()).then_some(last + 1)
}

/// Asks the kernel for the calling thread's affinity mask, and for the number of possible CPUs.
pub(crate) fn cpus() -> Cpus {
    let Ok((bytes, online)) = affinity(0) else {
        return Cpus { possible: None, online: CpuSet::of(0) };
    };
    let possible = possible().filter(|possible| online.iter().all(|cpu| cpu < *possible)).unwrap_or(bytes * 8);
    Cpus { possible: Some(possible), online: if online.is_empty() { CpuSet::of(0) } else { online } }
}

/// The affinity mask of a thread (0: the calling one), and how many bytes such a mask has.
pub(crate) fn affinity(thread: usize) -> Result<(usize, CpuSet), sys::Errno> {
    if fault::refused(Call::Affinity) {
        return Err(sys::Errno::NOSYS);
    }
    let mut cpus = CpuSet::new();
    match sys::sched_getaffinity(thread, cpus.words_mut()) {
        // A kernel that may have more CPUs than there are bits says so in that way.
        Err(sys::Errno::INVAL) => Ok((large_affinity(thread, &mut cpus)?, cpus)),
        answer => Ok((answer?, cpus)),
    }
}

/// The same where the kernel's masks are larger than a set, whose CPUs are the first of them. Such a mask is too large
/// for a stack that is not ours, so it has a mapping.
#[cold]
fn large_affinity(thread: usize, cpus: &mut CpuSet) -> Result<usize, sys::Errno> {
    // SAFETY: a new mapping covers no other, and just that one is ended. It is a page of words, zero at first.
    unsafe {
        let mask = sys::mmap(0, LARGEST_MASK, sys::PROT_READ | sys::PROT_WRITE, sys::MAP_PRIVATE_ANON)?;
        let words = core::slice::from_raw_parts_mut(mask as *mut u64, LARGEST_MASK / size_of::<u64>());
        let bytes = sys::sched_getaffinity(thread, words);
        cpus.words_mut().iter_mut().zip(words).for_each(|(to, from)| *to = *from);
        let _ = sys::munmap(mask, LARGEST_MASK);
        bytes
    }
}

/// Lets the calling thread run on these CPUs; `false` where the kernel refuses.
#[cold]
pub(crate) fn run_on(cpus: &CpuSet) -> bool {
    sys::sched_setaffinity(cpus.words()).is_ok()
}

/// The CPUs of a list such as `0-3,8-11`; what is no list of CPUs adds nothing.
#[cold]
pub(crate) fn parse_list(text: &[u8]) -> CpuSet {
    let number = |digits: &[u8]| core::str::from_utf8(digits).ok()?.parse::<usize>().ok();
    let mut set = CpuSet::new();
    for part in text.trim_ascii().split(|byte| *byte == b',') {
        let mut ends = part.splitn(2, |byte| *byte == b'-').map(number);
        if let Some(Some(first)) = ends.next() {
            let last = ends.next().flatten().unwrap_or(first).min(MAX_CPUS - 1);
            (first..=last).for_each(|cpu| set.insert(cpu));
        }
    }
    set
}

/// CPUs that the machine's owner keeps free of disturbance (`isolcpus`, `nohz_full`), as of now.
#[cold]
pub(crate) fn isolated() -> CpuSet {
    let mut set = CpuSet::new();
    for path in [c"/sys/devices/system/cpu/isolated", c"/sys/devices/system/cpu/nohz_full"] {
        let mut text = [0; 256];
        let len = sys::read_file(path, &mut text).unwrap_or(0);
        parse_list(&text[..len]).iter().for_each(|cpu| set.insert(cpu));
    }
    set
}

/// Node ids that the process may have memory on are below this; 1 where the kernel has no nodes or does not tell.
pub(crate) fn nodes() -> usize {
    let mut mask = [0u64; NODE_WORDS];
    if sys::mems_allowed(&mut mask).is_err() {
        return 1;
    }
    let highest = mask.iter().rposition(|word| *word != 0);
    highest.map_or(1, |word| word * 64 + 64 - mask[word].leading_zeros() as usize)
}

/// The node of a CPU: known once a thread that ran there asked; 0 until then.
pub(crate) fn node_of(cpu: usize) -> usize {
    let Some(known) = NODE_OF.get(cpu) else { return 0 };
    let node = known.load(Ordering::Relaxed);
    if node != UNKNOWN {
        return node as usize - 1;
    }
    match sys::getcpu() {
        Ok((here, node)) if here == cpu => {
            known.store(node as u32 + 1, Ordering::Relaxed);
            node
        }
        _ => 0,
    }
}
