//! Would the storm notice? An allocator that misbehaves in each of the ways a broken one would, and what is counted.
//!
//! The storm proves something only if it fails these; the correct allocator, which must pass, is the control.

#![allow(unsafe_code)]

use std::ptr::NonNull;

use kmem::AllocError;

use super::*;
use crate::storm::object::{Idle, Marking, Parcel};
use crate::storm::source::{Kind, Marked};
use crate::storm::totals::Tally;

const WORDS: usize = 8;

#[derive(Clone, Copy, PartialEq)]
enum Lie {
    None,
    /// Hands out an object that is held already.
    HandsOutTwice,
    /// Forgets an object that was freed.
    Loses,
    /// Writes to an object that is held.
    Scribbles,
    /// Returns Ok although objects are held.
    DestroysWhileHeld,
    /// Returns Busy with a wrong number of held objects.
    Miscounts,
}

/// An allocator of boxes, which misbehaves at one in 64 opportunities.
struct Liar {
    lie: Lie,
    overwrites: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: Vec<NonNull<[u64; WORDS]>>,
    held: Vec<NonNull<[u64; WORDS]>>,
    lost: usize,
    chances: u32,
}

// SAFETY: the pointers are of boxes that the state owns.
unsafe impl Send for State {}

impl State {
    fn chance(&mut self) -> bool {
        self.chances += 1;
        self.chances.is_multiple_of(64)
    }
}

impl Kind for Liar {
    const OVERWRITES: bool = false;

    fn take(&self) -> Result<(NonNull<u8>, Parcel), AllocError> {
        let mut state = self.state.lock().unwrap();
        let known = state.held.first().copied();
        let at = match (self.lie, known) {
            (Lie::HandsOutTwice, Some(held)) if state.chance() => held,
            (Lie::Scribbles, Some(held)) if state.chance() => {
                // SAFETY: a box of ours; the storm does not read it before this call ends.
                unsafe { held.cast::<u64>().add(5).write(3) };
                fresh(&mut state)
            }
            _ => fresh(&mut state),
        };
        state.held.push(at);
        if self.overwrites {
            // SAFETY: a box of ours.
            unsafe { at.write([0; WORDS]) };
        }
        Ok((at.cast(), Parcel::empty()))
    }

    unsafe fn give_back(&self, at: NonNull<u8>, _: Parcel) {
        let mut state = self.state.lock().unwrap();
        let at = at.cast();
        let index = state.held.iter().position(|held| *held == at).expect("it was handed out");
        state.held.swap_remove(index);
        if self.lie == Lie::Loses && state.chance() {
            state.lost += 1;
        }
        state.free.push(at);
    }

    fn live(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.held.len() + state.lost
    }

    fn shrink(&self) {}

    fn destroy(self) -> Result<(), (usize, Self)> {
        match self.live() {
            0 => Ok(()),
            _ if self.lie == Lie::DestroysWhileHeld => Ok(()),
            live if self.lie == Lie::Miscounts => Err((live + 1, self)),
            live => Err((live, self)),
        }
    }
}

/// A box that is not held. Boxes are never dropped: the memory of this allocator must stay mapped.
fn fresh(state: &mut State) -> NonNull<[u64; WORDS]> {
    state.free.pop().unwrap_or_else(|| NonNull::from(Box::leak(Box::new([0; WORDS]))))
}

/// Visits a module with one such cache, checks it after each visit, and unloads it.
fn storm(lie: Lie, overwrites: bool) -> (Tally, Vec<String>) {
    let totals = Totals::default();
    let mut ctx = WorkerCtx::new(1, 4);
    for _ in 0..20 {
        let liar = Liar { lie, overwrites, state: Mutex::default() };
        let mut module = Module {
            stocks: vec![Stock {
                name: "liar".into(),
                source: Marked::source(liar, Marking::new(ctx.tag, WORDS * 8, Idle::Unknown)),
                most: 32,
                batches: Mutex::default(),
                known: 0,
            }],
            visits_left: AtomicU32::new(40),
        };
        while module.admits() {
            module.visit(&mut ctx);
            module.check(&mut ctx, &totals);
        }
        assert!(module.is_worn_out());
        module.unload(&mut ctx, &totals);
    }
    totals.add(&mut ctx.tally);
    (totals.read(), totals.complaints())
}

fn faults(tally: &Tally) -> [u64; 3] {
    [tally.lost, tally.doubled, tally.corrupt]
}

#[test]
fn an_honest_allocator_passes() {
    for overwrites in [false, true] {
        let (tally, complaints) = storm(Lie::None, overwrites);
        assert_eq!(faults(&tally), [0; 3]);
        assert_eq!(complaints, [""; 0]);
        assert_eq!(tally.caches_destroyed, 20);
        assert_eq!(tally.allocs, tally.frees);
        assert!(tally.allocs > 1000 && tally.destroy_busy > 0);
    }
}

#[test]
fn an_object_with_two_holders_is_seen() {
    for overwrites in [false, true] {
        let (tally, _) = storm(Lie::HandsOutTwice, overwrites);
        assert!(tally.doubled > 0, "overwrites: {overwrites}, {tally:?}");
    }
}

#[test]
fn a_lost_object_is_seen_and_counted_once() {
    let (tally, complaints) = storm(Lie::Loses, false);
    // One in 64 frees within each cache; the counts of the caches are not rounded up.
    let most = tally.frees / 64;
    assert!(tally.lost > most - 20 && tally.lost <= most, "{tally:?}");
    assert!(tally.caches_destroyed < 20 && !complaints.is_empty());
}

#[test]
fn a_foreign_write_is_seen() {
    let (tally, _) = storm(Lie::Scribbles, false);
    assert!(tally.corrupt > 0, "{tally:?}");
}

#[test]
fn a_destroy_under_our_hands_is_seen() {
    let (tally, complaints) = storm(Lie::DestroysWhileHeld, false);
    assert!(tally.doubled > 0 && tally.destroy_busy == 0, "{tally:?}");
    assert!(complaints[0].contains("was destroyed while"));
}

#[test]
fn a_wrong_number_in_busy_is_seen() {
    let (tally, complaints) = storm(Lie::Miscounts, false);
    assert!(tally.lost > 0 && tally.destroy_busy == 0, "{tally:?}");
    assert!(complaints[0].contains("its users hold"));
}
