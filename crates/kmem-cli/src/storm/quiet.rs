//! When a number of held objects can be trusted: background upkeep moves free objects, and those look held meanwhile.

#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use super::totals::Totals;

/// Longest time for which upkeep has objects in its hands.
const SETTLING: Duration = Duration::from_secs(2);

/// Asks for a number of held objects until it is the expected one, for a while.
///
/// Upkeep goes on while all others stand still. It moves free objects from one place to another, and those that are in its
/// hands at the moment look held. What somebody really holds, or what is lost, stays so. Once there is a fault, the storm
/// has failed, and nothing is waited for any more.
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
