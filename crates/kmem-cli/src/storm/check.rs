//! What is checked while all threads are stopped, and at the end.
//!
//! Two independent sources are compared:
//!
//! - the modules know which objects they hold, and the engine's count is compared with that, cache by cache;
//! - the engine walks all its slabs, slots and depots and verifies that every object is in exactly one place.
//!
//! Caches that are not the storm's are subtracted: the engine's general caches serve the whole process, and are created
//! at their first use. After the storm they must hold what they held before.

#![forbid(unsafe_code)]

use kmem::ValidReport;

use super::module;
use super::quiet::settled;
use super::source;
use super::worker::Shared;
use super::worker_ctx::WorkerCtx;

/// Objects of caches that are not the storm's.
fn held_by_others() -> i64 {
    let mut held = 0;
    kmem::caches(|cache| {
        if !cache.name.starts_with(module::NAME) {
            held += cache.live as i64;
        }
    });
    held
}

/// The checker, and what it found so far.
pub struct Checker {
    ctx: WorkerCtx,
    before: ValidReport,
    valid: bool,
    /// By how much the engine's total is known to be wrong, beyond the known errors of single caches.
    known: i64,
}

impl Checker {
    /// Records the state before the storm. An error if the engine is already inconsistent.
    pub fn new(ctx: WorkerCtx) -> Result<Self, String> {
        let before =
            source::validate().map_err(|e| format!("the allocator is not consistent before the storm: {e}"))?;
        Ok(Self { ctx, before, valid: true, known: 0 })
    }

    /// Checks everything, at a quiescent point.
    pub fn check(&mut self, shared: &Shared) {
        let mut held = 0;
        for slot in &shared.module_slots {
            let mut slot = slot.write().unwrap_or_else(|e| e.into_inner());
            if let Some(module) = slot.as_mut() {
                held += module.check(&mut self.ctx, &shared.totals);
            }
        }
        self.validate(held, held_by_others, shared);
    }

    /// Unloads all modules after the storm, and checks that nothing is left.
    pub fn clear_away(&mut self, shared: &Shared) {
        for slot in &shared.module_slots {
            let module = slot.write().unwrap_or_else(|e| e.into_inner()).take();
            if let Some(module) = module {
                module.unload(&mut self.ctx, &shared.totals);
            }
        }
        let before = self.before.held as i64;
        self.validate(0, || before, shared);
        let mut left = 0;
        kmem::caches(|cache| left += usize::from(cache.name.starts_with(module::NAME)));
        if left > 0 {
            shared.totals.complain(format!("{left} caches of the storm still exist after it"));
        }
        let lives = source::lives();
        if lives.constructed != lives.dropped {
            shared.totals.complain(format!(
                "{} objects were constructed in caches that have been destroyed, and {} of them were dropped",
                lives.constructed, lives.dropped
            ));
        }
        shared.totals.add(&mut self.ctx.tally);
    }

    /// The engine's own walk, and its total compared with what the storm and others hold.
    fn validate(&mut self, ours: i64, others: impl Fn() -> i64, shared: &Shared) {
        let totals = &shared.totals;
        self.ctx.tally.checks += 1;
        let report = match source::validate() {
            Ok(report) => Some(report),
            Err(violation) => {
                self.valid = false;
                totals.complain(format!("validation: {violation}"));
                None
            }
        };
        if let Some(report) = &report {
            self.ctx.tally.stranded += report.stranded as u64;
            let places = report.free + report.in_slots + report.in_depot + report.held;
            if places != report.total {
                self.valid = false;
                totals.complain(format!("{} objects exist, and {places} are accounted for", report.total));
            }
            let others = settled(report.held as i64 - ours - self.known, totals, others);
            let deviation = report.held as i64 - others - ours - self.known;
            if deviation != 0 {
                self.known += deviation;
                match deviation {
                    1.. => self.ctx.tally.lost += deviation.unsigned_abs(),
                    _ => self.ctx.tally.doubled += deviation.unsigned_abs(),
                }
                totals.complain(format!(
                    "the engine counts {} held objects in all caches together; their users hold {}",
                    report.held,
                    others + ours
                ));
            }
        }
        totals.add(&mut self.ctx.tally);
    }

    /// Whether every validation of the engine by itself succeeded.
    pub fn valid(&self) -> bool {
        self.valid
    }
}
