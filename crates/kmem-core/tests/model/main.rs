//! Properties of the whole engine: any list of operations on any machine, against a reference model.
//!
//! The model ([`world`]) knows what a user may count on: which caches there are, which objects and bytes are whose and
//! what is in them, which CPUs are online. After each operation the engine must agree, and `validate` with it (I6 to
//! I8); at the end everything goes back and nothing is left (I10). Between two operations somebody else may get hold of
//! the CPU in the middle of the next section; memory may fail at any call; and some operations are tried with every
//! call for memory failing in turn ([`failures`]; I12, I22). [`generate`] says what is generated.
//!
//! proptest shortens a list that fails and prints it. The lists are the same in every run; others are had by
//! ```text
//! PROPTEST_RNG_SEED=$RANDOM PROPTEST_CASES=2000 cargo test -p kmem-core --test model
//! ```
//! *What is not here.* One thread does everything, so what threads do to each other is for the model checkers
//! (`kmem-models`). Nodes share one source of pages: a node without memory of its own is one whose CPUs
//! are served from the slabs of others, which is what machines with next to no memory make of every node.

#[path = "../common/mod.rs"]
mod common;

mod apply;
mod failures;
mod generate;
mod listening;
mod ops;
mod world;

use std::ops::RangeInclusive;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

use generate::cases;
use ops::Case;

/// What so many cases find.
fn search(cases: impl Strategy<Value = Case>, count: u32) -> Result<(), Box<TestError<Case>>> {
    // Shortening ends by its steps and not by the clock, so that its answer is the same on any machine.
    let mut config = Config { cases: count, failure_persistence: None, max_shrink_iters: 1500, ..Config::default() };
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(2004);
    }
    let run = |case: Case| {
        world::run(&case);
        Ok(())
    };
    TestRunner::new(config).run(&cases, run).map_err(Box::new)
}

/// Nothing is found on machines with so many CPUs, in lists of up to `most` operations.
#[track_caller]
fn for_all(cpus: RangeInclusive<usize>, count: u32, most: usize) {
    let count = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { count };
    if let Err(failure) = search(cases(cpus, most), count) {
        panic!("{failure}");
    }
}

#[test]
fn one_cpu() {
    for_all(1..=1, 50, 250);
}

#[test]
fn a_few_cpus() {
    for_all(2..=4, 120, 400);
}

#[test]
fn more_cpus() {
    for_all(5..=70, 40, 250);
}

#[test]
fn as_many_cpus_as_there_can_be() {
    for_all(71..=1024, 12, 80);
}

/// Pages of a granule, and of four.
#[test]
fn larger_pages() {
    for page in [16 << 10, 64 << 10] {
        let paged = cases(1..=4, 300).prop_map(move |mut case| {
            case.machine.page = page;
            case
        });
        if let Err(failure) = search(paged, 40) {
            panic!("pages of {page}: {failure}");
        }
    }
}

/// The control: were there no fence, a list would be found, and a short one.
#[test]
fn without_the_fence_a_list_is_found() {
    let unfenced = cases(1..=2, 400).prop_map(|mut case| {
        case.machine.fences = false;
        case
    });
    match search(unfenced, 200).map_err(|failure| *failure) {
        Err(TestError::Fail(_, case)) => assert!(case.ops.len() < 20, "{case:?} is not short"),
        other => panic!("nothing is found without a fence: {other:?}"),
    }
}
