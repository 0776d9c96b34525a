//! The registry: the list of all caches, by index and by name.
//!
//! A cache is listed from the moment it can be used until it is drained. A thread that walks the list holds one cache
//! at a time, by a *pin*; a destroy unlists first, releases the gate, and then waits for the pins to go (I18, I19),
//! holding no lock (I32). All of it is O(1), or O(caches of the same hash), whatever the number of caches (I21); a
//! create that finds the table of entries full exchanges it for one of four times the length.

use core::ops::Deref;
use core::ptr::NonNull;

use super::{CacheDesc, CacheId};
use crate::classes;
use crate::error::CreateError;
use crate::host::Host;
use crate::sync::{Mutex, Ordering, OtherFirst, Rank, Word};

const BUCKETS: usize = 4096;
/// Resting caches that are passed over with the lock held (I41).
const PASSED_OVER: u32 = 64;
/// Entries of the first table: a page of them.
const FIRST_ROOM: u32 = 256;

/// One index. No cache has index 0, so 0 ends a chain.
#[repr(C)]
struct Entry {
    desc: Option<NonNull<CacheDesc>>,
    generation: u32,
    /// The next index of the same bucket, or the next free index.
    next: u32,
}

struct State {
    entries: NonNull<Entry>,
    /// Indexes below this have an entry.
    room: u32,
    buckets: NonNull<u32>,
    free: u32,
    /// Indexes from here on were never used.
    fresh: u32,
    count: usize,
}

// SAFETY: both tables are mappings that belong to the registry and are guarded by the lock around them.
unsafe impl Send for State {}

impl State {
    fn entry(&mut self, index: u32) -> &mut Entry {
        debug_assert!(index < self.fresh);
        // SAFETY: indexes below `fresh` are below `room`; zero is a valid entry.
        unsafe { self.entries.add(index as usize).as_mut() }
    }

    fn bucket(&mut self, hash: u32) -> &mut u32 {
        // SAFETY: there are `BUCKETS` buckets.
        unsafe { self.buckets.add(hash as usize % BUCKETS).as_mut() }
    }

    /// The listed cache of this name.
    fn named(&mut self, name: &str) -> Option<NonNull<CacheDesc>> {
        let mut at = *self.bucket(hash(name));
        while at != 0 {
            let entry = self.entry(at);
            // SAFETY: chained entries are listed, and listed descriptors are valid.
            let found = entry.desc.filter(|other| unsafe { other.as_ref() }.name() == name);
            if found.is_some() {
                return found;
            }
            at = entry.next;
        }
        None
    }

    /// Whether a listed cache has this name.
    fn is_taken(&mut self, name: &str) -> bool {
        self.named(name).is_some()
    }

    /// Makes sure that there is an entry for one more cache, if there may be one. Returns a table that is no longer
    /// used.
    fn make_room<P: Host>(&mut self, platform: &P, max: u32) -> Result<Option<Table>, CreateError> {
        if self.free != 0 || self.fresh < self.room || self.room >= max {
            return Ok(None);
        }
        let old = Table { entries: self.entries, room: self.room };
        let new = Table::map(platform, self.room.saturating_mul(4).min(max)).ok_or(CreateError::NoMemory)?;
        // SAFETY: the new table is longer than the old.
        unsafe { new.entries.copy_from_nonoverlapping(old.entries, old.room as usize) };
        (self.entries, self.room) = (new.entries, new.room);
        Ok(Some(old))
    }

    /// Gives an index to a descriptor that no other thread knows. There is [room](Self::make_room) for it.
    ///
    /// # Safety
    /// The descriptor is valid and the caller's alone.
    unsafe fn assign(&mut self, desc: NonNull<CacheDesc>, max: u32) -> Result<CacheId, CreateError> {
        let index = match self.free {
            0 if self.fresh >= max => return Err(CreateError::TooManyCaches { max: max as usize - 1 }),
            0 => {
                self.fresh += 1;
                self.fresh - 1
            }
            free => {
                self.free = self.entry(free).next;
                free
            }
        };
        let id = CacheId { index, generation: self.entry(index).generation };
        // SAFETY: no other thread has seen the descriptor.
        unsafe { CacheDesc::set_id(desc, id) };
        Ok(id)
    }

    /// Puts a descriptor with an index on the list.
    ///
    /// # Safety
    /// The descriptor is valid and not listed, its index is its own, and it is not freed before it is unlisted and its
    /// pins are gone (I19).
    unsafe fn link(&mut self, desc: NonNull<CacheDesc>) {
        // SAFETY: the descriptor is valid.
        let cache = unsafe { desc.as_ref() };
        let (hash, index) = (hash(cache.name()), cache.id().index);
        let first = *self.bucket(hash);
        let entry = self.entry(index);
        entry.desc = Some(desc);
        entry.next = first;
        *self.bucket(hash) = index;
        self.count += 1;
    }
}

/// A mapping with some entries.
struct Table {
    entries: NonNull<Entry>,
    room: u32,
}

impl Table {
    const fn bytes(room: u32) -> usize {
        room as usize * size_of::<Entry>()
    }

    fn map<P: Host>(platform: &P, room: u32) -> Option<Self> {
        Some(Self { entries: platform.map(Self::bytes(room))?.cast(), room })
    }

    /// # Safety
    /// The table is no longer used.
    unsafe fn unmap<P: Host>(&self, platform: &P) {
        // SAFETY: the mapping is that of `map`.
        unsafe { platform.unmap(self.entries.cast(), Self::bytes(self.room)) }
    }
}

/// The list of all caches.
pub(crate) struct Registry {
    state: Mutex<State>,
    max: u32,
    /// Indexes from 1 up to this belong to the general caches, and their names to them.
    general: u32,
}

/// A cache that cannot be freed while this lives.
#[must_use]
pub(crate) struct Pinned<'a, P: Host> {
    registry: &'a Registry,
    platform: &'a P,
    desc: NonNull<CacheDesc>,
}

impl<P: Host> Deref for Pinned<'_, P> {
    type Target = CacheDesc;
    fn deref(&self) -> &CacheDesc {
        // SAFETY: a pinned descriptor is not freed (I19).
        unsafe { self.desc.as_ref() }
    }
}

impl<P: Host> Pinned<'_, P> {
    /// Leaves the cache pinned; [`Registry::adopt`] takes the pin up again. (A third of the size, for a caller with
    /// many.)
    pub(crate) fn leave_pinned(self) -> NonNull<CacheDesc> {
        let desc = self.desc;
        core::mem::forget(self);
        desc
    }
}

impl<P: Host> Drop for Pinned<'_, P> {
    fn drop(&mut self) {
        let state = self.registry.state.lock(self.platform);
        // A thread that waits for the last pin but its own frees the descriptor only after it has looked under the lock
        // that is held here.
        let pins = self.pins.load(Ordering::Relaxed).saturating_sub(1);
        self.pins.store(pins, Ordering::Release);
        if pins == 1 {
            self.platform.wake_all(&self.pins);
        }
        drop(state);
    }
}

/// FNV-1a.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Calls `visit` with each cache that `next` pins after the index of the one before.
fn walk<'a, P: Host + 'a>(next: impl Fn(u32) -> Option<Pinned<'a, P>>, mut visit: impl FnMut(&CacheDesc)) {
    let mut after = 0;
    while let Some(pinned) = next(after) {
        after = pinned.id().index;
        visit(&pinned);
    }
}

impl Registry {
    /// A list for caches with indexes below `max`, the first `general` of which are those of the general caches.
    pub(crate) fn map<P: Host>(platform: &P, max: usize, general: usize) -> Option<Self> {
        let (max, general) = (max as u32, general as u32);
        let table = Table::map(platform, FIRST_ROOM.max(general + 1).min(max))?;
        let Some(buckets) = platform.map(BUCKETS * size_of::<u32>()) else {
            // SAFETY: it was just mapped, and no other thread knows it.
            unsafe { table.unmap(platform) };
            return None;
        };
        let Table { entries, room } = table;
        let state = State { entries, room, buckets: buckets.cast(), free: 0, fresh: general + 1, count: 0 };
        Some(Self { state: Mutex::new(Rank::Registry, state), max, general })
    }

    /// # Safety
    /// The registry is no longer used.
    pub(crate) unsafe fn unmap<P: Host>(&self, platform: &P) {
        let state = self.state.lock(platform);
        // SAFETY: the mappings are those of `map`.
        unsafe {
            Table { entries: state.entries, room: state.room }.unmap(platform);
            platform.unmap(state.buckets.cast(), BUCKETS * size_of::<u32>());
        }
    }

    /// How many caches are listed.
    pub(crate) fn count<P: Host>(&self, platform: &P) -> usize {
        self.state.lock(platform).count
    }

    /// Lists a new cache and gives it its index. Of two creates of one name, one wins (I13).
    ///
    /// # Safety
    /// The descriptor is valid and the caller's alone. Once it is listed it is not freed before it is unlisted again
    /// and its pins are gone (I19).
    pub(crate) unsafe fn list<P: Host>(&self, platform: &P, desc: NonNull<CacheDesc>) -> Result<CacheId, CreateError> {
        // SAFETY: the descriptor is valid.
        let name = unsafe { desc.as_ref() }.name();
        if self.general > 0 && classes::is_name(name) {
            return Err(CreateError::NameTaken);
        }
        let mut state = self.state.lock(platform);
        if state.is_taken(name) {
            return Err(CreateError::NameTaken);
        }
        let old = state.make_room(platform, self.max)?;
        // SAFETY: the caller's promise.
        let id = unsafe {
            let id = state.assign(desc, self.max);
            if id.is_ok() {
                state.link(desc);
            }
            id
        };
        drop(state);
        if let Some(old) = old {
            // SAFETY: the registry has another table by now, and entries are used under its lock. No lock is held
            // (I34).
            unsafe { old.unmap(platform) };
        }
        id
    }

    /// Lists a new general cache under the index of its class, unless another thread has done so. Returns the one that
    /// is listed.
    ///
    /// # Safety
    /// The descriptor is valid and the caller's alone. Once it is listed it is never freed.
    pub(crate) unsafe fn list_general<P: Host>(&self, platform: &P, desc: NonNull<CacheDesc>) -> NonNull<CacheDesc> {
        // SAFETY: the descriptor is valid.
        let index = u32::from(unsafe { desc.as_ref() }.class());
        assert!((1..=self.general).contains(&index), "an engine without general caches");
        let mut state = self.state.lock(platform);
        if let Some(listed) = state.entry(index).desc {
            return listed;
        }
        // SAFETY: the caller's promise; the index is that of the class, which no other cache gets.
        unsafe {
            CacheDesc::set_id(desc, CacheId { index, generation: 0 });
            state.link(desc);
        }
        desc
    }

    /// The first half of [`list`](Self::list) alone: an index (the order of 2004 makes slots before it lists).
    ///
    /// # Safety
    /// As for `list`.
    pub(crate) unsafe fn assign<P: Host>(
        &self,
        platform: &P,
        desc: NonNull<CacheDesc>,
    ) -> Result<CacheId, CreateError> {
        let mut state = self.state.lock(platform);
        let old = state.make_room(platform, self.max)?;
        // SAFETY: the caller's promise.
        let id = unsafe { state.assign(desc, self.max) };
        drop(state);
        if let Some(old) = old {
            // SAFETY: as in `list`.
            unsafe { old.unmap(platform) };
        }
        id
    }

    /// The second half alone.
    ///
    /// # Safety
    /// As for `list`; the descriptor has its index.
    pub(crate) unsafe fn link_new<P: Host>(&self, platform: &P, desc: NonNull<CacheDesc>) -> Result<(), CreateError> {
        let mut state = self.state.lock(platform);
        // SAFETY: the caller's promise.
        unsafe {
            if state.is_taken(desc.as_ref().name()) {
                return Err(CreateError::NameTaken);
            }
            state.link(desc);
        }
        Ok(())
    }

    /// Lists a cache again that was unlisted and turned out to be busy (the order of 2004).
    ///
    /// # Safety
    /// It is not listed.
    pub(crate) unsafe fn relist<P: Host>(&self, pinned: &Pinned<'_, P>) {
        // SAFETY: a pinned descriptor is not freed (I19); it kept its index.
        unsafe { self.state.lock(pinned.platform).link(pinned.desc) };
    }

    /// Takes a drained cache off the list: no thread can pin it from here on.
    pub(crate) fn unlist<P: Host>(&self, pinned: &Pinned<'_, P>) {
        let hash = hash(pinned.name());
        let index = pinned.id().index;
        let mut state = self.state.lock(pinned.platform);
        let next = state.entry(index).next;
        if *state.bucket(hash) == index {
            *state.bucket(hash) = next;
        } else {
            let mut at = *state.bucket(hash);
            while state.entry(at).next != index {
                at = state.entry(at).next;
            }
            state.entry(at).next = next;
        }
        state.entry(index).desc = None;
        state.count -= 1;
    }

    /// Waits until the caller's pin is the only one of an unlisted cache. The descriptor is the caller's from then on.
    ///
    /// The caller holds no lock, nor the gate: a thread that has a pin may be in a destructor or a visitor of the
    /// statistics, and wait for the gate there (I32).
    pub(crate) fn only_pin<P: Host>(&self, pinned: Pinned<'_, P>) -> NonNull<CacheDesc> {
        let platform = pinned.platform;
        let mut state = self.state.lock(platform);
        loop {
            let pins = pinned.pins.load(Ordering::Acquire);
            // `None` if it was forgotten: see `forget_pins`.
            if pins <= 1 {
                let desc = pinned.desc;
                core::mem::forget(pinned);
                return desc;
            }
            drop(state);
            platform.wait(&pinned.pins, pins);
            state = self.state.lock(platform);
        }
    }

    /// The same with the registry's lock held meanwhile: a mistake of the past. A reader cannot end its pin then.
    pub(crate) fn only_pin_under_lock<P: Host>(&self, pinned: Pinned<'_, P>) -> NonNull<CacheDesc> {
        let platform = pinned.platform;
        let state = self.state.lock(platform);
        while let pins @ 2.. = pinned.pins.load(Ordering::Acquire) {
            platform.wait(&pinned.pins, pins);
        }
        drop(state);
        pinned.leave_pinned()
    }

    /// Makes the index of an unlisted cache available again, under another generation (I20).
    pub(crate) fn recycle<P: Host>(&self, platform: &P, id: CacheId) {
        let mut state = self.state.lock(platform);
        let free = state.free;
        let entry = state.entry(id.index);
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = free;
        state.free = id.index;
    }

    /// Pins the cache of this id, if it is listed.
    pub(crate) fn pin<'a, P: Host>(&'a self, platform: &'a P, id: CacheId) -> Option<Pinned<'a, P>> {
        let mut state = self.state.lock(platform);
        if id.index == 0 || id.index >= state.fresh {
            return None;
        }
        let entry = state.entry(id.index);
        let desc = entry.desc.filter(|_| entry.generation == id.generation)?;
        Some(self.pin_listed(platform, desc))
    }

    /// The listed cache of this name.
    pub(crate) fn find<P: Host>(&self, platform: &P, name: &str) -> Option<CacheId> {
        // SAFETY: a listed descriptor is not freed while the lock is held.
        self.state.lock(platform).named(name).map(|desc| unsafe { desc.as_ref() }.id())
    }

    /// Pins the listed cache with the lowest index above `after` (0 to begin).
    pub(crate) fn pin_next<'a, P: Host>(&'a self, platform: &'a P, after: u32) -> Option<Pinned<'a, P>> {
        let mut state = self.state.lock(platform);
        let desc = (after + 1..state.fresh).find_map(|index| state.entry(index).desc)?;
        Some(self.pin_listed(platform, desc))
    }

    /// The same, of those that do not [rest](super::rest).
    pub(crate) fn pin_next_awake<'a, P: Host>(&'a self, platform: &'a P, mut after: u32) -> Option<Pinned<'a, P>> {
        loop {
            let mut state = self.state.lock(platform);
            let end = state.fresh.min(after.saturating_add(PASSED_OVER));
            // SAFETY: listed descriptors are valid, and the lock is held.
            let is_awake = |desc: &NonNull<CacheDesc>| !unsafe { desc.as_ref() }.rest.rests();
            if let Some(desc) = (after + 1..end).find_map(|index| state.entry(index).desc.filter(is_awake)) {
                return Some(self.pin_listed(platform, desc));
            }
            if end == state.fresh {
                return None;
            }
            after = end - 1;
        }
    }

    fn pin_listed<'a, P: Host>(&'a self, platform: &'a P, desc: NonNull<CacheDesc>) -> Pinned<'a, P> {
        // SAFETY: the descriptor is listed and the registry's lock is held, so it is not freed.
        unsafe { desc.as_ref() }.pins.fetch_add(1, Ordering::Relaxed);
        Pinned { registry: self, platform, desc }
    }

    /// Takes up a pin that was kept.
    ///
    /// # Safety
    /// The pin is one of this registry's that was [left](Pinned::leave_pinned), and is taken up once.
    pub(crate) unsafe fn adopt<'a, P: Host>(&'a self, platform: &'a P, desc: NonNull<CacheDesc>) -> Pinned<'a, P> {
        Pinned { registry: self, platform, desc }
    }

    /// Calls `visit` with every listed cache, one at a time, with a pin and no lock held.
    pub(crate) fn for_each<P: Host>(&self, platform: &P, visit: impl FnMut(&CacheDesc)) {
        walk(|after| self.pin_next(platform, after), visit);
    }

    /// The same with every listed cache that does not [rest](super::rest).
    pub(crate) fn for_each_awake<P: Host>(&self, platform: &P, visit: impl FnMut(&CacheDesc)) {
        walk(|after| self.pin_next_awake(platform, after), visit);
    }

    /// The word of the lock, for fork.
    pub(crate) fn word(&self) -> &Word {
        self.state.word()
    }

    /// Calls `visit` with every listed cache, without the lock: for a thread that forks. No cache is listed or unlisted
    /// meanwhile, because this thread holds the lock, or is itself in the middle of that further up in its stack, or
    /// the thread that is cannot go on. The list is whole at each moment: a cache is on it by one word, which is
    /// written after the descriptor.
    pub(crate) fn for_each_in_fork<P: Host>(
        &self,
        platform: &P,
        visit: &mut dyn FnMut(&CacheDesc) -> Result<(), OtherFirst>,
    ) -> Result<(), OtherFirst> {
        // SAFETY: no other thread changes the state, as said; the guard is kept, because the lock stays as it is.
        let mut state = unsafe { self.state.adopt(platform) };
        let mut visited = Ok(());
        for index in 1..state.fresh {
            if let (Ok(()), Some(desc)) = (visited, state.entry(index).desc) {
                // SAFETY: listed, so not freed.
                visited = visit(unsafe { desc.as_ref() });
            }
        }
        state.leave_locked();
        visited
    }

    /// In a child, forgets the pins of threads that do not exist there, because no other thread would ever release
    /// them. The calling thread's own, if a visitor or a signal handler forks, are forgotten with them: the thread is
    /// in the engine itself, and either releases them without a check, or waits for no other than its own
    /// ([`only_pin`](Self::only_pin)).
    pub(crate) fn forget_pins<P: Host>(&self, platform: &P) {
        let _ = self.for_each_in_fork(platform, &mut |cache| {
            cache.pins.store(0, Ordering::Relaxed);
            Ok(())
        });
    }
}

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const ENTRIES: usize = offset_of!(Registry, state) + Mutex::<State>::DATA + offset_of!(State, entries);
    pub(crate) const FRESH: usize = offset_of!(Registry, state) + Mutex::<State>::DATA + offset_of!(State, fresh);
    pub(crate) const ENTRY_SIZE: usize = size_of::<Entry>();
    pub(crate) const ENTRY_DESC: usize = offset_of!(Entry, desc);
}
