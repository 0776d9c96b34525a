//! The row of a cache: its figures in their order.

use kmem_core::stats::CacheStats;

use super::layout::cache as row;

/// How many figures a row has.
pub const FIGURES: usize = row::LEAST - row::FIGURES;

/// The figures of a cache that a row has, in its order. Both sides of a page go through this list.
///
/// ```
/// let mut stats = kmem::CacheStats::default();
/// *kmem::status::figures(&mut stats)[4] = 7;
/// assert_eq!(stats.live, 7);
/// ```
pub fn figures<'a>(stats: &'a mut CacheStats<'_>) -> [&'a mut usize; FIGURES] {
    [
        &mut stats.object_size,
        &mut stats.stride,
        &mut stats.slab_objects,
        &mut stats.slab_bytes,
        &mut stats.live,
        &mut stats.total,
        &mut stats.in_slots,
        &mut stats.in_depot,
        &mut stats.free,
        &mut stats.slabs,
        &mut stats.empty_slabs,
        &mut stats.cpus,
        &mut stats.capacity,
        &mut stats.high,
        &mut stats.grown,
        &mut stats.reaped,
        &mut stats.refills,
        &mut stats.flushes,
        &mut stats.failures,
    ]
}

/// The words of a name.
pub(super) fn name_words(name: &str) -> [u64; row::NAME_WORDS] {
    let mut words = [0; row::NAME_WORDS];
    for (word, bytes) in words.iter_mut().zip(name.as_bytes().chunks(size_of::<u64>())) {
        let mut whole = [0; size_of::<u64>()];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(whole);
    }
    words
}
