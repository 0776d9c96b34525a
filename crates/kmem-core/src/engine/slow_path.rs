//! The slow paths of alloc and free: how objects flow between slots, depot and slabs.
//!
//! A miss never holds a slot while it works (I37): the thread takes a batch of objects, and gives what it does not need
//! to the slot of the CPU that it is on at the end, by one more section. Where no slot is available (the CPU is
//! offline, stopped or not prepared, the cache is dying, there is no metadata) the miss moves single objects, and no
//! thread waits for the CPU.

use core::ptr::NonNull;

use super::accounts::Attempts;
use super::general::Fresh;
use crate::batch::Batch;
use crate::cache::{CacheDesc, Miss, ObjectOps};
use crate::cpu::Mistake;
use crate::engine::Engine;
use crate::error::AllocError;
use crate::hint::cold_path;
use crate::platform::{Event, Platform};
use crate::slab::{self, FreeError, Reclaim};

impl<P: Platform> Engine<P> {
    /// Takes an object of `cache`: the section, and the slow path where it misses.
    ///
    /// # Safety
    /// The cache lives.
    #[inline]
    pub unsafe fn alloc(&self, cache: &CacheDesc) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the cache's index is below the number of slots.
        match unsafe { self.platform.pop(&self.table, cache.slot()) } {
            Some(object) => Ok(object),
            None => {
                cold_path();
                // SAFETY: the caller's promise.
                unsafe { self.alloc_slow(cache) }
            }
        }
    }

    /// Frees an object of `cache`: the section, and the slow path where it misses.
    ///
    /// # Safety
    /// The object is one of this cache's, the caller's, and not used afterwards (I7). The cache lives.
    #[inline]
    pub unsafe fn free(&self, cache: &CacheDesc, object: NonNull<u8>) {
        // SAFETY: the cache's index is below the number of slots; the object is the caller's.
        unsafe {
            if !self.platform.push(&self.table, cache.slot(), object) {
                cold_path();
                self.free_slow(cache, object);
            }
        }
    }

    /// What [`alloc`](Self::alloc) does when the slot has no object.
    ///
    /// A batch is half a kilobyte of a stack that is not ours. So no frame that has one is on the stack while the slot
    /// or its CPU is brought up, nor while memory is reclaimed from all caches.
    ///
    /// # Safety
    /// As for `alloc`.
    #[inline(never)]
    pub unsafe fn alloc_slow(&self, cache: &CacheDesc) -> Result<NonNull<u8>, AllocError> {
        self.end_overdue(cache);
        let cpu = self.platform.current_cpu();
        let mut want = 1;
        if self.slot_ready(cache, cpu) {
            if cache.note_miss(Miss::Underflow) {
                self.try_grow(cache, cpu);
            }
            want = cache.batch();
        }
        let mut attempts = Attempts::default();
        loop {
            let taken = self.take_batch(cache, cpu, want);
            if taken.is_ok() || !self.is_worth_another(cache, &mut attempts) {
                return taken;
            }
        }
    }

    /// Takes up to `want` objects: one for the caller, the others for the slot.
    #[inline(never)]
    fn take_batch(&self, cache: &CacheDesc, cpu: usize, want: usize) -> Result<NonNull<u8>, AllocError> {
        let mut batch = Batch::new();
        self.take_some(cache, cpu, want, &mut batch);
        let object = newest(&mut batch)?;
        if !batch.is_empty() {
            // SAFETY: the objects are this thread's; the slot is the cache's.
            let kept = unsafe { self.platform.push_batch(&self.table, cache.slot(), batch.as_slice()) };
            // The next free that sees that a sweep is due begins it.
            // SAFETY: what the slot did not take is still this thread's.
            unsafe { self.return_objects(cache, cpu, &batch.as_slice()[kept..]) };
        }
        Ok(object)
    }

    /// Takes an object of `cache`, and says whether it is known to read as zero: for objects so long that clearing them
    /// counts. Where the slot has none it takes a single object, because an object in a slot no longer counts as zero.
    ///
    /// # Safety
    /// As for `alloc`.
    #[inline(never)]
    pub unsafe fn alloc_for_zeros(&self, cache: &CacheDesc) -> Result<Fresh, AllocError> {
        // SAFETY: the cache's index is below the number of slots.
        if let Some(address) = unsafe { self.platform.pop(&self.table, cache.slot()) } {
            return Ok(Fresh { address, zero: false });
        }
        let mut attempts = Attempts::default();
        loop {
            let taken = self.take_for_zeros(cache);
            if taken.is_ok() || !self.is_worth_another(cache, &mut attempts) {
                return taken;
            }
        }
    }

    #[inline(never)]
    fn take_for_zeros(&self, cache: &CacheDesc) -> Result<Fresh, AllocError> {
        let mut batch = Batch::new();
        let zero = self.take_some(cache, self.platform.current_cpu(), 1, &mut batch);
        Ok(Fresh { address: newest(&mut batch)?, zero })
    }

    /// What [`free`](Self::free) does when the slot takes no object.
    ///
    /// # Safety
    /// As for `free`.
    #[inline(never)]
    pub unsafe fn free_slow(&self, cache: &CacheDesc, object: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { self.give_to_slot_or_depot(cache, object) };
        // After the object was freed, so that a destructor that panics loses nothing.
        self.end_overdue(cache);
    }

    /// Returns an object to the slot, to the depot, or to its slab.
    ///
    /// # Safety
    /// As for `free`.
    #[inline]
    unsafe fn give_to_slot_or_depot(&self, cache: &CacheDesc, object: NonNull<u8>) {
        let cpu = self.platform.current_cpu();
        let sweep_is_due = if !self.slot_ready(cache, cpu) {
            // SAFETY: the object is the caller's.
            unsafe { self.return_objects(cache, cpu, &[object.as_ptr() as usize]) }
        } else {
            if cache.note_miss(Miss::Overflow) {
                self.try_grow(cache, cpu);
            }
            // SAFETY: the slot is the cache's; the object is the caller's.
            unsafe { !self.platform.push(&self.table, cache.slot(), object) && self.make_room(cache, cpu, object) }
        };
        if sweep_is_due {
            self.sweep_piece(cache);
        }
    }

    /// Puts an object into a slot that is full, and the newest objects of that slot into the depot. Returns whether a
    /// sweep is due.
    ///
    /// # Safety
    /// As for [`free`](Self::free).
    #[inline(never)]
    unsafe fn make_room(&self, cache: &CacheDesc, cpu: usize, object: NonNull<u8>) -> bool {
        let mut batch = Batch::new();
        // SAFETY: the slot is the cache's; the objects that come out are this thread's.
        unsafe {
            batch.fill(cache.batch(), |room| self.platform.pop_batch(&self.table, cache.slot(), room));
            if let Some(object) = freed_twice(batch.as_slice(), object.as_ptr() as usize) {
                self.bad_free(object, FreeError::DoubleFree);
            }
            // A magazine's newest object is its last.
            batch.reverse();
            if !self.platform.push(&self.table, cache.slot(), object) {
                // A batch holds fewer objects than fit, since half a magazine's start capacity is at most 60.
                batch.push(object.as_ptr() as usize);
            }
        }
        // SAFETY: the object is the caller's, and the others came out of a slot of the cache.
        unsafe { self.return_objects(cache, cpu, batch.as_slice()) }
    }

    /// Reclaims the slabs of `cache` that became empty on a thread that may run no destructor: one that does upkeep.
    /// The calling thread uses the cache, so it may. It holds no lock.
    #[inline]
    fn end_overdue(&self, cache: &CacheDesc) {
        if cache.take_overdue() {
            cold_path();
            self.reclaim_empty_of(cache);
        }
    }

    /// Takes up to `out.len()` objects and returns how many: fewer only if there is no memory.
    ///
    /// # Safety
    /// As for [`alloc`](Self::alloc).
    pub unsafe fn alloc_bulk(&self, cache: &CacheDesc, out: &mut [usize]) -> usize {
        let mut bulk = Bulk { engine: self, cache, out, done: 0 };
        while bulk.done < bulk.out.len() {
            // SAFETY: the caller's promise.
            bulk.done += unsafe { self.platform.pop_batch(&self.table, cache.slot(), &mut bulk.out[bulk.done..]) };
            if bulk.done < bulk.out.len() {
                // SAFETY: the caller's promise.
                let Ok(object) = (unsafe { self.alloc_slow(cache) }) else { break };
                bulk.out[bulk.done] = object.as_ptr() as usize;
                bulk.done += 1;
            }
        }
        let done = bulk.done;
        core::mem::forget(bulk);
        done
    }

    /// Frees objects of `cache`.
    ///
    /// # Safety
    /// As for [`free`](Self::free), for each of them.
    pub unsafe fn free_bulk(&self, cache: &CacheDesc, objects: &[usize]) {
        let mut done = 0;
        while done < objects.len() {
            // SAFETY: the caller's promise.
            done += unsafe { self.platform.push_batch(&self.table, cache.slot(), &objects[done..]) };
            if let Some(object) = objects.get(done).and_then(|object| NonNull::new(*object as *mut u8)) {
                // SAFETY: the caller's promise.
                unsafe { self.free_slow(cache, object) };
                done += 1;
            }
        }
    }

    /// Whether the slot of `cache` on `cpu` would take a batch. Brings the CPU and the slot up, if that needs no
    /// waiting.
    fn slot_ready(&self, cache: &CacheDesc, cpu: usize) -> bool {
        if cache.enabled_on.contains(cpu) && self.table.get(cpu) != self.table.empty() {
            return true;
        }
        if let Some(control) = self.cpus.get(cpu) {
            control.request.report(|| self.platform.fence_here(cpu));
        }
        if cache.enabled_on.contains(cpu) {
            return false;
        }
        if cache.is_over_limit() {
            return false;
        }
        if let Some(order) = self.order_of_2004() {
            return order.slot_ready(cache, cpu);
        }
        self.try_enable(cache, cpu) || (self.try_adopt(cpu) && self.try_enable(cache, cpu))
    }

    /// Takes up to `want` objects from the depot of the CPU's node, or else from its slabs, or else from another node;
    /// none if there is no memory. Returns whether all of them are known to read as zero.
    fn take_some(&self, cache: &CacheDesc, cpu: usize, want: usize, batch: &mut Batch) -> bool {
        let home = self.platform.node_of(cpu);
        if self.take_from_depot(cache, home, want, batch) {
            // The newest object of a magazine is its last.
            return false;
        }
        let zero = self.refill(cache, home, want, batch);
        if batch.is_empty() {
            // Memory is out. Objects in depots and slabs of other nodes serve too.
            self.take_anywhere(cache, want, batch);
        }
        cache.rest.wake();
        zero
    }

    /// Takes a magazine of the node's depot, or one object if no more are wanted. Returns whether there was one.
    fn take_from_depot(&self, cache: &CacheDesc, node: usize, want: usize, batch: &mut Batch) -> bool {
        let depot = &cache.node(node).depot;
        if want == 1 {
            depot.take_one(&self.platform).map(|object| batch.push(object)).is_some()
        } else {
            depot.take(&self.platform, batch) > 0
        }
    }

    /// Takes objects from the first node that has some.
    fn take_anywhere(&self, cache: &CacheDesc, want: usize, batch: &mut Batch) {
        for node in 0..cache.node_count() {
            if self.take_from_depot(cache, node, want, batch) {
                return;
            }
            self.refill(cache, node, want, batch);
            if !batch.is_empty() {
                return;
            }
        }
    }

    /// Takes objects from the slabs, constructed, the lowest address last. Small ones are spread, so that a thread
    /// which allocates for other threads does not give two of them parts of one cache line. Returns whether it took
    /// any, all of which are known to read as zero.
    pub(super) fn refill(&self, cache: &CacheDesc, node: usize, want: usize, batch: &mut Batch) -> bool {
        let refill = cache.node(node).slabs.refill(cache, node % cache.node_count(), want, batch, &self.env());
        if refill.made {
            self.platform.event(Event::SlabMade { cache, bytes: cache.layout().bytes() });
        }
        self.platform.event(Event::Refill { cache, objects: refill.count });
        if let (Some(ops), true) = (cache.ops(), refill.raw != 0) {
            Constructing { engine: self, cache, batch, raw: refill.raw }.run(ops);
        }
        batch.lay_out(cache.layout().stride());
        refill.count > 0 && refill.zero.count_ones() as usize == refill.count
    }

    /// Returns objects to the depot of the CPU's node, and what it does not take to their slabs. Returns whether a
    /// [sweep](super::reclaim) is due there. The caller holds no lock.
    ///
    /// # Safety
    /// The objects are the cache's, the caller's, and not used afterwards (I7). The cache lives.
    pub(super) unsafe fn return_objects(&self, cache: &CacheDesc, cpu: usize, objects: &[usize]) -> bool {
        let mut reclaim = Reclaim::new();
        // SAFETY: the caller's promise.
        unsafe { self.return_objects_into(cache, cpu, objects, &mut reclaim) };
        let due = reclaim.is_due() && self.heap.may_release_at_free();
        self.reclaim(reclaim);
        due
    }

    /// The same under a CPU's control; slabs that become superfluous are added to `reclaim`.
    ///
    /// # Safety
    /// As for [`return_objects`](Self::return_objects).
    pub(super) unsafe fn return_objects_into(
        &self,
        cache: &CacheDesc,
        cpu: usize,
        objects: &[usize],
        reclaim: &mut Reclaim,
    ) {
        if let Some(past) = self.past(&[Mistake::TrustsTopology]) {
            past.look_up_node(cache, cpu);
        }
        let depot = &cache.node(self.platform.node_of(cpu)).depot;
        let taken = if cache.is_over_limit() { 0 } else { depot.put(&self.platform, &self.meta, objects) };
        // SAFETY: the caller's promise.
        unsafe { self.return_to_slabs(&objects[taken..], reclaim) };
        cache.rest.wake();
        self.platform.event(Event::Flush { cache, objects: objects.len() });
    }

    /// Returns objects to their slabs.
    ///
    /// # Safety
    /// As for [`return_objects`](Self::return_objects).
    pub(super) unsafe fn return_to_slabs(&self, objects: &[usize], reclaim: &mut Reclaim) {
        if !objects.is_empty() {
            let bad = |object, error| self.bad_free(object, error);
            // SAFETY: the caller's promise.
            unsafe { slab::put_back(objects, |_| true, &self.env(), reclaim, bad) };
        }
    }

    /// Makes the slot's magazine twice as large, if that needs no waiting.
    fn try_grow(&self, cache: &CacheDesc, cpu: usize) {
        let Some(control) = self.cpus.get(cpu) else { return };
        let Some(guard) = control.lock.try_lock(&self.platform) else { return };
        if let Some(area) = guard.area {
            // SAFETY: the control is held, and the area is the CPU's.
            unsafe { self.grow_slot(cache, cpu, area) };
        }
    }

    /// Reports a pointer that was freed but is no live object; the embedder decides what happens then.
    pub(super) fn bad_free(&self, object: usize, error: FreeError) {
        (self.config.bad_free)(object, error);
    }
}

/// An object that was freed twice, if one shows: the one that is freed now lies in the slot already, or one follows
/// itself there. This costs a comparison or two for each object that leaves a slot; `docs/debugging.md` says why the
/// fast path looks at none.
#[inline]
fn freed_twice(slot: &[usize], now: usize) -> Option<usize> {
    let again = slot.windows(2).fold(0, |again, pair| if pair[0] == pair[1] { pair[0] } else { again });
    if again != 0 { Some(again) } else { slot.contains(&now).then_some(now) }
}

/// Takes out the object that is to be handed out first.
pub(super) fn newest(batch: &mut Batch) -> Result<NonNull<u8>, AllocError> {
    batch.pop().and_then(|object| NonNull::new(object as *mut u8)).ok_or(AllocError)
}

/// The objects of a bulk so far. If a constructor panics they are freed, because the caller would not learn how many
/// there are (I31).
struct Bulk<'a, P: Platform> {
    engine: &'a Engine<P>,
    cache: &'a CacheDesc,
    out: &'a mut [usize],
    done: usize,
}

impl<P: Platform> Drop for Bulk<'_, P> {
    fn drop(&mut self) {
        // SAFETY: the first `done` objects were taken from this cache, and no other thread has seen them.
        unsafe { self.engine.free_bulk(self.cache, &self.out[..self.done]) };
    }
}

/// A batch whose objects still need their constructor. If one panics, every object returns to its slab, so nothing is
/// lost (I31).
struct Constructing<'a, P: Platform> {
    engine: &'a Engine<P>,
    cache: &'a CacheDesc,
    batch: &'a mut Batch,
    /// Bit `i`: the `i`-th object of the batch is raw.
    raw: u64,
}

impl<P: Platform> Constructing<'_, P> {
    fn run(mut self, ops: &ObjectOps) {
        debug_assert!(
            self.engine.platform.held_ranks().is_none_or(|held| held.at_most_gate()),
            "constructors run without a lock (I31)"
        );
        while self.raw != 0 {
            let object = self.batch.as_slice()[self.raw.trailing_zeros() as usize];
            // SAFETY: this thread has just taken the object from its slab, and it is not constructed.
            unsafe { ops.construct(object) };
            self.raw &= self.raw - 1;
        }
    }
}

impl<P: Platform> Drop for Constructing<'_, P> {
    fn drop(&mut self) {
        if self.raw == 0 {
            return;
        }
        let (engine, raw) = (self.engine, self.raw);
        let mut reclaim = Reclaim::new();
        let constructed = |place: usize| raw & (1 << place) == 0;
        let bad = |object, error| engine.bad_free(object, error);
        // SAFETY: this thread took the objects from their slabs, and no other thread has seen them.
        unsafe { slab::put_back(self.batch.as_slice(), constructed, &engine.env(), &mut reclaim, bad) };
        self.batch.truncate(0);
        engine.reclaim(reclaim);
        debug_assert!(self.cache.ops().is_some());
    }
}
