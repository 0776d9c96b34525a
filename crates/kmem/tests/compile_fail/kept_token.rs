use kmem_core::internals::{Cpus, Gate};
use kmem_core::platform::{Defences, Park};

fn online<P: Park + Defences>(gate: &Gate, cpus: &Cpus, park: &P) -> usize {
    let guard = gate.read(park).unwrap();
    let online = guard.online(cpus);
    drop(guard);
    online.count()
}

fn main() {}
