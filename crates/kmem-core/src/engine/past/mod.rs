//! The room of the past: what others did otherwise, and died of.
//!
//! A claim that no experiment can contradict is worth little, and a checker that cannot fail proves nothing. So a
//! simulator may ask the engine to do one thing as it was done in another allocator or kernel
//! ([`Defences`](crate::platform::Defences)), and shows the schedule by which it fails. All else is the engine that
//! ships. `kmem race --museum` of the command has the exhibits, with their sources.
//!
//! What ships has none of this in it: the platform's answer is a constant there, so [`Engine::past`] is `None`, a
//! constant, and the line by which this room takes over is no instruction.
//!
//! | file | the idea |
//! |---|---|
//! | `order_2004.rs` | the order of 2004, a whole protocol, and what was forgotten in it |
//! | `walks.rs` | the wrong CPUs, or at the wrong time: online ones, before the door is shut, the one that it runs on |
//! | `undo.rs` | rollbacks: in the wrong order, half, forgotten, with the wrong result, for those never asked |
//! | `fences.rs` | a slot taken from a CPU that may be in a section there |
//! | `waits.rs` | waiting for others with a lock held that they need, or not waiting at all |
//! | `tune.rs` | the tunes with each of these |

use crate::cpu::Mistake;
use crate::engine::Engine;
use crate::platform::{Platform, Step};

mod fences;
mod order_2004;
mod tune;
mod undo;
mod waits;
mod walks;

pub(super) use tune::TUNES;
pub(super) use undo::CANCELS;
pub(super) use waits::WAITS;
pub(super) use walks::WALKS;

impl<P: Platform> Engine<P> {
    /// How it was done once, if the simulator asks for one of these mistakes. `None`, a constant, everywhere else.
    #[inline(always)]
    pub(super) fn past(&self, mistakes: &[Mistake]) -> Option<Past<'_, P>> {
        let mistake = self.platform.mistake()?;
        mistakes.contains(&mistake).then_some(Past { engine: self, mistake })
    }
}

/// An engine that makes a mistake.
pub(super) struct Past<'a, P: Platform> {
    engine: &'a Engine<P>,
    mistake: Mistake,
}

impl<P: Platform> Past<'_, P> {
    /// Says that this is the step that kills.
    pub(super) fn slip(&self) {
        self.engine.platform.step(Step::Mistaken);
    }
}
