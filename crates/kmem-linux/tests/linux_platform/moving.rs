//! Large runs that are moved cost mappings, of which a process may only have so many: at most some thousands of them
//! are moved at a time. Here, because on this platform alone moving a run that was never touched costs no memory.

use std::ptr::NonNull;

use kmem_core::pages::GRANULE;
use kmem_core::{Config, Engine, Population};
use kmem_linux::Linux;

use super::passes;
use super::world::discover;

/// Mappings that Linux allows a process by default, and those that a moved run may cost.
const MAPPINGS: usize = 65_530;
const OF_A_RUN: usize = 4;
/// Granules of a run that is long enough to be moved.
const LONG: usize = (1 << 20) / GRANULE;

struct Runs(Engine<Linux>);

impl Runs {
    /// A run that grew by a granule; there was no room behind it. Was it moved, what it left has no memory.
    fn grown(&self) -> NonNull<u8> {
        let run = self.0.alloc_bytes(LONG * GRANULE, 16).expect("address space").address;
        // SAFETY: the run is this function's.
        unsafe { self.0.realloc_bytes(run, (LONG + 1) * GRANULE, 16) }.expect("address space")
    }

    /// Granules that copied runs have left.
    fn left_by_copies(&self) -> usize {
        self.0.page_stats().dirty
    }

    fn free(&self, run: NonNull<u8>) {
        // SAFETY: the run is the caller's.
        unsafe { self.0.free_bytes(run) }
    }
}

pub fn many() {
    let config = Config { max_caches: 200, population: Population::OnFirstUse, bad_free: |_, _| std::process::abort() };
    let runs = Runs(Engine::new(discover(), config).expect("an engine"));
    let first = runs.0.alloc_bytes(LONG * GRANULE, 16).expect("address space").address;
    let _guard = runs.0.alloc_bytes(GRANULE, 16).expect("address space");
    runs.free(first);
    runs.0.trim().expect("no callback");
    // One that is freed is not counted any more: of so many one after the other all are moved.
    for n in 0..MAPPINGS / OF_A_RUN {
        runs.free(runs.grown());
        assert_eq!(runs.left_by_copies(), 0, "run {n}");
    }
    let mut held = Vec::new();
    while runs.left_by_copies() == 0 {
        held.push(runs.grown());
        assert!(held.len() < MAPPINGS / OF_A_RUN, "more than the mappings are enough for");
    }
    let copied = held.pop().expect("the last one");
    assert!(held.len() >= 1000, "{} are few", held.len());
    // For one that goes another may be moved.
    runs.0.trim().expect("no callback");
    runs.free(held.pop().expect("a moved one"));
    held.push(runs.grown());
    assert_eq!(runs.left_by_copies(), 0);
    held.push(copied);
    held.push(runs.grown());
    assert_eq!(runs.left_by_copies(), LONG, "and no further one");
    held.into_iter().for_each(|run| runs.free(run));
}

#[test]
fn so_many_runs_are_moved_at_a_time() {
    passes("moving", &[]);
}
