//! A schedule: which thread runs at each decision, written as the few decisions that are not the default.
//!
//! A *decision* is a point where more than one thread can run. By default the running thread continues, or, if it
//! cannot, the next one in turn runs. So a schedule is the list of its *turns*, `17>1` for 'at decision 17, thread 1',
//! and a schedule with few turns is one that a person can follow. It can be replayed from its text.

use std::fmt;
use std::str::FromStr;

/// Most threads of a scenario.
pub const MAX_THREADS: usize = 6;

/// A set of threads, with a bit for each.
pub(super) type Set = u8;

/// A decision for another thread than the default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// The number of the decision.
    pub at: u32,
    /// The thread that runs.
    pub to: u8,
}

/// The turns, by decision.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// In ascending order.
    pub turns: Vec<Turn>,
}

/// A point where more than one thread could run, and how it was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Decision {
    pub(super) able: Set,
    /// The thread that ran until here.
    pub(super) current: u8,
    pub(super) chosen: u8,
}

impl Decision {
    /// Whether choosing another thread than the current one is a preemption.
    pub(super) fn preempts(&self) -> bool {
        self.able & (1 << self.current) != 0
    }
}

/// The thread that runs by default.
pub(super) fn default(able: Set, current: u8) -> u8 {
    // Rotated so that the current thread is bit 0, the next one bit 1, and so on.
    let rotated = (u16::from(able) << 8 | u16::from(able)) >> current;
    ((rotated as u8).trailing_zeros() as u8 + current) % 8
}

impl Schedule {
    /// The schedule of these decisions.
    pub(super) fn of(decisions: &[Decision]) -> Self {
        let turns = decisions.iter().zip(0..).filter(|(d, _)| d.chosen != default(d.able, d.current));
        Self { turns: turns.map(|(d, at)| Turn { at, to: d.chosen }).collect() }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.turns.is_empty() {
            return f.write_str("-");
        }
        for (index, turn) in self.turns.iter().enumerate() {
            write!(f, "{}{}>{}", if index > 0 { " " } else { "" }, turn.at, turn.to)?;
        }
        Ok(())
    }
}

/// The text is not a schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoSchedule(String);

impl fmt::Display for NoSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a schedule, which is a list of turns like '17>1 40>0', or '-'", self.0)
    }
}

impl std::error::Error for NoSchedule {}

impl FromStr for Schedule {
    type Err = NoSchedule;
    fn from_str(text: &str) -> Result<Self, NoSchedule> {
        let turn = |part: &str| {
            let (at, to) = part.split_once('>')?;
            let to = to.parse().ok().filter(|to| usize::from(*to) < MAX_THREADS)?;
            Some(Turn { at: at.parse().ok()?, to })
        };
        let turns: Option<Vec<Turn>> = text.split_whitespace().filter(|part| *part != "-").map(turn).collect();
        turns
            .filter(|turns| turns.is_sorted_by_key(|turn| turn.at))
            .map(|turns| Self { turns })
            .ok_or_else(|| NoSchedule(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_schedule_is_the_schedule() {
        for text in ["-", "0>1", "17>1 40>0"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        for text in ["17", "17>9", "40>0 17>1", ">"] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_running_thread_goes_on_or_the_next_one() {
        assert_eq!(default(0b111, 1), 1);
        assert_eq!(default(0b101, 1), 2);
        assert_eq!(default(0b001, 1), 0);
        assert_eq!(default(0b011, 5), 0);
    }
}
