//! A module: caches that are created when it is loaded and destroyed when it is unloaded.
//!
//! ```text
//! load ──> visited by many workers at once ──> worn out ──> unload
//!          allocate, free, leave objects, take over          free all objects,
//!                                                           now and then: destroy while held -> Busy,
//!                                                           destroy
//! ```
//!
//! Between visits all objects are in the module, in batches left by workers: what one worker allocates on one CPU the
//! next worker frees on another. So a thread that has the module to itself, or stops all others at a quiescent point,
//! knows exactly which objects are held, and can compare the engine's count with that.
//!
//! A wrong count is reported only once: a deviation that was counted is remembered in `known`, and afterwards only a
//! difference from that counts.

#![deny(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::object::Held;
use super::quiet::settled;
use super::source::{self, Refusal, Source};
use super::totals::Totals;
use super::worker_ctx::WorkerCtx;

/// The prefix of the names of all caches of modules.
pub const NAME: &str = "storm-module";
/// Most caches of one module.
const MOST_CACHES: usize = 4;
/// Bytes that one visit may allocate from a cache, roughly.
const VISIT_BYTES: usize = 8 * 1024;
/// Most objects that one visit allocates from a cache.
const VISIT_OBJECTS: usize = 128;
/// Batches that may be left in a cache before visitors must take over one for each that they leave.
const MOST_BATCHES: usize = 12;
/// A module wears out after a number of visits in this range.
const VISITS: std::ops::Range<u32> = 4..64;

/// A loaded module.
pub struct Module {
    stocks: Vec<Stock>,
    visits_left: AtomicU32,
}

/// A cache of the module, and its objects that are held between visits.
struct Stock {
    name: String,
    source: Box<dyn Source>,
    /// Most objects of one visit.
    most: usize,
    batches: Mutex<VecDeque<Batch>>,
    /// By how much the engine's count of held objects is known to be wrong.
    known: i64,
}

/// Objects that one worker left for the others.
struct Batch {
    objects: Vec<Held>,
    /// The worker that allocated them, and the CPU that it left them on.
    worker: u64,
    cpu: usize,
}

impl Module {
    /// Loads module `number`: creates its caches. `None` if not one could be created.
    pub fn load(number: usize, ctx: &mut WorkerCtx, totals: &Totals) -> Option<Self> {
        let mut stocks = Vec::with_capacity(MOST_CACHES);
        for part in 0..ctx.rng.usize(1..=MOST_CACHES) {
            let name = format!("{NAME}{number}.{part}{}", ctx.suffix());
            match source::create(&name, ctx.tag, &mut ctx.rng) {
                Ok(source) => {
                    ctx.tally.caches_created += 1;
                    stocks.push(Stock {
                        name,
                        most: (VISIT_BYTES / source.size()).clamp(2, VISIT_OBJECTS),
                        source,
                        batches: Mutex::default(),
                        known: 0,
                    });
                }
                Err(e) => {
                    ctx.tally.create_failed += 1;
                    if !source::for_want_of_room(&e) {
                        totals.complain(format!("the cache {name} could not be created: {e}"));
                    }
                }
            }
        }
        (!stocks.is_empty()).then(|| Self { stocks, visits_left: AtomicU32::new(ctx.rng.u32(VISITS)) })
    }

    /// Whether the module may be visited once more; counts the visit.
    pub fn admits(&self) -> bool {
        self.visits_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Whether no visit is left, so that the module is to be unloaded.
    pub fn is_worn_out(&self) -> bool {
        self.visits_left.load(Relaxed) == 0
    }

    /// One visit: allocates, frees, leaves objects for others and takes over theirs.
    pub fn visit(&self, ctx: &mut WorkerCtx) {
        let stock = &self.stocks[ctx.rng.usize(..self.stocks.len())];
        stock.visit(ctx);
        if ctx.rng.u32(..32) == 0 {
            stock.source.shrink();
        }
    }

    /// Frees every object and destroys the caches.
    pub fn unload(self, ctx: &mut WorkerCtx, totals: &Totals) {
        for stock in self.stocks {
            stock.unload(ctx, totals);
        }
    }

    /// Compares the engine's counts with ours, at a quiescent point. Returns the number of objects that the engine
    /// should count: ours, plus the errors that are known.
    pub fn check(&mut self, ctx: &mut WorkerCtx, totals: &Totals) -> i64 {
        let mut held = 0;
        for stock in &mut self.stocks {
            let ours = stock.held();
            let live = settled(ours as i64 + stock.known, totals, || stock.source.live() as i64);
            stock.compare(live as usize, ours, ctx, totals);
            held += ours as i64 + stock.known;
        }
        held
    }
}

impl Stock {
    fn batches(&self) -> std::sync::MutexGuard<'_, VecDeque<Batch>> {
        self.batches.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The number of objects here. Exact while there is no visitor.
    fn held(&self) -> usize {
        self.batches().iter().map(|batch| batch.objects.len()).sum()
    }

    fn visit(&self, ctx: &mut WorkerCtx) {
        // 1. Allocate, then free and allocate alternately: the everyday traffic of one CPU.
        let wanted = ctx.rng.usize(1..=self.most);
        let mut objects = Vec::with_capacity(wanted);
        if ctx.rng.u32(..4) == 0 {
            self.source.alloc_bulk(wanted, ctx, &mut objects);
        }
        objects.extend((objects.len()..wanted).map_while(|_| self.alloc(ctx)));
        for _ in 0..ctx.rng.usize(..=wanted) {
            if objects.is_empty() {
                break;
            }
            let given_up = objects.swap_remove(ctx.rng.usize(..objects.len()));
            self.source.free(given_up, &mut ctx.tally);
            objects.extend(self.alloc(ctx));
        }
        // 2. Free some of them here, leave the others.
        let kept = ctx.rng.usize(..=objects.len());
        for held in objects.drain(kept..) {
            self.source.free(held, &mut ctx.tally);
        }
        let mut batches = self.batches();
        if !objects.is_empty() {
            batches.push_back(Batch { objects, worker: ctx.id, cpu: ctx.cpu() });
        }
        // 3. Take over what others left, the oldest first; no lock is held while the objects are freed.
        let take = usize::from(ctx.rng.bool()) + usize::from(batches.len() > MOST_BATCHES);
        let take = take.min(batches.len());
        let taken: [Option<Batch>; 2] =
            [(take > 0).then(|| batches.pop_front()).flatten(), (take > 1).then(|| batches.pop_front()).flatten()];
        drop(batches);
        for batch in taken.into_iter().flatten() {
            self.take_over(batch, ctx);
        }
    }

    fn alloc(&self, ctx: &mut WorkerCtx) -> Option<Held> {
        self.source.alloc(ctx)
    }

    /// Frees what another worker (or the same one, earlier) left.
    fn take_over(&self, batch: Batch, ctx: &mut WorkerCtx) {
        let freed_before = ctx.tally.frees;
        let other_cpu = batch.cpu != ctx.cpu();
        for held in batch.objects {
            self.source.free(held, &mut ctx.tally);
        }
        let freed = ctx.tally.frees - freed_before;
        if batch.worker != ctx.id {
            ctx.tally.frees_by_other_thread += freed;
        }
        if other_cpu {
            ctx.tally.frees_on_other_cpu += freed;
        }
    }

    fn unload(mut self, ctx: &mut WorkerCtx, totals: &Totals) {
        let batches = std::mem::take(&mut *self.batches());
        for batch in batches {
            self.take_over(batch, ctx);
        }
        if ctx.rng.u32(..4) == 0 {
            let Some(usable) = self.destroy_while_held(ctx, totals) else {
                return;
            };
            self = usable;
        }
        match self.source.destroy() {
            Ok(()) => ctx.tally.caches_destroyed += 1,
            Err(Refusal { live, source }) => {
                self.source = source;
                self.compare(live, 0, ctx, totals);
                totals.complain(format!("cache {}: not destroyed, although no object of it is held", self.name));
                // It remains, under a name that is not used again.
                ctx.retire_name();
            }
        }
    }

    /// Tries to destroy the cache while some objects are held, which must be refused with their exact number and leave
    /// the cache as usable as before. `None` if the cache was destroyed nevertheless.
    fn destroy_while_held(mut self, ctx: &mut WorkerCtx, totals: &Totals) -> Option<Self> {
        let wanted = ctx.rng.usize(1..=self.most);
        let held: Vec<Held> = (0..wanted).map_while(|_| self.alloc(ctx)).collect();
        if held.is_empty() {
            return Some(self); // no memory, so nothing is held
        }
        let ours = held.len();
        match self.source.destroy() {
            Ok(()) => {
                // The objects no longer exist: touching them would be our own error.
                ctx.tally.doubled += ours as u64;
                totals.complain(format!("the cache {} was destroyed while {ours} objects of it were held", self.name));
                return None;
            }
            Err(Refusal { live, source }) => {
                self.source = source;
                if self.compare(live, ours, ctx, totals) {
                    ctx.tally.destroy_busy += 1;
                }
            }
        }
        // It must be as usable as before: it allocates, its objects are intact, and it frees.
        let more: Vec<Held> = (0..self.most).map_while(|_| self.alloc(ctx)).collect();
        for object in held.into_iter().chain(more) {
            self.source.free(object, &mut ctx.tally);
        }
        Some(self)
    }

    /// Compares the engine's count of held objects with ours, and counts a deviation that was not known. True if it is
    /// right.
    fn compare(&mut self, live: usize, ours: usize, ctx: &mut WorkerCtx, totals: &Totals) -> bool {
        let deviation = live as i64 - ours as i64 - self.known;
        self.known += deviation;
        match deviation {
            0 => return true,
            1.. => ctx.tally.lost += deviation.unsigned_abs(),
            _ => ctx.tally.doubled += deviation.unsigned_abs(),
        }
        totals.complain(format!("cache {}: the engine counts {live} held objects; its users hold {ours}", self.name));
        false
    }
}

#[cfg(test)]
mod tests;
