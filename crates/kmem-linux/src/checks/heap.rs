//! The regions of the checked heap, and which requests and caches they serve.
//!
//! A request goes to the region of the smallest slots that have room for it and for at least 8 bytes around it;
//! requests for nothing go to a region that never opens, so that any access to them ends the program; those beyond 128
//! KiB get mappings of their own ([`large`](super::large)). Each named cache has a region of its own.
//!
//! ```text
//! region   0          1 .. 40                          41 .. 56                      57 .. 255
//!          nothing    packed slots, one for a class    slots of 1 .. 32 pages        named caches
//! ```
//! A region is made when it is first wanted, and stays. It is made under a lock, whose word a fork takes before those
//! of the regions: so the regions that a fork leaves are those whose words it took.

use kmem_core::classes::{self, MIN_ALIGN};
use kmem_core::sync::{AtomicPtr, AtomicU8, AtomicU64, Ordering, OtherFirst, Word};

use super::fill;
use super::lock::Locked;
use super::options::{self, Options};
use super::region::{Region, Shape};
use super::zone::{self, PAGE, REGIONS};
use crate::os::{environment, sys};

/// Bytes of the largest packed slot, and the number of its region: regions of packed slots have the numbers of classes.
pub(super) const PACKED_MAX: usize = 2048;
const PACKED: usize = 40;
const _: () = assert!(classes::SIZES[PACKED] as usize == PACKED_MAX);
/// Pages of the slots of the regions after those.
const PAGES: [usize; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32];
/// The first region of a named cache.
pub(super) const NAMED: usize = PACKED + 1 + PAGES.len();
/// Bytes around an object, at least.
pub(super) const AROUND: usize = 8;
/// Bytes before an object where red zones are wanted.
pub(super) const LEAD: usize = 16;
/// Most caches: as many as the engine has.
pub(super) const CACHES: usize = 16 << 10;

static HEAP: AtomicPtr<Heap> = AtomicPtr::new(core::ptr::null_mut());
/// Held while a region is made.
static MAKING: Locked<()> = Locked::new(());

/// The regions, and which caches they serve. All zero: no region, and none served.
pub(super) struct Heap {
    regions: [AtomicPtr<Region>; REGIONS],
    /// Which region serves a cache: by the index of its slot; 0: none.
    pub(super) region_of: [AtomicU8; CACHES],
    /// Bit `c`: requests of class `c` are checked.
    classes: [AtomicU64; 2],
    seed: AtomicU64,
}

/// The heap, if there is one.
pub(super) fn heap_if_on() -> Option<&'static Heap> {
    // SAFETY: the mapping is of zeros, which are a heap without regions, and stays.
    unsafe { HEAP.load(Ordering::Acquire).as_ref() }
}

/// Makes the heap; `false`: there is no address space for it.
pub(super) fn make(options: Options) -> bool {
    let heap =
        zone::map(size_of::<Heap>(), sys::PROT_READ | sys::PROT_WRITE).filter(|_| zone::reserve(options.notes_users()));
    let Some(address) = heap else { return false };
    let [one, two] = environment::random_words();
    let seed = one ^ two.rotate_left(23) ^ (address as u64) << 13;
    fill::begin((!options.has_red_zones()).then_some(mixed(seed)));
    HEAP.store(address as *mut Heap, Ordering::Release);
    let Some(heap) = heap_if_on() else { return false };
    heap.seed.store(seed, Ordering::Relaxed);
    for class in 1..=classes::CLASSES as u8 {
        if options.cover_class(classes::size_of_class(class)) {
            heap.classes[usize::from(class) / 64].fetch_or(1 << (class % 64), Ordering::Relaxed);
        }
    }
    true
}

/// Calls `visit` with the mappings of the heap and of the regions: where each begins, and how long it is.
pub(super) fn for_each_mapping(mut visit: impl FnMut(usize, usize)) {
    let Some(heap) = heap_if_on() else { return };
    visit(core::ptr::from_ref(heap).addr(), size_of::<Heap>());
    heap.for_each_region(|region| visit(core::ptr::from_ref(region).addr(), size_of::<Region>()));
}

/// Calls `visit` with the words of the regions' locks, after that of making them.
pub(super) fn for_each_word(mut visit: impl FnMut(&Word) -> Result<(), OtherFirst>) -> Result<(), OtherFirst> {
    visit(&MAKING.word)?;
    let Some(heap) = heap_if_on() else { return Ok(()) };
    (0..REGIONS).filter_map(|index| heap.region(index)).try_for_each(|region| visit(region.word()))
}

/// Bits that tell nothing of `word`.
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

impl Heap {
    /// The region of a number, if it was made.
    pub(super) fn region(&self, index: usize) -> Option<&'static Region> {
        // SAFETY: regions stay.
        unsafe { self.regions[index].load(Ordering::Acquire).as_ref() }
    }

    pub(super) fn for_each_region(&self, visit: impl FnMut(&'static Region)) {
        (0..REGIONS).filter_map(|index| self.region(index)).for_each(visit);
    }

    /// The region of a number, made now if there is none.
    pub(super) fn region_or_new(&self, index: usize, name: &str, shape: Shape) -> Option<&'static Region> {
        if let Some(region) = self.region(index) {
            return Some(region);
        }
        MAKING.with(|()| {
            if let Some(region) = self.region(index) {
                return Some(region);
            }
            let seed = mixed(self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed));
            let place = zone::map(size_of::<Region>(), sys::PROT_READ | sys::PROT_WRITE)? as *mut Region;
            // SAFETY: the mapping is new, as long as a region, and stays.
            let region = unsafe { Region::make(place, index, name, shape, seed) };
            self.regions[index].store(place, Ordering::Release);
            Some(region)
        })
    }

    /// The region for a request; `None`: it is a large one.
    pub(super) fn region_for(&self, size: usize, align: usize, options: Options) -> Option<&'static Region> {
        let (index, shape) = place_for(size, align, options)?;
        self.region(index).or_else(|| {
            let (mut name, mut digits) = ([0; 28], [0; 20]);
            let name = options::general_name(if index == 0 { 0 } else { shape.own }, &mut name, &mut digits);
            self.region_or_new(index, name, shape)
        })
    }

    /// Whether requests of a class (`None`: large ones) are checked.
    pub(super) fn covers(&self, class: Option<u8>, options: Options) -> bool {
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
    let pages = size.max(1).checked_add(if align > MIN_ALIGN { align - 1 } else { 0 })?.div_ceil(PAGE);
    let place = PAGES.iter().position(|have| *have >= pages)?;
    Some((PACKED + 1 + place, shape(PAGES[place] * PAGE, true, 0)))
}
