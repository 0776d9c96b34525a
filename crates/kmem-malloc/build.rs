//! The kernel keeps the address of a thread's last section, and may read its descriptor at any later time: the library
//! must never be unmapped. With code and constants in one segment there is a mapping less to make when a program starts.
//! And what only some programs run, and those seldom (`#[cold]`: transitions, upkeep, what a process does at its end),
//! stands together behind the rest, where it takes no memory until it runs.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-cdylib-link-arg=-Wl,--no-rosegment");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,keep-text-section-prefix");
    let exports = concat!(env!("CARGO_MANIFEST_DIR"), "/exports.map");
    println!("cargo::rustc-cdylib-link-arg=-Wl,--version-script={exports}");
    println!("cargo::rerun-if-changed={exports}");
    println!("cargo::rerun-if-changed=build.rs");
}
