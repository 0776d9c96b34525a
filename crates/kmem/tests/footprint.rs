//! What a process holds in memory: many caches with little in them, and large memory that grows. Each case runs in a
//! process of its own, which says how much memory it had.

mod case;

use std::alloc::{GlobalAlloc, Layout};

use case::{case, passes};
use kmem::Kmalloc;

#[global_allocator]
static ALLOCATOR: Kmalloc = Kmalloc;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A figure of this process, in bytes.
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel's figures of this process");
    let value = status.lines().find_map(|line| line.strip_prefix(field)).and_then(|rest| rest.strip_prefix(':'));
    let kib = value.and_then(|value| value.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<usize>().ok());
    kib.unwrap_or_else(|| panic!("no {field}")) * KIB
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    match std::env::var("KMEM_CASE").as_deref() {
        Ok("one object each") => one_object_each(),
        Ok("pushed") => pushed(),
        Ok("aligned") => grown_to_400_mb(Layout::from_size_align(64 * KIB, 4096).expect("a layout")),
        Ok("over-aligned") => grown_to_400_mb(Layout::from_size_align(64 * KIB, 4 * MIB).expect("a layout")),
        other => panic!("no such case: {other:?}"),
    }
}

#[test]
fn thousands_of_caches_with_an_object_each_are_small() {
    passes(&mut case("one object each", &[]));
}

fn one_object_each() {
    const CACHES: usize = 16_000;
    let before = status("VmRSS");
    let caches: Vec<kmem::Cache<[u64; 12]>> =
        (0..CACHES).map(|n| kmem::Cache::new(&format!("cache {n}")).expect("a cache")).collect();
    let objects: Vec<kmem::CacheBox<'_, [u64; 12]>> =
        caches.iter().zip(0..).map(|(cache, n)| cache.alloc([n; 12]).expect("an object")).collect();
    let more = status("VmRSS") - before;
    println!("case one object each: {} KiB for {CACHES} caches", more / KIB);
    assert!(more < 150 * MIB, "{more} bytes for {CACHES} caches with an object each");
    assert!(objects.iter().zip(0..).all(|(object, n)| **object == [n; 12]), "objects changed in use");
    drop(objects);
    // SAFETY: the test harness waits for this thread; nothing else runs.
    unsafe { kmem::validate() }.expect("an allocator in order");
}

#[test]
fn a_vector_that_is_pushed_does_not_hold_itself_twice() {
    passes(&mut case("pushed", &[]));
}

fn pushed() {
    let mut vector = Vec::new();
    for n in 0..50_000_000_u64 {
        vector.push(n);
    }
    let (peak, bytes) = (status("VmHWM"), vector.len() * size_of::<u64>());
    println!("case pushed: {} MiB at most, for {} MiB", peak / MIB, bytes / MIB);
    assert!(peak < bytes + bytes / 20, "{peak} bytes at most, for {bytes}");
    assert!(vector.iter().copied().eq(0..50_000_000), "the content changed");
}

#[test]
fn aligned_memory_does_not_hold_itself_twice() {
    passes(&mut case("aligned", &[]));
    passes(&mut case("over-aligned", &[]));
}

/// Large memory of any alignment grows as the vector's does, each page written once.
fn grown_to_400_mb(mut layout: Layout) {
    const PAGE: usize = 4096;
    let write = |address: *mut u8, from: usize, to: usize| {
        for page in (from..to).step_by(PAGE) {
            // SAFETY: the memory is ours and has as many bytes.
            unsafe { address.add(page).cast::<usize>().write(page) };
        }
    };
    // SAFETY: each layout is that of the memory at that time.
    unsafe {
        let mut address = ALLOCATOR.alloc(layout);
        write(address, 0, layout.size());
        while layout.size() < 400_000_000 {
            let more = (layout.size() / 4).next_multiple_of(PAGE);
            address = ALLOCATOR.realloc(address, layout, layout.size() + more);
            assert!(!address.is_null() && address.addr().is_multiple_of(layout.align()), "{layout:?}");
            write(address, layout.size(), layout.size() + more);
            layout = Layout::from_size_align_unchecked(layout.size() + more, layout.align());
        }
        for page in (0..layout.size()).step_by(PAGE) {
            assert_eq!(address.add(page).cast::<usize>().read(), page, "the content changed");
        }
        let peak = status("VmHWM");
        println!("case aligned to {}: {} MiB at most, for {}", layout.align(), peak / MIB, layout.size() / MIB);
        assert!(peak < layout.size() + layout.size() / 20, "{peak} bytes at most, for {}", layout.size());
        ALLOCATOR.dealloc(address, layout);
    }
}

/// Every way from one layout to another keeps the content, and what comes of it is freed by the layout alone.
#[test]
fn memory_changes_its_size_and_is_freed_by_its_last_layout() {
    let sizes =
        [1, 100, 1000, 4096, 32_767, 32_768, 32_769, 36_864, 36_865, 65_536, 100_000, 131_072, 262_144, 262_145];
    let sizes: Vec<usize> = sizes.into_iter().chain([300_000, MIB - 1, MIB + 1, 3 * MIB]).collect();
    for align in [1, 16, 64, 4096, 16_384, 32_768, 65_536, 131_072, 2 * MIB] {
        for (from, to, last) in sizes.iter().flat_map(|from| sizes.iter().map(move |to| (*from, *to, (from + to) / 2)))
        {
            // SAFETY: each layout is that of the memory at that time.
            unsafe {
                let mut layout = Layout::from_size_align_unchecked(from, align);
                let mut address = ALLOCATOR.alloc(layout);
                let mut sound = from;
                (0..from).step_by(977).for_each(|at| address.add(at).write(at as u8 | 1));
                for size in [to, last, to] {
                    address = ALLOCATOR.realloc(address, layout, size);
                    assert!(!address.is_null() && address.addr().is_multiple_of(align), "{from} to {size} by {align}");
                    layout = Layout::from_size_align_unchecked(size, align);
                    sound = sound.min(size);
                    let kept = (0..sound).step_by(977).all(|at| address.add(at).read() == at as u8 | 1);
                    assert!(kept, "{from} to {size} aligned to {align}");
                    // All of it is there, and nobody else's.
                    address.add(sound).write_bytes(0xEE, size - sound);
                }
                ALLOCATOR.dealloc(address, layout);
            }
        }
    }
}
