//! Tunes as they were: without the gate, with the gate taken last, without a fence.

use super::Past;
use crate::cache::{CacheDesc, CacheId, CacheState};
use crate::cpu::{CpuSet, Mistake, OnlineCpus, ReadGuard, Stopped};
use crate::engine::reclaim::Destination;
use crate::error::TuneError;
use crate::platform::{CacheStep, Platform};
use crate::slab::Reclaim;

/// The mistakes of a tune.
pub(in crate::engine) const TUNES: [Mistake; 3] =
    [Mistake::TunesWithoutGate, Mistake::TakesGateLate, Mistake::TunesWithoutFence];

impl<P: Platform> Past<'_, P> {
    /// Sets the capacity of the cache's magazines: see [`Engine::tune`](crate::Engine::tune).
    pub(in crate::engine) fn tune(&self, id: CacheId, capacity: usize) -> Result<(), TuneError> {
        let engine = self.engine;
        let enter = || engine.gate.read(&engine.platform).map_err(|_| TuneError::InsideCallback);
        let early = if self.mistake == Mistake::TunesWithoutFence { Some(enter()?) } else { None };
        let cache = engine.registry.pin(&engine.platform, id).ok_or(TuneError::NoSuchCache)?;
        let late = {
            let life = cache.life.lock(&engine.platform);
            if *life != CacheState::Live {
                return Err(TuneError::NoSuchCache);
            }
            cache.set_capacity(capacity);
            if self.mistake == Mistake::TakesGateLate {
                self.slip();
                Some(enter()?)
            } else {
                None
            }
        };
        let gate = early.or(late).unwrap_or_else(|| ReadGuard::missing(&engine.platform));
        let mut reclaim = Reclaim::new();
        self.exchange(&cache, &gate.online(&engine.cpus), &mut reclaim);
        drop(gate);
        engine.reclaim(reclaim);
        Ok(())
    }

    /// Exchanges the magazines.
    fn exchange(&self, cache: &CacheDesc, online: &OnlineCpus<'_>, reclaim: &mut Reclaim) {
        let engine = self.engine;
        let holders = cache.holders();
        // SAFETY: the area is private where there is a fence; where there is none, that is the mistake.
        let resize = |cpu, area, reclaim: &mut Reclaim| unsafe { engine.resize_slot(cache, cpu, area, reclaim) };
        match self.mistake {
            Mistake::TunesWithoutFence => self.on_running(&holders, |cpu, area| resize(cpu, area, reclaim)),
            Mistake::TunesWithoutGate => self.exchange_online(cache, online, reclaim),
            _ => Stopped::new(online, &engine.cpus, &engine.table, &engine.platform, &holders)
                .for_each(|cpu, area| resize(cpu, area, reclaim)),
        }
    }

    /// `do_tune_cpucache`: new magazines for the CPUs that are online, and then each CPU that is online takes its own.
    fn exchange_online(&self, cache: &CacheDesc, online: &OnlineCpus<'_>, reclaim: &mut Reclaim) {
        let engine = self.engine;
        let made = online.set();
        engine.tell(cache, CacheStep::SlotsMade { cpus: &made });
        let cpus: CpuSet = online.set();
        engine.tell(cache, CacheStep::Draining { cpus: &cpus });
        Stopped::new(online, &engine.cpus, &engine.table, &engine.platform, &cpus).for_each(|cpu, area| {
            // SAFETY: the CPU is stopped.
            unsafe {
                if made.contains(cpu) {
                    engine.resize_slot(cache, cpu, area, reclaim);
                } else {
                    self.slip();
                    engine.drain_slot(cache, cpu, area, Destination::Slabs, reclaim);
                }
            }
        });
    }
}
