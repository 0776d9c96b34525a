//! What must not compile, does not, and says why: the whole message of the compiler is compared.
//!
//! | case | what it would be |
//! |---|---|
//! | `use_after_destroy` | a cache used after its memory went back (I19, I20) |
//! | `destroy_in_use` | a cache destroyed under a box, a bulk or an object of it (I16, I19) |
//! | `outlives_its_cache` | a box that is left when its cache is dropped (I19) |
//! | `sent_value` | a value that must not change threads, sent in its object |
//! | `shared_value` | a value that must not be shared, shared in its object |
//! | `constructed_elsewhere` | objects kept constructed that only their thread may drop |
//! | `forged_token` | iterating CPUs without the gate (I35) |
//! | `kept_token` | iterating CPUs after the gate was given back (I35) |
//! | `unasked_promise` | what rests on its caller's word, called in safe code: a home's platform and its locks |
//!
//! That guards of the gate and of locks stay on their thread is asserted in `kmem-core/tests/locks.rs`. Holding the
//! gate twice compiles, for whose turn it is is known at run time only: there it is an error, or an assertion, and the
//! same file has a test for each.
//!
//! Messages differ from one compiler to the next, so they are compared on the one they were written by; on others the
//! `compile_fail` examples of the documentation still hold. `TRYBUILD=overwrite cargo test -p kmem --test compile_fail`
//! writes them anew. No case has the standard library in its message: that would show differently with `rust-src`.

const COMPILER: &str = "rustc 1.95.";

#[test]
fn what_must_not_compile_does_not() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = std::process::Command::new(rustc).arg("--version").output().expect("a compiler");
    let version = String::from_utf8_lossy(&version.stdout);
    if !version.starts_with(COMPILER) {
        eprintln!("skipped: the messages are those of {COMPILER}x, this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
