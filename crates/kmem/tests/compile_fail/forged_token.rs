use kmem_core::internals::{Cpus, OnlineCpus};

fn online(cpus: &Cpus) -> usize {
    OnlineCpus { cpus }.count()
}

fn main() {}
