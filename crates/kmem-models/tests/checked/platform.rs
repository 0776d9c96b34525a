//! The platform of the models: virtual CPUs whose sections and fence are made of the checker's own locks.
//!
//! Sections are the [fake platform's](super::modelled), and the lock of an epoch is the checker's. So the checker
//! explores everything that may happen between a section's read and its commit: a fence, a commit by another thread of
//! that CPU, a drain, the slot's being enabled, which takes no notice of epochs.
//!
//! Who sleeps is blocked, and not spinning: a wake that is lost is a deadlock, which the checkers report. Memory that
//! went back is spoiled: its atomics are none of the checker's, so whoever still uses them fails.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Mutex as Plain;
use std::sync::atomic::{AtomicUsize as PlainUsize, Ordering::Relaxed};

use kmem_core::cpu::CpuSet;
use kmem_core::pages::GRANULE;
use kmem_core::percpu::{CpuTable, SlotIndex};
use kmem_core::platform::{Clock, CommitError, Defences, Observer, PageSource, Park, Sections, Topology, Window};
use kmem_core::sync::{AtomicUsize, HeldRanks, Ordering};

use super::checker::{Mutex, thread, thread_local};
use super::{cpus, modelled};

const PAGE: usize = 4096;
/// Threads of a model, the first one among them.
const THREADS: usize = 16;

/// What the virtual machine looks like.
#[derive(Clone)]
pub struct Machine {
    /// CPU ids are below this.
    pub possible: usize,
    /// CPUs online at the start.
    pub online: CpuSet,
    /// Granules for slabs: few, for each has atomics of its own.
    pub granules: usize,
    /// Whether a fence ends sections: without it objects are handed out twice.
    pub fences: bool,
    /// What becomes of a proxy's being there.
    pub proxies: Proxies,
}

/// Whether threads on a stopped CPU fence it for who stopped it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Proxies {
    /// They cannot.
    None,
    /// They do, and who stops a CPU looks once for an answer.
    Fence,
    /// They say so wherever they are, and do not.
    Pretend,
}

impl Machine {
    /// `possible` CPUs, of which those in `online` are online.
    pub fn new(possible: usize, online: &[usize]) -> Self {
        Self { possible, online: cpus(online), granules: 6, fences: true, proxies: Proxies::None }
    }

    pub fn without_fence(self) -> Self {
        Self { fences: false, ..self }
    }

    pub fn with_proxies(self, proxies: Proxies) -> Self {
        Self { proxies, ..self }
    }

    pub fn with_granules(self, granules: usize) -> Self {
        Self { granules, ..self }
    }
}

/// Who the calling thread is.
#[derive(Clone, Copy)]
struct Me {
    cpu: usize,
    /// The CPU it believes to be on.
    hint: usize,
    /// 1 for the first thread; 0 before [`Model::enter`].
    token: usize,
}

thread_local! {
    static ME: Cell<Me> = Cell::new(Me { cpu: 0, hint: 0, token: 0 });
}

fn me() -> Me {
    ME.with(Cell::get)
}

/// Lets the calling thread go on on another CPU.
pub fn migrate(cpu: usize) {
    ME.with(|me| me.set(Me { cpu, hint: cpu, ..me.get() }));
}

/// Lets the calling thread believe that it is on `cpu`, wherever it is (I4).
pub fn believe(cpu: usize) {
    ME.with(|me| me.set(Me { hint: cpu, ..me.get() }));
}

/// Who sleeps.
struct Sleeper {
    word: usize,
    token: usize,
    thread: thread::Thread,
}

/// A place for a window, which the next platform has after this one. All places are equal to the heap, whose steps are
/// aligned in address space: with places as an allocator has them, two runs of one schedule might differ, and a checker
/// that finds itself in another state than before gives up.
struct PlaceOfWindow(NonNull<u8>);

impl PlaceOfWindow {
    /// At least a step of the heap.
    const ALIGN: usize = 2 << 20;
    /// Granules of the largest machine.
    const GRANULES: usize = 64;

    /// A place for so many granules, of which the first, where the heap's table will be, is zero; no model touches the
    /// others.
    fn take(granules: usize) -> Self {
        assert!(granules <= Self::GRANULES, "a window of at most {} granules", Self::GRANULES);
        let free = PLACES.lock().expect("no thread panics with it").pop();
        let place = free.unwrap_or_else(|| {
            let layout = Layout::from_size_align(Self::GRANULES * GRANULE, Self::ALIGN).expect("the layout of a place");
            // SAFETY: the layout is not empty.
            Self(NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory for a window"))
        });
        // SAFETY: the place is at least a granule, and no platform has it.
        unsafe { place.0.write_bytes(0, GRANULE) };
        place
    }
}

// SAFETY: memory that belongs to who has the place.
unsafe impl Send for PlaceOfWindow {}

/// The places that no platform has.
static PLACES: Plain<Vec<PlaceOfWindow>> = Plain::new(Vec::new());

/// The platform.
pub struct Model {
    machine: Machine,
    epochs: Vec<Mutex<u64>>,
    ranks: [HeldRanks; THREADS],
    threads: PlainUsize,
    /// Who sleeps, and on which word. The checker's lock: a futex too compares, sleeps and wakes under one of its own.
    asleep: Mutex<Vec<Sleeper>>,
    blocks: Plain<Vec<(usize, Layout)>>,
    window: PlaceOfWindow,
    mapped: PlainUsize,
    calls: PlainUsize,
    fail: PlainUsize,
    fences: PlainUsize,
}

// SAFETY: a thread uses its own ranks only; the rest is locks, or plain memory whose use is the engine's to order.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// A platform, whose first thread is the calling one, on CPU 0.
    pub fn new(mut machine: Machine) -> Self {
        // The heap's table takes a granule.
        machine.granules += 1;
        let model = Self {
            epochs: (0..machine.possible).map(|_| Mutex::new(0)).collect(),
            window: PlaceOfWindow::take(machine.granules),
            machine,
            ranks: Default::default(),
            threads: PlainUsize::new(0),
            asleep: Mutex::new(Vec::new()),
            blocks: Plain::new(Vec::new()),
            mapped: PlainUsize::new(0),
            calls: PlainUsize::new(0),
            fail: PlainUsize::new(usize::MAX),
            fences: PlainUsize::new(0),
        };
        model.enter(0);
        model
    }

    /// The calling thread begins, on `cpu`.
    pub fn enter(&self, cpu: usize) {
        let token = self.threads.fetch_add(1, Relaxed) + 1;
        assert!(token <= THREADS, "a model of at most {THREADS} threads");
        ME.with(|me| me.set(Me { cpu, hint: cpu, token }));
    }

    /// Makes the `n`-th call for memory from now fail (0 is the next), and no other.
    pub fn fail_nth(&self, n: usize) {
        self.fail.store(self.calls.load(Relaxed) + n, Relaxed);
    }

    /// Lets calls succeed again.
    pub fn fail_never(&self) {
        self.fail.store(usize::MAX, Relaxed);
    }

    /// Bytes that are mapped and were not given back.
    pub fn mapped(&self) -> usize {
        self.mapped.load(Relaxed)
    }

    /// Fences so far.
    pub fn fence_count(&self) -> usize {
        self.fences.load(Relaxed)
    }

    fn refused(&self) -> bool {
        self.calls.fetch_add(1, Relaxed) == self.fail.load(Relaxed)
    }

    fn wake(&self, word: &AtomicUsize, most: usize) {
        let mut asleep = self.asleep.lock().expect("nobody panics with it");
        for _ in 0..most {
            let Some(at) = asleep.iter().position(|sleeper| sleeper.word == std::ptr::from_ref(word) as usize) else {
                return;
            };
            asleep.remove(at).thread.unpark();
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        for (address, layout) in self.blocks.get_mut().expect("nobody panics with it").drain(..) {
            // SAFETY: the block was allocated with this layout; the engine that used it is gone.
            unsafe { dealloc(address as *mut u8, layout) };
        }
        PLACES.lock().expect("no thread panics with it").push(PlaceOfWindow(self.window.0));
    }
}

// SAFETY: commits of one CPU happen under its epoch's lock; a fence advances the epoch, so a section that began before
// cannot commit.
unsafe impl Sections for Model {
    unsafe fn pop_batch(&self, table: &CpuTable, slot: SlotIndex, out: &mut [usize]) -> usize {
        let cpu = me().cpu;
        let Some(epoch) = self.epochs.get(cpu) else { return 0 };
        let lock = || epoch.lock().expect("no section panics");
        // SAFETY: passed on; sections and fences lock the CPU's epoch.
        unsafe { modelled::pop_batch(lock, || (), (table, cpu), slot, out) }
    }

    unsafe fn push_batch(&self, table: &CpuTable, slot: SlotIndex, objects: &[usize]) -> usize {
        let cpu = me().cpu;
        let Some(epoch) = self.epochs.get(cpu) else { return 0 };
        let lock = || epoch.lock().expect("no section panics");
        // SAFETY: as for `pop_batch`.
        unsafe { modelled::push_batch(lock, || (), (table, cpu), slot, objects) }
    }

    fn fence_quietly(&self, cpu: usize) -> bool {
        if !self.fence_here(cpu) {
            self.fence(&CpuSet::of(cpu));
        }
        true
    }

    fn fence(&self, cpus: &CpuSet) {
        self.fences.fetch_add(1, Relaxed);
        if self.machine.fences {
            cpus.iter()
                .filter_map(|cpu| self.epochs.get(cpu))
                .for_each(|epoch| *epoch.lock().expect("no section panics") += 1);
        }
    }

    fn fence_here(&self, cpu: usize) -> bool {
        match self.machine.proxies {
            Proxies::Fence if me().cpu == cpu => {
                *self.epochs[cpu].lock().expect("no section panics") += 1;
                true
            }
            Proxies::None | Proxies::Fence => false,
            Proxies::Pretend => true,
        }
    }

    fn patience(&self) -> u32 {
        u32::from(self.machine.proxies != Proxies::None)
    }

    fn current_cpu(&self) -> usize {
        me().hint
    }
}

// SAFETY: blocks are fresh, zeroed, aligned to a page and kept until the platform goes.
unsafe impl PageSource for Model {
    fn page_size(&self) -> usize {
        PAGE
    }

    fn reserve(&self) -> Option<Window> {
        (!self.refused())
            .then(|| Window { base: self.window.0.as_ptr() as usize, len: self.machine.granules * GRANULE })
    }

    unsafe fn commit(&self, _addr: usize, _len: usize) -> Result<(), CommitError> {
        if self.refused() { Err(CommitError::NoMemory) } else { Ok(()) }
    }

    unsafe fn purge(&self, _addr: usize, _len: usize) {
        // No model writes to its objects.
    }

    unsafe fn uncommit(&self, _addr: usize, _len: usize) {
        // As above.
    }

    fn map(&self, len: usize) -> Option<NonNull<u8>> {
        if self.refused() {
            return None;
        }
        let layout = Layout::from_size_align(len.max(1).next_multiple_of(PAGE), PAGE).ok()?;
        // SAFETY: the layout is not empty.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        self.blocks.lock().expect("nobody panics with it").push((block.as_ptr() as usize, layout));
        self.mapped.fetch_add(len, Relaxed);
        Some(block)
    }

    unsafe fn unmap(&self, ptr: NonNull<u8>, len: usize) {
        // Spoiled, and kept until the platform goes, so that a use is an error of the model and not of the process.
        // SAFETY: the mapping is the caller's to give back.
        unsafe { ptr.write_bytes(0xa5, len) };
        self.mapped.fetch_sub(len, Relaxed);
    }
}

// SAFETY: tokens are numbers of threads, from 1 on; each thread has ranks of its own.
unsafe impl Park for Model {
    fn wait(&self, word: &AtomicUsize, expected: usize) {
        let mut asleep = self.asleep.lock().expect("nobody panics with it");
        if word.load(Ordering::Relaxed) != expected {
            return;
        }
        let token = me().token;
        asleep.push(Sleeper { word: std::ptr::from_ref(word) as usize, token, thread: thread::current() });
        drop(asleep);
        thread::park();
        // Nobody may have woken it: then it sleeps no longer, and takes no wake from those who do.
        self.asleep.lock().expect("nobody panics with it").retain(|sleeper| sleeper.token != token);
    }

    fn wake_one(&self, word: &AtomicUsize) {
        self.wake(word, 1);
    }

    fn wake_all(&self, word: &AtomicUsize) {
        self.wake(word, usize::MAX);
    }

    fn thread_token(&self) -> usize {
        me().token * 4
    }

    fn held_ranks(&self) -> Option<&HeldRanks> {
        self.ranks.get(me().token.checked_sub(1)?)
    }

    fn rest(&self, _tries: u32) {
        thread::yield_now();
    }
}

// SAFETY: the default, which is a constant.
unsafe impl Defences for Model {}

impl Observer for Model {}

impl Topology for Model {
    fn possible_cpus(&self) -> usize {
        self.machine.possible
    }

    fn initial_cpus(&self) -> CpuSet {
        self.machine.online
    }

    fn nodes(&self) -> usize {
        1
    }

    fn node_of(&self, _cpu: usize) -> usize {
        0
    }
}

impl Clock for Model {
    fn now(&self) -> u64 {
        0
    }
}
