//! Compiles the C programs that are measured: `workloads`, all workloads in one executable; `nothing`, a program that
//! does nothing; and `empty`, a library whose malloc and free do nothing. They are embedded in the library, so the
//! command that measures is one file.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let sources = Path::new("workloads");
    println!("cargo::rerun-if-changed=workloads");
    let mut workloads: Vec<PathBuf> = std::fs::read_dir(sources)
        .expect("the folder workloads is part of this crate")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .filter(|path| !path.ends_with("nothing.c") && !path.ends_with("empty.c"))
        .collect();
    workloads.sort();
    compile("workloads", &PROGRAM, &workloads);
    compile("nothing", &PROGRAM, &[sources.join("nothing.c")]);
    compile("empty", &["-fPIC", "-shared"], &[sources.join("empty.c")]);
}

const PROGRAM: [&str; 3] = ["-fPIE", "-pie", "-pthread"];

/// Always optimised, in any profile, because allocators are compared. `-fno-builtin` keeps calls of malloc from being
/// optimised away.
fn compile(name: &str, kind: &[&str], sources: &[PathBuf]) {
    let compiler = cc::Build::new().opt_level(2).debug(false).warnings(true).get_compiler();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(name);
    let mut command: Command = compiler.to_command();
    command.arg("-fno-builtin").args(kind).arg("-o").arg(&out).args(sources).arg("-lm");
    let status = command.status().unwrap_or_else(|e| panic!("cannot run the C compiler ({command:?}): {e}"));
    assert!(status.success(), "the C compiler failed on the workloads: {command:?}");
    println!("cargo::rustc-env=KMEM_BENCH_{}={}", name.to_uppercase(), out.display());
}
