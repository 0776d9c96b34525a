//! An engine on static memory: the smallest home that there can be.
//!
//! One CPU, one thread, and two arrays: one for objects, one for the engine's tables. It needs no operating system;
//! only `main` uses std, to print what happened. `docs/porting.md` goes through it trait by trait.

use std::cell::UnsafeCell;
use std::ptr::NonNull;

use kmem_core::cache::CacheSpec;
use kmem_core::cpu::CpuSet;
use kmem_core::pages::GRANULE;
use kmem_core::percpu::{CpuTable, SlotIndex, section};
use kmem_core::platform::{Clock, CommitError, Defences, Observer, PageSource, Park, Sections, Topology, Window};
use kmem_core::sync::{AtomicUsize, HeldRanks, Ordering};
use kmem_core::{Config, Engine, Population};

/// Memory of the program's own. Aligned to a granule, which is what the engine counts objects' memory in.
#[repr(C, align(16384))]
struct Memory<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: nothing but the engine touches it, and that hands out each part to one owner at a time.
unsafe impl<const BYTES: usize> Sync for Memory<BYTES> {}

const _: () = assert!(align_of::<Memory<1>>() == GRANULE);
const PAGE: usize = 4096;
static OBJECTS: Memory<{ 8 << 20 }> = Memory(UnsafeCell::new([0; 8 << 20]));
static TABLES: Memory<{ 4 << 20 }> = Memory(UnsafeCell::new([0; 4 << 20]));
/// How much of [`TABLES`] was handed out.
static USED: AtomicUsize = AtomicUsize::new(0);

/// The home.
struct Static;

// SAFETY: there is one thread and no interrupt that allocates, so a section runs from its beginning to its commit with
// nothing in between: sections follow each other, and none is under way when `fence` is called.
unsafe impl Sections for Static {
    unsafe fn pop_batch(&self, table: &CpuTable, slot: SlotIndex, out: &mut [usize]) -> usize {
        // SAFETY: the area is read inside of the section, and nothing changes the slot meanwhile.
        unsafe { section::pop_batch(table.get(0), slot, out) }
    }

    unsafe fn push_batch(&self, table: &CpuTable, slot: SlotIndex, objects: &[usize]) -> usize {
        // SAFETY: as above.
        unsafe { section::push_batch(table.get(0), slot, objects) }
    }

    fn fence(&self, _cpus: &CpuSet) {}

    fn current_cpu(&self) -> usize {
        0
    }
}

// SAFETY: both arrays are zero at first and nobody else's. What is purged is zeroed, and what was mapped is not handed
// out again.
unsafe impl PageSource for Static {
    fn page_size(&self) -> usize {
        PAGE
    }

    fn reserve(&self) -> Option<Window> {
        Some(Window { base: OBJECTS.0.get() as usize, len: size_of_val(&OBJECTS) })
    }

    unsafe fn commit(&self, _addr: usize, _len: usize) -> Result<(), CommitError> {
        Ok(())
    }

    unsafe fn purge(&self, addr: usize, len: usize) {
        // SAFETY: the range is in the window, and holds nothing that is needed.
        unsafe { std::ptr::write_bytes(addr as *mut u8, 0, len) }
    }

    unsafe fn uncommit(&self, addr: usize, len: usize) {
        // SAFETY: passed on.
        unsafe { self.purge(addr, len) }
    }

    fn map(&self, len: usize) -> Option<NonNull<u8>> {
        let len = len.next_multiple_of(PAGE);
        let used = USED.fetch_add(len, Ordering::Relaxed);
        if used + len > size_of_val(&TABLES) {
            return None;
        }
        // SAFETY: it is inside of the array.
        NonNull::new(unsafe { TABLES.0.get().cast::<u8>().add(used) })
    }

    unsafe fn unmap(&self, _ptr: NonNull<u8>, _len: usize) {}
}

// SAFETY: there is one thread.
unsafe impl Park for Static {
    fn wait(&self, _word: &AtomicUsize, _expected: usize) {
        unreachable!("no other thread holds what this one waits for");
    }

    fn wake_one(&self, _word: &AtomicUsize) {}

    fn wake_all(&self, _word: &AtomicUsize) {}

    fn thread_token(&self) -> usize {
        4
    }

    fn held_ranks(&self) -> Option<&HeldRanks> {
        None
    }

    fn rest(&self, _tries: u32) {}
}

impl Topology for Static {
    fn possible_cpus(&self) -> usize {
        1
    }

    fn initial_cpus(&self) -> CpuSet {
        CpuSet::first(1)
    }

    fn nodes(&self) -> usize {
        1
    }

    fn node_of(&self, _cpu: usize) -> usize {
        0
    }
}

impl Clock for Static {
    fn now(&self) -> u64 {
        0
    }
}

// For simulators only.
impl Observer for Static {}
// SAFETY: the default, which is a constant.
unsafe impl Defences for Static {}

fn main() {
    let config = Config {
        max_caches: 200,
        population: Population::OnFirstUse,
        bad_free: |object, error| panic!("{object:#x}: {error:?}"),
    };
    let engine = Engine::new(Static, config).expect("the arrays are large enough");
    let window = OBJECTS.0.get() as usize..OBJECTS.0.get() as usize + size_of_val(&OBJECTS);

    // What malloc needs.
    let block = engine.alloc_bytes(100, 16).expect("memory").address;
    assert!(window.contains(&(block.as_ptr() as usize)));
    // SAFETY: it was allocated just now, and nobody uses it any more.
    unsafe { engine.free_bytes(block) };

    // A cache of its own for objects of one kind.
    let inodes = engine.create(&CacheSpec { name: "inode", size: 120, align: 64, ops: None }).expect("a cache");
    // SAFETY: the cache lives until it is destroyed below.
    let cache = unsafe { engine.descriptor(inodes).expect("it is there").as_ref() };
    // SAFETY: as above.
    let objects = [(); 1000].map(|()| unsafe { engine.alloc(cache) }.expect("memory"));
    assert!(objects.iter().all(|object| (object.as_ptr() as usize).is_multiple_of(64)));
    for object in objects {
        // SAFETY: it is of this cache, and nobody uses it any more.
        unsafe { engine.free(cache, object) };
    }
    // SAFETY: the descriptor is not used after this.
    unsafe { engine.destroy(inodes) }.expect("no object is in use");

    let released = engine.trim().expect("not inside of a callback");
    let granules = engine.page_stats().committed;
    println!("{released} bytes released, {} KiB of the window were ever used", granules * GRANULE / 1024);
}

#[test]
fn it_serves() {
    main();
}
