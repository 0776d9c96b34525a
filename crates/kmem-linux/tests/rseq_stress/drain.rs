//! The drainer, who takes magazines away.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use kmem_core::cpu::CpuSet;
use kmem_core::percpu::{SlotIndex, section};
use kmem_core::platform::Sections;

use super::world::{CAPACITY, Control, Random, SLOTS, World};

/// Takes magazines away until the test is over; answers what it holds then.
pub fn drain(world: &World) -> Vec<usize> {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let mut pool = Vec::new();
    while !world.stop.load(Ordering::Relaxed) {
        if random.below(8) == 0 {
            let controls: Vec<_> = world.controls.iter().map(|control| control.lock().unwrap()).collect();
            // SAFETY: the controls are held.
            world.cpus.iter().for_each(|cpu| unsafe { world.table.withdraw(*cpu) });
            world.linux.fence(&world.cpus.iter().copied().collect());
            controls.iter().for_each(|control| drain_one(world, control, &mut random, &mut pool));
            for (cpu, control) in world.cpus.iter().zip(&controls) {
                // SAFETY: as above; areas are never unmapped.
                unsafe { world.table.publish(*cpu, control.area) };
            }
        } else {
            let place = random.below(world.cpus.len());
            let cpu = world.cpus[place];
            let control = world.controls[place].lock().unwrap();
            enable_some(&control, &mut random);
            // SAFETY: the control is held.
            unsafe { world.table.withdraw(cpu) };
            if random.below(2) == 0 || !is_reported(world, place) {
                world.linux.fence(&CpuSet::of(cpu));
            }
            drain_one(world, &control, &mut random, &mut pool);
            // SAFETY: as above.
            unsafe { world.table.publish(cpu, control.area) };
        }
        world.count.drains.fetch_add(1, Ordering::Relaxed);
        // Without `spin_loop`: an emulator that runs one CPU at a time would go on to the others at each of them.
        for turn in 0..random.below(16_000) {
            std::hint::black_box(turn);
        }
    }
    pool
}

/// Whether somebody who runs there fences a CPU whose area is withdrawn, while we look.
fn is_reported(world: &World, place: usize) -> bool {
    let request = &world.requests[place];
    request.ask();
    let reported = (0..world.linux.patience()).any(|_| request.is_reported());
    request.settle();
    world.count.reported.fetch_add(usize::from(reported), Ordering::Relaxed);
    reported
}

/// Enables slots while sections look at them.
fn enable_some(control: &MutexGuard<'_, Control>, random: &mut Random) {
    for slot in (1..=SLOTS).map(SlotIndex) {
        if !control.is_enabled(slot) && random.below(2) == 0 {
            control.enable(slot);
        }
    }
}

/// Empties, fills or disables the slots of a private area.
fn drain_one(world: &World, control: &MutexGuard<'_, Control>, random: &mut Random, pool: &mut Vec<usize>) {
    for slot in (1..=SLOTS).map(SlotIndex) {
        let mut out = [0; CAPACITY + 1];
        // SAFETY: the area is private.
        let count = unsafe { section::take(control.area, slot, &mut out) };
        out[..count].iter().for_each(|object| world.took(*object));
        pool.extend_from_slice(&out[..count]);
        if !control.is_enabled(slot) || random.below(4) == 0 {
            control.disable(slot);
            continue;
        }
        let back = pool.split_off(pool.len() - random.below(CAPACITY).min(pool.len()));
        back.iter().for_each(|object| world.gives(*object));
        // SAFETY: the area is private, the objects in our hands.
        let put = unsafe { section::push_batch(control.area, slot, &back) };
        back[put..].iter().for_each(|object| world.keeps(*object));
        pool.extend_from_slice(&back[put..]);
    }
}
