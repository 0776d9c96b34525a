//! How long single allocations take.
//!
//! A [`Latencies`] is a histogram of nanoseconds with two significant digits at any magnitude. The clock is the
//! system's monotonic one; its own cost (20 to 40 ns) is part of every figure.

#![forbid(unsafe_code)]

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer times are recorded as this.
const LONGEST: Duration = Duration::from_secs(100);

/// A histogram of allocation times.
#[derive(Clone)]
pub struct Latencies(Histogram<u32>);

impl Default for Latencies {
    fn default() -> Self {
        Self::with_digits(2)
    }
}

impl Latencies {
    /// A histogram with this many significant digits: with one it takes 2 KiB, with two 15 KiB.
    pub fn with_digits(digits: u8) -> Self {
        let bounds = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, digits);
        Self(bounds.expect("the bounds are constants that make sense"))
    }

    /// Counts one allocation.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos() as u64);
    }

    /// Adds all times of another histogram.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the bounds are the same");
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// The time in nanoseconds that this share of the allocations does not exceed.
    pub fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    /// The percentiles that reports show.
    pub fn summary(&self) -> Summary {
        Summary {
            samples: self.len(),
            p50: self.quantile(0.5),
            p99: self.quantile(0.99),
            p99_9: self.quantile(0.999),
            p99_99: self.quantile(SLOWEST),
            max: if self.len() == 0 { 0 } else { self.0.max() },
        }
    }
}

/// All but the slowest 1 in 10,000.
pub const SLOWEST: f64 = 0.9999;

/// Percentiles, in nanoseconds; the field names are the JSON keys.
#[derive(Serialize, Clone, Copy)]
pub struct Summary {
    /// Allocations that were timed.
    pub samples: u64,
    /// Half of them took no longer.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1,000.
    pub p99_9: u64,
    /// 9,999 of 10,000.
    pub p99_99: u64,
    /// The slowest.
    pub max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_thousand_is_distinguished() {
        let mut latencies = Latencies::default();
        (0..99_980).for_each(|_| latencies.record(Duration::from_nanos(40)));
        (0..20).for_each(|_| latencies.record(Duration::from_micros(70)));
        let summary = latencies.summary();
        assert_eq!((summary.samples, summary.p50, summary.p99_9), (100_000, 40, 40));
        assert!((69_000..72_000).contains(&summary.p99_99), "{}", summary.p99_99);
    }

    #[test]
    fn no_samples_and_huge_samples_are_handled() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.summary().max, 0);
        latencies.record(Duration::from_secs(10_000));
        assert!(latencies.summary().max >= LONGEST.as_nanos() as u64);
    }
}
