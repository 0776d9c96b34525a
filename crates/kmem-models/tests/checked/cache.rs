//! A cache of a model, with books.

use std::ptr::NonNull;

use kmem_core::cache::{CacheDesc, CacheId, CacheSpec};
use kmem_core::validate::ValidReport;
use kmem_core::{AllocError, CreateError, DestroyError};

use super::{Books, E};

/// Bytes of an object of which a magazine holds eight, and a slab of one granule too.
pub const EIGHT: usize = 8 << 10;
/// Bytes of an object of which a magazine holds one, at most and for ever, and a slab of four granules too: nearly all
/// is a miss.
pub const ALONE: usize = 256 << 10;

/// A cache. Copies name the same one.
#[derive(Clone)]
pub struct Cache {
    pub engine: E,
    pub id: CacheId,
    pub books: Books,
    desc: NonNull<CacheDesc>,
}

// SAFETY: the engine's operations may be called by any thread; the models see to it that the cache lives.
unsafe impl Send for Cache {}
// SAFETY: as above.
unsafe impl Sync for Cache {}

impl Cache {
    pub fn create(engine: &E, name: &str, size: usize) -> Result<Self, CreateError> {
        let id = engine.create(&CacheSpec { name, size, align: 8, ops: None })?;
        let desc = engine.descriptor(id).expect("the id of a cache that was just created");
        Ok(Self { engine: engine.clone(), id, books: Books::default(), desc })
    }

    pub fn new(engine: &E, name: &str, size: usize) -> Self {
        Self::create(engine, name, size).expect("a cache")
    }

    fn desc(&self) -> &CacheDesc {
        // SAFETY: the models use a cache only while it lives.
        unsafe { self.desc.as_ref() }
    }

    pub fn try_alloc(&self) -> Result<usize, AllocError> {
        // SAFETY: as above.
        let object = unsafe { self.engine.alloc(self.desc()) }?;
        Ok(self.books.taken(object.as_ptr() as usize))
    }

    pub fn alloc(&self) -> usize {
        self.try_alloc().expect("an object")
    }

    pub fn free(&self, object: usize) {
        let object = NonNull::new(self.books.given(object) as *mut u8).expect("an address");
        // SAFETY: the books say that the object is the model's.
        unsafe { self.engine.free(self.desc(), object) }
    }

    pub fn alloc_bulk(&self, n: usize) -> Vec<usize> {
        let mut objects = vec![0; n];
        // SAFETY: the cache lives.
        let got = unsafe { self.engine.alloc_bulk(self.desc(), &mut objects) };
        objects.truncate(got);
        objects.into_iter().map(|object| self.books.taken(object)).collect()
    }

    pub fn free_bulk(&self, objects: &[usize]) {
        objects.iter().for_each(|object| {
            self.books.given(*object);
        });
        // SAFETY: the books say that the objects are the model's.
        unsafe { self.engine.free_bulk(self.desc(), objects) }
    }

    pub fn shrink(&self) {
        self.engine.shrink(self.id).expect("a cache");
    }

    pub fn destroy(&self) -> Result<(), DestroyError> {
        // SAFETY: the models see to it that nobody uses the cache.
        unsafe { self.engine.destroy(self.id) }
    }

    /// The end of a model: the allocator is in order, the cache goes, and nothing is left of it (I6, I7, I10).
    #[track_caller]
    pub fn end(self) {
        valid(&self.engine, self.books.held());
        self.destroy().expect("nobody holds an object");
        nothing_left(&self.engine);
    }
}

/// The allocator is in order, and users hold `held` objects (I6 to I8).
#[track_caller]
pub fn valid(engine: &E, held: usize) -> ValidReport {
    // SAFETY: the model's threads are joined.
    let report = unsafe { engine.validate() }.expect("an allocator in order");
    assert_eq!(report.held, held, "{report:?}");
    assert_eq!(report.stranded, 0, "I8: {report:?}");
    report
}

/// Every cache is gone, and with it every page and every descriptor (I10, I26).
#[track_caller]
pub fn nothing_left(engine: &E) {
    assert_eq!(engine.cache_count(), 0);
    assert_eq!(engine.page_stats().used, 0, "pages of no cache (I10)");
    assert_eq!(engine.meta_used(), 0, "descriptors or magazines of no cache");
}
