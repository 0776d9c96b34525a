//! Named and general caches on a machine of virtual CPUs: create, destroy, alloc, free, bulk, realloc, shrink, CPUs
//! that go down and come up, memory that fails, interrupts in sections.
//!
//! It is the reference model of `kmem-core/tests/model`, driven by the fuzzer's coverage of the engine. `cargo fuzz fmt
//! caches FILE` shows the operations of an input.
#![no_main]

#[path = "../../crates/kmem-core/tests/model/apply.rs"]
mod apply;
mod bytes;
#[path = "../../crates/kmem-core/tests/common/mod.rs"]
mod common;
#[path = "../../crates/kmem-core/tests/model/failures.rs"]
mod failures;
#[path = "../../crates/kmem-core/tests/model/listening.rs"]
mod listening;
#[path = "../../crates/kmem-core/tests/model/ops.rs"]
mod ops;
#[path = "../../crates/kmem-core/tests/model/world.rs"]
mod world;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// A case of the model.
#[derive(Debug)]
struct Input(ops::Case);

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        bytes::case(u).map(Self)
    }
}

fuzz_target!(|input: Input| world::run(&input.0));
