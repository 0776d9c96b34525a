//! Every allocation failed in turn (I12, I22), in whatever state the operations before have left the engine.

use super::apply::MOST_CACHES;
use super::common::Footprint;
use super::ops::{Op, Pick, Victim};
use super::world::World;

impl World {
    /// Tries `victim` with the n-th call for memory failing, and with all calls from the n-th on, for n from 0 until it
    /// makes fewer calls than that. A create or a preparation that failed has had no effect, and one that succeeded all
    /// the same leaves nothing when it is undone.
    pub fn each_failure(&mut self, victim: Victim) {
        let no_effect = match victim {
            Victim::Create(_) if self.caches.len() == MOST_CACHES => return,
            Victim::Up { cpu } if self.cpu(cpu) == self.engine.possible_cpus() => return,
            Victim::Up { cpu } if self.online.contains(self.cpu(cpu)) => return,
            Victim::Create(_) | Victim::Up { .. } => true,
            Victim::Alloc { .. } | Victim::General { .. } | Victim::Realloc { .. } => false,
        };
        // So that nothing is given up for want of memory later, which would look like an effect.
        self.apply(Op::FailNever);
        self.apply(Op::Trim);
        let before = Footprint::of(&self.engine);
        for and_all_later in [false, true] {
            for n in 0.. {
                assert!(n < 250, "{victim:?} ends");
                let calls = self.engine.platform().calls();
                self.apply(Op::Fail { n, and_all_later });
                let done = self.attempt(victim);
                let reached = self.engine.platform().calls() - calls > usize::from(n);
                self.apply(Op::FailNever);
                self.check();
                if no_effect {
                    assert!(done || reached, "{victim:?} failed although it had memory");
                    assert!(done || Footprint::of(&self.engine) == before, "{victim:?} failed and left something");
                    self.undo(victim, done);
                    assert_eq!(Footprint::of(&self.engine), before, "{victim:?} was undone and left something");
                }
                if !reached {
                    break;
                }
            }
        }
    }

    /// Whether all of it was done.
    fn attempt(&mut self, victim: Victim) -> bool {
        match victim {
            Victim::Create(shape) => self.create(shape),
            Victim::Up { cpu } => self.up(self.cpu(cpu), false),
            Victim::Alloc { cache, count, seed } => {
                let done = self.alloc(cache, count, seed);
                self.free(cache, count.into(), 0);
                done
            }
            Victim::General { size, align_shift, seed } => {
                let at = self.general(size, 1 << align_shift, seed);
                at.into_iter().for_each(|at| self.free_piece(at));
                at.is_some()
            }
            // It is in place from the first success on.
            Victim::Realloc { which, size, seed } => {
                self.realloc(which, size, seed);
                true
            }
        }
    }

    fn undo(&mut self, victim: Victim, done: bool) {
        match victim {
            Victim::Create(_) if done => self.destroy((self.caches.len() - 1) as Pick, false),
            Victim::Up { cpu } if done => self.down(self.cpu(cpu), false, false),
            _ => {}
        }
    }
}
