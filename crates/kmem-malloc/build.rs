//! The kernel keeps the address of a thread's last section, and may read its descriptor at any later time: the library
//! must never be unmapped. And with code and constants in one segment there is a mapping less to make when a program
//! starts.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-cdylib-link-arg=-Wl,--no-rosegment");
    println!("cargo::rerun-if-changed=build.rs");
}
