use kmem_core::cpu::{CpuSet, Cpus, Gate};
use kmem_core::platform::Park;

fn online<P: Park>(gate: &Gate, cpus: &Cpus, park: &P) -> CpuSet {
    let guard = gate.read(park).unwrap();
    let online = guard.online(cpus);
    drop(guard);
    online.set()
}

fn main() {}
