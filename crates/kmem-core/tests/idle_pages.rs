//! The free pages of slabs that are in use go back: all of them, none that holds an object in use, none twice; and
//! whatever happens to the slab meanwhile.

mod common;

use common::{Cache, E, ROOM, Rng, ends, engine, fill, is_filled, panic_now, panics, valid};
use kmem_sim::fake;
use std::sync::{Arc, Mutex};

const PAGE: usize = 4096;

/// A cache with `count` objects, of which every `every`th is still in use; the others are on their slabs.
fn survivors(engine: &E, size: usize, count: usize, every: usize) -> (Cache, Vec<usize>) {
    let cache = Cache::new(engine, "sparse", size);
    let (kept, rest): (Vec<_>, Vec<_>) = cache.bulk(count).into_iter().enumerate().partition(|(n, _)| n % every == 0);
    let kept: Vec<_> = kept.into_iter().map(|(_, object)| object).collect();
    kept.iter().for_each(|object| fill(*object, size, 1));
    cache.free_bulk(&rest.into_iter().map(|(_, object)| object).collect::<Vec<_>>());
    // The slot's objects go to the depot.
    fake::run_on(0);
    engine.cpu_down(1).expect("CPU 1 can go");
    (cache, kept)
}

fn sparse(engine: &E) -> (Cache, Vec<usize>) {
    fake::run_on(1);
    survivors(engine, 128, 40_000, 1000)
}

fn settle(engine: &E) -> usize {
    let mut bytes = 0;
    for _ in 0..12 {
        let decayed = engine.decay();
        bytes += decayed.bytes;
        if !decayed.left {
            return bytes;
        }
    }
    panic!("something is left");
}

#[test]
fn what_survivors_leave_behind_goes_back() {
    let engine = engine(2);
    let (cache, kept) = sparse(&engine);
    let bytes = settle(&engine);
    let figures = cache.figures();
    assert_eq!(figures.slabs, kept.len(), "a slab without a survivor went as a whole");
    // What is left is a page, or two, for each survivor.
    let resident = figures.bytes - valid(&engine, kept.len()).purged_pages * PAGE;
    assert!(resident <= kept.len() * 2 * PAGE, "{resident}");
    assert!(bytes >= 40_000 * 128 - resident);
    assert_eq!((engine.decay().bytes, engine.decay().left), (0, false), "no page goes back twice");
    assert!(kept.iter().all(|object| is_filled(*object, 128, 1)));
    // All of it serves again.
    let again = cache.bulk(figures.free);
    again.iter().for_each(|object| fill(*object, 128, 2));
    assert_eq!(cache.figures().slabs, figures.slabs);
    assert_eq!(valid(&engine, again.len() + kept.len()).purged_pages, 0);
    cache.free_bulk(&again);
    cache.free_bulk(&kept);
    cache.destroy().expect("nobody uses it");
}

#[test]
fn shrink_and_trim_do_it_at_once() {
    let engine = engine(2);
    let (cache, kept) = sparse(&engine);
    assert!(cache.shrink() >= kept.len() * 14 * PAGE);
    let purged = valid(&engine, kept.len()).purged_pages;
    assert!(purged >= kept.len() * 14, "{purged}");
    assert_eq!(cache.shrink(), 0);
    let _ = engine.trim();
    assert_eq!(engine.page_stats().dirty, 0);
    assert_eq!(valid(&engine, kept.len()).purged_pages, purged);
}

#[test]
fn slabs_that_are_used_within_a_period_are_left_alone() {
    let engine = engine(2);
    let (cache, mut kept) = sparse(&engine);
    // Empty slabs and depot settle first.
    let _ = cache.shrink();
    let purged = valid(&engine, kept.len()).purged_pages;
    // One object comes back to each slab in each period.
    for period in 0..4 {
        let figures = cache.figures();
        let again = cache.bulk(figures.free + figures.in_depot + figures.in_slots);
        let _ = engine.decay();
        cache.free_bulk(&again);
        let _ = engine.decay();
        assert!(valid(&engine, kept.len()).purged_pages < purged / 4, "period {period}");
    }
    settle(&engine);
    kept.drain(..).for_each(|object| cache.free(object));
    cache.destroy().expect("nobody uses it");
}

#[test]
fn no_object_in_use_is_ever_on_a_page_that_goes_back() {
    for (seed, size) in [8, 24, 48, 128, 1000, 2304, 4096, 5000, 20_000, 70_000].into_iter().enumerate() {
        let engine = engine(2);
        let cache = Cache::new(&engine, "random", size);
        let mut rng = Rng::new(seed as u64 + 1);
        let mut held: Vec<(usize, u8)> = vec![];
        let room = (2 << 20) / size;
        for step in 0..40 {
            fake::run_on(step % 2);
            let more = cache.bulk(rng.below(room.min(3000)) + 1);
            for object in more {
                let seed = rng.below(251) as u8;
                fill(object, size, seed);
                held.push((object, seed));
            }
            let keep = rng.below(4) * 20 + 1;
            held.retain(|(object, seed)| {
                let stays = rng.below(100) < keep;
                assert!(is_filled(*object, size, *seed), "{size}");
                if !stays {
                    cache.free(*object);
                }
                stays
            });
            if step % 7 == 0 {
                cache.shrink();
            }
            (0..rng.below(3)).for_each(|_| _ = engine.decay());
            valid(&engine, held.len());
        }
        held.drain(..).for_each(|(object, _)| cache.free(object));
        cache.destroy().expect("nobody uses it");
        assert_eq!(engine.page_stats().used, 0);
    }
}

#[test]
fn objects_that_are_freed_while_pages_go_back_are_not_lost() {
    let engine = engine(2);
    let (cache, kept) = sparse(&engine);
    let freed = Arc::new(Mutex::new(kept));
    let (other, all) = (cache.clone(), freed.clone());
    engine.platform().at_next_purge(move || {
        // With their slab aside, and with no lock held.
        let work = move || {
            fake::run_on(0);
            all.lock().expect("nobody panics").drain(..).for_each(|object| other.free(object));
            other.shrink();
        };
        std::thread::spawn(work).join().expect("no panic");
    });
    ends(move || {
        let _ = engine.decay();
        let _ = engine.decay();
        assert!(freed.lock().expect("nobody panics").is_empty());
        valid(&engine, 0);
        settle(&engine);
        assert_eq!(cache.shrink(), 0);
        assert_eq!(cache.figures().slabs, 0, "the slab that was aside went too");
        cache.destroy().expect("nobody uses it");
    });
}

#[test]
fn a_cache_may_be_destroyed_while_its_pages_go_back() {
    let engine = engine(2);
    let (cache, kept) = sparse(&engine);
    let destroyer = Arc::new(Mutex::new(None));
    let (platform, handle) = (engine.clone(), destroyer.clone());
    platform.platform().at_next_purge(move || {
        let work = move || {
            fake::run_on(0);
            cache.free_bulk(&kept);
            cache.destroy().expect("nobody uses it");
        };
        *handle.lock().expect("nobody panics") = Some(std::thread::spawn(work));
        // It gets as far as it can: it waits for the pin.
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
    ends(move || {
        (0..3).for_each(|_| _ = engine.decay());
        let thread = destroyer.lock().expect("nobody panics").take().expect("a page went back");
        thread.join().expect("the destroy ends well");
        assert_eq!(engine.cache_count(), 0);
        assert_eq!(engine.page_stats().used, 0);
    });
}

#[test]
fn a_child_takes_back_the_slab_whose_pages_were_going_back() {
    for all_freed in [false, true] {
        let engine = engine(2);
        let (cache, kept) = sparse(&engine);
        // In the child the thread is gone in the middle of it.
        engine.platform().at_next_purge(|| panic_now());
        let walks = engine.clone();
        let gone = std::thread::spawn(move || panics(|| (0..4).for_each(|_| _ = walks.decay())));
        assert!(gone.join().expect("it catches the panic"));
        if all_freed {
            cache.free_bulk(&kept);
        }
        engine.before_fork();
        // SAFETY: the locks were just taken.
        unsafe {
            engine.inherit();
            engine.after_fork();
        }
        valid(&engine, if all_freed { 0 } else { kept.len() });
        settle(&engine);
        assert_eq!(cache.figures().slabs * ROOM, cache.figures().bytes);
        if !all_freed {
            cache.free_bulk(&kept);
        }
        cache.destroy().expect("nobody uses it");
        assert_eq!(engine.page_stats().used, 0);
    }
}
