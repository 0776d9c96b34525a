//! What all tests share: engines on the fake platform, caches with a handle, and the figures that must be as they were.
#![allow(dead_code, unused_imports)]

pub mod counted;
pub mod machine;
pub mod rng;

use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use kmem_core::cache::{CacheDesc, CacheId, CacheSpec, ObjectOps};
use kmem_core::cpu::{Event, Listener, Refused};
use kmem_core::pages::{GRANULE, PageStats};
use kmem_core::platform::{PageSource, Park};
use kmem_core::slab::FreeError;
use kmem_core::validate::{ValidReport, Violation};
use kmem_core::{AllocError, CreateError, DestroyError, Engine};
use kmem_sim::fake::Fake;

pub use machine::{
    ROOM, config, eager, engine, engine_of, large, own_granules, recording, rooms, with_granules, with_room,
};
pub use rng::Rng;

/// An engine that closures may keep.
pub type E = Arc<Engine<Fake>>;

thread_local! {
    static BAD: RefCell<Vec<(usize, FreeError)>> = const { RefCell::new(Vec::new()) };
}

/// For engines whose test frees what it must not.
pub fn record_bad_free(object: usize, error: FreeError) {
    BAD.with_borrow_mut(|bad| bad.push((object, error)));
}

/// For all others.
pub fn no_bad_free(object: usize, error: FreeError) {
    panic!("{object:#x} was refused: {error:?}");
}

/// What was reported on this thread since the last time.
pub fn bad_frees() -> Vec<(usize, FreeError)> {
    BAD.take()
}

/// The spec of a cache without constructor.
pub fn spec(name: &str, size: usize) -> CacheSpec<'_> {
    CacheSpec { name, size, align: 8, ops: None }
}

/// A cache of a test. Objects are addresses, so that a test can hold the same one twice.
#[derive(Clone)]
pub struct Cache {
    pub engine: E,
    pub id: CacheId,
    desc: NonNull<CacheDesc>,
}

// SAFETY: the engine's operations may be called by any thread; the tests see to it that the cache lives.
unsafe impl Send for Cache {}
// SAFETY: as above.
unsafe impl Sync for Cache {}

/// What a cache holds, with no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    pub total: usize,
    pub live: usize,
    pub in_slots: usize,
    pub in_depot: usize,
    pub free: usize,
    pub slabs: usize,
    pub bytes: usize,
    pub cpus: usize,
}

impl Cache {
    pub fn new(engine: &E, name: &str, size: usize) -> Self {
        Self::of(engine, &spec(name, size)).expect("a cache")
    }

    /// A cache of 64-byte objects, if there is memory for one.
    pub fn new_or(engine: &E, name: &str) -> Option<Self> {
        match Self::of(engine, &spec(name, 64)) {
            Ok(cache) => Some(cache),
            Err(error) => {
                assert_eq!(error, CreateError::NoMemory);
                None
            }
        }
    }

    pub fn with_ops(engine: &E, name: &str, size: usize, ops: ObjectOps) -> Self {
        Self::of(engine, &CacheSpec { ops: Some(ops), ..spec(name, size) }).expect("a cache")
    }

    pub fn of(engine: &E, spec: &CacheSpec<'_>) -> Result<Self, CreateError> {
        let id = engine.create(spec)?;
        let desc = engine.descriptor(id).expect("the id of a cache that was just created");
        Ok(Self { engine: engine.clone(), id, desc })
    }

    pub fn desc(&self) -> &CacheDesc {
        // SAFETY: the tests use a cache only while it lives.
        unsafe { self.desc.as_ref() }
    }

    pub fn try_alloc(&self) -> Result<usize, AllocError> {
        // SAFETY: as above.
        unsafe { self.engine.alloc(self.desc()) }.map(|object| object.as_ptr() as usize)
    }

    pub fn alloc(&self) -> usize {
        self.try_alloc().expect("an object")
    }

    /// The test may free what it must not: then a test's engine records it.
    pub fn free(&self, object: usize) {
        // SAFETY: the object was one of the cache's; what is wrong with it otherwise is the test's subject.
        unsafe { self.engine.free(self.desc(), NonNull::new(object as *mut u8).expect("an address")) }
    }

    pub fn try_bulk(&self, n: usize) -> Vec<usize> {
        let mut objects = vec![0; n];
        // SAFETY: the cache lives.
        let got = unsafe { self.engine.alloc_bulk(self.desc(), &mut objects) };
        objects.truncate(got);
        objects
    }

    pub fn bulk(&self, n: usize) -> Vec<usize> {
        let objects = self.try_bulk(n);
        assert_eq!(objects.len(), n);
        objects
    }

    pub fn free_bulk(&self, objects: &[usize]) {
        // SAFETY: the objects are the cache's and the test's.
        unsafe { self.engine.free_bulk(self.desc(), objects) }
    }

    /// Leaves `n` objects in the slot of the calling thread's CPU, or as many as a miss brings.
    pub fn fill_slot(&self) {
        let object = self.alloc();
        self.free(object);
    }

    pub fn destroy(&self) -> Result<(), DestroyError> {
        // SAFETY: the tests see to it that nobody uses the cache.
        unsafe { self.engine.destroy(self.id) }
    }

    pub fn shrink(&self) -> usize {
        self.engine.shrink(self.id).expect("a cache")
    }

    pub fn figures(&self) -> Figures {
        let read = |s: &kmem_core::stats::CacheStats<'_>| Figures {
            total: s.total,
            live: s.live,
            in_slots: s.in_slots,
            in_depot: s.in_depot,
            free: s.free,
            slabs: s.slabs,
            bytes: s.bytes,
            cpus: s.cpus,
        };
        self.engine.with_stats(self.id, read).expect("a cache that lives")
    }
}

/// What an engine holds. Two that are equal: nothing is left of what happened in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footprint {
    pub caches: usize,
    pub pages_used: usize,
    pub meta_used: usize,
    pub mapped_apart: usize,
}

impl Footprint {
    pub fn of(engine: &E) -> Self {
        let PageStats { used, .. } = engine.page_stats();
        Self {
            caches: engine.cache_count(),
            pages_used: used,
            meta_used: engine.meta_used(),
            // Chunks of the arena stay, by design.
            mapped_apart: engine.platform().mapped() - engine.meta_bytes(),
        }
    }
}

/// What the engine says of itself.
pub fn check(engine: &E) -> Result<ValidReport, Violation> {
    // SAFETY: no other thread uses the engine while a test looks at it.
    unsafe { engine.validate() }
}

/// The engine is in order, and users hold `held` objects.
#[track_caller]
pub fn valid(engine: &E, held: usize) -> ValidReport {
    let report = check(engine).expect("an allocator in order");
    assert_eq!(report.held, held, "{report:?}");
    assert_eq!(report.held + report.free + report.in_slots + report.in_depot, report.total, "I6: {report:?}");
    assert_eq!(report.stranded, 0, "I8: {report:?}");
    assert!(holds_no_lock(engine));
    books_of_pages(engine);
    report
}

/// What the page heap says of itself, what fits into its window, and what the platform knows agree.
#[track_caller]
pub fn books_of_pages(engine: &E) {
    let (stats, (_, granules)) = (engine.page_stats(), engine.heap().window());
    let PageStats { committed, dirty, clean, used, raw, skipped } = stats;
    assert!(used + dirty + clean <= committed, "{stats:?}");
    assert!(committed + raw + skipped <= granules, "{stats:?} in {granules}");
    // The heap's own maps have a byte and an entry for each granule that it has grown to, committed by the page before
    // the first of them. Where memory ends there may be bytes without entries.
    let (reach, known) = (engine.heap().reach(), engine.platform().committed());
    let pages = |bytes: usize| bytes.next_multiple_of(engine.platform().page_size());
    let maps = pages(reach) + pages(reach * 16)..=pages(granules) + pages(reach * 16);
    assert!(maps.contains(&known.wrapping_sub(committed * GRANULE)), "{stats:?}, {reach} granules, {known} bytes");
}

pub fn holds_no_lock(engine: &E) -> bool {
    engine.platform().held_ranks().is_some_and(|held| held.is_empty())
}

/// Whether no two are equal.
pub fn distinct(objects: &[usize]) -> bool {
    let mut sorted = objects.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// How long a test waits for what should happen at once: ten seconds, or as many as `KMEM_TEST_PATIENCE` says.
pub fn patience() -> Duration {
    let seconds = std::env::var("KMEM_TEST_PATIENCE").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// Runs `test` on a thread of its own and fails if it hangs.
#[track_caller]
pub fn ends<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let result = test();
        let _ = done.send(());
        result
    });
    if wait.recv_timeout(patience()) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it hangs");
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs `code` and answers whether it panicked.
pub fn panics(code: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).is_err()
}

/// A panic that is expected: it says nothing.
pub fn panic_now() -> ! {
    std::panic::resume_unwind(Box::new("a panic of the test"))
}

type Hear = dyn Fn(Event, usize) -> Result<(), Refused> + Sync + Send;

struct Closure(Box<Hear>);

impl Listener for Closure {
    fn event(&self, event: Event, cpu: usize) -> Result<(), Refused> {
        (self.0)(event, cpu)
    }
}

/// A listener that is a closure.
pub fn listen(engine: &E, hear: impl Fn(Event, usize) -> Result<(), Refused> + Sync + Send + 'static) {
    engine.subscribe(Box::leak(Box::new(Closure(Box::new(hear))))).expect("room for a listener");
}

/// Bytes after which the pattern repeats.
const REPEATS: usize = 1 << 16;

/// Writes a pattern over an object.
pub fn fill(object: usize, size: usize, seed: u8) {
    // SAFETY: the object is the test's, and at least `size` bytes long.
    let bytes = unsafe { std::slice::from_raw_parts_mut(object as *mut u8, size) };
    let (first, rest) = bytes.split_at_mut(size.min(REPEATS));
    first.iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern(seed, at));
    rest.chunks_mut(REPEATS).for_each(|piece| piece.copy_from_slice(&first[..piece.len()]));
}

/// Whether the pattern is still there.
pub fn is_filled(object: usize, size: usize, seed: u8) -> bool {
    // SAFETY: as above.
    let bytes = unsafe { std::slice::from_raw_parts(object as *const u8, size) };
    let (first, rest) = bytes.split_at(size.min(REPEATS));
    first.iter().enumerate().all(|(at, byte)| *byte == pattern(seed, at))
        && rest.chunks(REPEATS).all(|piece| *piece == first[..piece.len()])
}

fn pattern(seed: u8, at: usize) -> u8 {
    seed.wrapping_mul(31).wrapping_add(at as u8).wrapping_add((at >> 8) as u8)
}
