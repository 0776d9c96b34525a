//! A drain whose fence is a thread that misses on the drained CPU, without the rest of the engine around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmem_core::internals::{Meta, Request};
use kmem_core::percpu::{Area, CpuTable, SlotIndex, section};
use kmem_core::platform::Sections;

use crate::checked::platform::Proxies;
use crate::checked::{Machine, Model, cpus, join, thread};
use crate::explore::explore;

const SLOT: SlotIndex = SlotIndex(1);
const SLOTS: usize = 2;
const OBJECT: usize = 64;

/// CPU 0 with one object in a slot.
struct World {
    platform: Model,
    table: CpuTable,
    area: Area,
    request: Request,
}

impl World {
    #[expect(clippy::arc_with_non_send_sync, reason = "loom's threads are its own, and one runs at a time")]
    fn make(proxies: Proxies) -> Arc<Self> {
        let platform = Model::new(Machine::new(2, &[0, 1]).with_proxies(proxies));
        let table = CpuTable::map(&platform, 2, SLOTS, SLOTS).expect("memory");
        let area = Area::map(&platform, SLOTS).expect("memory");
        // SAFETY: nobody else knows the table yet; the area lives as long.
        unsafe { table.publish(0, area) };
        let world = Self { platform, table, area, request: Request::new() };
        // SAFETY: nobody else knows the area, and the slot is one of it; the object is the model's.
        unsafe {
            assert!(area.enable(SLOT, 2, &Meta::new(), &world.platform));
            assert_eq!(world.platform.push_batch(&world.table, SLOT, &[OBJECT]), 1);
        }
        Arc::new(world)
    }

    /// Takes the object, or else reports for CPU 0.
    fn pop(&self) -> usize {
        // SAFETY: the slot is one of the table's areas.
        let taken = unsafe { self.platform.pop(&self.table, SLOT) }.is_some();
        if !taken {
            self.request.report(|| self.platform.fence_here(0));
        }
        usize::from(taken)
    }

    /// Takes all objects out of the slot, and returns how many, and whether it was spared the fence.
    fn drain(&self) -> (usize, bool) {
        // SAFETY: nobody else writes the entry.
        unsafe { self.table.withdraw(0) };
        self.request.ask();
        // The checker runs others where this thread gives way.
        thread::yield_now();
        let reported = self.request.is_reported();
        if !reported {
            self.platform.fence(&cpus(&[0]));
            self.request.settle();
        }
        // SAFETY: no section that began before can commit any more, so the area is private.
        let drained = unsafe { section::take(self.area, SLOT, &mut [0; 2]) };
        // SAFETY: as above.
        unsafe { self.table.publish(0, self.area) };
        (drained, reported)
    }
}

/// Two threads, one on CPU 0 and the other on `place`, take the object while CPU 1 drains the slot, some times: a
/// report may come too late. Returns how many drains were spared the fence.
fn drains_with(proxies: Proxies, place: usize, drains: usize) -> usize {
    let world = World::make(proxies);
    let [other, drained] = [world.clone(), world.clone()];
    let neighbour = thread::spawn(move || {
        other.platform.enter(place);
        other.pop()
    });
    let drainer = thread::spawn(move || {
        drained.platform.enter(1);
        (0..drains).map(|_| drained.drain()).collect::<Vec<_>>()
    });
    let mine = world.pop();
    let theirs = join(neighbour);
    let drained = join(drainer);
    assert_eq!(
        mine + theirs + drained.iter().map(|(objects, _)| objects).sum::<usize>(),
        1,
        "an object is lost or handed out twice"
    );
    drained.iter().filter(|(_, reported)| *reported).count()
}

#[test]
fn a_drain_by_proxy() {
    let reported = Arc::new(AtomicUsize::new(0));
    let count = reported.clone();
    explore("a drain by proxy", Some(3), move || {
        count.fetch_add(drains_with(Proxies::Fence, 0, 2), Ordering::Relaxed);
    });
    assert!(reported.load(Ordering::Relaxed) > 0, "no proxy ever reported");
}

/// The negative control: a proxy that reports for a CPU on which it is not, and so has ended nobody's section. (One
/// that is there ends sections by its own, in the model as on a processor.)
#[test]
#[should_panic(expected = "handed out twice")]
fn a_proxy_that_is_elsewhere() {
    explore("a proxy that is elsewhere", Some(3), || {
        drains_with(Proxies::Pretend, 1, 1);
    });
}
