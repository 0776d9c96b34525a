//! Sections before and after the table is published, and on a thread without an id.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use kmem_core::platform::{Sections, Topology};
use kmem_linux::Mode;
use kmem_linux::os::{libc, sys};
use kmem_linux::rseq::{hot, thread_data};

use super::world::{
    CAPACITY, SLOT, SLOW, SLOW_FREES, entry_alloc, entry_free, entry_hits, hits, hits_through, inline, world,
};
use super::{CID, OFF, OWN, passes};

pub fn sections_before_and_after() {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    // SAFETY: whoever comes too early is sent to the slow path, which does nothing with the address.
    unsafe {
        assert_eq!(entry_alloc(1) as usize + entry_alloc(64) as usize + entry_alloc(2000) as usize, 3 * SLOW);
        entry_free(object.as_ptr());
        assert_eq!(SLOW_FREES.swap(0, Ordering::Relaxed), 1);
    }
    let (linux, table) = world();
    linux.slow_path_enter();
    assert!(!hot::is_published());
    // SAFETY: leaked, and once.
    unsafe { linux.publish(table) };
    linux.slow_path_enter();
    // By concurrency id the sections in line miss, and the entries do not.
    let (restartable, inline) = (!matches!(linux.mode(), Mode::Fallback(_)), inline(linux));
    assert_eq!(hits(), inline);
    assert!(hits_through(linux, table));
    assert_eq!(entry_hits(linux, table), restartable);
    assert!(linux.current_cpu() < linux.possible_cpus());
    let others = std::thread::spawn(move || {
        linux.slow_path_enter();
        hits()
    });
    assert_eq!(others.join().expect("a thread"), inline);
    // SAFETY: as in `hits`. In one slot or another, batches come back in the order last in, first out.
    let order = (0..100).any(|_| unsafe {
        let mut out = [0; 5];
        linux.push_batch(table, SLOT, &[16, 32, 48]) == 3
            && linux.pop_batch(table, SLOT, &mut out) >= 3
            && out[..3] == [48, 32, 16]
    });
    assert!(order);
    // SAFETY: as above. What does not fit stays out, nothing is taken into no room, and nothing is put from nothing.
    unsafe {
        assert!((0..100).any(|_| linux.push_batch(table, SLOT, &[16; CAPACITY + 5]) == CAPACITY));
        assert_eq!(linux.push_batch(table, SLOT, &[]) + linux.pop_batch(table, SLOT, &mut []), 0);
    }
}

#[test]
fn sections_miss_before_publish_and_hit_after() {
    passes("sections", &[]);
    passes("sections", &OWN);
    passes("sections", &[CID]);
    passes("sections", &[OFF]);
}

/// The kernel is told to forget this thread's area, whose concurrency id reads 0 from then on: another thread's.
pub fn unregistered() {
    let (linux, table) = world();
    // SAFETY: leaked, and once.
    unsafe { linux.publish(table) };
    if linux.mode() != Mode::Cid {
        return println!("no concurrency ids here");
    }
    assert!(hits_through(linux, table) && entry_hits(linux, table));
    std::thread::spawn(move || {
        let area = libc::rseq_area().expect("libc's area");
        // SAFETY: the area is libc's, of this thread, and nobody else here counts on its registration.
        let id = unsafe {
            let area = thread_data::area_at(area.offset);
            let registered = libc::rseq_area().expect("libc's area").registered();
            sys::rseq_unregister(std::ptr::from_ref(area).cast_mut().cast(), registered).expect("it was registered");
            area.mm_cid.load(Ordering::Relaxed)
        };
        assert_eq!(id, 0, "the id of a thread that is not registered looks like any other");
        assert!(linux.current_cpu() >= linux.possible_cpus());
        assert!(!hits_through(linux, table) && !entry_hits(linux, table));
    })
    .join()
    .expect("a thread");
    assert!(hits_through(linux, table));
}

#[test]
fn by_concurrency_id_a_thread_that_is_not_registered_misses() {
    passes("unregistered", &[CID]);
}
