//! Tuning a cache from outside.

use kmem_core::{Engine, TuneError, Tuned, Tuning};

use super::Outcome;
use super::message::{Refusal, Request};
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
