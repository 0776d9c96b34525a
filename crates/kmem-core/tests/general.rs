//! General memory: size classes, alignment, large runs, realloc, and pointers that must not be freed.

mod common;

use common::{
    Cache, E, ROOM, Rng, bad_frees, config, distinct, engine, engine_of, fill, is_filled, recording, valid, with_room,
};
use kmem_core::classes::{self, CLASSES, LARGEST, class_of, class_of_aligned, size_of_class};
use kmem_core::general::Extent;
use kmem_core::internals;
use kmem_core::pages::{GRANULE, GRANULE_SHIFT};
use kmem_core::slab::FreeError;
use kmem_core::{AllocError, Population};
use kmem_sim::fake::{self, Machine};
use std::iter::from_fn;
use std::ptr::NonNull;
use std::sync::mpsc;
use std::time::Duration;

fn alloc(engine: &E, size: usize, align: usize) -> usize {
    engine.alloc_bytes(size, align).expect("memory").address.as_ptr() as usize
}

fn free(engine: &E, address: usize) {
    // SAFETY: the memory is the test's, or the test wants to see it refused.
    unsafe { engine.free_bytes(NonNull::new(address as *mut u8).expect("an address")) }
}

fn realloc(engine: &E, address: usize, size: usize, align: usize) -> Result<usize, AllocError> {
    let old = NonNull::new(address as *mut u8).expect("an address");
    // SAFETY: as above.
    unsafe { engine.realloc_bytes(old, size, align) }.map(|new| new.as_ptr() as usize)
}

fn wide() -> E {
    engine_of(Machine { granules: 16_384, ..Machine::with_cpus(1) }, config(Population::OnFirstUse))
}

#[test]
fn each_size_is_served_by_the_smallest_class_that_holds_it() {
    let engine = wide();
    for class in 1..=CLASSES as u8 {
        let size = size_of_class(class);
        let smaller = if class == 1 { 0 } else { size_of_class(class - 1) };
        for asked in [smaller + 1, size - 1, size] {
            let address = alloc(&engine, asked, 1);
            assert_eq!(engine.extent(address), Ok(Extent::Class(class)), "{asked}");
            assert_eq!(engine.usable_size(address), size);
            assert_eq!(internals::class_at(&engine, address), class);
            free(&engine, address);
        }
    }
    assert_eq!(class_of(0), Some(1));
    assert_eq!(class_of(LARGEST), Some(CLASSES as u8));
    for asked in [LARGEST + 1, 20 * GRANULE, 20 * GRANULE + 1, 40 * GRANULE - 1] {
        let address = alloc(&engine, asked, 1);
        assert_eq!(engine.extent(address), Ok(Extent::Large { size: asked.next_multiple_of(GRANULE) }));
        assert_eq!(internals::class_at(&engine, address), 0);
        free(&engine, address);
    }
    valid(&engine, 0);
}

#[test]
fn memory_is_aligned_as_asked_and_by_sixteen_at_least() {
    let engine = wide();
    let mut held = Vec::new();
    for shift in 0..=22 {
        let align = 1 << shift;
        for size in [0, 1, 15, 16, 100, 1000, 4096, 5000, 32_768, 40_000, 300_000] {
            // Several, so that colours and later objects of a slab are among them.
            for _ in 0..4 {
                let address = alloc(&engine, size, align);
                assert!(address.is_multiple_of(align.max(16)), "{size} bytes aligned to {align}");
                assert!(engine.usable_size(address) >= size);
                held.push((address, size));
                if shift > 17 {
                    break;
                }
            }
        }
        let addresses: Vec<_> = held.iter().map(|(address, _)| *address).collect();
        assert!(distinct(&addresses));
        for (number, (address, size)) in held.iter().enumerate() {
            fill(*address, *size, number as u8);
        }
        for (number, (address, size)) in held.drain(..).enumerate() {
            assert!(is_filled(address, size, number as u8));
            free(&engine, address);
        }
    }
    valid(&engine, 0);
}

#[test]
fn slabs_of_every_class_and_colour_are_aligned_by_their_size() {
    let engine = wide();
    for class in [3, 5, 12, 17, 20, 33, 47, 60, 71] {
        let size = size_of_class(class);
        let natural = 1 << size.trailing_zeros();
        // More than two slabs' worth.
        let objects: Vec<_> = (0..(300_000 / size).max(20)).map(|_| alloc(&engine, size, natural)).collect();
        assert!(objects.iter().all(|object| object.is_multiple_of(natural)));
        objects.iter().for_each(|object| free(&engine, *object));
    }
}

#[test]
fn impossible_sizes_and_alignments_are_errors() {
    let engine = engine(1);
    for (size, align) in [
        (usize::MAX, 1),
        (usize::MAX, 4096),
        (usize::MAX - GRANULE, GRANULE),
        (1 << 47, 16),
        (1, 1 << 62),
        (1, 1 << 63),
        (usize::MAX / 2, 1 << 63),
        (65 << 20, 16),
    ] {
        assert_eq!(engine.alloc_bytes(size, align), Err(AllocError), "{size} bytes aligned to {align}");
    }
    let address = alloc(&engine, 1000, 16);
    fill(address, 1000, 7);
    for size in [usize::MAX, usize::MAX - GRANULE + 2, 1 << 48, 65 << 20] {
        assert_eq!(realloc(&engine, address, size, 16), Err(AllocError));
        assert!(is_filled(address, 1000, 7), "the old memory is as it was");
    }
    free(&engine, address);
    valid(&engine, 0);
}

#[test]
fn realloc_keeps_what_fits() {
    let engine = wide();
    let sizes =
        [1, 16, 17, 100, 128, 129, 1000, 4096, 16_384, 32_768, 32_769, 65_536, 65_537, 200_000, 1 << 20, 3 << 20];
    for from in sizes {
        for to in sizes {
            for align in [16, 64, 4096] {
                let address = alloc(&engine, from, 16);
                fill(address, from, 3);
                let moved = realloc(&engine, address, to, align).expect("memory");
                assert!(is_filled(moved, from.min(to), 3), "{from} to {to}");
                assert!(moved.is_multiple_of(align) && engine.usable_size(moved) >= to);
                free(&engine, moved);
            }
        }
    }
    valid(&engine, 0);
}

#[test]
fn realloc_stays_where_it_can() {
    let engine = wide();
    for (from, to, stays) in [
        (100, 112, true),
        (112, 60, true),
        (112, 40, false),
        (200_000, 212_992, true),
        (200_000, 110_000, true),
        (200_000, 100_000, false),
        (200_000, 300_000, false),
        (600_000, 540_673, true),
        (600_000, 300_000, true),
        (600_000, 900_000, true),
        (600_000, 262_145, true),
        (600_000, 200_000, false),
        (600_000, 20_000, false),
    ] {
        let address = alloc(&engine, from, 16);
        let moved = realloc(&engine, address, to, 16).expect("memory");
        assert_eq!(moved == address, stays, "{from} to {to}");
        free(&engine, moved);
    }
}

#[test]
fn wild_pointers_are_reported_and_lose_nothing() {
    let engine = recording(1);
    let (small, large) = (alloc(&engine, 100, 16), alloc(&engine, 300_000, 16));
    let (window, granules) = engine.heap().window();
    let on_stack = 0u64;
    let wild = [
        small + 16,
        small + 1,
        large + 1,
        large + GRANULE,
        large + 3 * GRANULE,
        window + (granules - 1) * GRANULE,
        window + granules * GRANULE,
        window - 16,
        &raw const on_stack as usize,
        8,
        usize::MAX,
    ];
    for address in wild {
        free(&engine, address);
        assert_eq!(bad_frees(), [(address, FreeError::NotAnObject)], "{address:#x}");
        assert_eq!(engine.usable_size(address), 0);
        assert_eq!(engine.extent(address), Err(FreeError::NotAnObject));
        assert_eq!(realloc(&engine, address, 500, 16), Err(AllocError));
        assert_eq!(bad_frees(), [(address, FreeError::NotAnObject)]);
    }
    valid(&engine, 1);
    free(&engine, large);
    free(&engine, large);
    assert_eq!(bad_frees(), [(large, FreeError::NotAnObject)], "a large run that is free already");
    free(&engine, small);
    valid(&engine, 0);
}

#[test]
fn a_double_free_is_reported_when_it_reaches_the_slab() {
    let engine = recording(2);
    let cache = common::Cache::new(&engine, "twice", 64);
    let objects = cache.bulk(10);
    // Back on its slab, and then once more by way of the slot.
    cache.free(objects[0]);
    cache.shrink();
    cache.free(objects[0]);
    assert!(common::check(&engine).is_err());
    cache.shrink();
    assert_eq!(bad_frees(), [(objects[0], FreeError::DoubleFree)]);
    valid(&engine, 9);
    // Twice in the slot.
    cache.free(objects[1]);
    cache.free(objects[1]);
    assert!(common::check(&engine).is_err());
    cache.shrink();
    assert_eq!(bad_frees(), [(objects[1], FreeError::DoubleFree)]);
    valid(&engine, 8);
    cache.free_bulk(&objects[2..]);
    cache.destroy().expect("nobody uses it");
    valid(&engine, 0);
}

#[test]
fn copies_of_an_object_are_found_whenever_they_reach_the_slab() {
    let engine = recording(2);
    let cache = common::Cache::new(&engine, "apart", 64);
    let objects = cache.bulk(2000);
    // In different batches: many others are freed between the two.
    cache.free(objects[0]);
    cache.free_bulk(&objects[1..1000]);
    cache.free(objects[0]);
    cache.free_bulk(&objects[1000..]);
    cache.shrink();
    assert_eq!(bad_frees(), [(objects[0], FreeError::DoubleFree)]);
    valid(&engine, 0);
    // In slots of two CPUs.
    let object = cache.alloc();
    cache.free(object);
    fake::run_on(1);
    cache.free(object);
    fake::run_on(0);
    cache.shrink();
    assert_eq!(bad_frees(), [(object, FreeError::DoubleFree)]);
    valid(&engine, 0);
    cache.destroy().expect("nobody uses it");
}

#[test]
fn what_is_freed_twice_in_a_row_is_found_soon_after_its_slot_is_full() {
    let engine = recording(1);
    let cache = common::Cache::new(&engine, "full", 64);
    let objects = cache.bulk(4000);
    // So that the slot is full, and what is freed now leaves it with one of the next batches.
    cache.free_bulk(&objects[..1000]);
    cache.free(objects[1000]);
    cache.free(objects[1000]);
    let mut others = objects[1001..].iter();
    while bad_frees().is_empty() {
        cache.free(*others.next().expect("the slot is full before"));
    }
    assert!(others.len() > 2930, "{}", others.len());
}

#[test]
fn validate_names_what_is_wrong_and_leaves_it_as_it_is() {
    use kmem_core::validate::Violation;
    let engine = recording(2);
    let cache = common::Cache::new(&engine, "wronged", 64);
    let objects = cache.bulk(10);
    cache.free(objects[3]);
    cache.shrink();
    // On its slab and in the slot, behind others.
    cache.free_bulk(&objects[4..8]);
    cache.free(objects[3]);
    cache.free(objects[8]);
    for _ in 0..3 {
        assert_eq!(common::check(&engine), Err(Violation::InTwoPlaces { object: objects[3] }));
    }
    cache.shrink();
    assert_eq!(bad_frees(), [(objects[3], FreeError::DoubleFree)]);
    valid(&engine, 4);
    // An object of another cache.
    let other = common::Cache::new(&engine, "other", 64);
    let foreign = other.alloc();
    cache.free(foreign);
    assert_eq!(common::check(&engine), Err(Violation::Foreign { object: foreign }));
}

#[test]
fn objects_of_named_caches_can_be_freed_by_address() {
    let engine = engine(1);
    let cache = common::Cache::new(&engine, "named", 100);
    let object = cache.alloc();
    assert_eq!(engine.extent(object), Ok(Extent::Object { size: 104 }));
    free(&engine, object);
    assert_eq!(cache.figures().live, 0);
    cache.destroy().expect("nobody uses it");
}

#[test]
fn random_sizes_never_overlap_and_all_comes_back() {
    let engine = wide();
    let mut rng = Rng::new(7);
    let mut held: Vec<(usize, usize, u8)> = Vec::new();
    for round in 0..20_000 {
        if held.len() < 400 && !rng.one_in(3) {
            let size = match rng.below(20) {
                0 => rng.below(400_000),
                1..4 => rng.below(LARGEST),
                _ => rng.below(600),
            };
            let align = 1 << if rng.one_in(5) { rng.below(18) } else { 0 };
            let address = alloc(&engine, size, align);
            let seed = round as u8;
            fill(address, size, seed);
            held.push((address, size, seed));
        } else if !held.is_empty() {
            let (address, size, seed) = rng.take(&mut held);
            assert!(is_filled(address, size, seed), "round {round}");
            if rng.one_in(3) {
                let to = rng.below(2 * size + 10);
                let moved = realloc(&engine, address, to, 16).expect("memory");
                assert!(is_filled(moved, size.min(to), seed), "round {round}");
                fill(moved, to, seed);
                held.push((moved, to, seed));
            } else {
                free(&engine, address);
            }
        }
    }
    for (address, size, seed) in held {
        assert!(is_filled(address, size, seed));
        free(&engine, address);
    }
    engine.trim().expect("not in a callback");
    valid(&engine, 0);
    let pages = engine.page_stats();
    assert_eq!((pages.used, pages.dirty), (0, 0));
}

#[test]
fn class_tables_agree_with_the_sizes() {
    assert_eq!(classes::SIZES[CLASSES] as usize, LARGEST);
    for align in (0..=GRANULE_SHIFT).map(|shift| 1usize << shift) {
        for size in (0..=LARGEST).step_by(61) {
            if let Some(class) = class_of_aligned(size, align) {
                assert!(size_of_class(class) >= size && size_of_class(class).is_multiple_of(align));
            } else {
                assert!(size.next_multiple_of(align) > LARGEST / 2, "{size} aligned to {align} has a class");
            }
        }
    }
}

#[test]
fn window_exhausted_is_an_error_and_frees_bring_it_back() {
    let engine = engine_of(with_room(1, 64), config(Population::OnFirstUse));
    for _ in 0..3 {
        let mut held = Vec::new();
        while let Ok(fresh) = engine.alloc_bytes(3000, 16) {
            held.push(fresh.address.as_ptr() as usize);
        }
        assert!(held.len() > 1000);
        assert_eq!(engine.alloc_bytes(300_000, 16), Err(AllocError));
        assert!(distinct(&held));
        valid(&engine, held.len());
        held.iter().for_each(|address| free(&engine, *address));
        engine.trim().expect("not in a callback");
        assert_eq!(engine.page_stats().used, 0);
        // All of it in one piece.
        let all = alloc(&engine, 64 * ROOM, 16);
        free(&engine, all);
    }
}

#[test]
fn large_objects_are_counted_as_they_come_grow_and_go() {
    let engine = wide();
    let counted = || {
        let stats = engine.large_stats();
        let pages = engine.page_stats();
        assert_eq!(engine.slab_bytes() + stats.granules * GRANULE, pages.used * GRANULE);
        (stats.objects, stats.granules * GRANULE / ROOM)
    };
    assert_eq!(counted(), (0, 0));
    let small: Vec<usize> = (0..3000).map(|n| alloc(&engine, 1 + n % LARGEST, 1)).collect();
    let large: Vec<usize> = [5, 7, 6, 70].map(|rooms| alloc(&engine, rooms * ROOM, 1)).to_vec();
    assert_eq!(counted(), (4, 88));
    free(&engine, large[1]);
    assert_eq!(counted(), (3, 81));
    let grown = realloc(&engine, large[2], 40 * ROOM, 1).expect("room");
    let shrunk = realloc(&engine, large[3], 30 * ROOM, 1).expect("it is shorter");
    assert_eq!(counted(), (3, 75));
    small.iter().for_each(|address| free(&engine, *address));
    assert_eq!(counted(), (3, 75));
    [large[0], grown, shrunk].iter().for_each(|address| free(&engine, *address));
    assert_eq!(counted(), (0, 0));
    valid(&engine, 0);
}

#[test]
fn a_large_run_grows_over_what_was_freed_behind_it_and_no_further() {
    let engine = wide();
    let run = |rooms| common::large(&engine, rooms).as_ptr() as usize;
    let first = run(4);
    let gap = run(4);
    let last = run(1);
    assert!(gap == first + 4 * ROOM && last == gap + 4 * ROOM, "runs are handed out in order");
    fill(first, 4 * ROOM, 5);
    free(&engine, gap);
    let grown = realloc(&engine, first, 7 * ROOM, 16).expect("memory");
    assert_eq!((grown, engine.usable_size(grown)), (first, 7 * ROOM));
    let moved = realloc(&engine, grown, 9 * ROOM, 16).expect("memory");
    assert!(moved != first && is_filled(moved, 4 * ROOM, 5));
    let cut = realloc(&engine, moved, 5 * ROOM + 1, 16).expect("memory");
    assert_eq!((cut, engine.usable_size(cut)), (moved, 5 * ROOM + GRANULE));
    let used = engine.page_stats().used;
    free(&engine, cut);
    free(&engine, last);
    assert_eq!(engine.page_stats().used, used - 6 * (ROOM / GRANULE) - 1);
    valid(&engine, 0);
}

#[test]
fn a_size_is_answered_only_while_no_slab_goes_back() {
    let engine = engine(1);
    let cache = Cache::new(&engine, "asked", 200);
    let object = cache.alloc();
    let size = engine.usable_size(object);
    assert!(size >= 200);
    // Slabs go back under a lock that fork takes: nothing that could go away is looked at meanwhile.
    engine.before_fork();
    let (asker, (send, receive)) = (engine.clone(), mpsc::channel());
    let thread = std::thread::spawn(move || send.send(asker.usable_size(object)));
    assert_eq!(receive.recv_timeout(Duration::from_millis(300)), Err(mpsc::RecvTimeoutError::Timeout));
    // SAFETY: this thread called `before_fork`.
    unsafe { engine.after_fork() };
    assert_eq!(receive.recv(), Ok(size));
    thread.join().expect("no panic").expect("it was heard");
    cache.free(object);
}

/// Of objects of a page and more it is known whether they read as zero: until they are handed out, and again when their
/// memory went back.
#[test]
fn what_another_node_has_left_is_not_known_to_read_as_zero() {
    let engine = engine_of(Machine { nodes: 2, ..with_room(2, 40) }, config(Population::OnFirstUse));
    let cache = engine.general_cache(class_of(4000).expect("a class")).expect("memory");
    // SAFETY: a general cache lives for ever.
    let take = || unsafe { engine.alloc_for_zeros(cache) };
    fake::run_on(1);
    let objects: Vec<_> = from_fn(|| take().ok()).map(|fresh| fresh.address.as_ptr() as usize).collect();
    objects.iter().for_each(|object| fill(*object, 4000, 7));
    // More than a slot holds, and memory is out.
    let (freed, kept) = objects.split_at(100);
    freed.iter().for_each(|object| free(&engine, *object));
    fake::run_on(0);
    let fresh = take().expect("what the other node has left");
    assert!(!fresh.zero && freed.contains(&(fresh.address.as_ptr() as usize)));
    free(&engine, fresh.address.as_ptr() as usize);
    kept.iter().for_each(|object| free(&engine, *object));
    valid(&engine, 0);
}

#[test]
fn what_is_known_to_read_as_zero_does() {
    for (size, page_by_page) in [(36_864, true), (100_000, true), (262_144, true), (20_000, false)] {
        let engine = wide();
        let class = class_of(size).expect("a class");
        let cache = engine.general_cache(class).expect("memory");
        // SAFETY: a general cache lives for ever.
        let take = || unsafe { engine.alloc_for_zeros(cache) }.expect("memory");
        for round in 0..3 {
            let objects: Vec<_> = (0..20).map(|_| take()).collect();
            assert!(!page_by_page || objects.iter().all(|fresh| fresh.zero), "{size}, round {round}");
            for fresh in &objects {
                let address = fresh.address.as_ptr() as usize;
                assert!(!fresh.zero || is_filled_with(address, size, 0), "{size}, round {round}");
                fill(address, size, 7);
            }
            // Those that are used again at once are not, whatever slot, depot or slab they come from.
            objects[1..].iter().for_each(|fresh| free(&engine, fresh.address.as_ptr() as usize));
            let again: Vec<_> = (0..5).map(|_| take()).collect();
            assert!(again.iter().all(|fresh| !fresh.zero), "{size}, round {round}");
            again.iter().for_each(|fresh| free(&engine, fresh.address.as_ptr() as usize));
            free(&engine, objects[0].address.as_ptr() as usize);
            engine.trim().expect("not in a callback");
        }
        valid(&engine, 0);
    }
}

fn is_filled_with(address: usize, size: usize, byte: u8) -> bool {
    // SAFETY: the memory is the test's.
    unsafe { std::slice::from_raw_parts(address as *const u8, size) }.iter().all(|found| *found == byte)
}
