//! What safe code alone may try: addresses that are not its own, alignments that are none, destructors and visitors
//! that destroy what runs them, and code of the user's that calls everything. Nothing of it is undefined, and nothing
//! hangs.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{scope, spawn};
use std::time::{Duration, Instant};

use kmem::{Cache, CacheBox, CreateError, DestroyError, Object, ObjectCache, StaticCache, general};

/// Runs `code` on a thread of its own, and fails if it hangs.
#[track_caller]
fn ends(code: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = spawn(move || {
        code();
        let _ = done.send(());
    });
    assert_ne!(wait.recv_timeout(Duration::from_secs(20)), Err(mpsc::RecvTimeoutError::Timeout), "it hangs");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Creates a cache of objects so long, publishes where one of them was, and destroys it, until told to stop.
fn come_and_go<const N: usize>(seen: &AtomicUsize, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let cache = Cache::<[u64; N]>::new(&format!("safe {N}")).expect("a cache");
        let objects: Vec<_> = (0..40).map(|_| cache.alloc([0; N]).expect("memory")).collect();
        seen.store(&raw const *objects[17] as usize, Ordering::Relaxed);
        assert_eq!(general::usable_size(NonNull::from(&*objects[17]).cast()), cache.stats().stride);
        drop(objects);
        cache.destroy().expect("nobody uses it");
    }
}

#[test]
fn any_address_may_be_asked_for_its_size_at_any_time() {
    let (seen, stop) = ([const { AtomicUsize::new(0) }; 3], AtomicBool::new(false));
    scope(|scope| {
        scope.spawn(|| come_and_go::<1>(&seen[0], &stop));
        scope.spawn(|| come_and_go::<8>(&seen[1], &stop));
        scope.spawn(|| come_and_go::<9000>(&seen[2], &stop));
        let since = Instant::now();
        let mut round = 0usize;
        while since.elapsed() < Duration::from_secs(2) {
            for seen in &seen {
                let address = seen.load(Ordering::Relaxed).wrapping_add(round % 5 * 8);
                if let Some(address) = NonNull::new(address as *mut u8) {
                    std::hint::black_box(general::usable_size(address));
                }
            }
            round += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    for wild in [1, 16, 4096, usize::MAX & !15, usize::MAX] {
        assert_eq!(general::usable_size(NonNull::new(wild as *mut u8).expect("not null")), 0, "{wild:#x}");
    }
}

#[test]
fn memory_of_an_odd_alignment_is_nobody_elses() {
    let mut taken = BTreeMap::new();
    for align in [0, 1, 3, 48, 5000, 0x18000, 0x28000, 0x58000, 3 << 20, usize::MAX] {
        for size in [0, 1, 100, 40_000, 65_536, 200_000, 700_000] {
            for _ in 0..6 {
                let blocks = [general::alloc_aligned(size, align), general::alloc_zeroed(size, align)];
                for address in blocks.into_iter().flatten() {
                    taken.insert(address.as_ptr() as usize, (size.max(1), align));
                }
            }
        }
    }
    for align in [0, 3, 48, 5000, 0x18000, 3 << 20, usize::MAX] {
        assert!(general::alloc_aligned(700_000, align).is_err(), "memory at a multiple of {align}, no power of two");
    }
    let both = taken.iter().zip(taken.iter().skip(1));
    both.for_each(|((at, (size, align)), (next, _))| {
        assert!(at + size <= *next, "{size} bytes of alignment {align:#x} at {at:#x} reach beyond {next:#x}");
    });
    assert!(general::alloc_aligned(100_000, 1 << 17).is_ok_and(|at| (at.as_ptr() as usize).is_multiple_of(1 << 17)));
    assert!(general::alloc_aligned(usize::MAX, 1 << 63).is_err() && general::alloc_aligned(1, 1 << 63).is_err());
}

/// A value with the cache that it is in, by way of a static.
struct Suicidal(#[allow(dead_code, reason = "gives the type a size")] [u8; 5000]);

static OWN: Mutex<Option<ObjectCache<Suicidal>>> = Mutex::new(None);
static TRIED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Suicidal {
    fn drop(&mut self) {
        let own = OWN.lock().expect("not poisoned").take();
        if let Some(Err(error)) = own.map(ObjectCache::destroy) {
            assert!(matches!(error, DestroyError::InsideCallback { .. }));
            TRIED.fetch_add(1, Ordering::Relaxed);
            *OWN.lock().expect("not poisoned") = Some(error.into_cache());
        }
    }
}

#[test]
fn a_destructor_that_destroys_its_own_cache_is_refused() {
    let make = || Cache::<Suicidal>::builder("safe suicidal").constructed_by(|| Suicidal([0; 5000])).build();
    let cache = make().expect("a cache");
    drop((0..500).map(|_| cache.alloc().expect("memory")).collect::<Vec<_>>());
    *OWN.lock().expect("not poisoned") = Some(cache);
    ends(|| _ = kmem::trim());
    assert!(TRIED.load(Ordering::Relaxed) > 0);
    // Outside of its destructors it ends as any other.
    let cache = OWN.lock().expect("not poisoned").take().expect("it was put back");
    ends(move || cache.destroy().expect("nobody uses it"));
    drop(make().expect("the name is free again"));
}

#[test]
fn a_visitor_that_destroys_the_cache_that_it_looks_at_is_refused() {
    ends(|| {
        let mut cache = Some(Cache::<u64>::new("safe visited").expect("a cache"));
        let mut others = vec![Cache::<u64>::new("safe other").expect("a cache")];
        kmem::caches(|stats| {
            if stats.name == "safe visited" {
                let Err(DestroyError::InsideCallback { cache: back }) = cache.take().expect("once").destroy() else {
                    panic!("it was looked at")
                };
                cache = Some(back);
                others.drain(..).for_each(|other| other.destroy().expect("nobody uses it"));
            }
        });
        let cache = cache.expect("it was put back");
        assert_eq!(*cache.alloc(4).expect("memory"), 4);
        cache.destroy().expect("nobody looks any more");
        // One that is dropped there stays for ever, and so does its name.
        let mut dropped = Some(Cache::<u64>::new("safe dropped").expect("a cache"));
        kmem::caches(|stats| _ = (stats.name == "safe dropped").then(|| dropped.take()));
        assert!(dropped.is_none());
        assert_eq!(Cache::<u64>::new("safe dropped").expect_err("it is there"), CreateError::NameTaken);
    });
}

/// A value whose constructor and destructor call everything there is, the cache itself included.
struct Busybody(#[allow(dead_code, reason = "gives the type a size")] [u64; 700]);

fn bodies() -> &'static ObjectCache<Busybody> {
    static BODIES: OnceLock<ObjectCache<Busybody>> = OnceLock::new();
    BODIES.get_or_init(|| Cache::builder("safe busybody").constructed_by(Busybody::make).build().expect("a cache"))
}

thread_local! {
    static DEPTH: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Calls everything, but not from within itself for ever.
fn meddle() {
    if DEPTH.get() > 1 {
        return;
    }
    DEPTH.set(DEPTH.get() + 1);
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let inner =
        Cache::<[u64; 9]>::new(&format!("safe inner {}", NEXT.fetch_add(1, Ordering::Relaxed))).expect("a cache");
    let held: Vec<_> = (0..200).map(|n| inner.alloc([n; 9]).expect("memory")).collect();
    drop(bodies().alloc().expect("memory"));
    bodies().shrink().expect("no hotplug callback");
    kmem::hotplug::track_affinity();
    kmem::cpus(|_| ());
    kmem::caches(|stats| assert!(stats.live <= stats.total));
    drop(held);
    inner.tune(3).expect("a capacity");
    inner.destroy().expect("nobody uses it");
    DEPTH.set(DEPTH.get() - 1);
}

impl Busybody {
    fn make() -> Self {
        meddle();
        Self([7; 700])
    }
}

impl Drop for Busybody {
    fn drop(&mut self) {
        meddle();
    }
}

#[test]
fn constructors_and_destructors_may_call_everything() {
    ends(|| {
        let threads = [0, 1].map(|_| {
            spawn(|| {
                for _ in 0..3 {
                    let held: Vec<_> = (0..60).map(|_| bodies().alloc().expect("memory")).collect();
                    assert!(held.iter().all(|body| body.0 == [7; 700]));
                    drop(held);
                    kmem::trim().expect("no hotplug callback");
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

static LOCALS: StaticCache<Arc<()>> = StaticCache::new("safe locals");

fn kept() -> &'static ObjectCache<Vec<u8>> {
    static KEPT: OnceLock<ObjectCache<Vec<u8>>> = OnceLock::new();
    KEPT.get_or_init(|| Cache::builder("safe kept").constructed_by(|| vec![1; 300]).build().expect("a cache"))
}

type Pair = (CacheBox<'static, Arc<()>>, Object<'static, Vec<u8>>);

thread_local! {
    static LAST: std::cell::RefCell<Vec<Pair>> = const { std::cell::RefCell::new(vec![]) };
}

#[test]
fn what_a_thread_leaves_to_its_end_goes_back() {
    let token = Arc::new(());
    for _ in 0..50 {
        let token = token.clone();
        let thread = spawn(move || {
            let pair = || (LOCALS.alloc(token.clone()).expect("memory"), kept().alloc().expect("memory"));
            LAST.with_borrow_mut(|last| last.extend((0..50).map(|_| pair())));
        });
        thread.join().expect("no panic");
    }
    assert_eq!(Arc::strong_count(&token), 1);
    assert_eq!((LOCALS.get().expect("a cache").stats().live, kept().stats().live), (0, 0));
}

#[test]
fn a_panic_in_a_destructor_ends_nothing_but_itself() {
    static ARMED: AtomicBool = AtomicBool::new(false);
    struct Bomb(#[allow(dead_code, reason = "gives the type a size")] [u8; 9000]);
    impl Drop for Bomb {
        fn drop(&mut self) {
            // One of many: two panics at a time end any program.
            if ARMED.swap(false, Ordering::Relaxed) {
                std::panic::resume_unwind(Box::new("a panic of the test"));
            }
        }
    }
    let make = || Cache::<Bomb>::builder("safe bomb").constructed_by(|| Bomb([0; 9000])).build();
    let cache = make().expect("a cache");
    let use_some = || drop((0..100).map(|_| cache.alloc().expect("memory")).collect::<Vec<_>>());
    use_some();
    ARMED.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| cache.shrink())).is_err());
    assert_eq!(cache.stats().total, 0, "all went back");
    use_some();
    ARMED.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| cache.destroy().expect("nobody uses it"))).is_err());
    drop(make().expect("it was destroyed all the same, and its name is free"));
}
