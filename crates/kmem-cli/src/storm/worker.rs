//! A worker: goes from module to module, and loads, visits or unloads it.
//!
//! A module is in a readers-writer lock: any number of workers can visit it at a time, but only one can load or unload
//! it. Workers never wait for each other there; if a lock is taken they go to another module. A worker holds objects
//! only during a visit, so it can stop at the barrier between any two.

#![forbid(unsafe_code)]

use std::sync::{Mutex, RwLock};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::barrier::Barrier;
use super::latency::Latencies;
use super::module::Module;
use super::record::{Record, record};
use super::totals::Totals;
use super::worker_ctx::WorkerCtx;

/// Where a module may be loaded.
pub type ModuleSlot = RwLock<Option<Module>>;

/// Everything that the threads of a storm share.
pub struct Shared {
    pub module_slots: Vec<ModuleSlot>,
    pub totals: Totals,
    pub barrier: Barrier,
    /// CPUs that this process may run on, and that the driver takes down and up.
    pub cpus: Vec<usize>,
    /// What the workers timed; each adds its own when it ends.
    pub latencies: Mutex<Latencies>,
}

/// The CPUs that this process may run on and that the engine knows.
pub fn usable_cpus() -> Result<Vec<usize>, String> {
    let info = kmem::info();
    let cpus: Vec<usize> = info.online_cpus.iter().filter(|&cpu| cpu < info.possible_cpus).collect();
    if cpus.is_empty() {
        return Err("this process may not run on any CPU that the engine knows: allow it one, with taskset".into());
    }
    Ok(cpus)
}

/// Works until the storm is over.
pub fn work(shared: &Shared, mut ctx: WorkerCtx) {
    ctx.timeline = record().map(Record::timeline);
    while !shared.barrier.is_over() {
        if shared.barrier.is_requested() {
            shared.barrier.wait();
            continue;
        }
        let number = ctx.rng.usize(..shared.module_slots.len());
        if !visit(&shared.module_slots[number], &mut ctx) {
            renew(&shared.module_slots[number], number, shared, &mut ctx);
        }
        shared.totals.add(&mut ctx.tally);
    }
    shared.latencies.lock().unwrap_or_else(|e| e.into_inner()).add(&ctx.latencies);
    if let (Some(record), Some(timeline)) = (record(), &ctx.timeline) {
        record.add(timeline);
    }
}

/// Visits the module of a slot. False if there is none, or it is worn out.
fn visit(slot: &ModuleSlot, ctx: &mut WorkerCtx) -> bool {
    let Ok(guard) = slot.try_read() else {
        std::thread::yield_now(); // another worker loads or unloads it
        return true;
    };
    let Some(module) = guard.as_ref().filter(|module| module.admits()) else {
        return false;
    };
    if ctx.rng.u32(..256) == 0 {
        visit_by_newcomer(module, ctx);
    } else {
        module.visit(ctx);
    }
    true
}

/// A visit by a thread that ends with it: what the thread leaves on its CPU must not depend on the thread.
fn visit_by_newcomer(module: &Module, ctx: &mut WorkerCtx) {
    std::thread::scope(|scope| {
        // If the system cannot create another thread, there is no visit this time.
        let _ = std::thread::Builder::new().spawn_scoped(scope, || module.visit(ctx));
    });
}

/// Unloads a module that is worn out, or loads one where there is none.
fn renew(slot: &ModuleSlot, number: usize, shared: &Shared, ctx: &mut WorkerCtx) {
    let Ok(mut guard) = slot.try_write() else {
        std::thread::yield_now();
        return;
    };
    match guard.take() {
        Some(module) if module.is_worn_out() => module.unload(ctx, &shared.totals),
        Some(module) => *guard = Some(module),
        None => {
            if ctx.rng.u32(..4) == 0 {
                hop(&shared.cpus, ctx);
            }
            *guard = Module::load(number, ctx, &shared.totals);
        }
    }
}

/// Moves to a random CPU, from which the scheduler may move it on.
fn hop(cpus: &[usize], ctx: &mut WorkerCtx) {
    let mut there = CpuSet::new();
    there.set(cpus[ctx.rng.usize(..cpus.len())]);
    let mut anywhere = CpuSet::new();
    cpus.iter().for_each(|&cpu| anywhere.set(cpu));
    // If the kernel has taken that CPU away meanwhile, the thread stays here.
    let _ = sched_setaffinity(None, &there);
    let _ = sched_setaffinity(None, &anywhere);
}
