//! The fake platform: virtual CPUs in one process, for tests. It is deterministic if the test is.
//!
//! A thread runs on the virtual CPU that it chose with [`run_on`]. Sections are modelled (`modelled.rs`): between
//! what one reads and its commit there may be an interrupt, where a test puts code with [`interrupt_next_section`].
//!
//! What other threads do while one waits for a fence is code of the test as well ([`Fake::at_next_fence`]).
//!
//! The operating system schedules the threads of a test. Those of an [explored](crate::explore) scenario have seats,
//! and the explorer lets them run one at a time.
//!
//! Memory comes from the test's heap. Every call for memory is counted and can be made to fail ([`Fake::fail_nth`],
//! [`Fake::fail_from`]); memory that the engine releases is kept until the platform is dropped, so that a section's
//! stale reads remain valid, but it is no longer counted ([`Fake::mapped`]).

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex as StdMutex};

use kmem_core::cpu::{CpuSet, Mistake};
use kmem_core::pages::GRANULE;
use kmem_core::percpu::{CpuTable, SlotIndex};
use kmem_core::platform::{
    Clock, CommitError, Defences, LockStep, MoveError, Observer, PageSource, Park, Sections, Step, Topology, Window,
};
use kmem_core::sync::{AtomicU64, AtomicUsize, HeldRanks, Ordering, Waiters};

use crate::Protocol;
use crate::explore::seat;
use crate::guarded::Guarded;
use crate::modelled;
use crate::sleepers::Sleepers;
use crate::tsan_lock::taken;

/// The unit that becomes memory at once, if the machine has huge pages.
const UNIT: usize = 2 << 20;

/// The properties of the virtual machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// CPU ids are below this.
    pub possible: usize,
    /// CPUs online at the start; holes are allowed.
    pub online: CpuSet,
    /// The number of nodes.
    pub nodes: usize,
    /// The node of CPU `k` is `homes[k % homes.len()]`, which may be out of range; `k % nodes` if `homes` is empty.
    pub homes: Vec<usize>,
    /// Granules of the window.
    pub granules: usize,
    /// Bytes of a page. If it is larger than a granule, only whole pages are committed, and none is uncommitted.
    pub page: usize,
    /// Whether a fence aborts sections. If it does not, objects are allocated twice: the negative control.
    pub fences: bool,
    /// Whether the CPU hint is wrong: any number, even one out of range (I4).
    pub hint_lies: bool,
    /// Whether the hint is verified before a CPU is brought up for it.
    pub hint_is_checked: bool,
    /// Whether memory that will be filled is populated in units of 2 MiB.
    pub huge: bool,
    /// How often a thread that stops a CPU polls for a proxy there before it fences remotely. There are no proxies
    /// here.
    pub patience: u32,
    /// The defences that the engine uses.
    pub protocol: Protocol,
}

impl Machine {
    /// A machine with `cpus` CPUs, all online, one node, 64 MiB.
    pub fn with_cpus(cpus: usize) -> Self {
        Self {
            possible: cpus,
            online: CpuSet::first(cpus),
            nodes: 1,
            homes: Vec::new(),
            granules: 4096,
            page: 4096,
            fences: true,
            hint_lies: false,
            hint_is_checked: false,
            huge: false,
            patience: 0,
            protocol: Protocol::BOTH,
        }
    }
}

/// Code of a test that runs once, when the platform reaches its place.
#[derive(Default)]
struct Hook(StdMutex<Option<Box<dyn FnOnce() + Send>>>);

impl Hook {
    fn set(&self, code: impl FnOnce() + Send + 'static) {
        *taken(&self.0) = Some(Box::new(code));
    }

    fn run(&self) {
        let code = taken(&self.0).take();
        if let Some(code) = code {
            code();
        }
    }
}

/// The platform.
pub struct Fake {
    machine: Machine,
    epochs: Vec<StdMutex<u64>>,
    blocks: StdMutex<Vec<(usize, Layout)>>,
    window: NonNull<u8>,
    guarded: Guarded,
    /// First granule and length of foreign mappings inside the window.
    obstacle: StdMutex<(usize, usize)>,
    /// Addresses of the units of 2 MiB that are populated at once.
    units: StdMutex<BTreeSet<usize>>,
    asleep: Sleepers,
    at_fence: Hook,
    at_purge: Hook,
    at_unmap: Hook,
    mapped: AtomicUsize,
    last_words: Arc<StdMutex<Option<usize>>>,
    calls: AtomicUsize,
    fail: AtomicUsize,
    fail_count: AtomicUsize,
    fences: AtomicUsize,
    time: AtomicU64,
    waiters: Box<Waiters>,
    lie: AtomicUsize,
}

// SAFETY: the blocks are plain memory; synchronising access to them is the engine's task.
unsafe impl Send for Fake {}
// SAFETY: as above.
unsafe impl Sync for Fake {}

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    static HINT: Cell<Option<usize>> = const { Cell::new(None) };
    static HUNGER: Cell<Option<usize>> = const { Cell::new(None) };
    static INTERRUPT: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    static RANKS: &'static Ranks = Box::leak(Box::default());
}

/// A thread's lock ranks, whose address is its token.
#[derive(Default)]
#[repr(align(8))]
struct Ranks(HeldRanks);

/// Moves the calling thread to a virtual CPU.
pub fn run_on(cpu: usize) {
    CPU.set(cpu);
}

/// Makes the calling thread believe that it runs on `cpu`, wherever it runs: a stale hint (I4). `None`: the hint is
/// right.
pub fn believe(cpu: Option<usize>) {
    HINT.set(cpu);
}

/// From here on, the calling thread's calls for memory fail after the first `calls` of them; `None`: they do not.
pub fn starve_after(calls: Option<usize>) {
    HUNGER.set(calls);
}

/// Whether they would fail by now or later.
pub fn is_starved() -> bool {
    HUNGER.get().is_some()
}

/// Runs `code` in the middle of the next section of the calling thread, between its reads and its commit, as an
/// interrupt there would.
pub fn interrupt_next_section(code: impl FnOnce() + 'static) {
    INTERRUPT.set(Some(Box::new(code)));
}

impl Fake {
    /// Creates a platform.
    pub fn new(machine: Machine) -> Self {
        // One unit more, and no alignment, so that the block is fresh pages of the kernel, which cost nothing until
        // they are used.
        let layout = Layout::from_size_align(machine.granules * GRANULE + UNIT, 16).expect("a window of this size");
        // SAFETY: the layout is not empty.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory for the test's window");
        // SAFETY: the block is a unit longer than the window.
        let window = unsafe { block.add(block.align_offset(UNIT)) };
        Self {
            epochs: (0..machine.possible).map(|_| StdMutex::new(0)).collect(),
            blocks: StdMutex::new(vec![(block.as_ptr() as usize, layout)]),
            guarded: Guarded::new(window.as_ptr() as usize, machine.granules * GRANULE, machine.page),
            machine,
            window,
            obstacle: StdMutex::new((0, 0)),
            units: StdMutex::new(BTreeSet::new()),
            asleep: Sleepers::default(),
            at_fence: Hook::default(),
            at_purge: Hook::default(),
            at_unmap: Hook::default(),
            mapped: AtomicUsize::new(0),
            last_words: Arc::default(),
            calls: AtomicUsize::new(0),
            fail: AtomicUsize::new(usize::MAX),
            fail_count: AtomicUsize::new(0),
            fences: AtomicUsize::new(0),
            time: AtomicU64::new(0),
            waiters: Box::default(),
            lie: AtomicUsize::new(1),
        }
    }

    /// Calls for memory so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Fences so far.
    pub fn fence_count(&self) -> usize {
        self.fences.load(Ordering::Relaxed)
    }

    /// Bytes that are mapped and have not been released.
    pub fn mapped(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Where the platform stores the value of [`mapped`](Self::mapped) when it is dropped.
    pub fn mapped_when_dropped(&self) -> Arc<StdMutex<Option<usize>>> {
        self.last_words.clone()
    }

    /// Runs `code` in the next fence, while its caller waits: areas have been withdrawn, but sections that began
    /// earlier can still commit.
    ///
    /// It runs on the thread that waits, which holds locks, so code that uses the engine needs a thread of its own.
    pub fn at_next_fence(&self, code: impl FnOnce() + Send + 'static) {
        self.at_fence.set(code);
    }

    /// Runs `code` in the next call that releases memory, during which no lock of the engine may be held.
    pub fn at_next_purge(&self, code: impl FnOnce() + Send + 'static) {
        self.at_purge.set(code);
    }

    /// Runs `code` in the next call that releases a mapping.
    pub fn at_next_unmap(&self, code: impl FnOnce() + Send + 'static) {
        self.at_unmap.set(code);
    }

    /// Bytes of the window that are committed.
    pub fn committed(&self) -> usize {
        self.guarded.committed()
    }

    /// Puts a foreign mapping into the window: granules that cannot be committed.
    pub fn obstruct(&self, first: usize, granules: usize) {
        *taken(&self.obstacle) = (first, granules);
    }

    /// Makes only the `n`-th call for memory from now fail (0 is the next one).
    pub fn fail_nth(&self, n: usize) {
        self.fail_count.store(1, Ordering::Relaxed);
        self.fail.store(self.calls() + n, Ordering::Relaxed);
    }

    /// Makes every call for memory from the `n`-th on fail.
    pub fn fail_from(&self, n: usize) {
        self.fail_count.store(usize::MAX, Ordering::Relaxed);
        self.fail.store(self.calls() + n, Ordering::Relaxed);
    }

    /// Lets calls succeed again.
    pub fn fail_never(&self) {
        self.fail.store(usize::MAX, Ordering::Relaxed);
    }

    /// Advances the clock.
    pub fn advance(&self, nanoseconds: u64) {
        self.time.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn refused(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(left) = HUNGER.get() {
            HUNGER.set(Some(left.saturating_sub(1)));
            if left == 0 {
                return true;
            }
        }
        let from = self.fail.load(Ordering::Relaxed);
        call >= from && call - from < self.fail_count.load(Ordering::Relaxed)
    }

    /// What may happen between the halves of a section.
    fn inside_section() {
        if let Some(interrupt) = INTERRUPT.take() {
            interrupt();
        }
        seat::inside_section();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        *taken(&self.last_words) = Some(self.mapped());
        self.guarded.open();
        for (address, layout) in self.blocks.get_mut().expect("no allocation panics").drain(..) {
            // SAFETY: the block was allocated with this layout, and the engine that used it no longer exists.
            unsafe { dealloc(address as *mut u8, layout) };
        }
    }
}

// SAFETY: commits on one CPU happen under its epoch's lock; a fence advances the epoch, so a section that began before
// cannot commit.
unsafe impl Sections for Fake {
    unsafe fn pop_batch(&self, table: &CpuTable, slot: SlotIndex, out: &mut [usize]) -> usize {
        let cpu = CPU.get();
        let Some(epoch) = self.epochs.get(cpu) else { return 0 };
        // SAFETY: passed on; sections and fences lock the CPU's epoch.
        unsafe { modelled::pop_batch(|| taken(epoch), Self::inside_section, (table, cpu), slot, out) }
    }

    unsafe fn push_batch(&self, table: &CpuTable, slot: SlotIndex, objects: &[usize]) -> usize {
        let cpu = CPU.get();
        let Some(epoch) = self.epochs.get(cpu) else { return 0 };
        // SAFETY: as for `pop_batch`.
        unsafe { modelled::push_batch(|| taken(epoch), Self::inside_section, (table, cpu), slot, objects) }
    }

    fn fence_quietly(&self, cpu: usize) -> bool {
        if !self.fence_here(cpu) {
            self.fence(&CpuSet::of(cpu));
        }
        true
    }

    fn fence(&self, cpus: &CpuSet) {
        self.fences.fetch_add(1, Ordering::Relaxed);
        self.at_fence.run();
        seat::before_fence();
        if self.machine.fences {
            cpus.iter().filter_map(|cpu| self.epochs.get(cpu)).for_each(|epoch| *taken(epoch) += 1);
        }
    }

    fn patience(&self) -> u32 {
        self.machine.patience
    }

    fn current_cpu(&self) -> usize {
        if self.machine.hint_lies {
            let lie = self.lie.load(Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.lie.store(lie, Ordering::Relaxed);
            return (lie >> 33) % (self.machine.possible * 2);
        }
        HINT.get().unwrap_or(CPU.get())
    }

    fn is_on(&self, cpu: usize) -> bool {
        !self.machine.hint_is_checked || CPU.get() == cpu
    }
}

// SAFETY: blocks are fresh, zeroed, page-aligned and kept until the platform is dropped.
unsafe impl PageSource for Fake {
    fn page_size(&self) -> usize {
        self.machine.page
    }

    fn unit(&self, addr: usize) -> usize {
        if taken(&self.units).contains(&(addr & !(UNIT - 1))) { UNIT } else { self.machine.page }
    }

    fn fills(&self, addr: usize, len: usize) {
        if self.machine.huge {
            let whole = (addr.next_multiple_of(UNIT)..addr + len).step_by(UNIT);
            taken(&self.units).extend(whole.filter(|unit| unit + UNIT <= addr + len));
        }
    }

    fn reserve(&self) -> Option<Window> {
        (!self.refused()).then(|| Window { base: self.window.as_ptr() as usize, len: self.machine.granules * GRANULE })
    }

    unsafe fn commit(&self, addr: usize, len: usize) -> Result<(), CommitError> {
        assert!(len > 0, "a call for memory that asks for none");
        let first = (addr - self.window.as_ptr() as usize) / GRANULE;
        let (obstacle, granules) = *taken(&self.obstacle);
        match () {
            () if self.refused() || !self.guarded.are_whole(addr, len) => Err(CommitError::NoMemory),
            () if first < obstacle + granules && obstacle < first + len / GRANULE => Err(CommitError::Taken),
            () => {
                self.guarded.commit(addr, len);
                Ok(())
            }
        }
    }

    unsafe fn purge(&self, addr: usize, len: usize) {
        self.at_purge.run();
        taken(&self.units).retain(|unit| unit + UNIT <= addr || addr + len <= *unit);
        self.guarded.expect_committed(addr, len);
        // SAFETY: the range is part of the window and its contents are no longer needed.
        unsafe { std::ptr::write_bytes(addr as *mut u8, 0, len) };
    }

    unsafe fn move_pages(&self, from: usize, len: usize, to: usize, longer: usize) -> Result<(), MoveError> {
        self.guarded.expect_committed(from, len);
        self.guarded.expect_committed(to, longer);
        if self.refused() {
            // The two kinds of failure alternate.
            if self.calls().is_multiple_of(2) {
                return Err(MoveError::Refused);
            }
            self.guarded.uncommit(to, longer);
            return Err(MoveError::Lost);
        }
        // SAFETY: both ranges are parts of the window, disjoint, and not in use.
        unsafe {
            std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, len);
            self.purge(to + len, longer - len);
            self.purge(from, len);
        }
        self.guarded.uncommit(from, len);
        Ok(())
    }

    unsafe fn uncommit(&self, addr: usize, len: usize) {
        // SAFETY: passed on.
        unsafe { self.purge(addr, len) }
        self.guarded.uncommit(addr, len);
    }

    fn map(&self, len: usize) -> Option<NonNull<u8>> {
        if self.refused() {
            return None;
        }
        let layout = Layout::from_size_align(len.max(1).next_multiple_of(self.machine.page), self.machine.page).ok()?;
        // SAFETY: the layout is not empty.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        taken(&self.blocks).push((block.as_ptr() as usize, layout));
        self.mapped.fetch_add(len, Ordering::Relaxed);
        Some(block)
    }

    unsafe fn unmap(&self, _ptr: NonNull<u8>, len: usize) {
        self.at_unmap.run();
        // Kept until the platform is dropped: see the head of this file.
        self.mapped.fetch_sub(len, Ordering::Relaxed);
    }
}

// SAFETY: the token is the address of a thread's own ranks, which are never freed.
unsafe impl Park for Fake {
    fn wait(&self, word: &AtomicUsize, expected: usize) {
        if !seat::wait(word, expected) {
            self.asleep.wait(word, expected);
        }
    }

    fn wake_one(&self, word: &AtomicUsize) {
        seat::wake(word, 1);
        self.asleep.wake(word, 1);
    }

    fn wake_all(&self, word: &AtomicUsize) {
        seat::wake(word, usize::MAX);
        self.asleep.wake(word, usize::MAX);
    }

    fn thread_token(&self) -> usize {
        RANKS.with(|ranks| std::ptr::from_ref::<Ranks>(ranks) as usize)
    }

    fn held_ranks(&self) -> Option<&HeldRanks> {
        Some(RANKS.with(|ranks| &ranks.0))
    }

    fn rest(&self, _tries: u32) {
        std::thread::yield_now();
    }

    fn waiters(&self) -> Option<&Waiters> {
        Some(&self.waiters)
    }

    fn at_lock(&self, step: LockStep<'_>) {
        seat::at_lock(step);
    }
}

impl Observer for Fake {
    fn step(&self, step: Step<'_>) {
        seat::step(step);
    }
}

// SAFETY: a machine's protocol does not change. Where it is not both defences, a director lets one thread run at a
// time, and what is handed out is compared, not written to.
unsafe impl Defences for Fake {
    fn has_gate(&self) -> bool {
        self.machine.protocol.gate
    }

    fn keeps_listed(&self) -> bool {
        self.machine.protocol.keep_listed
    }

    fn mistake(&self) -> Option<Mistake> {
        self.machine.protocol.mistake
    }
}

impl Topology for Fake {
    fn possible_cpus(&self) -> usize {
        self.machine.possible
    }

    fn initial_cpus(&self) -> CpuSet {
        self.machine.online
    }

    fn nodes(&self) -> usize {
        self.machine.nodes
    }

    fn node_of(&self, cpu: usize) -> usize {
        match &self.machine.homes[..] {
            [] => cpu % self.machine.nodes,
            homes => homes[cpu % homes.len()],
        }
    }
}

impl Clock for Fake {
    fn now(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }
}
