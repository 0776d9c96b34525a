//! General memory: any size, any alignment, freed by address alone. `malloc` and a global allocator are made of it.
//!
//! Sizes up to 256 KiB are objects of the *general caches*, one for each size class; the class map names the class of
//! each granule of their slabs. Larger sizes are runs of granules with an entry of their own. The index of a general
//! cache is its class, so a section needs no look-up. (As runs of their own, objects of half a granule would cost twice
//! their size.)
//!
//! # When there is one
//! A general cache is made at the first miss of its class, and never destroyed: most programs use few of the classes,
//! and a process that starts pays for none. ([`Population::Eager`] makes all of them with the engine.) An allocation
//! must not wait for a transition, so this takes no gate. It needs none, because it makes no slot. A transition that
//! walks the list may or may not meet the new cache; in either case a thread enables a slot of it only after it finds
//! the CPU online under its control (I2). Of two threads that make the same cache, the first to list it wins, and the
//! other cache is freed before another thread has seen it (I13). The indexes and names of general caches are reserved
//! from the beginning.

use core::ptr::NonNull;

use crate::cache::CacheDesc;
use crate::classes::{self, CLASSES};
use crate::engine::{Engine, Population};
use crate::error::AllocError;
use crate::pages::{GRANULE, Owner, Use};
use crate::platform::{CacheStep, Event, Platform};
use crate::slab::{self, FreeError, Layout};
use crate::sync::Ordering;

/// Memory that was just handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fresh {
    /// Where it begins.
    pub address: NonNull<u8>,
    /// Whether all of it is known to read as zero.
    pub zero: bool,
}

/// What is at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// An object of a general cache, of this class.
    Class(u8),
    /// An object of another cache.
    Object {
        /// Bytes of it.
        size: usize,
    },
    /// A large run.
    Large {
        /// Bytes of it.
        size: usize,
    },
}

impl Extent {
    /// Bytes usable.
    pub fn bytes(self) -> usize {
        match self {
            Self::Class(class) => classes::size_of_class(class),
            Self::Object { size } | Self::Large { size } => size,
        }
    }
}

/// Whether a realloc to `size` bytes leaves an object of `usable` bytes in place: it fits, and uses at least half of
/// it.
#[inline]
pub fn stays(usable: usize, size: usize) -> bool {
    size <= usable && size >= usable / 2
}

/// What begins at `address`, which this slab covers.
///
/// # Safety
/// The heap returned this descriptor for the address, and the descriptor and its cache live.
unsafe fn extent_on(slab: NonNull<u8>, address: usize) -> Result<Extent, FreeError> {
    let slab = slab.cast::<slab::Slab>();
    // SAFETY: the caller's promise.
    unsafe {
        slab::Slab::index_of(slab, address).ok_or(FreeError::NotAnObject)?;
        let (cache, _) = slab::Slab::home_of(slab);
        Ok(match cache.class() {
            0 => Extent::Object { size: cache.layout().size },
            class => Extent::Class(class),
        })
    }
}

/// What begins at `address`, which no slab covers.
fn extent_of_run(owner: Owner, address: usize) -> Result<Extent, FreeError> {
    match owner {
        Owner::Large(granules) if address.is_multiple_of(GRANULE) => Ok(Extent::Large { size: granules * GRANULE }),
        _ => Err(FreeError::NotAnObject),
    }
}

impl<P: Platform> Engine<P> {
    /// Makes the general caches that must exist before the first use.
    pub(super) fn populate_general(&self) -> Result<(), AllocError> {
        if self.config.population == Population::OnFirstUse {
            return Ok(());
        }
        let mut classes = 1..=CLASSES as u8;
        // Without the gate, because reclaiming memory for a cache takes it.
        classes.clone().try_for_each(|class| self.general_cache(class).map(drop))?;
        let gate = self.gate.read(&self.platform).map_err(|_| AllocError)?;
        let online = gate.online(&self.cpus).set();
        classes
            .try_for_each(|class| self.enable_on(self.general_cache(class)?, &online).then_some(()).ok_or(AllocError))
    }

    /// The general cache of a class, made now if it does not exist.
    ///
    /// # Errors
    /// It does not exist, and there is no memory for its descriptor.
    ///
    /// # Panics
    /// If the class is not between 1 and [`CLASSES`], or the engine was made
    /// [`without_general`](Self::without_general) caches.
    #[inline]
    pub fn general_cache(&self, class: u8) -> Result<&CacheDesc, AllocError> {
        let cache = self.general.caches[class as usize].load(Ordering::Acquire);
        // SAFETY: general caches are never destroyed.
        match unsafe { cache.as_ref() } {
            Some(cache) => Ok(cache),
            None => self.make_general(class),
        }
    }

    #[inline(never)]
    fn make_general(&self, class: u8) -> Result<&CacheDesc, AllocError> {
        let again = || {
            self.reclaim_everything();
            self.new_general(class)
        };
        let made = self.new_general(class).or_else(again).ok_or(AllocError)?;
        // SAFETY: the descriptor is new, and no other thread knows it until it is listed.
        unsafe { made.as_ref() }.begin_to_live(&self.platform);
        // SAFETY: the descriptor is new; general caches are never destroyed.
        let listed = unsafe { self.registry.list_general(&self.platform, made) };
        // SAFETY: as above.
        let cache = unsafe { listed.as_ref() };
        if listed == made {
            self.tell(cache, CacheStep::Described { bytes: cache.bytes_of_all() });
            self.tell(cache, CacheStep::Listed);
        } else {
            // SAFETY: it was not listed, and it holds nothing.
            unsafe { CacheDesc::free(made, &self.meta, &self.platform) };
        }
        self.general.caches[class as usize].store(listed.as_ptr(), Ordering::Release);
        Ok(cache)
    }

    /// A descriptor for the cache of a class, which is on no list.
    #[inline(never)]
    fn new_general(&self, class: u8) -> Option<NonNull<CacheDesc>> {
        assert!(class != 0, "no general cache is of class 0");
        let size = classes::size_of_class(class);
        let layout = Layout::new(size, (1 << size.trailing_zeros()).min(GRANULE));
        let mut name = [0; 16];
        let name = classes::name_of(class, &mut name);
        CacheDesc::new(name, size, layout, class, None, &self.meta, &self.platform)
    }

    /// Memory of `size` bytes aligned to `align`, a power of two.
    pub fn alloc_bytes(&self, size: usize, align: usize) -> Result<Fresh, AllocError> {
        match classes::class_of_aligned(size, align) {
            Some(class) => {
                // SAFETY: general caches live for ever.
                unsafe { self.alloc(self.general_cache(class)?) }.map(|address| Fresh { address, zero: false })
            }
            None => self.alloc_large(size, align),
        }
    }

    /// A run for `size` bytes, aligned to `align`. There is no memory for an `align` that is not a power of two.
    #[inline(never)]
    pub fn alloc_large(&self, size: usize, align: usize) -> Result<Fresh, AllocError> {
        if !align.is_power_of_two() {
            return Err(AllocError);
        }
        let granules = size.max(1).div_ceil(GRANULE);
        let alloc = || self.heap.alloc_for(&self.platform, granules, align, Use::Any);
        let again = || {
            // It is not worth emptying the caches for a run that the window could never hold.
            let fits = self.heap.could_hold(granules, align);
            fits.then(|| self.reclaim_everything()).and_then(|()| alloc())
        };
        let run = alloc().or_else(again).ok_or(AllocError)?;
        // SAFETY: the run was just handed out.
        unsafe { self.heap.set_large(&run) };
        self.platform.event(Event::LargeAllocated { address: run.address, bytes: granules * GRANULE });
        let address = NonNull::new(run.address as *mut u8).ok_or(AllocError)?;
        Ok(Fresh { address, zero: run.zero })
    }

    /// What is at `address`: the beginning of an object or of a large run, or nothing of this engine.
    ///
    /// Any address may be asked about, even one whose object, slab or cache is freed meanwhile: then the result is of a
    /// moment ago. The caller holds no lock of the engine.
    pub fn extent(&self, address: usize) -> Result<Extent, FreeError> {
        match self.heap.owner(address) {
            Owner::Slab(_) => self
                .heap
                // SAFETY: the heap keeps the slab and its cache meanwhile.
                .with_slab(&self.platform, address, |slab| unsafe { extent_on(slab, address) })
                .unwrap_or(Err(FreeError::NotAnObject)),
            owner => extent_of_run(owner, address),
        }
    }

    /// The same without the lock.
    ///
    /// # Safety
    /// If the address is the engine's, the memory is the caller's: it is not freed meanwhile.
    unsafe fn extent_held(&self, address: usize) -> Result<Extent, FreeError> {
        match self.heap.owner(address) {
            // SAFETY: the object lives, by the caller's word; so do its slab and its cache.
            Owner::Slab(slab) => unsafe { extent_on(slab, address) },
            owner => extent_of_run(owner, address),
        }
    }

    /// Whether an object of `cache` begins at `address`. Takes no lock.
    ///
    /// # Safety
    /// If an object of this engine begins there, it is the caller's: not freed before or meanwhile.
    pub unsafe fn is_object_of(&self, cache: &CacheDesc, address: usize) -> bool {
        // SAFETY: the object lives, by the caller's word; so do its slab and its cache.
        unsafe {
            slab::find(&self.heap, address).is_some_and(|(slab, _)| core::ptr::eq(slab::Slab::home_of(slab).0, cache))
        }
    }

    /// Frees memory of [`alloc_bytes`](Self::alloc_bytes), or any object of any cache. A pointer that is neither is
    /// reported and ignored.
    ///
    /// # Safety
    /// The memory is the caller's and not used afterwards (I7).
    #[inline(never)]
    pub unsafe fn free_bytes(&self, address: NonNull<u8>) {
        match self.heap.owner(address.as_ptr() as usize) {
            // SAFETY: the object lives, by the caller's word.
            Owner::Slab(_) => match unsafe { slab::find(&self.heap, address.as_ptr() as usize) } {
                // SAFETY: as above; so does its cache, to whose slot it goes.
                Some((slab, _)) => unsafe { self.free(slab::Slab::home_of(slab).0, address) },
                None => self.bad_free(address.as_ptr() as usize, FreeError::NotAnObject),
            },
            Owner::Large(granules) if (address.as_ptr() as usize).is_multiple_of(GRANULE) => {
                // SAFETY: the run is the caller's.
                unsafe { self.heap.free(&self.platform, address.as_ptr() as usize, granules) };
                let (address, bytes) = (address.as_ptr() as usize, granules * GRANULE);
                self.platform.event(Event::LargeFreed { address, bytes });
            }
            _ => self.bad_free(address.as_ptr() as usize, FreeError::NotAnObject),
        }
    }

    /// Bytes usable at `address`, which may be more than were asked for; 0 if nothing of this engine begins there. As
    /// for [`extent`](Self::extent), any address may be asked about.
    pub fn usable_size(&self, address: usize) -> usize {
        self.extent(address).map_or(0, Extent::bytes)
    }

    /// Memory of `size` bytes aligned to `align` with the content of `old`, as far as it fits; `old` is freed. On an
    /// error `old` is as it was.
    ///
    /// The memory stays in place if an object shrinks by less than half, or if a large run has room after it. Other
    /// large runs have their pages moved, if the page source can do that, and are copied otherwise.
    ///
    /// # Safety
    /// As for [`free_bytes`](Self::free_bytes).
    #[inline(never)]
    pub unsafe fn realloc_bytes(&self, old: NonNull<u8>, size: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
        let address = old.as_ptr() as usize;
        // SAFETY: the memory is the caller's.
        let Ok(extent) = (unsafe { self.extent_held(address) }) else {
            self.bad_free(address, FreeError::NotAnObject);
            return Err(AllocError);
        };
        let usable = extent.bytes();
        let stays = address.is_multiple_of(align)
            && match (extent, classes::class_of_aligned(size, align)) {
                (Extent::Large { .. }, None) => {
                    let (had, want) = (usable / GRANULE, size.div_ceil(GRANULE));
                    // SAFETY: the run is the caller's, who does not need what is beyond `size`.
                    want == had || unsafe { self.heap.resize(&self.platform, address, had, want) }
                }
                _ => stays(usable, size),
            };
        if stays {
            return Ok(old);
        }
        if let Extent::Large { .. } = extent {
            let (had, want) = (usable / GRANULE, size.div_ceil(GRANULE));
            // SAFETY: the run is the caller's, who no longer uses it by this address.
            if let Some(run) = unsafe { self.heap.relocate(&self.platform, address, had, want, align) } {
                return NonNull::new(run.address as *mut u8).ok_or(AllocError);
            }
        }
        let new = self.alloc_bytes(size, align)?.address;
        // SAFETY: both places are the caller's and at least as long as what is copied; they are different places.
        unsafe {
            core::ptr::copy_nonoverlapping(old.as_ptr(), new.as_ptr(), size.min(usable));
            self.free_bytes(old);
        }
        Ok(new)
    }
}
