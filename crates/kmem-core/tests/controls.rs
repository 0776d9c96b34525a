//! Errors on purpose, one for each checker of `.ci/sanitize`: it runs them and fails if one is not found.

mod common;

use common::{Cache, ROOM, config, engine_of, fill, with_room};
use kmem_core::Population;
use kmem_sim::fake::{self, Machine};

/// Somebody kept an address into a slab whose address space went back, for memory was out.
#[test]
#[ignore = "an error on purpose, for the address sanitizer"]
fn an_object_is_used_after_its_slab_went_back() {
    let engine = engine_of(with_room(1, 40), config(Population::OnFirstUse));
    let most = engine.alloc_large(30 * ROOM, 16);
    let cache = Cache::new(&engine, "gone", 64);
    let object = cache.alloc();
    cache.free(object);
    cache.destroy().expect("nobody uses it");
    let as_much_again = engine.alloc_large(30 * ROOM, 16);
    assert!(most.is_ok() && as_much_again.is_err());
    fill(object, 64, 1);
}

/// Without the fence a section commits into a magazine that was taken away; two threads then have the same object.
#[test]
#[ignore = "an error on purpose, for the thread sanitizer"]
fn an_object_is_handed_to_two_threads() {
    let engine = engine_of(Machine { fences: false, ..Machine::with_cpus(2) }, config(Population::OnFirstUse));
    let cache = Cache::new(&engine, "doubled", 64);
    // Its slab stays.
    let _kept = cache.alloc();
    cache.fill_slot();
    let other = cache.clone();
    fake::interrupt_next_section(move || {
        other.shrink();
    });
    let mine = cache.alloc();
    fake::run_on(1);
    let others = cache.bulk(cache.figures().total - 1);
    assert!(others.contains(&mine));
    // Often enough that both are at it at once: the sanitizer does not remember everything.
    let elsewhere = std::thread::spawn(move || (0..20_000).for_each(|_| fill(mine, 64, 2)));
    (0..20_000).for_each(|_| fill(mine, 64, 1));
    elsewhere.join().expect("no panic");
}

/// A decision on memory that was never written.
#[test]
#[ignore = "an error on purpose, for memcheck"]
fn a_decision_is_made_on_what_was_never_written() {
    let fresh = std::hint::black_box(Box::<[u64; 64]>::new_uninit());
    // SAFETY: none; that is the error.
    let word = unsafe { fresh.as_ptr().cast::<u64>().add(7).read() };
    assert!(word != 1, "memory that was never written");
}
