//! Tells the engine's source which checker's types it is built with: the feature `loom` is its `cfg(kmem_loom)`, and
//! `shuttle` its `cfg(kmem_shuttle)`. No other build sets these, and no flag that a user sets for his own code does.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for checker in ["loom", "shuttle"] {
        if std::env::var_os(format!("CARGO_FEATURE_{}", checker.to_uppercase())).is_some() {
            println!("cargo::rustc-cfg=kmem_{checker}");
        }
    }
}
