//! Pages of 16 KiB, which are a granule, and of 64 KiB, of which each holds four: there a page source commits whole
//! pages only, and nothing is uncommitted. The model test runs on such machines too.

mod common;

use common::{Cache, books_of_pages, config, engine_of, valid};
use kmem_core::Population;
use kmem_core::pages::GRANULE;
use kmem_sim::fake::Machine;

const PAGES: [usize; 3] = [4 << 10, 16 << 10, 64 << 10];

/// A window of any length has memory, because the first granule begins a page: where it did not, no commit would be one
/// of whole pages. (Linux shortens the window under a limit of address space, in steps of 2 MiB.)
#[test]
fn windows_of_every_length_have_memory() {
    for page in PAGES {
        for megabytes in (4..200).step_by(2) {
            let machine = Machine { granules: (megabytes << 20) / GRANULE, page, ..Machine::with_cpus(1) };
            let engine = engine_of(machine, config(Population::OnFirstUse));
            let (base, _) = engine.heap().window();
            assert!(base.is_multiple_of(page), "{megabytes} MiB, pages of {page}: {base:#x}");
            let memory = engine.alloc_bytes(1 << 20, 16).expect("memory").address;
            // SAFETY: the memory is ours.
            unsafe { engine.free_bytes(memory) };
            books_of_pages(&engine);
        }
    }
}

/// What is freed is released and used again, in runs of every length that a page can share with others.
#[test]
fn runs_that_share_a_page_do_not_share_memory() {
    for page in PAGES {
        let engine = engine_of(Machine { page, ..Machine::with_cpus(1) }, config(Population::OnFirstUse));
        let cache = Cache::new(&engine, "beside", 3000);
        for round in 1..30_u8 {
            let runs: Vec<_> = (1..10).map(|granules| granules * GRANULE * 17).collect();
            let blocks: Vec<_> = runs.iter().map(|len| engine.alloc_bytes(*len, 16).expect("memory").address).collect();
            let objects = cache.bulk(usize::from(round) * 10);
            for (block, len) in blocks.iter().zip(&runs) {
                // SAFETY: the memory is ours.
                unsafe { block.as_ptr().write_bytes(round, *len) };
            }
            for at in (0..blocks.len()).step_by(2) {
                // SAFETY: as above.
                unsafe { engine.free_bytes(blocks[at]) };
            }
            cache.free_bulk(&objects);
            engine.trim().expect("not in a callback");
            for at in (1..blocks.len()).step_by(2) {
                // SAFETY: as above.
                let bytes = unsafe { core::slice::from_raw_parts(blocks[at].as_ptr(), runs[at]) };
                assert!(bytes.iter().all(|byte| *byte == round), "pages of {page}, round {round}: {at}");
                // SAFETY: as above.
                unsafe { engine.free_bytes(blocks[at]) };
            }
        }
        cache.destroy().expect("nobody uses it");
        valid(&engine, 0);
    }
}

/// Where memory ran out and was freed it serves again, in runs of other lengths.
#[test]
fn memory_that_ran_out_comes_back() {
    for page in PAGES {
        let machine = Machine { granules: 1024, page, ..Machine::with_cpus(1) };
        let engine = engine_of(machine, config(Population::OnFirstUse));
        for len in [17, 18, 19, 21, 37, 23, 17].map(|granules| granules * GRANULE) {
            let blocks: Vec<_> =
                std::iter::from_fn(|| engine.alloc_bytes(len, 16).ok()).map(|run| run.address).collect();
            assert!(
                blocks.len() * len > 800 * GRANULE,
                "pages of {page}: {} blocks of {len}, {:?}",
                blocks.len(),
                engine.page_stats()
            );
            for block in blocks {
                // SAFETY: the memory is ours.
                unsafe { engine.free_bytes(block) };
            }
            engine.trim().expect("not in a callback");
            books_of_pages(&engine);
        }
    }
}
