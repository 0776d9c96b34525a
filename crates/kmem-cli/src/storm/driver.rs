//! The driver: constantly takes CPUs down and brings them up.
//!
//! The engine is told that a CPU goes down or comes up exactly as an embedder would tell it. The threads of the storm
//! do not leave the CPU: its slots are taken away from them in the middle of an alloc or free, which is harder than
//! what a kernel does to its allocator.
//!
//! Prepare failures come from a listener that refuses: by then the engine has prepared a CPU's slots and must roll back
//! (`UpCanceled`), or has announced that a CPU goes down and must revoke that (`DownFailed`). The listener also checks
//! that events arrive in an order that the state machine allows; an event that is out of order would reach other
//! subscribers out of order too.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use kmem::hotplug::{self, Event, HotplugError, Listener, Refused};

use super::object::mix;
use super::record::record;
use super::totals::Totals;
use super::worker::Shared;
use super::worker_ctx::WorkerCtx;

/// The listener refuses one in this many of the events that may be refused.
const REFUSE_ONE_IN: u64 = 8;
/// Longest pause between two transitions in a lull, so that CPUs are also used between transitions.
const PAUSE: Duration = Duration::from_micros(600);
/// Most transitions of a lull, and of the gust that follows, in which there are no pauses.
const LULL: u32 = 32;
const GUST: u32 = 256;

/// Refuses some events, and checks the order of all.
struct Refuser {
    /// Refuse one in this many events; 0: none.
    one_in: AtomicU64,
    luck: AtomicU64,
    refused: AtomicU64,
    /// Events so far.
    heard: AtomicU64,
    /// Events that came out of order.
    disorder: AtomicU32,
    /// The last event of each CPU.
    last: [AtomicU8; MOST_CPUS],
}

/// CPUs whose events are checked; user space's CPU masks end there too.
const MOST_CPUS: usize = 1024;

/// A subscription is permanent, so the listener is static; between storms it refuses nothing.
static REFUSER: Refuser = Refuser {
    one_in: AtomicU64::new(0),
    luck: AtomicU64::new(0),
    refused: AtomicU64::new(0),
    heard: AtomicU64::new(0),
    disorder: AtomicU32::new(0),
    last: [const { AtomicU8::new(0) }; MOST_CPUS],
};

/// The state of a CPU by its last event. 0: no event was seen.
fn standing(event: Event) -> u8 {
    match event {
        Event::UpPrepare => 1,
        Event::Online => 2,
        Event::UpCanceled => 3,
        Event::DownPrepare => 4,
        Event::DownFailed => 5,
        Event::Dead => 6,
        _ => 0,
    }
}

/// Whether `event` may follow the last event of a CPU.
fn may_follow(last: u8, event: Event) -> bool {
    match event {
        Event::UpPrepare => matches!(last, 0 | 3 | 6),
        Event::Online => matches!(last, 0 | 1),
        Event::UpCanceled => matches!(last, 0 | 1),
        Event::DownPrepare => matches!(last, 0 | 2 | 5),
        Event::DownFailed => matches!(last, 0 | 4),
        Event::Dead => matches!(last, 0 | 4),
        _ => true,
    }
}

impl Listener for Refuser {
    fn event(&self, event: Event, cpu: usize) -> Result<(), Refused> {
        self.heard.fetch_add(1, Relaxed);
        if let Some(last) = self.last.get(cpu)
            && !may_follow(last.swap(standing(event), Relaxed), event)
        {
            self.disorder.fetch_add(1, Relaxed);
        }
        note(event, cpu);
        let one_in = self.one_in.load(Relaxed);
        if one_in == 0 || !matches!(event, Event::UpPrepare | Event::DownPrepare) {
            return Ok(());
        }
        // Random decisions of its own, not the driver's: the engine may call from any thread.
        if mix(self.luck.fetch_add(1, Relaxed)).is_multiple_of(one_in) {
            self.refused.fetch_add(1, Relaxed);
            // The listener that refuses is not called for the rollback; only the others are.
            let undone = if event == Event::UpPrepare { Event::UpCanceled } else { Event::DownFailed };
            if let Some(last) = self.last.get(cpu) {
                last.store(standing(undone), Relaxed);
            }
            note(undone, cpu);
            return Err(Refused);
        }
        Ok(())
    }
}

/// Puts an event into the record, if there is one.
fn note(event: Event, cpu: usize) {
    if let Some(record) = record() {
        record.event(event, cpu);
    }
}

/// Subscribes the listener, which refuses nothing yet, and brings up all CPUs of the storm, because the engine may keep
/// a CPU down until it is first used.
pub fn make_ready(cpus: &[usize], totals: &Totals) {
    if let Err(e) = hotplug::subscribe(&REFUSER) {
        totals.complain(format!("no prepare failures are injected, since the listener cannot subscribe: {e}"));
    }
    let _ = all_up(cpus, totals);
}

/// Drives until the storm is over, and leaves all CPUs up.
pub fn drive(shared: &Shared, mut ctx: WorkerCtx) {
    let totals = &shared.totals;
    REFUSER.luck.store(ctx.rng.u64(..), Relaxed);
    REFUSER.one_in.store(REFUSE_ONE_IN, Relaxed);
    let mut pace = Pace::default();
    while !shared.barrier.is_over() {
        if shared.barrier.is_requested() {
            shared.barrier.wait();
            continue;
        }
        if shared.cpus.len() > 1 {
            step(shared.cpus[ctx.rng.usize(..shared.cpus.len())], &mut ctx, totals);
            totals.add(&mut ctx.tally);
        }
        pace.pause(shared.cpus.len() == 1, &mut ctx);
    }
    REFUSER.one_in.store(0, Relaxed);
    ctx.tally.cpu_up += all_up(&shared.cpus, totals);
    totals.add(&mut ctx.tally);
    let disorder = REFUSER.disorder.swap(0, Relaxed);
    if disorder != 0 {
        totals.complain(format!("{disorder} CPU events reached the listener in an order that the states do not allow"));
    }
}

/// Alternates lulls and gusts.
#[derive(Default)]
pub struct Pace {
    /// Transitions that remain of each.
    lull: u32,
    gust: u32,
}

impl Pace {
    /// After a transition: pauses in a lull, or if there is `nothing_to_do`, and continues at once in a gust.
    pub fn pause(&mut self, nothing_to_do: bool, ctx: &mut WorkerCtx) {
        if self.gust == 0 {
            (self.lull, self.gust) = (ctx.rng.u32(..LULL), ctx.rng.u32(1..GUST));
        }
        if self.lull > 0 || nothing_to_do {
            self.lull = self.lull.saturating_sub(1);
            thread::sleep(PAUSE.mul_f32(ctx.rng.f32()));
        } else {
            self.gust -= 1;
        }
    }
}

/// One transition of one CPU: down if it is up, up if it is down.
///
/// The driver is not alone: a CPU that the kernel takes away goes down without it. If that happened first, the listener
/// heard of it before the gate let the driver in.
pub fn step(cpu: usize, ctx: &mut WorkerCtx, totals: &Totals) {
    use HotplugError::{AlreadyOffline, AlreadyOnline, LastCpu};
    let heard_before = REFUSER.heard.load(Relaxed);
    let forestalled = || REFUSER.heard.load(Relaxed) != heard_before;
    let online = hotplug::online();
    let refused_before = REFUSER.refused.load(Relaxed);
    let refused = || REFUSER.refused.load(Relaxed) != refused_before;
    if online.contains(cpu) {
        match hotplug::cpu_down(cpu) {
            Ok(()) => ctx.tally.cpu_down += 1,
            Err(HotplugError::Refused { .. }) if refused() => ctx.tally.cpu_down_failed += 1,
            Err(LastCpu { .. }) if online.len() == 1 => {}
            Err(LastCpu { .. } | AlreadyOffline { .. }) if forestalled() => {}
            Err(e) => totals.complain(format!("CPU {cpu} did not go down: {e}")),
        }
    } else {
        match hotplug::cpu_up(cpu) {
            Ok(()) => ctx.tally.cpu_up += 1,
            Err(HotplugError::Refused { .. }) if refused() => ctx.tally.cpu_up_canceled += 1,
            // Rolled back as well: a prepare that failed for lack of memory.
            Err(HotplugError::NoMemory { .. }) => ctx.tally.cpu_up_canceled += 1,
            Err(AlreadyOnline { .. }) if forestalled() => {}
            Err(e) => totals.complain(format!("CPU {cpu} did not come up: {e}")),
        }
    }
}

/// Brings up all CPUs that are down, and returns how many there were.
pub fn all_up(cpus: &[usize], totals: &Totals) -> u64 {
    let mut brought_up = 0;
    for &cpu in cpus {
        if hotplug::online().contains(cpu) {
            continue;
        }
        match hotplug::cpu_up(cpu) {
            Ok(()) => brought_up += 1,
            // A thread that ran there may have brought it up in between.
            Err(_) if hotplug::online().contains(cpu) => {}
            Err(e) => totals.complain(format!("CPU {cpu} could not be brought up: {e}")),
        }
    }
    brought_up
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_through_the_states_is_in_order() {
        use Event::{Dead, DownFailed, DownPrepare, Online, UpCanceled, UpPrepare};
        let mut last = 0;
        for event in
            [UpPrepare, UpCanceled, UpPrepare, Online, DownPrepare, DownFailed, DownPrepare, Dead, UpPrepare, Online]
        {
            assert!(may_follow(last, event), "{event:?} after {last}");
            last = standing(event);
        }
    }

    #[test]
    fn an_event_out_of_order_is_seen() {
        assert!(!may_follow(standing(Event::UpPrepare), Event::Dead));
        assert!(!may_follow(standing(Event::UpCanceled), Event::Online));
        assert!(!may_follow(standing(Event::Dead), Event::DownPrepare));
    }
}
