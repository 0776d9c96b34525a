//! Accounts: what is charged, what happens at a limit, and that the books are exact whatever CPUs do (I45).
//!
//! `valid` compares each account with what its caches have off their slabs, so every test that calls it checks that.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Cache, E, Footprint, Rng, engine, panics, valid};
use kmem_core::account::{Account, AccountSpec, Beyond, OverLimit};
use kmem_core::cpu::CpuSet;
use kmem_core::{AccountError, AllocError, Shortage};
use kmem_sim::fake::run_on;

/// Bytes of an object.
const SIZE: usize = 64;

fn spec(name: &str, limit: usize) -> AccountSpec<'_> {
    AccountSpec { name, limit, parent: None, over: None }
}

fn account<'e>(engine: &'e E, name: &str, limit: usize) -> Account<'e> {
    engine.create_account(&spec(name, limit)).expect("an account")
}

fn within<'e>(engine: &'e E, parent: &Account<'_>, name: &str, limit: usize) -> Account<'e> {
    engine.create_account(&AccountSpec { parent: Some(parent), ..spec(name, limit) }).expect("an account")
}

/// A cache that is charged to `account`.
fn charged(engine: &E, name: &str, size: usize, account: &Account<'_>) -> Cache {
    let cache = Cache::new(engine, name, size);
    // SAFETY: the cache is new, and the account is of this engine.
    unsafe { engine.charge_to(cache.desc(), account) };
    cache
}

/// Allocates until the limit.
fn fill(cache: &Cache) -> Vec<usize> {
    let mut held = Vec::new();
    loop {
        match cache.try_alloc() {
            Ok(object) => held.push(object),
            Err(AllocError) => {
                assert_eq!(cache.desc().shortage(), Shortage::OverLimit);
                return held;
            }
        }
    }
}

#[test]
fn a_limit_is_reached_exactly_and_what_is_freed_may_be_used_again() {
    let engine = engine(2);
    let account = account(&engine, "bounded", 1000 * SIZE + 10);
    let cache = charged(&engine, "objects", SIZE, &account);
    let other = Cache::new(&engine, "free", SIZE);
    let mut held = fill(&cache);
    assert_eq!(held.len(), 1000, "not one less, although they come in batches");
    assert_eq!((account.stats().used, account.stats().refused), (1000 * SIZE, 1));
    other.free(other.alloc());
    valid(&engine, 1000);
    // On the other CPU too, though the object is cached on this one.
    cache.free(held.pop().expect("one"));
    run_on(1);
    held.push(cache.alloc());
    assert_eq!(cache.try_alloc(), Err(AllocError));
    valid(&engine, 1000);
    cache.free_bulk(&held);
    assert!(account.stats().used > 0, "what is cached counts");
    cache.shrink();
    assert_eq!((account.stats().used, account.stats().high), (0, 1000 * SIZE));
    cache.destroy().expect("nobody uses it");
    run_on(0);
}

#[test]
fn several_caches_share_a_limit_and_what_one_of_them_caches_is_no_loss_to_another() {
    let engine = engine(2);
    let account = account(&engine, "shared", 300 * SIZE);
    let [a, b] = ["a", "b"].map(|name| charged(&engine, name, SIZE, &account));
    for cpu in 0..2 {
        run_on(cpu);
        let held = a.bulk(140);
        a.free_bulk(&held);
    }
    assert!(a.figures().in_slots > 0);
    assert_eq!(fill(&b).len(), 300);
    assert_eq!((a.figures().in_slots, a.figures().in_depot), (0, 0));
    valid(&engine, 300);
    run_on(0);
}

#[test]
fn an_account_is_charged_with_all_that_it_is_within() {
    let engine = engine(1);
    let house = account(&engine, "house", 500 * SIZE);
    let [one, two] = [("one", 400), ("two", 300)].map(|(name, limit)| within(&engine, &house, name, limit * SIZE));
    let [a, b] = [("a", &one), ("b", &two)].map(|(name, account)| charged(&engine, name, SIZE, account));
    let first = fill(&a);
    assert_eq!(first.len(), 400, "its own limit");
    let second = fill(&b);
    assert_eq!(second.len(), 100, "the limit of both");
    assert_eq!([&house, &one, &two].map(|account| account.stats().used / SIZE), [500, 400, 100]);
    assert_eq!([&house, &one, &two].map(|account| account.stats().refused), [1, 1, 0]);
    valid(&engine, 500);
    a.free_bulk(&first);
    assert_eq!(fill(&b).len(), 200, "what the one caches, the other gets: up to its own limit");
    assert_eq!(two.stats().parent, Some("house"));
    valid(&engine, 300);
}

#[test]
fn a_limit_may_be_lowered_beneath_what_is_in_use_and_nothing_is_lost() {
    let engine = engine(2);
    let account = account(&engine, "lowered", usize::MAX);
    let cache = charged(&engine, "objects", SIZE, &account);
    let mut held = cache.bulk(400);
    cache.free_bulk(&held.split_off(200));
    assert!(account.stats().used > 200 * SIZE);
    assert_eq!(engine.set_limit(&account, 100 * SIZE), 200 * SIZE, "what was cached is uncharged at once");
    assert_eq!(cache.try_alloc(), Err(AllocError));
    assert_eq!(cache.try_bulk(10).len(), 0);
    valid(&engine, 200);
    cache.free_bulk(&held.split_off(99));
    let more = cache.try_alloc();
    assert_eq!(more.map(|object| held.push(object)), Ok(()));
    assert_eq!(cache.try_alloc(), Err(AllocError));
    engine.set_limit(&account, 0);
    assert_eq!(cache.try_alloc(), Err(AllocError));
    engine.set_limit(&account, usize::MAX);
    held.extend(cache.bulk(100));
    cache.free_bulk(&held);
    valid(&engine, 0);
}

/// As another process asks for it: the process may be in a sandbox that allows no fence.
#[test]
fn a_limit_is_changed_by_name_without_a_fence_unless_that_is_allowed() {
    let engine = engine(2);
    let account = account(&engine, "asked", usize::MAX);
    let cache = charged(&engine, "objects", SIZE, &account);
    let mut held = cache.bulk(400);
    cache.free_bulk(&held.split_off(200));
    let (cached, fences) = (cache.figures().in_slots, engine.platform().fence_count());
    assert!(cached > 0);
    let used = (200 + cached) * SIZE;
    assert_eq!(engine.try_set_limit("asked", 100 * SIZE, false), Some(used), "slots keep what they have");
    assert_eq!(engine.platform().fence_count(), fences);
    assert_eq!((account.stats().limit, cache.figures().in_slots), (100 * SIZE, cached));
    assert_eq!(engine.try_set_limit("asked", 100 * SIZE, true), Some(200 * SIZE));
    assert_eq!((engine.platform().fence_count(), cache.figures().in_slots), (fences + 1, 0));
    assert_eq!(cache.try_alloc(), Err(AllocError));
    assert_eq!(engine.try_set_limit("asked", usize::MAX, false), Some(200 * SIZE));
    assert_eq!(engine.try_set_limit("another", 1, true), None);
    held.extend(cache.bulk(1));
    valid(&engine, 201);
    cache.free_bulk(&held);
}

#[test]
fn beneath_a_lowered_limit_every_free_counts_at_once() {
    let engine = engine(1);
    let account = account(&engine, "lowered", usize::MAX);
    let cache = charged(&engine, "objects", SIZE, &account);
    let mut held = cache.bulk(100);
    while cache.figures().in_slots > 0 {
        held.push(cache.alloc());
    }
    assert_eq!(cache.figures().cpus, 1, "a slot that is enabled and empty");
    assert_eq!(engine.set_limit(&account, SIZE), held.len() * SIZE);
    while held.len() > 1 {
        cache.free(held.pop().expect("one"));
        assert_eq!(account.stats().used, held.len() * SIZE);
        assert_eq!((cache.try_alloc(), cache.figures().in_depot), (Err(AllocError), 0));
    }
    valid(&engine, 1);
}

#[test]
fn no_slab_is_made_for_an_account_without_room() {
    let engine = engine(1);
    let account = account(&engine, "none", SIZE - 1);
    let cache = charged(&engine, "objects", SIZE, &account);
    let before = Footprint::of(&engine);
    assert_eq!(cache.try_alloc(), Err(AllocError));
    assert_eq!(Footprint::of(&engine).pages_used, before.pages_used);
    let stats = engine.with_stats(cache.id, |stats| (stats.grown, stats.failures)).expect("it lives");
    assert_eq!(stats, (0, 1));
}

/// What the callback of a test does.
struct Relief<F> {
    calls: AtomicUsize,
    code: F,
}

/// # Safety
/// The context is the address of such a relief.
unsafe fn relieve<F: Fn(&Beyond<'_>) -> bool>(context: [*mut (); 2], beyond: &Beyond<'_>) -> bool {
    // SAFETY: the caller's promise.
    let relief = unsafe { &*context[0].cast::<Relief<F>>() };
    relief.calls.fetch_add(1, Ordering::Relaxed);
    (relief.code)(beyond)
}

fn over<F: Fn(&Beyond<'_>) -> bool + Sync + 'static>(code: F) -> (OverLimit, &'static AtomicUsize) {
    let relief: &'static Relief<F> = Box::leak(Box::new(Relief { calls: AtomicUsize::new(0), code }));
    // SAFETY: the relief lives for ever, and any thread may call it.
    (
        unsafe { OverLimit::new([core::ptr::from_ref(relief).cast_mut().cast(), core::ptr::null_mut()], relieve::<F>) },
        &relief.calls,
    )
}

#[test]
fn a_callback_makes_room_before_an_allocation_fails() {
    static HELD: std::sync::Mutex<Vec<usize>> = std::sync::Mutex::new(Vec::new());
    static CACHE: std::sync::OnceLock<Cache> = std::sync::OnceLock::new();
    let engine = engine(1);
    let (over, calls) = over(|beyond| {
        assert_eq!((beyond.account, beyond.wanted, beyond.used, beyond.limit), ("asked", SIZE, 100 * SIZE, 100 * SIZE));
        let cache = CACHE.get().expect("it is there");
        assert!(common::holds_no_lock(&cache.engine), "I31");
        assert_eq!(cache.try_alloc(), Err(AllocError), "it is not called inside of itself");
        let mut held = HELD.lock().expect("no panic");
        let Some(object) = held.pop() else { return false };
        cache.free(object);
        true
    });
    let account = engine.create_account(&AccountSpec { over: Some(over), ..spec("asked", 100 * SIZE) }).expect("one");
    let cache = CACHE.get_or_init(|| charged(&engine, "objects", SIZE, &account));
    HELD.lock().expect("no panic").extend(cache.bulk(3));
    let held = fill(cache);
    assert_eq!((held.len(), calls.load(Ordering::Relaxed)), (100, 4), "three times it freed one");
    valid(&engine, 100);
}

#[test]
fn a_callback_that_panics_leaves_everything_as_it_was() {
    let engine = engine(1);
    let (over, calls) = over(|_| common::panic_now());
    let account = engine.create_account(&AccountSpec { over: Some(over), ..spec("panics", 10 * SIZE) }).expect("one");
    let cache = charged(&engine, "objects", SIZE, &account);
    let held = cache.bulk(10);
    for _ in 0..2 {
        assert!(panics(|| _ = cache.try_alloc()));
        valid(&engine, 10);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    cache.free_bulk(&held);
    cache.destroy().expect("nobody uses it");
}

#[test]
fn accounts_have_names_and_live_as_long_as_something_refers_to_them() {
    let engine = engine(1);
    let refused = |name: &str| engine.create_account(&spec(name, 1)).map(drop).expect_err("a bad name");
    assert_eq!(refused(""), AccountError::NameEmpty);
    assert_eq!(refused(&"x".repeat(64)), AccountError::NameTooLong { len: 64, max: 63 });
    let names = || {
        let mut names = Vec::new();
        engine.for_each_account(|stats| names.push(stats.name.to_string()));
        names.sort();
        names
    };
    let house = account(&engine, "house", usize::MAX);
    assert_eq!(refused("house"), AccountError::NameTaken);
    let child = within(&engine, &house, "child", usize::MAX);
    drop(house);
    assert_eq!(names(), ["child", "house"], "there is an account within it");
    let cache = charged(&engine, "objects", SIZE, &child);
    drop(child);
    let object = cache.alloc();
    let found = engine.find_account("house").expect("a cache is charged to it");
    assert!(found.stats().used >= SIZE);
    drop(found);
    assert_eq!(names(), ["child", "house"]);
    cache.free(object);
    let before = engine.meta_used();
    cache.destroy().expect("nobody uses it");
    assert_eq!(names(), Vec::<String>::new());
    assert!(engine.find_account("house").is_none());
    let again = account(&engine, "house", 7);
    assert_eq!((again.stats().used, again.stats().high, again.stats().limit), (0, 0, 7));
    assert!(engine.meta_used() < before, "the descriptor is used again");
}

#[test]
fn the_books_are_exact_after_any_sequence_of_operations() {
    let sizes = [24, 64, 500, 3000, 40_000];
    for seed in 0..20 {
        let engine = engine(3);
        let mut rng = Rng::new(seed);
        let house = account(&engine, "house", 600_000);
        let child = within(&engine, &house, "child", 300_000);
        let make = |n: usize| {
            charged(&engine, &format!("cache {n}"), sizes[n], if n.is_multiple_of(2) { &house } else { &child })
        };
        let mut caches: Vec<Cache> = (0..sizes.len()).map(make).collect();
        let mut held: Vec<(usize, usize)> = Vec::new();
        for _ in 0..600 {
            let (n, cpu) = (rng.below(sizes.len()), rng.below(3));
            match rng.below(24) {
                0 => _ = engine.cpu_down(cpu),
                1 => _ = engine.cpu_up(cpu),
                2 => _ = caches[n].shrink(),
                3 => _ = engine.age(CpuSet::NONE),
                4 => _ = engine.decay(),
                5 => _ = engine.tune(caches[n].id, 1 + rng.below(8)),
                6 => _ = engine.set_limit(&child, rng.below(400_000)),
                7 => _ = engine.trim(),
                8 => {
                    if caches[n].destroy().is_ok() {
                        caches[n] = make(n);
                    }
                }
                9..12 => run_on(cpu),
                12..18 => held.extend(caches[n].try_bulk(1 + rng.below(100)).into_iter().map(|object| (n, object))),
                _ => {
                    for _ in 0..rng.below(60).min(held.len()) {
                        let (n, object) = held.swap_remove(rng.below(held.len()));
                        caches[n].free(object);
                    }
                }
            }
            let bytes: usize = held.iter().map(|(n, _)| caches[*n].desc().layout().size).sum();
            assert!(house.stats().used >= bytes && house.stats().used <= 600_000, "seed {seed}");
        }
        valid(&engine, held.len());
        held.into_iter().for_each(|(n, object)| caches[n].free(object));
        valid(&engine, 0);
        caches.into_iter().for_each(|cache| cache.destroy().expect("nobody uses it"));
        assert_eq!([house.stats().used, child.stats().used], [0, 0], "seed {seed}");
        run_on(0);
    }
}

#[test]
fn threads_at_a_limit_lose_nothing() {
    let engine = engine(4);
    let house = account(&engine, "house", 2_000 * SIZE);
    let [one, two] = ["one", "two"].map(|name| within(&engine, &house, name, 1_500 * SIZE));
    let caches = [charged(&engine, "a", SIZE, &one), charged(&engine, "b", SIZE, &two)];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (cache, house) = (&caches[thread % 2], &house);
            scope.spawn(move || {
                run_on(thread);
                let mut rng = Rng::new(thread as u64);
                let mut held = Vec::new();
                for _ in 0..300 {
                    held.extend(cache.try_bulk(rng.below(200)));
                    assert!(house.stats().used <= 2_000 * SIZE);
                    let keep = rng.below(held.len() + 1);
                    cache.free_bulk(&held.split_off(keep));
                }
                cache.free_bulk(&held);
            });
        }
        scope.spawn(|| {
            for _ in 0..30 {
                let _ = (engine.cpu_down(3), engine.cpu_up(3));
                engine.set_limit(&one, 700 * SIZE);
                engine.set_limit(&one, 1_500 * SIZE);
            }
        });
    });
    valid(&engine, 0);
    assert!(house.stats().high <= 2_000 * SIZE);
    caches.into_iter().for_each(|cache| cache.destroy().expect("nobody uses it"));
    assert_eq!(house.stats().used, 0);
}
