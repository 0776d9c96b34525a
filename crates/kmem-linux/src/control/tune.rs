//! Tuning a cache, and changing the limit of an account, from outside.

use kmem_core::{Engine, TuneError, Tuned, Tuning};

use super::Outcome;
use super::message::{NUMBERS, Refusal, Request};
use crate::platform::Linux;

pub(super) fn tune(engine: &Engine<Linux>, request: &Request) -> Outcome {
    let refused = |why, given: usize, max: usize| Outcome::Refused(why, [given as u64, max as u64, 0, 0]);
    let Some(name) = request.name() else { return refused(Refusal::BadName, 0, 0) };
    let Some(id) = engine.find(name) else { return refused(Refusal::NoSuchCache, 0, 0) };
    let [limit, batch, depot] = [0, 1, 2].map(|index| request.argument(index));
    match engine.try_tune(id, &Tuning { limit, batch, depot }, request.may_call()) {
        Some(Ok(Tuned { now, later })) => Outcome::Done([now as u64, later as u64, 0, 0]),
        Some(Err(TuneError::CapacityOutOfRange { capacity, max })) => refused(Refusal::Capacity, capacity, max),
        Some(Err(TuneError::BatchOutOfRange { batch, max })) => refused(Refusal::Batch, batch, max),
        Some(Err(TuneError::DepotOutOfRange { depot, max })) => refused(Refusal::Depot, depot, max),
        Some(Err(_)) => refused(Refusal::Dying, 0, 0),
        None => Outcome::Later,
    }
}

/// Changes the limit of an account.
#[cold]
#[inline(never)]
pub(super) fn limit(engine: &Engine<Linux>, request: &Request) -> Outcome {
    let refused = |why| Outcome::Refused(why, [0; NUMBERS]);
    let Some(name) = request.name() else { return refused(Refusal::BadName) };
    match engine.try_set_limit(name, request.argument(0).unwrap_or(usize::MAX), request.may_call()) {
        Some(used) => Outcome::Done([used as u64, 0, 0, 0]),
        None => refused(Refusal::NoSuchAccount),
    }
}
