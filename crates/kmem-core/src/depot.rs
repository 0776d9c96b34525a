//! The depot: full and empty magazines of one cache on one node, which is how objects travel between CPUs.
//!
//! A miss on an empty slot takes a full magazine, a miss on a full slot leaves one: O(1) for a batch of objects, whose
//! memory is not touched. Single objects (from CPUs without a slot) gather in the *loose* magazine until it is full.
//! The depot holds at most `limit` full magazines, a few for each CPU; further objects return to the slabs,
//! which hand them out in order of address again. Otherwise a program that repeatedly builds and frees a large
//! structure would receive its objects in an increasingly scrambled order. Empty magazines come from the metadata
//! arena, and if that has none, objects return to the slabs as well: nothing here can fail with an object in its hands.

use core::ptr::NonNull;

use crate::batch::{BATCH_MAX, Batch};
use crate::host::Host;
use crate::meta::Meta;
use crate::sync::{AtomicUsize, Mutex, Ordering, Rank, Word};

/// The most bytes of objects that a depot holds for each CPU of its node, apart from the least number of magazines.
const BYTES_A_CPU: usize = 16 << 10;
/// The same for all CPUs.
const BYTES_MAX: usize = 1 << 20;
/// Magazines that a depot may hold however large the objects are.
const MAGAZINES_MIN: usize = 2;
/// Magazines that a depot may hold at most.
pub(crate) const MAGAZINES_MAX: usize = 256;
/// In the count of objects: the depot is at its limit.
const AT_LIMIT: usize = 1 << (usize::BITS - 1);

/// A magazine in the depot; its objects are after it.
struct Magazine {
    next: Option<NonNull<Magazine>>,
    len: usize,
}

impl Magazine {
    fn bytes(batch: usize) -> usize {
        size_of::<Self>() + batch * size_of::<usize>()
    }

    /// # Safety
    /// The magazine is the caller's, and has room for `batch` objects.
    unsafe fn objects<'a>(magazine: NonNull<Self>, batch: usize) -> &'a mut [usize] {
        // SAFETY: the objects are after the head, in the same piece of metadata, which is written before it is read.
        unsafe { core::slice::from_raw_parts_mut(magazine.add(1).cast::<usize>().as_ptr(), batch) }
    }
}

#[derive(Default)]
struct Stack {
    head: Option<NonNull<Magazine>>,
    count: usize,
}

impl Stack {
    fn push(&mut self, mut magazine: NonNull<Magazine>) {
        // SAFETY: the magazine is ours.
        unsafe { magazine.as_mut() }.next = self.head.take();
        self.head = Some(magazine);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<NonNull<Magazine>> {
        let magazine = self.head?;
        // SAFETY: magazines on the stack are ours.
        self.head = unsafe { magazine.as_ref() }.next;
        self.count -= 1;
        Some(magazine)
    }
}

#[derive(Default)]
struct State {
    full: Stack,
    empty: Stack,
    loose: Option<NonNull<Magazine>>,
    /// The least number of full magazines since the last [`Depot::idle`]: so many were not needed.
    low: usize,
    /// Whether anything was put or taken since then.
    stirred: bool,
    /// Full magazines that the depot may hold.
    limit: usize,
    /// The most objects that one take moves.
    most: usize,
    traffic: Traffic,
}

/// How often objects came and went, since the beginning. Changed under the depot's lock, by the batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Taken, a magazine or an object at a time.
    pub(crate) refills: usize,
    /// Put, as many as came at a time.
    pub(crate) flushes: usize,
}

impl State {
    /// Takes a full magazine off.
    fn pop_full(&mut self) -> Option<NonNull<Magazine>> {
        let magazine = self.full.pop();
        self.low = self.low.min(self.full.count);
        magazine
    }
}

// SAFETY: the magazines are owned by the state and guarded by the lock around it.
unsafe impl Send for State {}

/// The depot of a cache on a node.
pub(crate) struct Depot {
    state: Mutex<State>,
    /// How many objects are in it, and whether that is its limit. Changed under the lock, at the end of each change: a
    /// thread that sees without the lock that [`reap_one`](Self::reap_one) left the depot empty sees where its objects
    /// went.
    objects: AtomicUsize,
    batch: usize,
}

impl Depot {
    /// A depot without magazines, for objects of `size` bytes that `cpus` CPUs move `batch` at a time.
    pub(crate) fn new(size: usize, batch: usize, cpus: usize) -> Self {
        let limit = ((BYTES_A_CPU * cpus).min(BYTES_MAX) / (size * batch)).clamp(MAGAZINES_MIN, MAGAZINES_MAX);
        let state = State { limit, most: batch, ..State::default() };
        Self { state: Mutex::new(Rank::Depot, state), objects: AtomicUsize::new(0), batch }
    }

    /// How many objects the depot holds.
    pub(crate) fn count(&self) -> usize {
        self.objects.load(Ordering::Acquire) & !AT_LIMIT
    }

    /// Objects that a full magazine holds.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Sets how many full magazines the depot may hold, and how many objects one take moves, at most as many as a
    /// magazine holds. What is beyond the limit stays until it is reaped.
    pub(crate) fn tune<P: Host>(&self, platform: &P, limit: Option<usize>, most: Option<usize>) {
        let mut state = self.state.lock(platform);
        state.limit = limit.unwrap_or(state.limit);
        state.most = most.unwrap_or(state.most);
        self.note(&state, self.count());
    }

    /// Whether the depot holds more than it may.
    pub(crate) fn is_beyond_limit<P: Host>(&self, platform: &P) -> bool {
        let state = self.state.lock(platform);
        self.count() > state.limit * self.batch
    }

    /// How often objects came and went.
    pub(crate) fn traffic<P: Host>(&self, platform: &P) -> Traffic {
        self.state.lock(platform).traffic
    }

    /// Notes how many objects there are now; the lock is held.
    fn note(&self, state: &State, objects: usize) {
        let mark = if objects >= state.limit * self.batch { AT_LIMIT } else { 0 };
        self.objects.store(objects | mark, Ordering::Release);
    }

    /// Takes one magazine's objects, or the loose ones; returns how many.
    pub(crate) fn take<P: Host>(&self, platform: &P, out: &mut Batch) -> usize {
        if self.count() == 0 {
            return 0;
        }
        let mut state = self.state.lock(platform);
        state.stirred = true;
        if state.most < self.batch {
            return self.take_some(&mut state, out);
        }
        let Some(magazine) = state.pop_full().or_else(|| state.loose.take()) else {
            return 0;
        };
        state.traffic.refills += 1;
        // SAFETY: the magazine was taken off under the lock.
        let len = unsafe {
            let len = magazine.as_ref().len;
            let objects = &Magazine::objects(magazine, self.batch)[..len];
            out.fill(BATCH_MAX, |room| {
                room[..len].copy_from_slice(objects);
                len
            })
        };
        state.empty.push(magazine);
        self.note(&state, self.count() - len);
        len
    }

    /// Takes fewer objects than a magazine holds; the others of its magazine become the loose ones.
    fn take_some(&self, state: &mut State, out: &mut Batch) -> usize {
        let Some(mut magazine) = state.loose.take().or_else(|| state.pop_full()) else {
            return 0;
        };
        // SAFETY: the magazine was taken off under the lock.
        let (len, left) = unsafe {
            let held = magazine.as_ref().len;
            let len = held.min(state.most);
            let objects = &Magazine::objects(magazine, self.batch)[held - len..held];
            magazine.as_mut().len = held - len;
            out.fill(BATCH_MAX, |room| {
                room[..len].copy_from_slice(objects);
                len
            });
            (len, held - len)
        };
        if left > 0 {
            state.loose = Some(magazine);
        } else {
            state.empty.push(magazine);
        }
        self.note(state, self.count() - len);
        len
    }

    /// Lets `put` move one magazine's objects elsewhere, or the loose ones, and returns whether there were any. The
    /// lock is held meanwhile, so a thread that finds the depot empty finds the objects where they were put.
    pub(crate) fn reap_one<P: Host>(&self, platform: &P, put: impl FnOnce(&[usize])) -> bool {
        let mut state = self.state.lock(platform);
        let Some(magazine) = state.pop_full().or_else(|| state.loose.take()) else {
            return false;
        };
        // SAFETY: the magazine was taken off under the lock.
        let objects = unsafe { &Magazine::objects(magazine, self.batch)[..magazine.as_ref().len] };
        put(objects);
        state.empty.push(magazine);
        self.note(&state, self.count() - objects.len());
        true
    }

    /// Takes one object.
    pub(crate) fn take_one<P: Host>(&self, platform: &P) -> Option<usize> {
        if self.count() == 0 {
            return None;
        }
        let mut state = self.state.lock(platform);
        state.stirred = true;
        let mut magazine = match state.loose {
            Some(magazine) => magazine,
            None => {
                let full = state.pop_full()?;
                *state.loose.insert(full)
            }
        };
        state.traffic.refills += 1;
        // SAFETY: the magazine is the depot's, and a loose magazine holds at least one object.
        let (object, left) = unsafe {
            let len = &mut magazine.as_mut().len;
            *len -= 1;
            let left = *len;
            (Magazine::objects(magazine, self.batch)[left], left)
        };
        if left == 0 {
            state.loose = None;
            state.empty.push(magazine);
        }
        self.note(&state, self.count() - 1);
        Some(object)
    }

    /// Takes over as many of the objects as it has room for, from the front, and returns how many.
    pub(crate) fn put<P: Host>(&self, platform: &P, meta: &Meta, objects: &[usize]) -> usize {
        if self.objects.load(Ordering::Acquire) & AT_LIMIT != 0 {
            return 0;
        }
        let mut state = self.state.lock(platform);
        state.stirred = true;
        let mut put = 0;
        while put < objects.len() {
            let Some(mut magazine) = state.loose.or_else(|| self.empty(&mut state, platform, meta)) else {
                break;
            };
            // SAFETY: the magazine is the depot's.
            let is_full = unsafe {
                let len = magazine.as_ref().len;
                let count = (self.batch - len).min(objects.len() - put);
                Magazine::objects(magazine, self.batch)[len..len + count].copy_from_slice(&objects[put..put + count]);
                magazine.as_mut().len = len + count;
                put += count;
                // At once: a child made by fork may find the depot while its parent waits for memory for the next
                // magazine.
                self.note(&state, self.count() + count);
                len + count == self.batch
            };
            if is_full {
                state.loose = None;
                state.full.push(magazine);
            } else {
                state.loose = Some(magazine);
            }
        }
        state.traffic.flushes += usize::from(put > 0);
        put
    }

    /// An empty magazine, while the depot is below its limit and there is memory.
    fn empty<P: Host>(&self, state: &mut State, platform: &P, meta: &Meta) -> Option<NonNull<Magazine>> {
        if state.full.count >= state.limit {
            return None;
        }
        if let Some(mut magazine) = state.empty.pop() {
            // SAFETY: the magazine is ours.
            unsafe { magazine.as_mut() }.len = 0;
            return Some(magazine);
        }
        let magazine = meta.alloc(platform, Magazine::bytes(self.batch))?.cast::<Magazine>();
        // SAFETY: the magazine is ours; a piece from the arena is written before it is read.
        unsafe {
            magazine.write(Magazine { next: None, len: 0 });
            magazine.add(1).cast::<usize>().write_bytes(0, self.batch);
        }
        Some(magazine)
    }

    /// Ends a period of decay: returns how many magazines were not needed all through it ([`reap_one`](Self::reap_one)
    /// takes them away), and whether the depot holds others, which a later period may find idle.
    pub(crate) fn idle<P: Host>(&self, platform: &P) -> (usize, bool) {
        let mut state = self.state.lock(platform);
        let magazines = state.full.count + usize::from(state.loose.is_some());
        let answer =
            if state.stirred { (state.low, magazines + state.empty.count > state.low) } else { (magazines, false) };
        (state.low, state.stirred) = (state.full.count, false);
        answer
    }

    /// Frees the empty magazines.
    pub(crate) fn free_empty<P: Host>(&self, platform: &P, meta: &Meta) {
        let mut state = self.state.lock(platform);
        while let Some(magazine) = state.empty.pop() {
            // SAFETY: an empty magazine is the depot's alone.
            unsafe { meta.free(platform, magazine.cast(), Magazine::bytes(self.batch)) };
        }
    }

    /// Calls `visit` with each object, and returns how many there are by the count; the lock is held meanwhile.
    pub(crate) fn for_each<P: Host>(&self, platform: &P, mut visit: impl FnMut(usize)) -> usize {
        let state = self.state.lock(platform);
        let mut at = state.loose;
        let mut next = state.full.head;
        while let Some(magazine) = at.or_else(|| next.take()) {
            // SAFETY: the lock is held.
            unsafe {
                Magazine::objects(magazine, self.batch)[..magazine.as_ref().len]
                    .iter()
                    .for_each(|object| visit(*object));
                // The loose magazine is on no list: after it comes the first full one.
                at = if Some(magazine) == state.loose { None } else { magazine.as_ref().next };
            }
        }
        self.count()
    }

    /// The word of the lock, for fork.
    pub(crate) fn word(&self) -> &Word {
        self.state.word()
    }
}

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const OBJECTS: usize = offset_of!(Depot, objects);
    pub(crate) const NUMBER_BITS: usize = AT_LIMIT.trailing_zeros() as usize;
    pub(crate) const BATCH: usize = offset_of!(Depot, batch);
    pub(crate) const FULL: usize = offset_of!(Depot, state) + Mutex::<State>::DATA + offset_of!(State, full.head);
    pub(crate) const LOOSE: usize = offset_of!(Depot, state) + Mutex::<State>::DATA + offset_of!(State, loose);
    pub(crate) const REFILLS: usize =
        offset_of!(Depot, state) + Mutex::<State>::DATA + offset_of!(State, traffic.refills);
    pub(crate) const FLUSHES: usize =
        offset_of!(Depot, state) + Mutex::<State>::DATA + offset_of!(State, traffic.flushes);
    pub(crate) const MAGAZINE_NEXT: usize = offset_of!(Magazine, next);
    pub(crate) const MAGAZINE_LEN: usize = offset_of!(Magazine, len);
    pub(crate) const MAGAZINE_OBJECTS: usize = size_of::<Magazine>();
}
