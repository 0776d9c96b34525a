//! Tuning a cache from outside.

use kmem_core::Engine;
use kmem_core::{TuneError, Tuned};

use super::Outcome;
use super::message::{Refusal, Request};
use crate::platform::Linux;

pub(super) fn tune(engine: &Engine<Linux>, request: &Request) -> Outcome {
    let Some(name) = request.name() else { return Outcome::Refused(Refusal::BadName, [0; 4]) };
    let Some(id) = engine.find(name) else { return Outcome::Refused(Refusal::NoSuchCache, [0; 4]) };
    let capacity = request.argument(0).unwrap_or(0);
    match engine.try_tune(id, capacity, request.may_call()) {
        Some(Ok(Tuned { now, later })) => Outcome::Done([now as u64, later as u64, 0, 0]),
        Some(Err(TuneError::CapacityOutOfRange { capacity, max })) => {
            Outcome::Refused(Refusal::Capacity, [capacity as u64, max as u64, 0, 0])
        }
        Some(Err(_)) => Outcome::Refused(Refusal::Dying, [0; 4]),
        None => Outcome::Later,
    }
}
