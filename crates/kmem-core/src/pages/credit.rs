//! Credit: how much memory frees may release by themselves.
//!
//! In a process without a thread of the allocator, frees have to release what the program no longer needs, because the
//! last of them may be the last call that the program ever makes. But memory that is used again at once must not go:
//! to release a mebibyte and fault it in again costs a millisecond, as much as a hundred thousand frees. At the moment
//! of a free the two cannot be told apart. What can be bounded is the cost:
//!
//! - a byte that the program uses for the first time (the peak grows) earns one byte: the single release of a heap that
//!   was built once is complete;
//! - time earns a fiftieth of itself: what could be released and faulted in again within that fiftieth;
//! - a byte that is released costs one byte;
//! - a process that never used [`WORTHWHILE`] bytes releases nothing. Interpreters and parsers are often of that size.
//!   They build and drop a few mebibytes and run for a fraction of a second: one release would be a tenth of that.
//!
//! So a program that builds and frees the same heap over and over pays for the first time, and a fiftieth of its time
//! afterwards; then up to one whole cycle may stay after its last free. (No rule that is not called again can have
//! both.) The credit never exceeds the peak: a program that was idle for an hour has earned one complete release, not a
//! hundred.

/// Nanoseconds in which time earns a byte, times 1,024: to release and fault in a mebibyte takes about 1 ms, and that
/// is a fiftieth of 50 ms.
const NANOSECONDS_PER_KIB: u64 = 50_000_000 / 1024;
/// Bytes that a process has to have used at once before its frees release memory.
const WORTHWHILE: usize = 16 << 20;

/// What frees may still release, in bytes.
pub(super) struct Credit {
    left: usize,
    peak: usize,
    /// When time was last counted, in nanoseconds.
    renewed: u64,
}

impl Credit {
    pub(super) const fn new() -> Self {
        Self { left: 0, peak: 0, renewed: 0 }
    }

    /// Time counts from here on.
    pub(super) fn begin(&mut self, now: u64) {
        self.renewed = now;
    }

    /// Notes how many bytes are used.
    pub(super) fn note(&mut self, used: usize) {
        if used > self.peak {
            self.left += used - self.peak;
            self.peak = used;
        }
    }

    /// How many of `wanted` bytes may be released now; looks at the clock only where what is left does not suffice.
    pub(super) fn grant(&mut self, wanted: usize, now: impl FnOnce() -> u64) -> usize {
        if self.peak < WORTHWHILE {
            return 0;
        }
        if self.left < wanted {
            let now = now();
            let earned = now.saturating_sub(self.renewed) / NANOSECONDS_PER_KIB * 1024;
            if earned > 0 {
                self.renewed = now;
                self.left = self.left.saturating_add(earned as usize).min(self.peak);
            }
        }
        self.left.min(wanted)
    }

    /// Notes that so many bytes were released.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_is_used_for_the_first_time_is_earned_once() {
        let mut credit = Credit::new();
        credit.note(20 * MIB);
        assert_eq!(credit.grant(40 * MIB, || 0), 20 * MIB);
        credit.spend(20 * MIB);
        credit.note(20 * MIB);
        assert_eq!(credit.grant(MIB, || 0), 0, "the same heap again earns nothing");
        credit.note(21 * MIB);
        assert_eq!(credit.grant(20 * MIB, || 0), MIB);
    }

    #[test]
    fn a_small_process_releases_nothing_and_a_larger_one_all() {
        let mut credit = Credit::new();
        credit.note(15 * MIB);
        assert_eq!(credit.grant(MIB, || panic!("nobody needs the time")), 0);
        credit.note(16 * MIB);
        assert_eq!(credit.grant(32 * MIB, || 0), 16 * MIB);
    }

    #[test]
    fn time_before_the_beginning_earns_nothing() {
        let mut credit = Credit::new();
        credit.begin(1_000_000_000);
        credit.note(64 * MIB);
        credit.spend(64 * MIB);
        assert_eq!(credit.grant(MIB, || 1_000_000_000), 0);
    }

    #[test]
    fn time_earns_a_fiftieth_of_itself_and_at_most_the_peak() {
        let mut credit = Credit::new();
        credit.note(64 * MIB);
        credit.spend(64 * MIB);
        let second = credit.grant(usize::MAX, || 1_000_000_000);
        // 20 ms of work at 1 ms a mebibyte.
        assert!((19 * MIB..21 * MIB).contains(&second), "{second}");
        assert_eq!(credit.grant(usize::MAX, || 3_600_000_000_000), 64 * MIB);
    }

    #[test]
    fn the_clock_is_not_asked_where_there_is_enough() {
        let mut credit = Credit::new();
        credit.note(16 * MIB);
        assert_eq!(credit.grant(MIB, || panic!("nobody needs the time")), MIB);
    }
}
