//! Slots that were freed and are not free yet: each goes to a place by chance, whose former one goes to the end of a
//! line. What comes out of the line is free.
//!
//! So no program can foresee which of its frees makes a slot free, and none is free before a certain number of others.

use super::layout::Slot;

/// The most slots that wait in each half of a quarantine, and their bytes.
const WAITING: usize = 256;
const WAITING_BYTES: usize = 64 << 10;

/// A quarantine. A place holds a slot's number and one. All zero: nothing can wait yet.
pub(super) struct Quarantine {
    places: [u32; WAITING],
    line: [u32; WAITING],
    at: usize,
    /// How many of both are in use.
    len: usize,
}

impl Quarantine {
    /// Begins anew, for slots that are so far apart; `patient`: many wait, however long they are.
    pub(super) fn begin(&mut self, stride: usize, patient: bool) {
        self.places.fill(0);
        self.line.fill(0);
        self.at = 0;
        self.len = if patient { WAITING } else { (WAITING_BYTES / stride).clamp(4, WAITING) };
    }

    /// Lets a slot wait, at a place by `chance`; returns one that has waited for long enough.
    pub(super) fn exchange(&mut self, slot: Slot, chance: u32) -> Option<Slot> {
        let place = (chance as usize * self.len) >> 32;
        let out = core::mem::replace(&mut self.places[place], slot.0 + 1);
        if out == 0 {
            return None;
        }
        let out = core::mem::replace(&mut self.line[self.at], out);
        self.at = if self.at + 1 == self.len { 0 } else { self.at + 1 };
        (out != 0).then(|| Slot(out - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_comes_out_once_and_not_soon() {
        let mut quarantine = Quarantine { places: [0; WAITING], line: [0; WAITING], at: 0, len: 0 };
        quarantine.begin(8192, false);
        let (mut seen, mut chance) = (0, 1u32);
        for number in 0..1000 {
            chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if let Some(Slot(out)) = quarantine.exchange(Slot(number), chance) {
                assert!(out + 8 < number, "{out} came out at {number}");
                seen += 1;
            }
        }
        assert_eq!(seen, 1000 - 16);
    }
}
