//! When a count of held objects can be trusted: upkeep moves free objects, and while it does they look held.

#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use super::totals::Totals;

/// The longest time for which upkeep has objects in transit.
const SETTLING: Duration = Duration::from_secs(2);

/// Repeats the question how many objects are held until the answer is the expected one, or time is up.
///
/// Upkeep continues while all threads of the storm are stopped. It moves free objects from one place to another, and
/// objects in transit look held. Objects that are really held, or lost, stay so. Once a fault is known the storm has
/// failed, and there is nothing to wait for.
pub fn settled(expected: i64, totals: &Totals, ask: impl Fn() -> i64) -> i64 {
    let began = Instant::now();
    loop {
        let answer = ask();
        if answer == expected || began.elapsed() > SETTLING || totals.has_complaints() {
            return answer;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
