//! A slab's descriptor: its address, which objects are free, which list it is on.

use core::ptr::NonNull;

use super::bitmap::Bitmap;
use super::layout::PAGE;
use super::{Env, FreeError, Layout};
use crate::cache::CacheDesc;
use crate::host::Host;
use crate::meta::Meta;
use crate::pages::{GRANULE, PageHeap, Run, Use};

/// Objects that were taken off a slab.
#[derive(Clone, Copy, Default)]
pub(super) struct Taken {
    pub(super) count: usize,
    /// Bit `i` is set if the `i`-th still needs its constructor.
    pub(super) raw: u64,
    /// Bit `i` is set if the `i`-th is known to read as zero.
    pub(super) zero: u64,
}

/// Which list of its node a slab is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ListId {
    Partial,
    Full,
    Empty,
    /// Set aside by its node's [`idle`](super::idle) walk, while pages of it are purged.
    Aside,
    None,
}

/// The descriptor. It is in the metadata arena, followed by its bitmaps. Guarded by its node's lock.
pub(crate) struct Slab {
    pub(super) next: Option<NonNull<Slab>>,
    pub(super) prev: Option<NonNull<Slab>>,
    /// The cache whose objects these are.
    pub(crate) cache: NonNull<CacheDesc>,
    run: Run,
    /// Address of the first object: the run's, moved by the colour.
    first: usize,
    size: u32,
    objects: u32,
    /// [`Ruler::reciprocal`] of the size.
    reciprocal: u64,
    pub(super) in_use: u32,
    /// No word of the bitmap before this has a free object.
    hint: u32,
    pub(crate) node: u16,
    pub(super) list: ListId,
    /// Whether objects were taken or put since the idle walk last came by.
    pub(super) touched: bool,
    /// How many bits of `purged` are set.
    dry: u32,
    /// When it was made, in seconds of the platform's clock: for readers outside of the process.
    born: u32,
    free: Bitmap,
    /// Pages that read as zero and hold no memory, as far as is known: they were purged, or the slab is new, and no
    /// object was handed out there since.
    purged: Bitmap,
    /// Objects that a constructor made and that are still so, for caches with a constructor.
    constructed: Option<Bitmap>,
}

impl Slab {
    fn bytes(layout: &Layout, constructed: bool) -> usize {
        let words = Bitmap::words_for(layout.objects) * (1 + usize::from(constructed));
        size_of::<Self>() + (words + Bitmap::words_for(layout.pages())) * 8
    }

    /// A slab of `cache` with all objects free, known to the page heap. If either memory is missing, nothing is left
    /// (I12).
    pub(crate) fn new<P: Host>(
        cache: &CacheDesc,
        node: usize,
        colour: usize,
        what: Use,
        env: &Env<'_, P>,
    ) -> Option<NonNull<Self>> {
        let &Env { platform, heap, meta } = env;
        let layout = cache.layout();
        let constructed = cache.ops().is_some();
        let bytes = Self::bytes(layout, constructed);
        let memory = meta.alloc(platform, bytes)?;
        let Some(run) = heap.alloc_for(platform, layout.granules, layout.align, what) else {
            // SAFETY: it was just allocated, and no other thread knows it.
            unsafe { meta.free(platform, memory, bytes) };
            return None;
        };
        let slab = memory.cast::<Self>();
        let words = Bitmap::words_for(layout.objects);
        // Many small objects share a page: to know which of them are untouched is not worth the cost.
        let untouched = run.zero && layout.size >= PAGE;
        // SAFETY: the piece has room for the descriptor and the bitmaps after it, whose words are aligned as the
        // descriptor is.
        unsafe {
            let bits = slab.add(1).cast::<u64>();
            let free = Bitmap::new(bits);
            free.fill(layout.objects, true);
            let purged = Bitmap::new(bits.add(words));
            purged.fill(layout.pages(), untouched);
            let constructed = constructed.then(|| {
                let made = Bitmap::new(bits.add(words + Bitmap::words_for(layout.pages())));
                made.fill(layout.objects, false);
                made
            });
            slab.write(Self {
                next: None,
                prev: None,
                cache: NonNull::from(cache),
                run,
                first: run.address + colour * layout.colour_step,
                size: layout.size as u32,
                objects: layout.objects as u32,
                reciprocal: Ruler::reciprocal(layout.size),
                in_use: 0,
                hint: 0,
                node: node as u16,
                list: ListId::None,
                touched: false,
                dry: if untouched { layout.pages() as u32 } else { 0 },
                born: platform.seconds(),
                free,
                purged,
                constructed,
            });
        }
        // SAFETY: the run and the descriptor were just made; `free` ends both in the order that is asked for.
        unsafe { heap.set_slab(&run, memory, cache.class()) };
        Some(slab)
    }

    /// Frees the slab's pages and its descriptor, and returns the bytes of its pages.
    ///
    /// # Safety
    /// The slab is the caller's, on no list and without an object in use, and is not used afterwards.
    pub(super) unsafe fn free<P: Host>(slab: NonNull<Self>, heap: &PageHeap, meta: &Meta, platform: &P) -> usize {
        // SAFETY: the slab is the caller's; its cache outlives it.
        unsafe {
            let this = slab.as_ref();
            let (run, bytes) = (this.run, Self::bytes(this.cache.as_ref().layout(), this.constructed.is_some()));
            if this.dry as usize * 2 >= run.granules * (GRANULE / PAGE) {
                // Most of its pages were purged one by one. The rest is purged too, so that they are not purged again
                // as a run that holds memory.
                platform.purge(run.address, run.granules * GRANULE);
                heap.free_purged(platform, run.address, run.granules);
            } else {
                heap.free(platform, run.address, run.granules);
            }
            meta.free(platform, slab.cast(), bytes);
            run.granules * GRANULE
        }
    }

    /// Finds the first object from index `from` on that is constructed, and notes that it is no longer.
    ///
    /// # Safety
    /// The node's lock is held, or the slab is on no list.
    pub(super) unsafe fn take_constructed(&mut self, from: usize) -> Option<usize> {
        let made = self.constructed?;
        // SAFETY: the objects have a bit each.
        unsafe {
            let index = made.find(from, self.objects(), true);
            (index < self.objects() && made.replace(index, false)).then_some(index)
        }
    }

    /// Objects of the slab.
    pub(crate) fn objects(&self) -> usize {
        self.objects as usize
    }

    /// The index of the object at `address`; `None` if no object begins there.
    ///
    /// # Safety
    /// The slab lives.
    pub(crate) unsafe fn index_of(slab: NonNull<Self>, address: usize) -> Option<usize> {
        // SAFETY: the caller's promise.
        unsafe { Ruler::of(slab) }.index(address)
    }

    /// The slab's cache and its node there, read as [`index_of`](Self::index_of) reads.
    ///
    /// # Safety
    /// The slab lives.
    pub(crate) unsafe fn home_of<'a>(slab: NonNull<Self>) -> (&'a CacheDesc, usize) {
        let slab = slab.as_ptr();
        // SAFETY: as in `index_of`; a cache outlives its slabs.
        unsafe { ((&raw const (*slab).cache).read().as_ref(), (&raw const (*slab).node).read() as usize) }
    }

    pub(crate) fn address_of(&self, index: usize) -> usize {
        self.first + index * self.size as usize
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_use == self.objects
    }

    /// Takes free objects in order of address, as many as there is room for, if there are so many. One call takes at
    /// most 64.
    ///
    /// # Safety
    /// The node's lock is held.
    pub(super) unsafe fn take(&mut self, room: &mut [usize]) -> Taken {
        let (first, size, want) = (self.first, self.size as usize, room.len());
        let mut count = 0;
        let each = |index: usize| {
            room[count] = first + index * size;
            count += 1;
        };
        // SAFETY: the lock is held and the words exist.
        self.hint = unsafe { self.free.take(self.objects as usize, self.hint as usize, want, each) } as u32;
        self.in_use += count as u32;
        self.touched = true;
        let mut taken = Taken { count, ..Taken::default() };
        if self.dry > 0 || self.constructed.is_some() {
            for (place, object) in room[..count].iter().enumerate() {
                // SAFETY: the caller's promise; these are objects of the slab.
                unsafe {
                    taken.zero |= u64::from(self.wet(*object)) << place;
                    taken.raw |= u64::from(!self.is_constructed(*object)) << place;
                }
            }
        }
        taken
    }

    /// An object is handed out: its pages have memory from now on. Returns whether none of them had any.
    ///
    /// # Safety
    /// The node's lock is held, and the object is one of the slab.
    unsafe fn wet(&mut self, object: usize) -> bool {
        let at = object - self.run.address;
        let (first, end) = (at / PAGE, (at + self.size as usize).div_ceil(PAGE));
        // SAFETY: the object's pages have a bit each, and the lock is held.
        let dry = if self.dry > 0 { unsafe { self.purged.set(first, end, false) } } else { 0 };
        self.dry -= dry as u32;
        dry == end - first
    }

    /// Whether the object is constructed already.
    ///
    /// # Safety
    /// As for [`wet`](Self::wet).
    unsafe fn is_constructed(&self, object: usize) -> bool {
        // SAFETY: the object has a bit, and the lock is held.
        self.constructed.is_none_or(|made| unsafe { made.get((object - self.first) / self.size as usize) })
    }

    /// Marks the first of these objects free again, as many as are successively objects of this slab. Returns how many
    /// these are, and how many of them were marked. Those that were free already (a double free, I7) go to `bad`.
    ///
    /// Successive objects with bits in the same word, which is most of them, are marked at once.
    ///
    /// # Safety
    /// The node's lock is held.
    pub(super) unsafe fn put(
        &mut self,
        objects: &[usize],
        constructed: impl Fn(usize) -> bool,
        bad: &mut impl FnMut(usize, FreeError),
    ) -> (usize, usize) {
        // SAFETY: the slab lives.
        let ruler = unsafe { Ruler::of(NonNull::from(&mut *self)) };
        let (mut seen, mut doubled, mut lowest) = (0, 0, self.hint as usize);
        while let Some(first) = objects.get(seen).and_then(|object| ruler.index(*object)) {
            let (begin, word) = (seen, first / 64);
            let mut mask = 1 << (first % 64);
            seen += 1;
            for object in &objects[seen..] {
                match ruler.index(*object) {
                    Some(index) if index ^ first < 64 && mask & 1 << (index % 64) == 0 => mask |= 1 << (index % 64),
                    _ => break,
                }
                seen += 1;
            }
            // SAFETY: the lock is held and the bits of objects exist.
            let were_free = unsafe { self.free.add(word, mask) };
            lowest = lowest.min(word);
            if were_free != 0 || self.constructed.is_some() {
                doubled += were_free.count_ones() as usize;
                for (place, object) in objects.iter().enumerate().take(seen).skip(begin) {
                    let Some(index) = ruler.index(*object) else { break };
                    if were_free & 1 << (index % 64) != 0 {
                        bad(*object, FreeError::DoubleFree);
                    } else if let Some(made) = self.constructed {
                        // SAFETY: as above.
                        unsafe { made.replace(index, constructed(place)) };
                    }
                }
            }
        }
        let put = seen - doubled;
        self.in_use -= put as u32;
        self.hint = lowest as u32;
        self.touched |= put > 0;
        (seen, put)
    }

    /// Calls `found` with each stretch of whole pages (first and end) that hold free objects only and were not purged,
    /// as long as it returns `true`. Pages after the last object count as free.
    ///
    /// # Safety
    /// The node's lock is held.
    pub(super) unsafe fn free_pages(&self, mut found: impl FnMut(usize, usize) -> bool) {
        let (objects, size, offset) = (self.objects as usize, self.size as usize, self.first - self.run.address);
        let mut index = 0;
        while index < objects {
            // SAFETY: the bits exist and the lock is held.
            unsafe {
                let start = self.free.find(index, objects, true);
                let end = self.free.find(start, objects, false);
                if start == end {
                    return;
                }
                let from = if start == 0 { 0 } else { offset + start * size };
                let to = if end == objects { self.run.granules * GRANULE } else { offset + end * size };
                let last = to / PAGE;
                let mut first = from.div_ceil(PAGE).min(last);
                while first < last {
                    first = self.purged.find(first, last, false);
                    let next = self.purged.find(first, last, true);
                    if first < last && !found(first, next) {
                        return;
                    }
                    first = next;
                }
                index = end;
            }
        }
    }

    /// Notes that pages were purged, those of a stretch of [`free_pages`](Self::free_pages). Objects that are there, if
    /// only in part, no longer count as constructed; all of them are free.
    ///
    /// # Safety
    /// The node's lock is held.
    pub(super) unsafe fn note_purged(&mut self, first: usize, end: usize) {
        let (offset, size) = (self.first - self.run.address, self.size as usize);
        // SAFETY: the bits exist and the lock is held.
        unsafe {
            self.dry += self.purged.set(first, end, true) as u32;
            if let Some(made) = self.constructed {
                let from = (first * PAGE).saturating_sub(offset) / size;
                let to = (end * PAGE).saturating_sub(offset).div_ceil(size).min(self.objects());
                made.set(from.min(to), to, false);
            }
        }
    }

    /// The address of a page.
    pub(super) fn page(&self, index: usize) -> usize {
        self.run.address + index * PAGE
    }

    /// How many pages count as purged; `None` if one of them holds an object that is not free. For `validate`.
    ///
    /// # Safety
    /// As for [`replace_free`](Self::replace_free).
    pub(crate) unsafe fn purged_pages(&self) -> Option<usize> {
        let offset = self.first - self.run.address;
        let mut count = 0;
        for page in 0..self.run.granules * GRANULE / PAGE {
            // SAFETY: the caller's promise.
            unsafe {
                if self.purged.get(page) {
                    let from = (page * PAGE).saturating_sub(offset) / self.size as usize;
                    let to = ((page + 1) * PAGE).saturating_sub(offset).div_ceil(self.size as usize);
                    let to = to.min(self.objects());
                    if self.free.find(from.min(to), to, false) != to {
                        return None;
                    }
                    count += 1;
                }
            }
        }
        (count == self.dry as usize).then_some(count)
    }

    /// Whether the object is on the slab (free); flips the bit. For `validate`, which flips it back.
    ///
    /// # Safety
    /// The allocator is quiescent and the node's lock is held.
    pub(crate) unsafe fn replace_free(&mut self, index: usize, free: bool) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.free.replace(index, free) }
    }

    /// Free objects by the bitmap, and in use by the counter: `validate` compares them.
    ///
    /// # Safety
    /// As for [`replace_free`](Self::replace_free).
    pub(crate) unsafe fn counts(&self) -> (usize, usize) {
        // SAFETY: the caller's promise.
        let free = (0..self.objects()).filter(|index| unsafe { self.free.get(*index) }).count();
        (free, self.in_use as usize)
    }
}

/// Finds an object's index by its address.
///
/// Made of fields that never change, read one by one: another thread may hold the node's lock and be changing others.
struct Ruler {
    first: usize,
    /// Bytes from the first object to the end of the last.
    bytes: usize,
    reciprocal: u64,
}

impl Ruler {
    /// 2^64 divided by the size, rounded up: an index is a product instead of a quotient. Exact for offsets below 2^32.
    const fn reciprocal(size: usize) -> u64 {
        u64::MAX / size as u64 + 1
    }

    /// # Safety
    /// The slab lives.
    unsafe fn of(slab: NonNull<Slab>) -> Self {
        let slab = slab.as_ptr();
        // SAFETY: the slab lives, and these fields are not written after it was made.
        unsafe {
            Self {
                first: (&raw const (*slab).first).read(),
                bytes: (&raw const (*slab).size).read() as usize * (&raw const (*slab).objects).read() as usize,
                reciprocal: (&raw const (*slab).reciprocal).read(),
            }
        }
    }

    /// `None` where no object begins: the product's lower half is below the reciprocal exactly for multiples of the
    /// size (Lemire, Kaser and Kurz, Faster remainder by direct computation, 2019).
    #[inline(always)]
    fn index(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_sub(self.first);
        let product = offset as u128 * u128::from(self.reciprocal);
        (offset < self.bytes && (product as u64) < self.reciprocal).then_some((product >> 64) as usize)
    }
}

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const SIZE: usize = size_of::<Slab>();
    pub(crate) const NEXT: usize = offset_of!(Slab, next);
    pub(crate) const FIRST: usize = offset_of!(Slab, first);
    pub(crate) const OBJECTS: usize = offset_of!(Slab, objects);
    pub(crate) const FREE: usize = offset_of!(Slab, free);
    pub(crate) const BORN: usize = offset_of!(Slab, born);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_begin_at_multiples_of_their_size_only() {
        for size in (8..=4096).step_by(8).chain([24, 40, 12_288, 98_304, 131_072, 1 << 20, 3 << 20]) {
            let objects = (1usize << 20).div_ceil(size).max(3);
            let ruler = Ruler { first: 1 << 32, bytes: objects * size, reciprocal: Ruler::reciprocal(size) };
            for index in 0..objects {
                let address = ruler.first + index * size;
                assert_eq!(ruler.index(address), Some(index), "{size}");
                for inside in [1, 8, size / 2, size - 1] {
                    assert_eq!(ruler.index(address + inside % size), (inside % size == 0).then_some(index), "{size}");
                }
            }
            assert_eq!((ruler.index(ruler.first - 8), ruler.index(ruler.first + ruler.bytes)), (None, None), "{size}");
        }
    }
}
