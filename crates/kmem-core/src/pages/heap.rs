//! The page heap: runs are handed out, resized and freed.
//!
//! Free runs are in [`runs`](super::runs), what was never handed out in [`growth`](super::growth);
//! [`purge`](super::purge) releases memory to the source.

use core::ptr::NonNull;

use super::bounds::{Bounds, EXCHANGE, HOLDS};
use super::mix::Mix;
use super::state::{BINS, COMMIT_TRIES, Found, NIL, PageHeap, PageStats, Run, State, Use};
use super::table::{GRANULE, KIND_CLEAN, KIND_DIRTY, KIND_RAW, Maps, Owner};
use crate::host::{CommitError, Host};
use crate::sync::{AtomicU8, AtomicU32, Mutex, Ordering, Rank, Word};

impl PageHeap {
    /// The maps over the platform's window, which are one heap's alone: called once for a platform.
    pub(crate) fn map<P: Host>(platform: &P) -> Option<Maps> {
        let window = platform.reserve()?;
        Maps::of(platform, window.base, window.len)
    }

    /// A heap over these maps.
    pub(crate) fn over(maps: Maps) -> Self {
        let state = State {
            bins: [[NIL; BINS]; 3],
            top: 0,
            committed: 0,
            bounds: Bounds::new(),
            mix: Mix::default(),
            moved: 0,
            stats: PageStats::default(),
        };
        Self { maps, state: Mutex::new(Rank::Pages, state), at_free: AtomicU32::new(0) }
    }

    /// Address of the window's first granule, after the maps in its head, and how many granules there are.
    pub fn window(&self) -> (usize, usize) {
        (self.maps.base, self.maps.granules)
    }

    /// How many of the window's granules, from the first on, have a byte in the class map. No others were handed out;
    /// what makes it more [tells](crate::host::PageSource::reaches) the page source.
    pub fn reach(&self) -> usize {
        self.maps.reach()
    }

    /// The class map: `CLASS_STEP` times the class, a byte a granule of the window up to its [`reach`](Self::reach).
    pub fn class_map(&self) -> NonNull<AtomicU8> {
        self.maps.classes()
    }

    /// What covers `address`.
    pub(crate) fn owner(&self, address: usize) -> Owner {
        self.maps.owner(address)
    }

    /// The class of `address`; 0 outside of the window.
    #[cfg(feature = "internals")]
    pub(crate) fn class_at(&self, address: usize) -> u8 {
        match self.maps.granule_of(address) {
            Some(granule) => {
                // SAFETY: the granule is below the reach.
                let class = unsafe { self.maps.classes().add(granule).as_ref() };
                class.load(Ordering::Relaxed) / super::table::CLASS_STEP
            }
            None => 0,
        }
    }

    /// A run of `granules`, its address a multiple of `align` bytes (a power of two), with what is known of its use.
    pub(crate) fn alloc_for<P: Host>(&self, platform: &P, granules: usize, align: usize, what: Use) -> Option<Run> {
        if granules == 0 || !self.could_hold(granules, align) {
            return None;
        }
        // If only dirty and clean runs together are long enough, purging the dirty ones makes them one.
        let run = self
            .search(platform, granules, align, what)
            .or_else(|| if self.purge(platform) > 0 { self.search(platform, granules, align, what) } else { None })?;
        if run.zero && (granules >= EXCHANGE || what == Use::Any) {
            self.purge_some(
                platform,
                |state| if state.bounds.exchanges(&state.stats, granules) { granules } else { 0 },
            );
        }
        Some(run)
    }

    pub(super) fn search<P: Host>(&self, platform: &P, granules: usize, align: usize, what: Use) -> Option<Run> {
        let want = granules + (align / GRANULE).saturating_sub(1);
        let mut state = self.state.lock(platform);
        for _ in 0..COMMIT_TRIES {
            let found = match self.take_free(&mut state, want) {
                Some(found) => found,
                None => self.grow(platform, &mut state, want, what)?,
            };
            let Found { first, len, kind, .. } = found;
            let start = (self.maps.address_of(first).next_multiple_of(align.max(GRANULE)) - self.maps.base) / GRANULE;
            let address = self.maps.address_of(start);
            if kind == KIND_RAW {
                // SAFETY: the granules were committed before, and uncommitted since.
                match unsafe { platform.commit(address, granules * GRANULE) } {
                    Ok(()) => {
                        state.stats.committed += granules;
                        state.stats.raw -= granules;
                    }
                    Err(CommitError::NoMemory) => {
                        self.merge(&mut state, found);
                        return None;
                    }
                    Err(CommitError::Taken) => {
                        // Another mapping is there by now: the whole run is left to it.
                        state.stats.skipped += len;
                        state.stats.raw -= len;
                        continue;
                    }
                }
            }
            self.set_aside(start, granules);
            if what == Use::Dense && kind == KIND_CLEAN {
                self.fills_units_of(platform, found, start);
            }
            self.leave(platform, &mut state, found, start, start + granules);
            state.stats.used += granules;
            return Some(Run { address, granules, zero: kind != KIND_DIRTY });
        }
        None
    }

    /// Makes a large run longer or shorter in place. Returns `false` if something is after it; then it stays as it was.
    ///
    /// # Safety
    /// The run is a large one that was handed out, and the caller's; no thread uses the part that is cut off. No
    /// allocator lock is held (I34).
    pub(crate) unsafe fn resize<P: Host>(&self, platform: &P, address: usize, old: usize, new: usize) -> bool {
        let first = (address - self.maps.base) / GRANULE;
        let age = self.maps.entry(first).age();
        if new < old {
            self.maps.set_large(first, new);
            self.maps.entry(first).set_age(age);
            let (tail, len) = (address + new * GRANULE, old - new);
            if age > 0 {
                self.set_bound(first, first + new);
                // SAFETY: the tail is the caller's, and no thread uses it.
                unsafe { platform.uncommit(tail, len * GRANULE) };
                self.put_back(platform, tail, len, KIND_RAW);
            } else {
                // SAFETY: the tail is the caller's, and is a run like any other.
                unsafe { self.free(platform, tail, len) };
            }
            return true;
        }
        let (end, more) = (first + old, new - old);
        if age > 0 && first + new > self.bound(first) {
            return false;
        }
        let mut state = self.state.lock(platform);
        if end == state.top {
            let need = end + more;
            let there = need <= self.maps.granules
                && (need <= state.committed || self.commit(platform, &mut state, need, Use::Any).is_ok());
            if !there {
                return false;
            }
            self.raise_top(platform, &mut state, need);
        } else {
            if !self.maps.reaches(end) {
                return false;
            }
            let entry = self.maps.entry(end);
            let kind = entry.kind();
            if !matches!(kind, KIND_DIRTY | KIND_CLEAN) || entry.len() < more {
                return false;
            }
            let found = self.remove(&mut state, end);
            if found.len > more {
                self.insert(&mut state, found.part(end + more, found.len - more));
            }
        }
        state.stats.used += more;
        self.maps.set_large(first, new);
        self.maps.entry(first).set_age(age);
        true
    }

    /// Whether an empty window would have room for such a run.
    pub(crate) fn could_hold(&self, granules: usize, align: usize) -> bool {
        let pad = (align / GRANULE).saturating_sub(1);
        granules.checked_add(pad).is_some_and(|want| want <= self.maps.granules)
    }

    /// Frees a run. No allocator lock is held (I34).
    ///
    /// # Safety
    /// The run was handed out, and is no longer used.
    pub(crate) unsafe fn free<P: Host>(&self, platform: &P, address: usize, granules: usize) {
        if self.take_moved(address) {
            // SAFETY: the run is the caller's, and is no longer used.
            unsafe { platform.uncommit(address, granules * GRANULE) };
            self.state.lock(platform).moved -= 1;
            self.put_back(platform, address, granules, KIND_RAW);
            return;
        }
        self.maps.set_class((address - self.maps.base) / GRANULE, granules, 0);
        let mut kind = KIND_DIRTY;
        if granules > HOLDS && granules > self.state.lock(platform).bounds.longest() {
            // SAFETY: the run is still this thread's alone.
            unsafe { platform.purge(address, granules * GRANULE) };
            kind = KIND_CLEAN;
        }
        if self.put_back(platform, address, granules, kind) > 0 {
            self.purge_some(platform, |state| state.bounds.excess(&state.stats));
        }
        if kind == KIND_DIRTY {
            self.release_at_free(platform, granules);
        }
    }

    /// Frees a slab's run that was purged: it reads as zero.
    ///
    /// # Safety
    /// As for [`free`](Self::free).
    pub(crate) unsafe fn free_purged<P: Host>(&self, platform: &P, address: usize, granules: usize) {
        let first = (address - self.maps.base) / GRANULE;
        self.maps.set_class(first, granules, 0);
        self.put_back(platform, address, granules, KIND_CLEAN);
    }

    /// Releases memory of free runs after a run of `freed` granules was freed, as far as the credit of frees reaches.
    fn release_at_free<P: Host>(&self, platform: &P, freed: usize) {
        let granted = |state: &mut State| {
            let due = if state.bounds.releases_at_free() { state.bounds.due_at_free(&state.stats, freed) } else { 0 };
            if due == 0 { 0 } else { state.bounds.credit().grant(due * GRANULE, || platform.now()) / GRANULE }
        };
        let released = self.purge_some(platform, granted);
        self.spend_credit(platform, released);
    }

    /// How many of `wanted` bytes a free may release by itself at this moment; 0 if frees do not do that.
    pub(crate) fn credit<P: Host>(&self, platform: &P, wanted: usize) -> usize {
        let mut state = self.state.lock(platform);
        let State { bounds, stats, .. } = &mut *state;
        bounds.note(stats);
        if state.bounds.releases_at_free() { state.bounds.credit().grant(wanted, || platform.now()) } else { 0 }
    }

    /// Notes that a free released so many bytes.
    pub(crate) fn spend_credit<P: Host>(&self, platform: &P, bytes: usize) {
        if bytes > 0 {
            self.state.lock(platform).bounds.credit().spend(bytes);
        }
    }

    /// Says whether [`decay`](Self::decay) will be called from now on: then free runs may hold more memory meanwhile.
    pub(crate) fn expect_decay<P: Host>(&self, platform: &P, expected: bool) {
        self.state.lock(platform).bounds.expect_decay(expected);
    }

    /// Says whether frees release memory by themselves while no decay is expected.
    pub(crate) fn set_release_at_free<P: Host>(&self, platform: &P, wanted: bool) {
        let now = platform.now();
        self.state.lock(platform).bounds.release_at_free(wanted, now);
        self.at_free.store(u32::from(wanted), Ordering::Relaxed);
    }

    /// Whether frees may release memory by themselves: a hint, without the lock.
    pub(crate) fn may_release_at_free(&self) -> bool {
        self.at_free.load(Ordering::Relaxed) != 0
    }

    /// Says in a child made by fork that decay is not called, because the thread that did so does not exist there. If
    /// the calling thread is itself in the middle of something here, the child expects what its parent did until its
    /// first decay.
    pub(crate) fn expect_no_decay<P: Host>(&self, platform: &P) {
        if let Some(mut state) = self.state.try_lock(platform) {
            state.bounds.expect_decay(false);
        }
    }

    /// Whether decay is expected.
    pub(crate) fn expects_decay<P: Host>(&self, platform: &P) -> bool {
        self.state.lock(platform).bounds.expects_decay()
    }

    /// Notes that a run is a slab with this descriptor and, for general caches, this class.
    ///
    /// # Safety
    /// The run was handed out, and is the caller's. The descriptor is a valid [`Slab`](crate::slab::Slab), and stays so
    /// until [`free`](Self::free) has returned for the run; so does its cache.
    pub(crate) unsafe fn set_slab(&self, run: &Run, slab: NonNull<u8>, class: u8) {
        let first = (run.address - self.maps.base) / GRANULE;
        self.maps.set_slab(first, run.granules, slab);
        self.maps.set_class(first, run.granules, class);
    }

    /// Calls `look` with the descriptor of the slab that covers `address`, any address, if there is one. The descriptor
    /// is valid while `look` runs, and so is its cache.
    ///
    /// ```text
    /// a slab goes back                              somebody asks for an address in it
    /// the entries of its run are cleared            lock
    /// lock ... the run is free ... unlock           the entry names the slab: the other's lock is still to come
    /// its descriptor goes, then maybe its cache     looks; unlock
    /// ```
    pub(crate) fn with_slab<P: Host, R>(
        &self,
        platform: &P,
        address: usize,
        look: impl FnOnce(NonNull<u8>) -> R,
    ) -> Option<R> {
        let _state = self.state.lock(platform);
        match self.maps.owner(address) {
            Owner::Slab(slab) => Some(look(slab)),
            _ => None,
        }
    }

    /// Notes that a run is a large object.
    ///
    /// # Safety
    /// The run is one that `alloc` gave, and the caller's.
    pub(crate) unsafe fn set_large(&self, run: &Run) {
        self.maps.set_large((run.address - self.maps.base) / GRANULE, run.granules);
    }

    /// What the heap holds.
    pub(crate) fn stats<P: Host>(&self, platform: &P) -> PageStats {
        self.state.lock(platform).stats
    }

    /// The word of the lock, for fork.
    pub(crate) fn word(&self) -> &Word {
        self.state.word()
    }
}
