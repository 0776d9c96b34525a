use kmem_core::cpu::{CpuSet, Cpus, OnlineCpus};

fn online(cpus: &Cpus) -> CpuSet {
    OnlineCpus { cpus }.set()
}

fn main() {}
