//! Typed caches, which only kmem has, measured against the peers' malloc.
//!
//! The code under test is compiled into its caller, as in a program that uses the crate, so these workloads run in the
//! command's own executable, in a process of their own. They report their figures as the C workloads do.

use std::arch::asm;
use std::fmt::Write;
use std::time::{Duration, Instant};

use kmem::{Bulk, Cache};
use rustix::time::{ClockId, clock_gettime};

/// As large as the objects of the workload `pair`.
type Object = [u64; 8];
/// Objects of one bulk.
const BULK: usize = 32;
/// Caches that exist while others are created and destroyed.
const ALIVE: usize = 6000;

/// Runs the workload of this name and returns the lines of its figures.
///
/// # Errors
/// No workload has this name, or memory ran out.
pub fn run(name: &str, quick: bool) -> Result<String, String> {
    let mut lines = String::new();
    match name {
        "typed_pair" => typed_pair(quick, &mut lines),
        "typed_bulk" => typed_bulk(quick, &mut lines),
        "create_destroy" => create_destroy(quick, &mut lines),
        _ => return Err(format!("no workload of caches is called '{name}'")),
    }
    .map_err(|e| format!("{name}: {e}"))?;
    Ok(lines)
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn typed_pair(quick: bool, lines: &mut String) -> Done {
    let cache = Cache::<Object>::new("bench_pair")?;
    let pairs = 1000;
    measure(lines, "", if quick { 4000 } else { 20_000 }, pairs, || {
        for _ in 0..pairs {
            let object = cache.alloc_uninit()?;
            used(object.as_ptr().cast());
        }
        Ok(())
    })
}

fn typed_bulk(quick: bool, lines: &mut String) -> Done {
    let cache = Cache::<Object>::new("bench_bulk")?;
    let bulks = 100;
    let mut objects = Bulk::<Object, BULK>::new();
    measure(lines, "", if quick { 4000 } else { 20_000 }, bulks * BULK, || {
        for _ in 0..bulks {
            cache.alloc_bulk(BULK, &mut objects)?;
            used((&raw const objects).cast());
            cache.free_bulk(&mut objects);
        }
        Ok(())
    })
}

/// Creates a cache, uses one object of it, and destroys it: first with no other cache, then with thousands of others.
fn create_destroy(quick: bool, lines: &mut String) -> Done {
    let pairs = 200;
    let rounds = if quick { 5 } else { 30 };
    let create_and_destroy = || {
        for _ in 0..pairs {
            let cache = Cache::<Object>::new("bench_one")?;
            drop(cache.alloc_uninit()?);
            cache.destroy()?;
        }
        Ok(())
    };
    measure(lines, "few_", rounds, pairs, create_and_destroy)?;
    let alive = (0..ALIVE).map(|i| Cache::<Object>::new(&format!("bench_alive_{i}"))).collect::<Result<Vec<_>, _>>()?;
    for cache in &alive {
        drop(cache.alloc_uninit()?);
    }
    measure(lines, "", rounds, pairs, create_and_destroy)?;
    for cache in alive {
        cache.destroy()?;
    }
    Ok(())
}

/// The minimum of several rounds, per operation, as in `workloads/main.c`.
fn measure(
    lines: &mut String,
    prefix: &str,
    rounds: usize,
    operations: usize,
    mut round: impl FnMut() -> Done,
) -> Done {
    let [mut wall, mut cpu] = [Duration::MAX; 2];
    let mut cycles = u64::MAX;
    for _ in 0..rounds {
        let (cpu_begun, begun, ticks) = (processor_time(), Instant::now(), cycles_now());
        round()?;
        cycles = cycles.min(cycles_now() - ticks);
        wall = wall.min(begun.elapsed());
        cpu = cpu.min(processor_time() - cpu_begun);
    }
    let each = |span: Duration| span.as_nanos() as f64 / operations as f64;
    writeln!(lines, "{prefix}ns {:.4}\n{prefix}cpu_ns {:.4}", each(wall), each(cpu))?;
    writeln!(lines, "{prefix}cycles {:.4}", cycles as f64 / operations as f64)?;
    Ok(())
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The time-stamp counter.
#[cfg(target_arch = "x86_64")]
fn cycles_now() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux lets programs read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter that Linux lets programs read, whose pace is not the processor's.
#[cfg(target_arch = "aarch64")]
fn cycles_now() -> u64 {
    let ticks;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags)) };
    ticks
}

/// Makes the compiler assume that the object is used.
#[inline(always)]
fn used(object: *const u8) {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", in(reg) object, options(nostack, preserves_flags)) }
}
