//! The typed caches through their public face: values, ownership, panics, errors, threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use kmem::{Bulk, Cache, CacheBox, CreateError, DestroyError, Object, ObjectCache, RawCache, StaticCache, TuneError};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

#[test]
fn values_come_and_go() -> Result {
    let cache: Cache<String> = Cache::builder("typed_values").align(64).build()?;
    let mut a = cache.alloc("a".to_string())?;
    a.push('b');
    let b = cache.alloc_with(|| "c".to_string())?;
    assert_eq!(format!("{a}{b:?}"), "ab\"c\"");
    assert_eq!(CacheBox::into_raw(a).as_ptr() as usize % 64, 0);
    assert_eq!(CacheBox::into_inner(b), "c");
    Ok(())
}

#[test]
fn a_value_is_dropped_once() -> Result {
    let cache: Cache<Arc<()>> = Cache::new("typed_drops")?;
    let token = Arc::new(());
    let kept: Vec<_> = (0..1000).map(|_| cache.alloc(token.clone()).unwrap()).collect();
    assert_eq!(Arc::strong_count(&token), 1001);
    drop(kept);
    assert_eq!(Arc::strong_count(&token), 1);
    Ok(cache.destroy()?)
}

#[test]
fn destroy_is_busy_with_the_number_and_the_cache_goes_on() -> Result {
    let cache: Cache<u64> = Cache::new("typed_busy")?;
    let leaked: Vec<_> = (0..77).map(|n| CacheBox::into_raw(cache.alloc(n).unwrap())).collect();
    let Err(DestroyError::Busy { live, cache }) = cache.destroy() else { panic!("77 objects are in use") };
    assert_eq!(live, 77);
    assert_eq!(*cache.alloc(5)?, 5);
    assert_eq!(cache.stats().live, 77);
    for (n, object) in leaked.into_iter().enumerate() {
        // SAFETY: it came from `into_raw` of a box of this cache.
        assert_eq!(*unsafe { CacheBox::from_raw(&cache, object) }, n as u64);
    }
    Ok(cache.destroy()?)
}

#[test]
fn a_leaked_value_lives_on() -> Result {
    let cache: Cache<[u8; 32]> = Cache::new("typed_leak")?;
    let leaked = CacheBox::leak(cache.alloc([7; 32])?);
    leaked[0] = 8;
    assert_eq!(cache.stats().live, 1);
    assert_eq!(leaked[31], 7);
    // Dropped while busy: the cache stays, and its name with it.
    drop(cache);
    assert_eq!(Cache::<u8>::new("typed_leak").unwrap_err(), CreateError::NameTaken);
    Ok(())
}

#[test]
fn a_panic_in_drop_gives_the_object_back() -> Result {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    struct Sized(
        #[allow(dead_code, reason = "gives the type a size")] u64,
        #[allow(dead_code, reason = "as above")] Bomb,
    );
    let cache: Cache<Sized> = Cache::new("typed_bomb")?;
    for n in 0..200 {
        let bomb = cache.alloc(Sized(n, Bomb))?;
        assert!(catch_unwind(AssertUnwindSafe(|| drop(bomb))).is_err());
        let made = catch_unwind(AssertUnwindSafe(|| cache.alloc_with(|| panic!("in make"))));
        assert!(made.is_err());
    }
    assert_eq!(cache.stats().live, 0);
    Ok(cache.destroy()?)
}

#[test]
fn bad_input_is_named() {
    let align = |align| Cache::<u64>::builder("typed_bad").align(align).build().unwrap_err();
    assert_eq!(Cache::<()>::new("typed_bad").unwrap_err(), CreateError::ZeroSize);
    assert_eq!(Cache::<u8>::new("").unwrap_err(), CreateError::NameEmpty);
    assert_eq!(Cache::<u8>::new(&"x".repeat(64)).unwrap_err(), CreateError::NameTooLong { len: 64, max: 63 });
    assert_eq!(align(0), CreateError::AlignNotPowerOfTwo { align: 0 });
    assert_eq!(align(48), CreateError::AlignNotPowerOfTwo { align: 48 });
    assert_eq!(align(1 << 17), CreateError::AlignTooLarge { align: 1 << 17, max: 1 << 16 });
    assert_eq!(align(1 << 63), CreateError::AlignTooLarge { align: 1 << 63, max: 1 << 16 });
    let huge = Cache::<[u8; 5 << 20]>::new("typed_bad").unwrap_err();
    assert_eq!(huge, CreateError::SizeTooLarge { size: 5 << 20, max: 4 << 20 });
    assert!(huge.to_string().contains("5242880") && huge.to_string().contains("4194304"), "{huge}");
    // None of these left the name behind.
    let first = Cache::<u8>::new("typed_bad").expect("the name is free");
    assert_eq!(Cache::<u8>::new("typed_bad").unwrap_err(), CreateError::NameTaken);
    drop(first);
    Cache::<u8>::new("typed_bad").expect("the name is free again");
}

#[test]
fn bulk_takes_and_gives_back() -> Result {
    let cache: Cache<[u64; 5]> = Cache::new("typed_bulk")?;
    let mut out = Bulk::<_, 500>::new();
    cache.alloc_bulk(500, &mut out)?;
    let values: Vec<_> = std::iter::from_fn(|| out.pop()).enumerate().map(|(n, b)| b.write([n as u64; 5])).collect();
    let addresses: std::collections::HashSet<_> = values.iter().map(|b| &raw const **b).collect();
    assert_eq!((values.len(), addresses.len()), (500, 500));
    assert!(values.iter().enumerate().all(|(n, b)| **b == [n as u64; 5]));
    drop(values);
    cache.alloc_bulk(100, &mut out)?;
    cache.alloc_bulk(50, &mut out)?;
    assert_eq!((out.len(), cache.stats().live), (150, 150));
    cache.free_bulk(&mut out);
    assert_eq!((out.len(), cache.stats().live), (0, 0));
    cache.alloc_bulk(10, &mut out)?;
    drop(out);
    Ok(cache.destroy()?)
}

#[test]
#[should_panic(expected = "do not fit")]
fn bulk_has_a_size() {
    let cache: Cache<u64> = Cache::new("typed_bulk_size").expect("there is memory");
    let mut out = Bulk::<_, 8>::new();
    let _ = cache.alloc_bulk(9, &mut out);
}

#[test]
fn objects_cross_threads() -> Result {
    let cache: Cache<[usize; 16]> = Cache::new("typed_threads")?;
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel(100);
        for thread in 0..3 {
            let (send, cache) = (send.clone(), &cache);
            scope.spawn(move || {
                for n in 0..20_000 {
                    send.send((thread + n, cache.alloc([thread + n; 16]).unwrap())).unwrap();
                }
            });
        }
        drop(send);
        scope.spawn(move || receive.iter().for_each(|(n, object)| assert_eq!(*object, [n; 16])));
    });
    assert_eq!(cache.stats().live, 0);
    Ok(cache.destroy()?)
}

#[test]
fn constructed_objects_stay_so() -> Result {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Lock(u64);
    impl Drop for Lock {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let seed = Box::new(42);
    let make = move || {
        MADE.fetch_add(1, Ordering::Relaxed);
        Lock(*seed)
    };
    let cache: ObjectCache<Lock> = Cache::builder("typed_constructed").constructed_by(make).align(128).build()?;
    for round in 0..1000 {
        let mut object = cache.alloc()?;
        assert_eq!(object.0, 42);
        object.0 += round;
        object.0 -= round;
    }
    let made = MADE.load(Ordering::Relaxed);
    assert!(made < 200 && DROPPED.load(Ordering::Relaxed) == 0, "{made} constructed for one object at a time");
    std::mem::forget(cache.alloc()?);
    let Err(DestroyError::Busy { live: 1, cache }) = cache.destroy() else { panic!("one is forgotten") };
    // Drained: all but the one in use were dropped, and are made again on demand.
    assert_eq!(cache.alloc()?.0, 42);
    drop(cache);
    Ok(())
}

#[test]
fn a_constructed_object_may_be_raw_for_a_while() -> Result {
    let cache = Cache::<u64>::builder("typed_raw_object").constructed_by(|| 3).build()?;
    let raw = Object::into_raw(cache.alloc()?);
    let Err(DestroyError::Busy { live: 1, cache }) = cache.destroy() else { panic!("one is in use") };
    // SAFETY: it came from `into_raw` of an object of this cache.
    assert_eq!(*unsafe { Object::from_raw(&cache, raw) }, 3);
    Ok(cache.destroy()?)
}

#[test]
fn destroy_drops_what_was_constructed() -> Result {
    let token = Arc::new(());
    let inner = token.clone();
    let cache = Cache::<Arc<()>>::builder("typed_all_dropped").constructed_by(move || inner.clone()).build()?;
    let held: Vec<_> = (0..500).map(|_| cache.alloc().unwrap()).collect();
    assert!(Arc::strong_count(&token) >= 502);
    drop(held);
    cache.destroy()?;
    assert_eq!(Arc::strong_count(&token), 1, "objects and constructor are dropped");
    Ok(())
}

#[test]
fn a_panic_in_a_constructor_loses_nothing() -> Result {
    let calls = AtomicUsize::new(0);
    let make = move || {
        if calls.fetch_add(1, Ordering::Relaxed) % 7 == 3 { panic!("in the constructor") } else { 1u64 }
    };
    let cache = Cache::<u64>::builder("typed_constructor_bomb").constructed_by(make).build()?;
    let mut held = Vec::new();
    while held.len() < 300 {
        if let Ok(object) = catch_unwind(AssertUnwindSafe(|| cache.alloc().unwrap())) {
            assert_eq!(*object, 1);
            held.push(object);
        }
    }
    assert_eq!(cache.stats().live, 300);
    drop(held);
    Ok(cache.destroy()?)
}

#[test]
fn a_constructor_may_use_the_allocator() -> Result {
    let make = || {
        let inner = Cache::<u64>::new(&format!("typed_inner_{:?}", std::thread::current().id())).unwrap();
        let value = *inner.alloc(9).unwrap();
        inner.destroy().unwrap();
        value
    };
    let cache = Cache::<u64>::builder("typed_reentrant").constructed_by(make).build()?;
    assert_eq!(*cache.alloc()?, 9);
    Ok(cache.destroy()?)
}

static CONNECTIONS: StaticCache<[u8; 100]> = StaticCache::new("typed_static");

#[test]
fn a_static_cache_is_made_on_first_use() -> Result {
    let threads: Vec<_> = (0..4).map(|n| std::thread::spawn(move || CONNECTIONS.alloc([n; 100]).unwrap())).collect();
    let boxes: Vec<CacheBox<'static, _>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(boxes.iter().enumerate().all(|(n, b)| **b == [n as u8; 100]));
    assert_eq!(CONNECTIONS.get()?.stats().live, 4);
    Ok(())
}

#[test]
fn a_raw_cache_takes_any_layout() -> Result {
    for (size, align) in [(1, 1), (3, 2), (100, 4096), (4096, 64), (70_000, 16), (4 << 20, 1 << 16)] {
        let layout = std::alloc::Layout::from_size_align(size, align)?;
        let cache = RawCache::new(&format!("typed_raw_{size}_{align}"), layout)?;
        let objects: Vec<_> = (0..20).map(|_| cache.alloc().unwrap()).collect();
        for (n, object) in objects.iter().enumerate() {
            assert_eq!(object.as_ptr() as usize % align, 0);
            // SAFETY: the object is ours and of this size.
            unsafe { object.write_bytes(n as u8, size) };
        }
        for (n, object) in objects.into_iter().enumerate() {
            // SAFETY: as above, and not used again.
            unsafe {
                assert_eq!((object.read(), object.add(size - 1).read()), (n as u8, n as u8));
                cache.free(object);
            }
        }
        cache.destroy()?;
    }
    Ok(())
}

#[test]
fn shrink_gives_memory_back() -> Result {
    let cache: Cache<[u8; 1000]> = Cache::new("typed_shrink")?;
    let held: Vec<_> = (0..5000).map(|_| cache.alloc([1; 1000]).unwrap()).collect();
    let full = cache.stats().bytes;
    drop(held);
    cache.shrink()?;
    let stats = cache.stats();
    assert_eq!((stats.bytes, stats.total, stats.in_slots, stats.in_depot), (0, 0, 0, 0), "of {full} bytes");
    Ok(cache.destroy()?)
}

#[test]
fn a_cache_is_tuned() -> Result {
    let cache: Cache<[u8; 1000]> = Cache::new("typed_tune")?;
    drop((0..500).map(|n| cache.alloc([n as u8; 1000]).unwrap()).collect::<Vec<_>>());
    cache.tune(3)?;
    let stats = cache.stats();
    assert_eq!((stats.capacity, stats.live), (3, 0));
    assert!(stats.in_slots <= 3 * stats.cpus, "{stats:?}");
    assert_eq!(cache.tune(0), Err(TuneError::CapacityOutOfRange { capacity: 0, max: 262 }));
    assert!(cache.tune(263).unwrap_err().to_string().contains("263 objects: one of this cache holds 1 to 262"));
    assert_eq!(cache.alloc([9; 1000])?[999], 9);
    let constructed = Cache::<Vec<u8>>::builder("typed_tune_constructed").constructed_by(Vec::new).build()?;
    constructed.tune(200)?;
    assert_eq!(constructed.stats().capacity, 200);
    constructed.destroy()?;
    Ok(cache.destroy()?)
}

/// What may cross threads, checked when this compiles; what may not is in the compile-fail examples of
/// [`kmem::CacheBox`].
#[test]
fn threads_may_share() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Cache<*const u8>>();
    sync::<Cache<*const u8>>();
    send::<CacheBox<'_, Vec<u8>>>();
    sync::<CacheBox<'_, Vec<u8>>>();
    sync::<StaticCache<*const u8>>();
    send::<RawCache>();
    sync::<RawCache>();
}
