//! What happened when, for the page of `kmem storm --report`.
//!
//! Recording must not slow the storm down. So time is divided into a fixed number of *bins*, and each thread adds to
//! the current bin, in memory of its own where possible:
//!
//! ```text
//! workers      the latency of the allocations that they time in any case   a histogram per bin, merged at their end
//! listener     how long each CPU was in which state                        sums per bin, under a lock of its own
//! coordinator  caches and cached bytes                                     a sample per bin, from the engine
//! ```
//!
//! The record of an hour takes as much memory as that of a second. One short *excerpt* is kept event by event, to be
//! shown magnified.

#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use kmem::hotplug::Event;

use super::latency::Latencies;

/// Bins of a storm.
pub const BINS: usize = 150;
/// How long the excerpt is, and the most events of it.
const EXCERPT: Duration = Duration::from_millis(20);
const EXCERPT_EVENTS: usize = 4096;

/// The state of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Online,
    Coming,
    Draining,
    Gone,
}

impl Standing {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Online, Self::Coming, Self::Draining, Self::Gone];

    /// The state that an event leads to.
    fn after(event: Event) -> Option<Self> {
        Some(match event {
            Event::UpPrepare => Self::Coming,
            Event::Online | Event::DownFailed => Self::Online,
            Event::DownPrepare => Self::Draining,
            Event::Dead | Event::UpCanceled => Self::Gone,
            _ => return None,
        })
    }
}

/// The caches at a moment.
#[derive(Clone, Copy)]
pub struct Sample {
    pub at: Duration,
    /// Caches of modules.
    pub caches: usize,
    /// Bytes of free objects in the slots of all CPUs, and in depots.
    pub in_slots: usize,
    pub in_depots: usize,
    /// Bytes of objects that are held.
    pub held: usize,
}

/// How long each CPU was in which state.
pub struct Lanes {
    /// The CPUs of the storm.
    pub cpus: Vec<usize>,
    /// Seconds in each state, for each CPU and bin.
    pub spent: Vec<Vec<[f64; 4]>>,
    /// The current state of each CPU, and since when.
    standing: Vec<(Standing, Duration)>,
    /// The excerpt, once it has begun.
    pub excerpt: Option<Excerpt>,
}

/// A few milliseconds, event by event.
pub struct Excerpt {
    pub began: Duration,
    pub standing: Vec<Standing>,
    /// When, the index of the CPU among those of the storm, and its state from then on.
    pub events: Vec<(Duration, usize, Standing)>,
}

impl Excerpt {
    /// How long it is.
    pub const LENGTH: Duration = EXCERPT;
}

/// A storm's record.
pub struct Record {
    began: Instant,
    bin: Duration,
    lanes: Mutex<Lanes>,
    samples: Mutex<Vec<Sample>>,
    latencies: Mutex<Vec<Latencies>>,
}

/// The listener is static, and so is the record that it writes to; a process has one storm.
static RECORD: OnceLock<Record> = OnceLock::new();

/// Begins the record of a storm that will last `length`; all CPUs are online.
pub fn begin(length: Duration, cpus: &[usize]) {
    let lanes = Lanes {
        cpus: cpus.to_vec(),
        spent: vec![vec![[0.0; 4]; BINS]; cpus.len()],
        standing: vec![(Standing::Online, Duration::ZERO); cpus.len()],
        excerpt: None,
    };
    let _ = RECORD.set(Record {
        began: Instant::now(),
        bin: length / BINS as u32,
        lanes: Mutex::new(lanes),
        samples: Mutex::default(),
        latencies: Mutex::new(histograms()),
    });
}

/// The record, if there is one.
pub fn record() -> Option<&'static Record> {
    RECORD.get()
}

/// A histogram for each bin. One significant digit is as much as a line on a page can show.
fn histograms() -> Vec<Latencies> {
    vec![Latencies::with_digits(1); BINS]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Record {
    /// The length of a bin.
    pub fn bin(&self) -> Duration {
        self.bin
    }

    /// An event of a CPU.
    pub fn event(&self, event: Event, cpu: usize) {
        let now = self.began.elapsed();
        let mut lanes = lock(&self.lanes);
        let place = lanes.cpus.iter().position(|&ours| ours == cpu);
        if let (Some(place), Some(next)) = (place, Standing::after(event)) {
            lanes.turn(place, next, now, self.bin);
        }
    }

    /// Samples the caches, once per bin; counts those whose names begin with `prefix`.
    pub fn sample(&self, prefix: &str) {
        let at = self.began.elapsed();
        if lock(&self.samples).last().is_some_and(|last| at < last.at + self.bin) {
            return;
        }
        let mut sample = Sample { at, caches: 0, in_slots: 0, in_depots: 0, held: 0 };
        kmem::caches(|cache| {
            sample.caches += usize::from(cache.name.starts_with(prefix));
            sample.in_slots += cache.in_slots * cache.stride;
            sample.in_depots += cache.in_depot * cache.stride;
            sample.held += cache.live * cache.stride;
        });
        lock(&self.samples).push(sample);
    }

    /// A new timeline for one worker.
    pub fn timeline(&self) -> Timeline {
        Timeline { began: self.began, bin: self.bin, bins: histograms() }
    }

    /// Adds the timeline of a worker.
    pub fn add(&self, timeline: &Timeline) {
        for (all, bin) in lock(&self.latencies).iter_mut().zip(&timeline.bins) {
            all.add(bin);
        }
    }

    /// Ends the record, and returns its contents.
    pub fn end(&self) -> (MutexGuard<'_, Lanes>, Vec<Sample>, Vec<Latencies>) {
        let mut lanes = lock(&self.lanes);
        for place in 0..lanes.cpus.len() {
            let (standing, _) = lanes.standing[place];
            lanes.turn(place, standing, self.began.elapsed(), self.bin);
        }
        (lanes, lock(&self.samples).clone(), lock(&self.latencies).clone())
    }
}

impl Lanes {
    /// Records that a CPU is in another state from `now` on.
    fn turn(&mut self, place: usize, next: Standing, now: Duration, bin: Duration) {
        let (standing, since) = std::mem::replace(&mut self.standing[place], (next, now));
        let length = bin.as_secs_f64();
        let (from, to) = (since.as_secs_f64(), now.as_secs_f64());
        let first = (from / length) as usize;
        for (number, spent) in self.spent[place].iter_mut().enumerate().skip(first) {
            let (begin, end) = (number as f64 * length, (number + 1) as f64 * length);
            if begin >= to {
                break;
            }
            spent[standing as usize] += to.min(end) - from.max(begin);
        }
        let half = bin * BINS as u32 / 2;
        if now >= half && self.excerpt.is_none() {
            let standing = self.standing.iter().map(|&(standing, _)| standing).collect();
            self.excerpt = Some(Excerpt { began: now, standing, events: Vec::with_capacity(EXCERPT_EVENTS) });
        }
        if let Some(excerpt) = &mut self.excerpt
            && now < excerpt.began + EXCERPT
            && excerpt.events.len() < EXCERPT_EVENTS
        {
            excerpt.events.push((now, place, next));
        }
    }
}

/// The latencies that one worker saw, bin by bin.
pub struct Timeline {
    began: Instant,
    bin: Duration,
    bins: Vec<Latencies>,
}

impl Timeline {
    /// Adds an allocation that began at `before`.
    pub fn record(&mut self, before: Instant, took: Duration) {
        let number = (before - self.began).as_nanos() / self.bin.as_nanos().max(1);
        if let Some(bin) = self.bins.get_mut(number as usize) {
            bin.record(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_charged_to_the_bins_that_it_lasted() {
        let second = Duration::from_secs(1);
        let mut lanes = Lanes {
            cpus: vec![7],
            spent: vec![vec![[0.0; 4]; BINS]],
            standing: vec![(Standing::Online, Duration::ZERO)],
            excerpt: None,
        };
        lanes.turn(0, Standing::Draining, second * 5 / 2, second);
        lanes.turn(0, Standing::Gone, second * 11 / 4, second);
        lanes.turn(0, Standing::Gone, second * 1000, second);
        let spent = &lanes.spent[0];
        assert_eq!(spent[0], [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(spent[2], [0.5, 0.0, 0.25, 0.25]);
        assert_eq!(spent[BINS - 1], [0.0, 0.0, 0.0, 1.0]);
        let excerpt = lanes.excerpt.unwrap();
        assert_eq!(excerpt.events, [(second * 1000, 0, Standing::Gone)]);
    }

    #[test]
    fn every_event_that_ends_a_transition_leads_to_a_lasting_state() {
        for event in [Event::Online, Event::DownFailed] {
            assert_eq!(Standing::after(event), Some(Standing::Online));
        }
        for event in [Event::Dead, Event::UpCanceled] {
            assert_eq!(Standing::after(event), Some(Standing::Gone));
        }
    }
}
