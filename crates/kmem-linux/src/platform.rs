//! [`Linux`]: the platform of the engine, which puts the parts together by the [mode](Mode) that the process has.

use core::ptr::NonNull;

use kmem_core::cpu::{CpuSet, MAX_CPUS};
use kmem_core::pages::PageHeap;
use kmem_core::percpu::{CpuTable, SlotIndex};
use kmem_core::platform::{
    Clock, CommitError, Defences, Event, MoveError, Observer, PageSource, Park, Sections, Topology, Window,
};
use kmem_core::sync::{AtomicPtr, AtomicUsize, HeldRanks, OtherFirst, Waiters, Word};

use crate::checks;
use crate::os::{environment, fault, geometry, huge, libc, pages, streams, sys, topology};
use crate::probes;
use crate::process::lent::{self, Lent};
use crate::process::mode::{self, Mode};
use crate::process::{fallback, registration, thread};
use crate::rseq::{self, fence, hot, ids, thread_data};

/// What was found out about this process, and the platform made of it.
#[derive(Debug)]
pub struct Linux {
    mode: Mode,
    lacks_ids: bool,
    possible: usize,
    online: CpuSet,
    nodes: usize,
}

impl Linux {
    /// Finds out what this process can have, and tells the sections which area they go by. Some ten system calls.
    ///
    /// # Safety
    /// The sections of all platforms of a program or shared object go by the same words, which this writes. So either
    /// no section has run yet, and none runs meanwhile, or the mode is the one that was found before. One platform at
    /// most is published, and if one is, no other has an engine. ([`start`](crate::start) discovers and publishes one.)
    pub unsafe fn discover() -> Self {
        let cpus = topology::cpus();
        let found = mode::find(cpus.possible);
        match (found.mode, found.offset) {
            (Mode::Cid, Some(offset)) => hot::use_ids(offset),
            (_, offset) => hot::use_area(offset),
        }
        Self {
            mode: found.mode,
            lacks_ids: found.lacks_ids,
            possible: cpus.possible.unwrap_or(MAX_CPUS).min(MAX_CPUS),
            online: cpus.online,
            nodes: topology::nodes(),
        }
    }

    /// How sections are kept apart.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether slots should go by concurrency id (`KMEM_RSEQ=cid`), and cannot.
    pub fn lacks_ids(&self) -> bool {
        self.lacks_ids
    }

    /// The words that this process's sections go by.
    fn hot(&self) -> &'static hot::Hot {
        if self.goes_by_id() { &hot::HOT_BY_ID } else { &hot::HOT }
    }

    /// Lets the fast paths in [`rseq`] use `table`. In a fallback they go on missing, with this table's empty area.
    ///
    /// # Safety
    /// The table lives for ever and has [`possible_cpus`](Topology::possible_cpus) entries. Called once in the program
    /// or shared object, by one thread.
    pub unsafe fn publish(&self, table: &CpuTable) {
        assert!(table.cpus() >= self.possible);
        // SAFETY: passed on; the kernel's CPU numbers and concurrency ids are below `possible`, or the mode is a
        // fallback, in which the area is our own and never registered.
        unsafe { hot::publish(table, self.hot()) }
    }

    /// Lets the fast paths know the heap's window and class map.
    ///
    /// # Safety
    /// The heap lives for ever. Called once in the program or shared object, after [`publish`](Self::publish).
    pub unsafe fn publish_classes(&self, heap: &PageHeap) {
        // SAFETY: passed on.
        unsafe { hot::publish_classes(heap, self.hot()) };
    }

    /// Makes allocations miss, or lets them hit again: `hot::miss_allocations`.
    ///
    /// # Safety
    /// `table` is the one that was published; `nowhere` has as many entries, also before CPU 0, with the empty area in
    /// each, and lives for ever.
    pub(crate) unsafe fn miss_allocations(&self, nowhere: Option<*mut AtomicPtr<u8>>, table: &CpuTable) {
        // SAFETY: passed on.
        unsafe { hot::miss_allocations(nowhere, table, self.hot()) };
    }

    /// The first thing on every slow path: registers the calling thread where that is our task. No lock may be held.
    #[inline]
    pub fn slow_path_enter(&self) {
        if self.mode == Mode::OwnRseq {
            registration::enter();
        }
    }

    /// To be called before the calling thread makes a child that shares its memory and its thread pointer.
    pub fn lend(&self) -> Lent {
        lent::lend(self.mode)
    }

    /// To be called when the child has executed a program or ended, or could not be made: the thread is as before.
    ///
    /// # Safety
    /// `lent` is what [`lend`](Self::lend) returned to the calling thread, which has not taken it back since.
    pub unsafe fn take_back(&self, lent: Lent) {
        // SAFETY: passed on.
        unsafe { lent::take_back(self.mode, lent) };
    }

    /// The CPUs that the calling thread may run on now, or as many concurrency ids: a hint.
    pub fn allowed_cpus(&self) -> CpuSet {
        self.slots_of(topology::cpus().online)
    }

    /// The CPUs, or as many concurrency ids.
    fn slots_of(&self, cpus: CpuSet) -> CpuSet {
        if self.goes_by_id() { CpuSet::first(cpus.len()) } else { cpus }
    }

    /// Whether a fence asks the kernel for nothing, whichever CPU it is for.
    pub(crate) fn fences_quietly(&self) -> bool {
        is_alone() || matches!(self.mode, Mode::Fallback(_))
    }

    /// Whether concurrency ids stand for CPUs.
    pub(crate) fn goes_by_id(&self) -> bool {
        self.mode == Mode::Cid
    }

    /// Whether slots go by the number of the CPU that a thread is on: where a thread is says nothing of an id's last
    /// run.
    fn goes_by_cpu(&self) -> bool {
        matches!(self.mode, Mode::Rseq | Mode::OwnRseq)
    }

    /// The slots whose fences would interrupt an isolated CPU, where threads may run on `allowed`.
    pub(crate) fn slots_on_isolated(&self, isolated: &CpuSet, allowed: &CpuSet) -> CpuSet {
        if self.goes_by_id() { ids::undisturbed(isolated, allowed) } else { *isolated }
    }
}

// SAFETY: (1) on one CPU restartable sequences abort each other, on one concurrency id they follow each other (see
// `ids`), and words exclude each other; (2) membarrier aborts every thread that is in a sequence (by id: on any CPU),
// and taking a word waits for its holder, and both are full barriers towards the caller; (3) see `rseq` and
// `kmem_core::percpu::section`.
unsafe impl Sections for Linux {
    unsafe fn pop(&self, table: &CpuTable, slot: SlotIndex) -> Option<NonNull<u8>> {
        // SAFETY: passed on.
        unsafe {
            match self.mode {
                Mode::Fallback(_) => fallback::pop(table, slot),
                Mode::Cid => ids::pop(table, slot),
                _ => rseq::given::pop(table.entries().as_ptr(), slot),
            }
        }
    }

    unsafe fn push(&self, table: &CpuTable, slot: SlotIndex, object: NonNull<u8>) -> bool {
        // SAFETY: passed on.
        unsafe {
            match self.mode {
                Mode::Fallback(_) => fallback::push(table, slot, object),
                Mode::Cid => ids::push(table, slot, object),
                _ => rseq::given::push(table.entries().as_ptr(), slot, object),
            }
        }
    }

    unsafe fn pop_batch(&self, table: &CpuTable, slot: SlotIndex, out: &mut [usize]) -> usize {
        // SAFETY: passed on.
        unsafe {
            match self.mode {
                Mode::Fallback(_) => fallback::pop_batch(table, slot, out),
                Mode::Cid => ids::pop_batch(table, slot, out),
                _ => rseq::given::pop_batch(table.entries().as_ptr(), slot, out),
            }
        }
    }

    unsafe fn push_batch(&self, table: &CpuTable, slot: SlotIndex, objects: &[usize]) -> usize {
        // SAFETY: passed on.
        unsafe {
            match self.mode {
                Mode::Fallback(_) => fallback::push_batch(table, slot, objects),
                Mode::Cid => ids::push_batch(table, slot, objects),
                _ => rseq::given::push_batch(table.entries().as_ptr(), slot, objects),
            }
        }
    }

    fn fence(&self, cpus: &CpuSet) {
        probes::stopped(cpus);
        if fault::fences_left_out() || is_alone() {
            return;
        }
        match self.mode {
            Mode::Fallback(_) => fallback::fence(self, cpus),
            Mode::Cid => fence::fence_all(self.possible),
            _ => fence::fence(cpus),
        }
    }

    fn fence_here(&self, cpu: usize) -> bool {
        self.goes_by_cpu() && !fault::fences_left_out() && fence::is_here(cpu)
    }

    fn fence_quietly(&self, cpu: usize) -> bool {
        probes::stopped(&CpuSet::of(cpu));
        if fault::fences_left_out() || is_alone() || self.fence_here(cpu) {
            return true;
        }
        match self.mode {
            Mode::Fallback(_) => fallback::fence(self, &CpuSet::of(cpu)),
            // An id says nothing of where a thread is, so the kernel has to be asked all the same.
            Mode::Cid if self.can_fence() => fence::fence_all(self.possible),
            _ => return false,
        }
        true
    }

    fn patience(&self) -> u32 {
        if self.goes_by_cpu() { fence::PATIENCE } else { 0 }
    }

    fn can_fence(&self) -> bool {
        matches!(self.mode, Mode::Fallback(_)) || is_alone() || fence::is_granted()
    }

    fn current_cpu(&self) -> usize {
        match self.mode {
            Mode::Fallback(_) => fallback::current_cpu(),
            Mode::Cid => ids::current(),
            _ => rseq::current_cpu(),
        }
    }

    fn is_on(&self, cpu: usize) -> bool {
        !matches!(self.mode, Mode::Fallback(_)) || fallback::ask() == cpu
    }
}

// SAFETY: anonymous private mappings, and zero pages of the program, each given to one caller.
unsafe impl PageSource for Linux {
    fn page_size(&self) -> usize {
        geometry::page()
    }

    fn unit(&self, addr: usize) -> usize {
        huge::unit(addr)
    }

    fn fills(&self, addr: usize, len: usize) {
        huge::fills(addr, len);
    }

    fn reserve(&self) -> Option<Window> {
        pages::reserve()
    }

    unsafe fn reaches(&self, granules: usize) {
        // SAFETY: passed on: the class map that is published is that of this platform's engine.
        unsafe { hot::reaches(granules, self.hot()) };
    }

    unsafe fn commit(&self, addr: usize, len: usize) -> Result<(), CommitError> {
        // SAFETY: passed on.
        unsafe { pages::commit(addr, len) }
    }

    unsafe fn purge(&self, addr: usize, len: usize) {
        // SAFETY: passed on.
        unsafe { pages::purge(addr, len) }
    }

    unsafe fn move_pages(&self, from: usize, len: usize, to: usize, longer: usize) -> Result<(), MoveError> {
        // SAFETY: passed on.
        unsafe { pages::move_pages(from, len, to, longer) }
    }

    unsafe fn uncommit(&self, addr: usize, len: usize) {
        // SAFETY: passed on.
        unsafe { pages::uncommit(addr, len) }
    }

    fn map(&self, len: usize) -> Option<NonNull<u8>> {
        pages::map(len)
    }

    unsafe fn unmap(&self, ptr: NonNull<u8>, len: usize) {
        // SAFETY: passed on.
        unsafe { pages::unmap(ptr, len) }
    }
}

/// Yields before a thread that waits by looking takes naps: a holder of lower priority on the same CPU gets no turn by
/// yielding.
const YIELDS: u32 = 200;
/// Nanoseconds.
const NAP: u64 = 50_000;

// Large: see `os/bootstrap.rs`.
#[unsafe(link_section = ".sbss")]
static WAITERS: Waiters = Waiters::new();

// SAFETY: the thread pointer differs between living threads, is the address of a word, not 0, and the same in a child
// made by fork; the thread block is the thread's own.
unsafe impl Park for Linux {
    fn wait(&self, word: &AtomicUsize, expected: usize) {
        // The lower half, which has the marks. A changed word, a signal, a wake: the caller looks again in any case.
        let _ = sys::futex_wait(word.as_ptr().cast(), expected as u32, None);
    }

    fn wake_one(&self, word: &AtomicUsize) {
        let _ = sys::futex_wake(word.as_ptr().cast(), 1);
    }

    fn wake_all(&self, word: &AtomicUsize) {
        let _ = sys::futex_wake(word.as_ptr().cast(), i32::MAX);
    }

    fn thread_token(&self) -> usize {
        thread_data::pointer()
    }

    fn held_ranks(&self) -> Option<&HeldRanks> {
        // SAFETY: the block lives as long as the thread, and a `&HeldRanks` cannot leave the thread.
        Some(unsafe { &(*thread_data::block()).held })
    }

    fn rest(&self, tries: u32) {
        if tries < YIELDS {
            sys::sched_yield();
        } else {
            sys::sleep(NAP);
        }
    }

    fn waiters(&self) -> Option<&Waiters> {
        Some(&WAITERS)
    }

    fn lock_outer(&self) {
        streams::lock();
    }

    unsafe fn unlock_outer(&self) {
        streams::unlock();
    }

    /// With restartable sequences there are none: a section that another thread was in leaves no trace in a child, and
    /// registrations (of the area, for the one thread left, and of fences, for the process) are inherited.
    unsafe fn for_each_word(&self, mut visit: impl FnMut(&Word) -> Result<(), OtherFirst>) -> Result<(), OtherFirst> {
        // SAFETY: passed on.
        unsafe { checks::for_each_word(&mut visit)? }
        match self.mode {
            // SAFETY: passed on.
            Mode::Fallback(_) => unsafe { fallback::for_each_word(visit) },
            _ => Ok(()),
        }
    }
}

// SAFETY: the default, which is a constant.
unsafe impl Defences for Linux {}

impl Observer for Linux {
    #[inline(always)]
    fn event(&self, event: Event<'_>) {
        probes::event(event);
    }
}

impl Topology for Linux {
    fn possible_cpus(&self) -> usize {
        self.possible
    }

    fn initial_cpus(&self) -> CpuSet {
        self.slots_of(self.online)
    }

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn node_of(&self, cpu: usize) -> usize {
        match self.mode {
            _ if self.nodes == 1 => 0,
            Mode::Cid => ids::node(),
            _ => topology::node_of(cpu),
        }
    }
}

impl Clock for Linux {
    fn now(&self) -> u64 {
        if environment::libc_is_ready() { sys::clock_monotonic().unwrap_or(0) } else { 0 }
    }

    fn seconds(&self) -> u32 {
        if environment::libc_is_ready() { sys::coarse_seconds().unwrap_or(0) as u32 } else { 0 }
    }
}

/// Whether the calling thread is the only one of the process. Then no section is under way anywhere, and a fence has
/// nothing to do: a section of its own that a signal interrupted begins anew in any case. (libc's allocator takes
/// libc's word for this, too: a thread that a program makes without libc cannot use it either.)
pub(crate) fn is_alone() -> bool {
    libc::is_single_threaded() && !thread::exists()
}
