//! `Kmalloc` as an `Allocator` of allocator-api2: collections that take one, and the corners of its contract.

use std::alloc::Layout;

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;
use kmem::Kmalloc;

#[test]
fn a_vector_lives_in_it() {
    let mut numbers = Vec::new_in(Kmalloc);
    numbers.extend(0..100_000u64);
    numbers.retain(|number| number % 3 == 0);
    numbers.shrink_to_fit();
    assert_eq!(numbers.iter().sum::<u64>(), (0..100_000).filter(|number| number % 3 == 0).sum());
}

#[test]
fn sizes_and_alignments_are_kept() {
    for (size, align) in
        [(0, 1), (0, 4096), (1, 1), (24, 8), (100, 64), (4096, 4096), (100_000, 32), (1 << 20, 1 << 21)]
    {
        let layout = Layout::from_size_align(size, align).expect("a layout");
        let memory = Kmalloc.allocate_zeroed(layout).expect("memory");
        assert!(memory.len() >= size && (memory.cast::<u8>().as_ptr() as usize).is_multiple_of(align), "{layout:?}");
        // SAFETY: the memory is ours, and is given back once, with its layout.
        unsafe {
            assert!(memory.as_ref()[..size].iter().all(|byte| *byte == 0));
            Kmalloc.deallocate(memory.cast(), layout);
        }
    }
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let layout = Layout::from_size_align(isize::MAX as usize - 4095, 4096).expect("a layout");
    assert!(Kmalloc.allocate(layout).is_err());
}
