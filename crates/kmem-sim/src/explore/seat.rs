//! The seat of a thread: where the platform, called by an explored thread, finds the director that decides whether the
//! thread may continue.
//!
//! A thread without a seat (a test's own, or the explorer's while it prepares and checks) always continues.

use std::cell::OnceCell;
use std::sync::Arc;

use kmem_core::platform::{LockStep, Step};
use kmem_core::sync::AtomicUsize;

use super::director::{Director, Fault};
use super::event::What;

/// A thread of a scenario.
pub(super) struct Seat {
    pub(super) director: Arc<Director>,
    pub(super) thread: usize,
}

thread_local! {
    static SEAT: OnceCell<Seat> = const { OnceCell::new() };
}

/// Gives the calling thread a seat, permanently.
pub(super) fn take(seat: Seat) {
    SEAT.with(|place| {
        let taken = place.set(seat);
        debug_assert!(taken.is_ok(), "a thread has one seat");
    });
}

fn ask(question: impl FnOnce(&Seat)) -> bool {
    // While a thread ends, its seat may be gone.
    SEAT.try_with(|seat| seat.get().map(question).is_some()).unwrap_or(false)
}

/// The engine is at a lock.
pub(crate) fn at_lock(step: LockStep<'_>) {
    ask(|seat| seat.director.at_lock(seat.thread, step));
}

/// The engine's steps.
pub(crate) fn step(step: Step<'_>) {
    ask(|seat| seat.director.step(seat.thread, step));
}

/// A section has read, and has not committed yet.
pub(crate) fn inside_section() {
    ask(|seat| {
        seat.director.note(seat.thread, What::InSection);
        seat.director.pause(seat.thread);
    });
}

/// An area has been withdrawn, and the fence is still to come.
pub(crate) fn before_fence() {
    ask(|seat| seat.director.pause(seat.thread));
}

/// Sleeps on the word if `*word == expected`; `false` if the thread has no seat.
pub(crate) fn wait(word: &AtomicUsize, expected: usize) -> bool {
    ask(|seat| seat.director.wait(seat.thread, word, expected))
}

/// Wakes at most this many of the explored threads that sleep on the word.
pub(crate) fn wake(word: &AtomicUsize, most: usize) {
    ask(|seat| seat.director.wake(word, most));
}

/// Records that the run of the calling thread has failed; `false` if it has no seat.
pub(crate) fn fail(fault: Fault) -> bool {
    ask(|seat| seat.director.fail(fault))
}

/// Records what the scenario does.
pub(crate) fn note(what: What) {
    ask(|seat| seat.director.note(seat.thread, what));
}
