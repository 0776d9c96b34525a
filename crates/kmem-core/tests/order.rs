//! In which order objects come: neighbours in time are apart by a cache line, and a structure that was ended in any
//! order is built again in order of address.

mod common;

use common::{Cache, Rng, engine, valid};

const LINE: usize = 64;

#[test]
fn objects_that_come_one_after_the_other_do_not_share_a_cache_line() {
    let engine = engine(1);
    for size in [8, 16, 24, 32, 40, 48, 56, 64] {
        let cache = Cache::new(&engine, &format!("of {size}"), size);
        let objects: Vec<_> = (0..30).map(|_| cache.alloc()).collect();
        // Where a stride begins anew a neighbour of an earlier one comes, but hardly of the last.
        let lines = |object: usize| object / LINE..=(object + size - 1) / LINE;
        let shared =
            objects.windows(2).filter(|pair| lines(pair[0]).any(|line| lines(pair[1]).contains(&line))).count();
        assert_eq!(shared, 0, "of {size}: {objects:x?}");
        cache.free_bulk(&objects);
    }
}

#[test]
fn what_is_built_after_a_large_structure_ended_comes_in_order() {
    let engine = engine(1);
    let cache = Cache::new(&engine, "nodes", 128);
    let mut rng = Rng::new(7);
    let mut nodes: Vec<_> = (0..8000).map(|_| cache.alloc()).collect();
    for _ in 0..5 {
        // From a confused order of ending...
        for last in (1..nodes.len()).rev() {
            nodes.swap(last, rng.below(last + 1));
        }
        nodes.drain(..).for_each(|node| cache.free(node));
        nodes.extend((0..8000).map(|_| cache.alloc()));
    }
    // ... comes no confused order of building, but for what slot and depot kept.
    let in_order = nodes.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(in_order > nodes.len() * 9 / 10, "{in_order} of {}", nodes.len());
    nodes.drain(..).for_each(|node| cache.free(node));
    valid(&engine, 0);
}
