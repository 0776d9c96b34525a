//! What sections may read below a cursor is there, wherever a magazine begins.

use kmem_core::internals::Meta;
use kmem_core::percpu::READABLE;
use kmem_sim::fake::{Fake, Machine};

#[test]
fn the_first_piece_of_a_chunk_has_words_below_it() {
    let platform = Fake::new(Machine::with_cpus(1));
    let piece = Meta::new().alloc(&platform, 32).expect("a piece").as_ptr() as usize;
    // Chunks begin with a page.
    assert!(piece % 4096 >= READABLE * size_of::<usize>(), "{piece:#x}");
}
