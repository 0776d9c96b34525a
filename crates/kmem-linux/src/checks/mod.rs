//! The checked heap: memory whose every allocation and free is looked at.
//!
//! It serves instead of the engine's caches where the environment or the build asks for it (`options`), and only on
//! slow paths. A cache that it serves has no slots, ever: the engine enables a slot when it misses, and the checked
//! heap takes over before the engine is asked. So there is no branch on a fast path, and where nothing is checked
//! nothing costs anything.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | what is checked, and of which caches |
//! | `zone` | address space: regions, and the books about them |
//! | `region` | slots of one length: handed out, freed, looked at |
//! | `large` | large objects, between guards |
//! | `pool` | objects on pages of their own, by sampling |
//! | `fill` | what stands in memory that no object uses |
//! | `track` | who allocated and who freed |
//! | `named` | caches that have names |
//! | `leaks` | what nothing leads to any longer |
//! | `report`, `signal` | what is said of a fault that is found, and of one that the processor finds |
//!
//! A request goes to the region of the smallest slots that have room for it and for at least 8 bytes around it;
//! requests for nothing go to a region that never opens, so that any access to them ends the program; those beyond 128
//! KiB get mappings of their own. Each named cache has a region of its own.

mod fill;
mod large;
mod leaks;
mod lock;
mod named;
mod options;
mod pool;
mod region;
mod report;
mod signal;
mod track;
mod zone;

use core::ptr::NonNull;

use kmem_core::AllocError;
use kmem_core::classes::{self, MIN_ALIGN};
use kmem_core::slab::FreeError;
use kmem_core::sync::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, OtherFirst, Word};

use self::options::Options;
use self::region::{Fault, LIVE, Region, Shape};
use self::track::Track;
use self::zone::{PAGE, REGIONS};
use crate::os::geometry::page;
use crate::os::{environment, sys};
use crate::watched;

/// Bytes of the largest packed slot, and the number of its region: regions of packed slots have the numbers of classes.
const PACKED_MAX: usize = 2048;
const PACKED: usize = 40;
const _: () = assert!(classes::SIZES[PACKED] as usize == PACKED_MAX);
/// Pages of the slots of the regions after those.
const PAGES: [usize; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32];
/// The first region of a named cache.
const NAMED: usize = PACKED + 1 + PAGES.len();
/// Bytes around an object, at least.
const AROUND: usize = 8;
/// Bytes before an object where red zones are wanted.
const LEAD: usize = 16;
/// Allocations that a miss stands for: about a batch.
const WEIGHT: usize = 32;
/// Most caches: as many as the engine has.
const CACHES: usize = 16 << 10;

/// 1 if anything is checked.
pub static ON: AtomicU32 = AtomicU32::new(0);
static HEAP: AtomicPtr<Heap> = AtomicPtr::new(core::ptr::null_mut());

/// What the program starts with, once libc can be asked: the handler of faults, and the unwinder.
#[cold]
pub(crate) fn at_start() {
    if are_on() {
        if Options::chosen().notes_users() || !Options::chosen().is_secure() {
            crate::stack::prepare();
        }
        signal::begin();
    }
}

/// The regions, and which caches they serve.
struct Heap {
    regions: [AtomicPtr<Region>; REGIONS],
    /// Which region serves a cache: by the index of its slot; 0: none.
    region_of: [AtomicU8; CACHES],
    /// Bit `c`: requests of class `c` are checked.
    classes: [AtomicU64; 2],
    seed: AtomicU64,
}

pub(crate) use named::{adopt, alloc_in, begin_destroy, covers, end_destroy, free_in, live_in};

/// Whether anything is checked.
#[inline(always)]
pub(crate) fn are_on() -> bool {
    ON.load(Ordering::Relaxed) != 0
}

/// Reads what is wanted, and makes the checked heap if it is. Called once, before the engine is published.
#[cold]
pub(crate) fn begin() {
    let (options, rate) = (options::read(), options::rate());
    if page() != PAGE {
        if options.any() || rate > 0 {
            sys::report(&["kmem: memory can be checked only where pages have 4 KiB: it is served unchecked"]);
        }
        return;
    }
    if options.is_secure() || rate > 0 {
        pool::begin(rate);
        ON.store(1, Ordering::Release);
        watched::set(watched::CHECKED);
    }
    if !options.any() {
        return;
    }
    let heap =
        zone::map(size_of::<Heap>(), sys::PROT_READ | sys::PROT_WRITE).filter(|_| zone::reserve(options.notes_users()));
    let Some(heap) = heap else {
        return sys::report(&["kmem: there is no address space to check memory in: it is served unchecked"]);
    };
    let [one, two] = environment::random_words();
    let seed = one ^ two.rotate_left(23) ^ (heap as u64) << 13;
    fill::begin((!options.has_red_zones()).then_some(mixed(seed)));
    HEAP.store(heap as *mut Heap, Ordering::Release);
    let Some(heap) = heap_if_on() else { return };
    heap.seed.store(seed, Ordering::Relaxed);
    for class in 1..=classes::CLASSES as u8 {
        if options.cover_class(classes::size_of_class(class)) {
            heap.classes[usize::from(class) / 64].fetch_or(1 << (class % 64), Ordering::Relaxed);
        }
    }
    ON.store(1, Ordering::Release);
    watched::set(watched::CHECKED);
}

fn heap_if_on() -> Option<&'static Heap> {
    // SAFETY: the mapping is of zeros, which are a heap without regions, and stays.
    unsafe { HEAP.load(Ordering::Acquire).as_ref() }
}

/// Bits that tell nothing of `word`.
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

impl Heap {
    fn region(&self, index: usize) -> Option<&'static Region> {
        // SAFETY: regions stay.
        unsafe { self.regions[index].load(Ordering::Acquire).as_ref() }
    }

    fn for_each_region(&self, visit: impl FnMut(&'static Region)) {
        (0..REGIONS).filter_map(|index| self.region(index)).for_each(visit);
    }

    /// The region of a number, made now if there is none.
    fn region_or_new(&self, index: usize, name: &str, shape: Shape) -> Option<&'static Region> {
        if let Some(region) = self.region(index) {
            return Some(region);
        }
        let seed = mixed(self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed));
        let place = zone::map(size_of::<Region>(), sys::PROT_READ | sys::PROT_WRITE)? as *mut Region;
        // SAFETY: the mapping is new, and as long as a region.
        unsafe { place.write(Region::new(index, name, shape, seed)) };
        let null = core::ptr::null_mut();
        if self.regions[index].compare_exchange(null, place, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: another thread made it, and no other knows this one.
            let _ = unsafe { sys::munmap(place as usize, size_of::<Region>()) };
        }
        self.region(index)
    }

    /// The region for a request; `None`: it is a large one.
    fn region_for(&self, size: usize, align: usize, options: Options) -> Option<&'static Region> {
        let (index, shape) = place_for(size, align, options)?;
        self.region(index).or_else(|| {
            let (mut name, mut digits) = ([0; 28], [0; 20]);
            let name = options::general_name(if index == 0 { 0 } else { shape.own }, &mut name, &mut digits);
            self.region_or_new(index, name, shape)
        })
    }

    fn covers(&self, class: Option<u8>, options: Options) -> bool {
        class.map_or_else(
            || options.cover("kmalloc"),
            |class| self.classes[usize::from(class) / 64].load(Ordering::Relaxed) & 1 << (class % 64) != 0,
        )
    }
}

/// Which region serves a request, and what its slots are like; `None`: none does.
fn place_for(size: usize, align: usize, options: Options) -> Option<(usize, Shape)> {
    let lead = if options.has_red_zones() { LEAD } else { 0 };
    let shape = |own, paged, lead| Shape { own, paged, lead, patient: options.is_patient() };
    if align <= MIN_ALIGN {
        if size == 0 {
            return Some((0, shape(16, false, 0)));
        }
        if size <= PACKED_MAX - AROUND - lead {
            let class = classes::class_of(size + AROUND + lead)?;
            return Some((class as usize, shape(classes::size_of_class(class), false, lead)));
        }
    }
    if align > PAGE {
        return None;
    }
    // What is aligned to more than 16 may begin so much before the end of its pages.
    let pages = (size.max(1) + if align > MIN_ALIGN { align - 1 } else { 0 }).div_ceil(PAGE);
    let place = PAGES.iter().position(|have| *have >= pages)?;
    Some((PACKED + 1 + place, shape(PAGES[place] * PAGE, true, 0)))
}

/// Memory for a request of this class (`None`: a large one); `None` where such requests are not checked.
#[cold]
#[inline(never)]
pub(crate) fn alloc(class: Option<u8>, size: usize, align: usize) -> Option<Result<NonNull<u8>, AllocError>> {
    let options = Options::chosen();
    // Each miss stands for a batch of the slot.
    if pool::is_due(WEIGHT)
        && let Some(address) = pool::alloc(size, align)
    {
        return NonNull::new(address as *mut u8).map(Ok);
    }
    let heap = heap_if_on()?;
    heap.covers(class, options).then(|| take(heap, size, align, options).ok_or(AllocError))
}

fn take(heap: &Heap, size: usize, align: usize, options: Options) -> Option<NonNull<u8>> {
    if !align.is_power_of_two() {
        return None;
    }
    let address = match heap.region_for(size, align, options) {
        Some(region)
            if options.is_secure()
                && region.is_sampled()
                && let Some(address) = pool::alloc(size, align) =>
        {
            return NonNull::new(address as *mut u8);
        }
        Some(region) => match region.alloc(size, align, options) {
            Ok(address) => address,
            Err(fault) => report::fault("malloc", 0, fault),
        },
        None => None,
    };
    let address = address.or_else(|| {
        large::alloc(size, align).inspect(|address| {
            // SAFETY: the memory was just taken.
            unsafe { options.fill_new(*address, size) }
        })
    })?;
    if options.traces() {
        report::trace(" alloc ", address, size);
    }
    NonNull::new(address as *mut u8)
}

/// Whether memory of [`alloc`] reads as zero.
pub(crate) fn is_zero() -> bool {
    Options::chosen().fills_with_zero()
}

/// Frees memory of the checked heap; `false`: it is none of it. `size`: what the caller says that it has.
#[cold]
#[inline(never)]
pub(crate) fn free(address: NonNull<u8>, size: Option<usize>) -> bool {
    let at = address.as_ptr() as usize;
    if Options::chosen().traces()
        && let Some(Ok(size)) = size_of_live(at)
    {
        report::trace(" free ", at, size);
    }
    let freed = match (pool::free(at, size), zone::region_of(at)) {
        (Some(freed), _) => freed.map(|()| true),
        (None, Some(index)) => match heap_if_on().and_then(|heap| heap.region(index)) {
            Some(region) => region.free(at, size, Options::chosen()).map(|()| true),
            None => Err(Fault::NotAnObject),
        },
        (None, None) => large::free(at, size),
    };
    match freed {
        Ok(done) => done,
        Err(fault) => report::fault("free", at, fault),
    }
}

/// Bytes that were asked for at an address of the checked heap; `None`: it is none of it.
#[cold]
#[inline(never)]
pub(crate) fn usable_size(address: NonNull<u8>) -> Option<usize> {
    let at = address.as_ptr() as usize;
    match size_of_live(at) {
        Some(Ok(size)) => Some(size),
        Some(Err(fault)) => report::fault("malloc_usable_size", at, fault),
        None => None,
    }
}

/// Says that a pointer was freed that is no live object, and ends the program.
#[cold]
pub(crate) fn bad_free(object: usize, error: FreeError) -> ! {
    let fault = match error {
        FreeError::NotAnObject => Fault::NotAnObject,
        FreeError::DoubleFree => Fault::Free,
    };
    report::fault("free", object, fault)
}

/// Says that an address is nothing of kmem's, and ends the program, where all memory is hardened.
#[cold]
pub(crate) fn refuse(what: &str, address: NonNull<u8>) {
    if Options::chosen().is_secure() {
        report::fault(what, address.as_ptr() as usize, Fault::NotAnObject);
    }
}

/// Ends the program where an object of the checked heap has not this size, which its deleter says.
#[cold]
#[inline(never)]
pub fn check_size(address: *mut u8, size: usize) {
    let at = address as usize;
    if are_on()
        && let Some(Ok(has)) = size_of_live(at)
        && has != size
    {
        report::fault("delete", at, Fault::Size(size));
    }
}

fn size_of_live(at: usize) -> Option<Result<usize, Fault>> {
    if let Some(found) = pool::size(at) {
        return Some(found);
    }
    let Some(index) = zone::region_of(at) else { return large::size(at) };
    let found = heap_if_on().and_then(|heap| heap.region(index)).and_then(|region| region.look(at));
    Some(match found {
        Some((begin, known)) if known.state() == LIVE && begin == at => Ok(known.size()),
        Some((begin, known)) if known.state() == LIVE => Err(Fault::Inside(begin)),
        Some((begin, known)) if known.state() != region::FRESH && begin == at => Err(Fault::Free),
        _ => Err(Fault::NotAnObject),
    })
}

/// Memory of the checked heap with another size; `None`: it is none of it.
#[cold]
#[inline(never)]
pub(crate) fn realloc(address: NonNull<u8>, size: usize, align: usize) -> Option<Result<NonNull<u8>, AllocError>> {
    let (options, at) = (Options::chosen(), address.as_ptr() as usize);
    let old = match size_of_live(at)? {
        Ok(old) => old,
        Err(fault) => report::fault("realloc", at, fault),
    };
    if let Some(region) = zone::region_of(at).and_then(|index| heap_if_on()?.region(index)) {
        match region.resize(at, size) {
            Ok(true) if at.is_multiple_of(align) => return Some(Ok(address)),
            Ok(_) => {}
            Err(fault) => report::fault("realloc", at, fault),
        }
    }
    let new = match heap_if_on().filter(|heap| heap.covers(classes::class_of_aligned(size, align), options)) {
        Some(heap) => take(heap, size, align, options),
        None => crate::general::alloc_aligned(size, align).ok(),
    };
    let Some(new) = new else { return Some(Err(AllocError)) };
    // SAFETY: both are live objects of at least so many bytes, the caller's.
    unsafe { new.copy_from_nonoverlapping(address, old.min(size)) };
    free(address, None);
    Some(Ok(new))
}

/// Objects and bytes in use in the checked heap: those of slots, and large ones.
pub(crate) fn in_use() -> [(usize, usize); 2] {
    let Some(heap) = heap_if_on() else { return [(0, 0); 2] };
    let mut small = (0, 0);
    for region in (0..REGIONS).filter_map(|index| heap.region(index)) {
        let (objects, bytes) = region.in_use();
        small = (small.0 + objects, small.1 + bytes);
    }
    let (bytes, objects) = large::in_use();
    [small, (objects, bytes)]
}

/// Calls `visit` with the word of every lock.
///
/// # Safety
/// As for [`Park::for_each_word`](kmem_core::platform::Park::for_each_word).
pub(crate) unsafe fn for_each_word(mut visit: impl FnMut(&Word) -> Result<(), OtherFirst>) -> Result<(), OtherFirst> {
    if !are_on() {
        return Ok(());
    }
    if let Some(heap) = heap_if_on() {
        for region in (0..REGIONS).filter_map(|index| heap.region(index)) {
            visit(region.word())?;
        }
    }
    [large::word(), pool::word(), track::word()].into_iter().try_for_each(visit)
}

/// An object of the checked heap.
#[derive(Clone, Copy)]
struct Place {
    address: usize,
    size: usize,
    live: bool,
    /// Whether its bytes can be looked at.
    readable: bool,
    /// The number of its region; none for those that have no region.
    region: Option<usize>,
    track: Track,
}

impl Place {
    /// The name of its cache.
    fn cache(&self) -> &'static str {
        match self.region.and_then(|index| heap_if_on()?.region(index)) {
            Some(region) => region.name(),
            None => "kmem",
        }
    }
}

/// The object that an address is in, or beside, or was.
fn covering(at: usize) -> Option<Place> {
    if let Some(slot) = pool::covering(at) {
        let (address, size, live, track) = (slot.address, slot.size, slot.live, slot.track);
        return Some(Place { address, size, live, readable: live, region: None, track });
    }
    if let Some(index) = zone::region_of(at) {
        let region = heap_if_on()?.region(index)?;
        let (address, known) = region.look(at)?;
        let live = known.state() == LIVE;
        let (size, track) = (known.size(), region.track_of(at));
        return Some(Place { address, size, live, readable: live, region: Some(index), track });
    }
    let (address, size, free, track) = large::covering(at)?;
    Some(Place { address, size, live: !free, readable: !free, region: None, track })
}
