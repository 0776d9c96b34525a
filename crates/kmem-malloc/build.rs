//! How the preload library is laid out, in the words that the linker at hand understands.
//!
//! *It stays.* The kernel keeps the address of a thread's last section, and may read its descriptor at any later time:
//! the library must never be unmapped. All linkers know `-z nodelete`, and one that did not must fail.
//!
//! *It has a name.* A program that is linked with it asks for `libkmem_malloc.so.0`, and a process that has both that
//! program and the preload loads the library once. The number changes when a function that programs call does.
//!
//! *It has fork.* The shared library exports `fork`, and the static one must not (`src/fork.rs`): an object that is
//! linked into the former alone has that name.
//!
//! *It is small.* With code and constants in one segment there is a mapping less to make when a program starts. And
//! what only some programs run, and those seldom (`#[cold]`: transitions, upkeep, what a process does at its end),
//! stands together after the rest, where it takes no memory until it runs. GNU ld puts it together by itself. Linkers
//! spell these wishes differently, refuse what they do not know or warn of it, and none of the words is worth a build
//! that fails: so each is tried first, by a link of nothing with the compiler, the linker and the flags of this build.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each wish, in the words of one linker and of the others; the first that is known is used.
const WISHES: [&[&str]; 2] = [&["-Wl,--no-rosegment", "-Wl,-z,noseparate-code"], &["-Wl,-z,keep-text-section-prefix"]];

/// A library that needs nothing of the target but `core`.
const NOTHING: &str = "#![no_std] #[panic_handler] fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }";

/// By which name programs ask for the library (`Makefile` and `kmem run` know it too).
const SONAME: &str = "libkmem_malloc.so.0";

/// The object that has `fork`. When the library is loaded, it looks for the C library's.
const FORK: &str = r#"
#![no_std]
unsafe extern "C" {
    fn kmem_fork() -> i32;
    fn kmem_fork_find();
}
#[unsafe(no_mangle)]
unsafe extern "C" fn fork() -> i32 {
    unsafe { kmem_fork() }
}
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: unsafe extern "C" fn() = kmem_fork_find;
"#;

fn main() {
    let folder = PathBuf::from(variable("OUT_DIR"));
    let source = folder.join("nothing.rs");
    std::fs::write(&source, NOTHING).expect("OUT_DIR can be written to");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
    match object_of_fork(&folder) {
        Some(object) => println!("cargo::rustc-cdylib-link-arg={}", object.display()),
        // As with -Zbuild-std.
        None => println!("cargo::warning=fork is not exported: this compiler has no `core` for the target at hand"),
    }
    for words in WISHES {
        if let Some(known) = words.iter().find(|word| links(&source, &folder, word)) {
            println!("cargo::rustc-cdylib-link-arg={known}");
        }
    }
    let target = variable("TARGET").to_uppercase().replace(['-', '.'], "_");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_{target}_LINKER");
    println!("cargo::rerun-if-changed=build.rs");
}

/// Compiles [`FORK`], and returns where the object is.
fn object_of_fork(folder: &Path) -> Option<PathBuf> {
    let (source, object) = (folder.join("fork.rs"), folder.join("fork.o"));
    std::fs::write(&source, FORK).expect("OUT_DIR can be written to");
    let mut rustc = rustc();
    rustc.args(["--edition=2024", "--crate-type=rlib", "--emit=obj", "-Cpanic=abort", "-Copt-level=3"]);
    rustc.args(["-Ccodegen-units=1", "-Clto=off", "-Cembed-bitcode=no", "--target", &variable("TARGET")]);
    let output = rustc.arg(source).arg("-o").arg(&object).output();
    output.is_ok_and(|output| output.status.success()).then_some(object)
}

/// The compiler, with the flags of this build.
fn rustc() -> Command {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    rustc
}

/// Whether a library of `source` can be linked with `word`, without a complaint.
fn links(source: &Path, folder: &Path, word: &str) -> bool {
    let mut rustc = rustc();
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    rustc.args(["--crate-type=cdylib", "-Cpanic=abort", "-Clink-arg=-Wl,--fatal-warnings"]);
    rustc.arg(format!("-Clink-arg={word}")).args(["--target", &variable("TARGET")]);
    rustc.arg(source).arg("-o").arg(folder.join("nothing.so"));
    rustc.output().is_ok_and(|output| output.status.success())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
