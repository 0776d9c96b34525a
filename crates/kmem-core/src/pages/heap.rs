//! Allocation of runs: bins by length, neighbours merged, memory given back.
//!
//! Bins 0 to 63 hold free runs of exactly 1 to 64 granules; later bins hold longer ones by doubling. A search takes the
//! first run that is long enough, dirty ones first (their memory is there already). The first and the last entry of a
//! free run carry its kind and length, so a run that is freed finds its neighbours in O(1).

use core::ptr::NonNull;

use super::table::{GRANULE, KIND_CLEAN, KIND_DIRTY, KIND_INNER, KIND_NONE, KIND_RAW, Maps, Owner};
use crate::platform::{CommitError, PageSource, Platform};
use crate::sync::{AtomicU8, Mutex, Ordering, Rank};

/// Granules committed at a time: 2 MiB, what a transparent huge page covers.
const COMMIT_STEP: usize = (2 << 20) / GRANULE;
/// Places tried when something else lies in the window's way (windows that are not held, under RLIMIT_AS).
const COMMIT_TRIES: usize = 64;
/// Runs of at least so many granules (16 MiB) give their memory back as soon as they are freed.
const PURGE_AT_ONCE: usize = (16 << 20) / GRANULE;
/// Dirty granules (32 MiB) beyond which free runs give their memory back.
const DIRTY_MAX: usize = (32 << 20) / GRANULE;
const EXACT: usize = 64;
const BINS: usize = EXACT + 24;
/// No granule: the end of a list.
const NIL: u32 = u32::MAX;

/// A run of granules that somebody owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Address of the first byte.
    pub address: usize,
    /// Length in granules.
    pub granules: usize,
    /// Whether all of it is known to read as zero.
    pub zero: bool,
}

/// What the heap holds, in granules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageStats {
    /// Committed so far.
    pub committed: usize,
    /// In free runs that still hold memory.
    pub dirty: usize,
    /// In free runs whose memory was given back.
    pub clean: usize,
    /// Handed out.
    pub used: usize,
    /// In free runs that have to be committed before they serve again.
    pub raw: usize,
    /// Skipped, because something else lay there.
    pub skipped: usize,
}

struct State {
    /// Heads of the bins: dirty, clean, raw.
    bins: [[u32; BINS]; 3],
    /// First granule never handed out.
    top: usize,
    /// First granule not committed.
    committed: usize,
    stats: PageStats,
}

/// The page heap of one engine.
pub struct PageHeap {
    maps: Maps,
    state: Mutex<State>,
}

/// The lists of bins.
const DIRTY: usize = 0;
const CLEAN: usize = 1;
const RAW: usize = 2;

fn list_of(kind: u32) -> usize {
    match kind {
        KIND_DIRTY => DIRTY,
        KIND_CLEAN => CLEAN,
        _ => RAW,
    }
}

fn bin_of(len: usize) -> usize {
    if len <= EXACT { len - 1 } else { (EXACT + (len / EXACT).ilog2() as usize).min(BINS - 1) }
}

impl PageHeap {
    /// A heap over the platform's window.
    pub fn new<P: Platform>(platform: &P) -> Option<Self> {
        let window = platform.reserve()?;
        let maps = Maps::map(platform, window.base, window.len)?;
        let first = maps.table_granules();
        let state = State { bins: [[NIL; BINS]; 3], top: first, committed: first, stats: PageStats::default() };
        Some(Self { maps, state: Mutex::new(Rank::Pages, state) })
    }

    /// Gives the maps back (the window is the platform's).
    ///
    /// # Safety
    /// Nobody uses the heap or memory from it any more.
    pub unsafe fn unmap<P: Platform>(&self, platform: &P) {
        // SAFETY: passed on.
        unsafe { self.maps.unmap(platform) }
    }

    /// First address of the window, and its length in granules.
    pub fn window(&self) -> (usize, usize) {
        (self.maps.base, self.maps.granules)
    }

    /// The class map: one byte a granule of the window.
    pub fn class_map(&self) -> NonNull<AtomicU8> {
        self.maps.classes()
    }

    /// What covers `address`.
    pub fn owner(&self, address: usize) -> Owner {
        self.maps.owner(address)
    }

    /// The class-map byte of `address`; 0 outside of the window.
    pub fn class_at(&self, address: usize) -> u8 {
        match self.maps.granule_of(address) {
            // SAFETY: the map has a byte for each granule of the window.
            Some(granule) => unsafe { self.maps.classes().add(granule).as_ref() }.load(Ordering::Relaxed),
            None => 0,
        }
    }

    /// A run of `granules`, its address a multiple of `align` bytes (a power of two).
    pub fn alloc<P: Platform>(&self, platform: &P, granules: usize, align: usize) -> Option<Run> {
        if granules == 0 || !self.could_hold(granules, align) {
            return None;
        }
        // Where only dirty and clean runs together would do, they become one by giving the memory of the dirty ones
        // back.
        self.search(platform, granules, align)
            .or_else(|| if self.purge(platform) > 0 { self.search(platform, granules, align) } else { None })
    }

    fn search<P: Platform>(&self, platform: &P, granules: usize, align: usize) -> Option<Run> {
        let want = granules + (align / GRANULE).saturating_sub(1);
        let mut state = self.state.lock(platform);
        for _ in 0..COMMIT_TRIES {
            let (first, len, kind) = match self.take_free(&mut state, want) {
                Some(found) => found,
                None => self.grow(platform, &mut state, want).map(|(first, kind)| (first, want, kind))?,
            };
            let start = (self.maps.address_of(first).next_multiple_of(align.max(GRANULE)) - self.maps.base) / GRANULE;
            let address = self.maps.address_of(start);
            if kind == KIND_RAW {
                // SAFETY: the granules were committed before, and given back since.
                match unsafe { platform.commit(address, granules * GRANULE) } {
                    Ok(()) => {
                        state.stats.committed += granules;
                        state.stats.raw -= granules;
                    }
                    Err(CommitError::NoMemory) => {
                        self.merge(&mut state, first, len, kind);
                        return None;
                    }
                    Err(CommitError::Taken) => {
                        // Somebody else is there by now: the whole run is left to him.
                        state.stats.skipped += len;
                        state.stats.raw -= len;
                        continue;
                    }
                }
            }
            if start > first {
                // A run that was just grown may have a free one before it.
                self.merge(&mut state, first, start - first, kind);
            }
            if first + len > start + granules {
                self.insert(&mut state, start + granules, first + len - start - granules, kind);
            }
            state.stats.used += granules;
            for inner in [start, start + granules - 1] {
                self.maps.entry(inner).set(KIND_NONE, 0);
            }
            return Some(Run { address, granules, zero: kind != KIND_DIRTY });
        }
        None
    }

    /// Makes a large run longer or shorter where it lies; `false` where something is behind it, and it stays as it was.
    ///
    /// # Safety
    /// The run is one that `alloc` gave, marked as large, and the caller's; nobody uses the part that is cut off. No
    /// allocator lock is held (I34).
    pub unsafe fn resize<P: Platform>(&self, platform: &P, address: usize, old: usize, new: usize) -> bool {
        let first = (address - self.maps.base) / GRANULE;
        if new < old {
            self.maps.set_large(first, new);
            // SAFETY: the tail is the caller's, and is a run like any other.
            unsafe { self.free(platform, address + new * GRANULE, old - new) };
            return true;
        }
        let (end, more) = (first + old, new - old);
        let mut state = self.state.lock(platform);
        if end == state.top {
            let need = end + more;
            let there = need <= self.maps.granules
                && (need <= state.committed || self.commit(platform, &mut state, need).is_ok());
            if !there {
                return false;
            }
            state.top = need;
        } else {
            if !self.maps.reaches(end) {
                return false;
            }
            let entry = self.maps.entry(end);
            let kind = entry.kind();
            if !matches!(kind, KIND_DIRTY | KIND_CLEAN) || entry.len() < more {
                return false;
            }
            let len = self.remove(&mut state, end);
            if len > more {
                self.insert(&mut state, end + more, len - more, kind);
            }
        }
        state.stats.used += more;
        self.maps.set_large(first, new);
        true
    }

    /// Whether an empty window would have room for such a run.
    pub fn could_hold(&self, granules: usize, align: usize) -> bool {
        let pad = (align / GRANULE).saturating_sub(1);
        granules.checked_add(pad).is_some_and(|want| want <= self.maps.granules - self.maps.table_granules())
    }

    /// Takes a run back. No allocator lock may be held (I34).
    ///
    /// # Safety
    /// The run is one that `alloc` gave and nobody uses it any more.
    pub unsafe fn free<P: Platform>(&self, platform: &P, address: usize, granules: usize) {
        let first = (address - self.maps.base) / GRANULE;
        self.maps.set_class(first, granules, 0);
        for granule in first..first + granules {
            self.maps.entry(granule).set(KIND_NONE, 0);
        }
        let mut kind = KIND_DIRTY;
        if granules >= PURGE_AT_ONCE {
            // SAFETY: the run is still ours alone.
            unsafe { platform.purge(address, granules * GRANULE) };
            kind = KIND_CLEAN;
        }
        let mut state = self.state.lock(platform);
        state.stats.used -= granules;
        self.merge(&mut state, first, granules, kind);
        let dirty = state.stats.dirty;
        drop(state);
        if dirty > DIRTY_MAX {
            self.purge_some(platform, dirty - DIRTY_MAX / 2);
        }
    }

    /// Gives the memory of all free runs back and answers how many bytes that were. What others free meanwhile is left
    /// for the next time.
    pub fn purge<P: Platform>(&self, platform: &P) -> usize {
        let dirty = self.state.lock(platform).stats.dirty;
        self.purge_some(platform, dirty)
    }

    /// Gives the memory of free runs back, until it was that of `budget` granules or no more is there; answers the
    /// bytes.
    fn purge_some<P: Platform>(&self, platform: &P, budget: usize) -> usize {
        let mut bytes = 0;
        while bytes < budget * GRANULE {
            // Each run is ours alone while its memory goes back: no lock is held over the call to the source.
            let mut state = self.state.lock(platform);
            let Some(bin) = state.bins[DIRTY].iter().position(|head| *head != NIL) else { break };
            let first = state.bins[DIRTY][bin] as usize;
            let len = self.remove(&mut state, first);
            drop(state);
            // SAFETY: the run is on no list, so nobody else uses it.
            unsafe { platform.purge(self.maps.address_of(first), len * GRANULE) };
            bytes += len * GRANULE;
            self.merge(&mut self.state.lock(platform), first, len, KIND_CLEAN);
        }
        bytes
    }

    /// Gives the memory and the address space of all free runs back: they have to be committed before they serve again.
    /// For the moment when something else in the process finds no room.
    pub(crate) fn uncommit<P: Platform>(&self, platform: &P) {
        let stats = self.state.lock(platform).stats;
        let mut budget = stats.dirty + stats.clean;
        for list in [DIRTY, CLEAN] {
            while budget > 0 {
                let mut state = self.state.lock(platform);
                let Some(bin) = state.bins[list].iter().position(|head| *head != NIL) else { break };
                let first = state.bins[list][bin] as usize;
                let len = self.remove(&mut state, first);
                drop(state);
                budget = budget.saturating_sub(len);
                // SAFETY: the run is on no list, so nobody else uses it.
                unsafe { platform.uncommit(self.maps.address_of(first), len * GRANULE) };
                let mut state = self.state.lock(platform);
                state.stats.committed -= len;
                state.stats.raw += len;
                self.merge(&mut state, first, len, KIND_RAW);
            }
        }
        self.withdraw_top(platform);
    }

    /// Moves the untouched rest of the window down over the raw run before it, so that both together serve a request
    /// that is too long for either. What was committed ahead goes back; that happens under the lock, for it is
    /// nobody's run.
    fn withdraw_top<P: Platform>(&self, platform: &P) {
        let mut state = self.state.lock(platform);
        let Some(head) = self.run_before(state.top).filter(|head| self.maps.entry(*head).kind() == KIND_RAW) else {
            return;
        };
        let ahead = state.committed - state.top;
        if ahead > 0 {
            // SAFETY: behind the top nothing was handed out.
            unsafe { platform.uncommit(self.maps.address_of(state.top), ahead * GRANULE) };
            state.stats.committed -= ahead;
        }
        state.stats.raw -= self.remove(&mut state, head);
        (state.top, state.committed) = (head, head);
    }

    /// Gives whole pages inside a used run back.
    ///
    /// # Safety
    /// The range is inside a run of the caller and holds nothing anybody needs.
    pub unsafe fn purge_range<P: Platform>(&self, platform: &P, address: usize, len: usize) {
        // SAFETY: passed on.
        unsafe { platform.purge(address, len) }
    }

    /// Notes that a run is a slab with this descriptor and, for general caches, this class.
    pub fn set_slab(&self, run: &Run, slab: NonNull<u8>, class: u8) {
        let first = (run.address - self.maps.base) / GRANULE;
        self.maps.set_slab(first, run.granules, slab);
        self.maps.set_class(first, run.granules, class);
    }

    /// Notes that a run is a large object.
    pub fn set_large(&self, run: &Run) {
        self.maps.set_large((run.address - self.maps.base) / GRANULE, run.granules);
    }

    /// What the heap holds.
    pub fn stats<P: Platform>(&self, platform: &P) -> PageStats {
        self.state.lock(platform).stats
    }

    fn take_free(&self, state: &mut State, want: usize) -> Option<(usize, usize, u32)> {
        for (list, kind) in [(DIRTY, KIND_DIRTY), (CLEAN, KIND_CLEAN), (RAW, KIND_RAW)] {
            for bin in bin_of(want)..BINS {
                let mut at = state.bins[list][bin];
                while at != NIL {
                    let entry = self.maps.entry(at as usize);
                    if entry.len() >= want {
                        let len = self.remove(state, at as usize);
                        return Some((at as usize, len, kind));
                    }
                    at = entry.next.load(Ordering::Relaxed) as u32;
                }
            }
        }
        None
    }

    /// Takes `want` granules from the untouched rest of the window, and answers their kind. Where the rest is too short
    /// for them, the free run before it helps out (not before: what is fresh is zero, and would have to be cleared
    /// together with a dirty run).
    fn grow<P: PageSource>(&self, platform: &P, state: &mut State, want: usize) -> Option<(usize, u32)> {
        for attempt in 0..COMMIT_TRIES {
            let tail = if state.top + want > self.maps.granules { self.tail(state) } else { 0 };
            let need = state.top - tail + want;
            if need > self.maps.granules {
                return None;
            }
            if need > state.committed && self.commit(platform, state, need) == Err(CommitError::Taken) {
                self.skip(state, COMMIT_STEP << attempt.min(20));
                continue;
            }
            if need > state.committed {
                return None;
            }
            let first = need - want;
            let kind = if tail > 0 { self.maps.entry(first).kind() } else { KIND_CLEAN };
            if tail > 0 {
                self.remove(state, first);
            }
            state.top = need;
            return Some((first, kind));
        }
        None
    }

    /// Length of the committed free run that ends where the untouched rest begins; 0 if there is none.
    fn tail(&self, state: &State) -> usize {
        match self.run_before(state.top) {
            Some(head) if self.maps.entry(head).kind() != KIND_RAW => state.top - head,
            _ => 0,
        }
    }

    /// The first granule of the free run that ends before `granule`.
    fn run_before(&self, granule: usize) -> Option<usize> {
        // Nothing was ever handed out that the table does not reach to: there is an obstacle before it.
        if granule == self.maps.table_granules() || !self.maps.reaches(granule - 1) {
            return None;
        }
        let last = self.maps.entry(granule - 1);
        match last.kind() {
            KIND_INNER => Some(granule - last.len()),
            KIND_DIRTY | KIND_CLEAN | KIND_RAW => Some(granule - 1),
            _ => None,
        }
    }

    /// Commits up to granule `need`, by a full step if there is memory for it.
    fn commit<P: PageSource>(&self, platform: &P, state: &mut State, need: usize) -> Result<(), CommitError> {
        let end = need.next_multiple_of(COMMIT_STEP).min(self.maps.granules);
        // Without entries there are no granules: an obstacle in the table's way is the end of the window.
        self.maps.extend(platform, end).map_err(|_| CommitError::NoMemory)?;
        let at = self.maps.address_of(state.committed);
        let (least, full) = (need - state.committed, end - state.committed);
        let mut step = full;
        // SAFETY: the range is inside the window, behind all that was committed.
        let mut done = unsafe { platform.commit(at, full * GRANULE) };
        if done.is_err() && least < full {
            step = least;
            // SAFETY: as above.
            done = unsafe { platform.commit(at, least * GRANULE) };
        }
        done?;
        state.committed += step;
        state.stats.committed += step;
        Ok(())
    }

    /// Goes on `step` granules further, behind an obstacle, as one hopes; what is left before it becomes a free run.
    /// Steps are doubled, so an obstacle of any size is passed in few of them, for at most as much window again as
    /// it has.
    fn skip(&self, state: &mut State, step: usize) {
        if state.top < state.committed {
            let rest = state.committed - state.top;
            self.merge(state, state.top, rest, KIND_CLEAN);
        }
        let next = (state.committed + step).next_multiple_of(COMMIT_STEP).min(self.maps.granules);
        state.stats.skipped += next - state.committed;
        state.committed = next;
        state.top = next;
    }

    fn insert(&self, state: &mut State, first: usize, len: usize, kind: u32) {
        let list = list_of(kind);
        let head = state.bins[list][bin_of(len)];
        let entry = self.maps.entry(first);
        self.maps.entry(first + len - 1).set(KIND_INNER, len);
        entry.set(kind, len);
        entry.prev.store(NIL, Ordering::Relaxed);
        entry.next.store(head as usize, Ordering::Relaxed);
        if head != NIL {
            self.maps.entry(head as usize).prev.store(first as u32, Ordering::Relaxed);
        }
        state.bins[list][bin_of(len)] = first as u32;
        match list {
            DIRTY => state.stats.dirty += len,
            CLEAN => state.stats.clean += len,
            _ => {}
        }
    }

    fn remove(&self, state: &mut State, first: usize) -> usize {
        let entry = self.maps.entry(first);
        let (list, len) = (list_of(entry.kind()), entry.len());
        let (prev, next) = (entry.prev.load(Ordering::Relaxed), entry.next.load(Ordering::Relaxed) as u32);
        if prev == NIL {
            state.bins[list][bin_of(len)] = next;
        } else {
            self.maps.entry(prev as usize).next.store(next as usize, Ordering::Relaxed);
        }
        if next != NIL {
            self.maps.entry(next as usize).prev.store(prev, Ordering::Relaxed);
        }
        entry.set(KIND_NONE, 0);
        self.maps.entry(first + len - 1).set(KIND_NONE, 0);
        match list {
            DIRTY => state.stats.dirty -= len,
            CLEAN => state.stats.clean -= len,
            _ => {}
        }
        len
    }

    /// Puts a run on its list, together with free neighbours of its kind. Others keep apart: a dirty megabyte must not
    /// make a clean gigabyte dirty, which would then be given back again and again. They come together when all are
    /// given back.
    fn merge(&self, state: &mut State, mut first: usize, mut len: usize, kind: u32) {
        if let Some(head) = self.run_before(first).filter(|head| self.maps.entry(*head).kind() == kind) {
            len += self.remove(state, head);
            first = head;
        }
        if first + len < state.top && self.maps.entry(first + len).kind() == kind {
            len += self.remove(state, first + len);
        }
        self.insert(state, first, len, kind);
    }

    /// Takes the lock for fork.
    pub(crate) fn lock_for_fork<P: Platform>(&self, platform: &P) {
        self.state.lock_raw(platform);
    }

    /// # Safety
    /// [`lock_for_fork`](Self::lock_for_fork) took the lock.
    pub(crate) unsafe fn unlock_after_fork<P: Platform>(&self, platform: &P) {
        // SAFETY: passed on.
        unsafe { self.state.unlock_raw(platform) }
    }
}
