//! The whole allocator, put together. What an embedder calls is here and below: all of `impl Engine`, a file for each
//! thing that an engine does.
//!
//! | file | what it does |
//! |---|---|
//! | `mod.rs` | the engine and its parts; making and ending one |
//! | `slow_path.rs` | alloc and free where the section misses |
//! | [`general`] | size classes and large objects: what `malloc` needs |
//! | `accounts.rs` | accounts, and what an allocation does at a limit |
//! | `create.rs`, `destroy.rs`, `tune.rs` | the life of a cache |
//! | `enable.rs`, `widen.rs` | a slot of a cache on a CPU; room for it in the areas |
//! | `hotplug.rs`, `listeners.rs` | CPUs that come and go, and who is told |
//! | `reclaim` | everything that takes memory out of caches |
//! | `pack.rs` | moving objects together |
//! | `fork.rs` | what a fork takes, leaves and gives back |
//! | [`stats`], [`validate`] | what there is, and whether it is as it should be |
//! | [`outline`] | where all of that is, for a reader outside of the process |
//! | `past` | the order of 2004 and the mistakes of others, for a simulator |
//!
//! The modules beside this one are the parts that it is made of; none of them knows of it.

use core::fmt;
use core::mem::MaybeUninit;

use crate::account::Accounts;
use crate::cache::{CacheDesc, Inside, Registry};
use crate::classes::CLASSES;
use crate::cpu::{CpuSet, Cpus, Gate, Listeners, MAX_CPUS};
use crate::error::AllocError;
use crate::meta::Meta;
use crate::pages::PageHeap;
use crate::percpu::CpuTable;
use crate::platform::{CacheStep, Platform, Step};
use crate::slab::{Env, FreeError};
use crate::sync::{AtomicPtr, Mutex, Rank, Word};

mod accounts;
mod create;
mod destroy;
mod enable;
mod fork;
pub mod general;
mod hotplug;
mod listeners;
pub mod outline;
mod pack;
mod past;
mod reclaim;
mod slow_path;
pub mod stats;
mod tune;
pub mod validate;
mod widen;

pub use reclaim::{Aged, CachedOn, Decayed};
pub use tune::{Tuned, Tuning};

/// When the magazines of a CPU come into being.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Population {
    /// At the first miss of a cache on a CPU: an unused slot costs nothing, and create costs the same on 2 CPUs and on
    /// 1,024.
    OnFirstUse,
    /// With the cache on every online CPU, and with the CPU for every live cache: what the kernel of 2004 did, and what
    /// a kernel needs that must not allocate later. It can make create and prepare fail.
    Eager,
}

/// No engine has so many caches.
const CACHES_MAX: usize = 1 << 24;

/// How an engine is made.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The most caches at one time, including the general ones, whether they are used or not: at least [`CLASSES`] in
    /// an engine with general caches, and below 2^24.
    pub max_caches: usize,
    /// When magazines come into being.
    pub population: Population,
    /// Called with a pointer that was freed but is no live object. It must not call the engine; it may end the program.
    pub bad_free: fn(object: usize, error: FreeError),
}

/// Makes a part in its final place. This is a frame of its own, so that the stack holds one part at a time.
///
/// # Safety
/// The place is valid for a write.
#[inline(never)]
unsafe fn put<T>(place: *mut T, make: impl FnOnce() -> T) {
    // SAFETY: the caller's promise.
    unsafe { place.write(make()) }
}

/// The general caches, by class: null until the first miss.
struct General {
    caches: [AtomicPtr<CacheDesc>; CLASSES + 1],
}

impl General {
    fn new() -> Self {
        Self { caches: core::array::from_fn(|_| AtomicPtr::new(core::ptr::null_mut())) }
    }
}

/// An allocator: the caches, the CPUs, the pages. Everything else belongs to it.
pub struct Engine<P: Platform> {
    platform: P,
    config: Config,
    gate: Gate,
    cpus: Cpus,
    table: CpuTable,
    registry: Registry,
    heap: PageHeap,
    meta: Meta,
    general: General,
    listeners: Mutex<Listeners>,
    inside: Inside,
    accounts: Accounts,
    /// Held by the thread that forks.
    forks: Word,
}

impl<P: Platform> fmt::Debug for Engine<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("config", &self.config)
            .field("cpus", &self.cpus)
            .field("heap", &self.heap)
            .finish_non_exhaustive()
    }
}

impl<P: Platform> Engine<P> {
    /// An allocator on `platform`, with its general caches.
    ///
    /// # Errors
    /// The platform has no memory, or there is no room for the general caches ([`Config::max_caches`]). What was mapped
    /// is unmapped.
    pub fn new(platform: P, config: Config) -> Result<Self, AllocError> {
        let mut place = MaybeUninit::uninit();
        Self::new_in(&mut place, || platform, config)?;
        // SAFETY: it was made.
        Ok(unsafe { place.assume_init() })
    }

    /// The same, made in its final place, and its platform too. An engine is several kilobytes; this takes one kilobyte
    /// of the stack at most.
    ///
    /// # Errors
    /// As for [`new`](Self::new); nothing is in the place then.
    pub fn new_in(
        place: &mut MaybeUninit<Self>,
        platform: impl FnOnce() -> P,
        config: Config,
    ) -> Result<&mut Self, AllocError> {
        let engine = Self::map(place, platform, config, CLASSES)?;
        match engine.populate_general() {
            Ok(()) => Ok(engine),
            Err(error) => {
                // SAFETY: no other thread has seen the engine, and it is not used after this.
                unsafe {
                    engine.unmake();
                    core::ptr::drop_in_place(engine);
                }
                Err(error)
            }
        }
    }

    /// An allocator for named caches only.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    ///
    /// # Safety
    /// Nothing of [`general`] but `free_bytes`, `extent` and `usable_size` is used.
    pub unsafe fn without_general(platform: P, config: Config) -> Result<Self, AllocError> {
        let mut place = MaybeUninit::uninit();
        Self::map(&mut place, || platform, config, 0)?;
        // SAFETY: it was made.
        Ok(unsafe { place.assume_init() })
    }

    /// An engine with room for this many general caches.
    #[inline(never)]
    fn map(
        place: &mut MaybeUninit<Self>,
        platform: impl FnOnce() -> P,
        config: Config,
        general: usize,
    ) -> Result<&mut Self, AllocError> {
        let engine = place.as_mut_ptr();
        // SAFETY: the place is this function's; each part of it is written once, and none is used before.
        unsafe {
            put(&raw mut (*engine).platform, platform);
            if config.max_caches < general
                || config.max_caches >= CACHES_MAX
                || !Self::map_tables(engine, &config, general)
            {
                core::ptr::drop_in_place(&raw mut (*engine).platform);
                return Err(AllocError);
            }
            put(&raw mut (*engine).config, || config);
            put(&raw mut (*engine).gate, Gate::new);
            put(&raw mut (*engine).meta, Meta::new);
            put(&raw mut (*engine).general, General::new);
            put(&raw mut (*engine).listeners, || Mutex::new(Rank::Stats, Listeners::default()));
            put(&raw mut (*engine).inside, Inside::new);
            put(&raw mut (*engine).accounts, Accounts::new);
            put(&raw mut (*engine).forks, Word::new);
            Ok(&mut *engine)
        }
    }

    /// Makes the parts that have a mapping: all of them, or none.
    ///
    /// # Safety
    /// The engine is the caller's, and so far it has only its platform.
    #[inline(never)]
    unsafe fn map_tables(engine: *mut Self, config: &Config, general: usize) -> bool {
        // SAFETY: the platform is there.
        let platform = unsafe { &(*engine).platform };
        let possible = platform.possible_cpus().clamp(1, MAX_CPUS);
        let slots = config.max_caches + 1;
        let parts = (
            CpuTable::map(platform, possible, slots, general + 1),
            Registry::map(platform, slots, general),
            PageHeap::map(platform),
            // SAFETY: the place of the CPUs is not written yet.
            unsafe { Self::map_cpus(&raw mut (*engine).cpus, platform, possible) },
        );
        // SAFETY: these places of the engine are not written yet, and the parts were just made and are not used yet.
        unsafe {
            if let (Some(table), Some(registry), Some(maps), true) = parts {
                put(&raw mut (*engine).table, || table);
                put(&raw mut (*engine).registry, || registry);
                put(&raw mut (*engine).heap, || PageHeap::over(maps));
                return true;
            }
            if let Some(table) = parts.0 {
                table.unmap(platform);
            }
            if let Some(registry) = parts.1 {
                registry.unmap(platform);
            }
            if parts.3 {
                (*engine).cpus.unmap(platform);
            }
        }
        false
    }

    /// Makes the CPUs, with the initial ones online, but at least one. Returns `false` if there is no memory.
    ///
    /// # Safety
    /// The place is valid for a write.
    #[inline(never)]
    unsafe fn map_cpus(place: *mut Cpus, platform: &P, possible: usize) -> bool {
        let mut initial = platform.initial_cpus();
        initial.retain(|cpu| cpu < possible);
        if initial.is_empty() {
            initial.insert(0);
        }
        let cpus = Cpus::map(platform, possible, &initial);
        // SAFETY: the caller's promise.
        cpus.map(|cpus| unsafe { place.write(cpus) }).is_some()
    }

    /// Unmaps everything that an engine without users has mapped.
    ///
    /// # Safety
    /// No thread uses the engine, now or later.
    unsafe fn unmake(&self) {
        let platform = &self.platform;
        while let (Ok(gate), Some(cache)) = (self.gate.read(platform), self.registry.pin_next(platform, 0)) {
            // SAFETY: no other thread uses the engine.
            if unsafe { self.destroy_pinned(gate, cache) }.is_err() {
                break;
            }
        }
        for cpu in self.cpus.iter() {
            if let Some(area) = cpu.lock.lock(platform).area.take() {
                // SAFETY: no section runs from here on, and there is no cache whose slot could hold something.
                unsafe { area.unmap(platform) };
            }
        }
        // SAFETY: all of these are the engine's, which no other thread uses.
        unsafe {
            self.meta.unmap(platform);
            self.cpus.unmap(platform);
            self.registry.unmap(platform);
            self.table.unmap(platform);
        }
    }

    /// The platform.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// The table that sections read.
    pub fn table(&self) -> &CpuTable {
        &self.table
    }

    /// The page heap: where the class map is.
    pub fn heap(&self) -> &PageHeap {
        &self.heap
    }

    /// CPU ids are below this.
    pub fn possible_cpus(&self) -> usize {
        self.cpus.possible()
    }

    /// Whether the calling thread is inside a hotplug callback.
    pub fn is_inside_callback(&self) -> bool {
        self.gate.is_writer(&self.platform)
    }

    /// The CPUs that have an area published: where sections find objects at this moment.
    pub fn active_cpus(&self) -> CpuSet {
        self.cpus.online_now().filter(|cpu| self.table.get(*cpu) != self.table.empty()).collect()
    }

    /// The CPUs that are online at this moment.
    pub fn online_cpus(&self) -> CpuSet {
        self.cpus.online()
    }

    /// Tells a simulator what was done with a cache.
    #[inline(always)]
    fn tell(&self, cache: &CacheDesc, did: CacheStep<'_>) {
        self.platform.step(Step::Cache { cache, did });
    }

    fn env(&self) -> Env<'_, P> {
        Env { platform: &self.platform, heap: &self.heap, meta: &self.meta }
    }
}
