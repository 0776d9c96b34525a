//! The threads that take and put, and are moved about.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use kmem_core::percpu::SlotIndex;
use kmem_core::platform::Sections;
use kmem_linux::rseq;

use super::world::{Random, SLOTS, World};

const BATCH: usize = 8;
/// Operations in the life of a thread: threads end and begin all the time.
const LIFE: usize = 40_000;

unsafe extern "C" {
    fn sched_setaffinity(pid: i32, len: usize, mask: *const u64) -> i32;
}

/// One thread: takes and puts until its life or the test is over; answers what it holds then.
pub fn work(world: &World, seed: u64, mut hands: Vec<usize>) -> Vec<usize> {
    let mut random = Random(seed | 1);
    let (mut operations, mut hits) = (0, 0);
    for step in 0..LIFE {
        if world.stop.load(Ordering::Relaxed) {
            break;
        }
        if step % 4096 == 0 {
            let mask =
                if random.below(2) == 0 { u64::MAX } else { 1 << (world.cpus[random.below(world.cpus.len())] % 64) };
            // SAFETY: the mask is a word.
            unsafe { sched_setaffinity(0, 8, &raw const mask) };
        }
        let slot = SlotIndex(1 + random.below(SLOTS as usize) as u32);
        let hit = match random.below(8) {
            0..3 => take(world, slot, random.below(2) == 0, &mut hands),
            3..6 => put(world, slot, random.below(2) == 0, &mut hands),
            6 => take_batch(world, slot, random.below(2) == 0, &mut hands, random.below(BATCH + 1)),
            _ => put_batch(world, slot, random.below(2) == 0, &mut hands, random.below(BATCH + 1)),
        };
        hits += usize::from(hit);
        if !hit {
            world.linux.slow_path_enter();
            let here = world.linux.current_cpu();
            if let Some(place) = world.cpus.iter().position(|cpu| *cpu == here) {
                world.requests[place].report(|| world.linux.fence_here(here));
            }
        }
        operations += 1;
    }
    world.count.operations.fetch_add(operations, Ordering::Relaxed);
    world.count.hits.fetch_add(hits, Ordering::Relaxed);
    hands
}

fn take(world: &World, slot: SlotIndex, inline: bool, hands: &mut Vec<usize>) -> bool {
    // SAFETY: the slot is in the table.
    let object = unsafe { if inline { rseq::pop(slot) } else { world.linux.pop(&world.table, slot) } };
    let Some(object) = object.map(|object| object.as_ptr() as usize) else { return false };
    world.took(object);
    hands.push(object);
    true
}

fn put(world: &World, slot: SlotIndex, inline: bool, hands: &mut Vec<usize>) -> bool {
    let Some(object) = hands.pop() else { return false };
    world.gives(object);
    let pointer = NonNull::new(object as *mut u8).expect("not null");
    // SAFETY: the slot is in the table, the object in our hands.
    let done =
        unsafe { if inline { rseq::push(slot, pointer) } else { world.linux.push(&world.table, slot, pointer) } };
    if !done {
        world.keeps(object);
        hands.push(object);
    }
    done
}

fn take_batch(world: &World, slot: SlotIndex, inline: bool, hands: &mut Vec<usize>, want: usize) -> bool {
    let mut out = [0; BATCH];
    let out = &mut out[..want];
    // SAFETY: the slot is in the table.
    let count =
        unsafe { if inline { rseq::pop_batch(slot, out) } else { world.linux.pop_batch(&world.table, slot, out) } };
    out[..count].iter().for_each(|object| world.took(*object));
    hands.extend_from_slice(&out[..count]);
    count > 0
}

fn put_batch(world: &World, slot: SlotIndex, inline: bool, hands: &mut Vec<usize>, want: usize) -> bool {
    let objects = hands.split_off(hands.len() - want.min(hands.len()));
    objects.iter().for_each(|object| world.gives(*object));
    // SAFETY: the slot is in the table, the objects in our hands.
    let count = unsafe {
        if inline { rseq::push_batch(slot, &objects) } else { world.linux.push_batch(&world.table, slot, &objects) }
    };
    objects[count..].iter().for_each(|object| world.keeps(*object));
    hands.extend_from_slice(&objects[count..]);
    count > 0
}
