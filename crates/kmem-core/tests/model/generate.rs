//! Machines, operations and lists of them, as proptest makes them. Numbers shrink towards the first cache, CPU 0 and
//! the smallest size.

use std::ops::RangeInclusive;

use kmem_core::Population;
use kmem_core::cpu::CpuSet;
use kmem_sim::fake::Machine;
use proptest::collection::vec;
use proptest::prelude::*;

use super::common::with_room;
use super::ops::{Case, Meddling, Op, Pick, Shape, Victim};

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![4 => prop::sample::select(vec![8, 16, 40, 64, 256, 1500, 9000, 70_000]), 1 => 1..3000usize]
}

fn shapes() -> impl Strategy<Value = Shape> {
    (sizes(), 0..12u8, prop::bool::weighted(0.2)).prop_map(|(size, shift, constructed)| match constructed {
        // A constructed object begins with two words of the books.
        true => Shape { size: size.max(16), align: 8, constructed },
        false => Shape { size, align: 1 << shift.saturating_sub(4), constructed },
    })
}

fn counts() -> impl Strategy<Value = u16> {
    prop_oneof![3 => Just(1), 1 => 0..300u16]
}

/// Few CPUs are met again and again, whatever their number.
fn cpus() -> impl Strategy<Value = Pick> {
    prop_oneof![3 => 0..6u16, 1 => any::<Pick>()]
}

fn general_sizes() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..600usize, 2 => 0..40_000usize, 1 => 0..300_000usize]
}

fn meddlings() -> impl Strategy<Value = Meddling> {
    let cache = || any::<Pick>();
    prop_oneof![
        cache().prop_map(|cache| Meddling::Shrink { cache }),
        Just(Meddling::Trim),
        cpus().prop_map(|cpu| Meddling::Left { cpu }),
        (cache(), 1..80u16).prop_map(|(cache, count)| Meddling::Use { cache, count }),
    ]
}

fn victims() -> impl Strategy<Value = Victim> {
    prop_oneof![
        2 => shapes().prop_map(Victim::Create),
        2 => cpus().prop_map(|cpu| Victim::Up { cpu }),
        1 => (any::<Pick>(), counts(), any::<u8>()).prop_map(|(cache, count, seed)| Victim::Alloc { cache, count, seed }),
        1 => (general_sizes(), 0..14u8, any::<u8>())
            .prop_map(|(size, align_shift, seed)| Victim::General { size, align_shift, seed }),
        1 => (any::<Pick>(), general_sizes(), any::<u8>())
            .prop_map(|(which, size, seed)| Victim::Realloc { which, size, seed }),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let pick = || any::<Pick>();
    let refused = || prop::bool::weighted(0.2);
    prop_oneof![
        6 => shapes().prop_map(Op::Create),
        3 => (pick(), any::<bool>()).prop_map(|(cache, first_free_all)| Op::Destroy { cache, first_free_all }),
        20 => (pick(), counts(), any::<u8>()).prop_map(|(cache, count, seed)| Op::Alloc { cache, count, seed }),
        20 => (pick(), counts(), pick()).prop_map(|(cache, count, from)| Op::Free { cache, count, from }),
        8 => (general_sizes(), 0..14u8, any::<u8>())
            .prop_map(|(size, align_shift, seed)| Op::General { size, align_shift, seed }),
        8 => pick().prop_map(|which| Op::GeneralFree { which }),
        5 => (pick(), general_sizes(), any::<u8>()).prop_map(|(which, size, seed)| Op::Realloc { which, size, seed }),
        3 => pick().prop_map(|cache| Op::Shrink { cache }),
        1 => Just(Op::Trim),
        10 => cpus().prop_map(|cpu| Op::RunOn { cpu }),
        2 => prop::option::of(cpus()).prop_map(|cpu| Op::Believe { cpu }),
        6 => (cpus(), refused()).prop_map(|(cpu, refused)| Op::Up { cpu, refused }),
        6 => (cpus(), any::<bool>(), refused()).prop_map(|(cpu, hold, refused)| Op::Down { cpu, hold, refused }),
        3 => (0..5u8, any::<bool>()).prop_map(|(n, and_all_later)| Op::Fail { n, and_all_later }),
        5 => Just(Op::FailNever),
        5 => meddlings().prop_map(Op::Interrupt),
        2 => victims().prop_map(Op::EachFailure),
    ]
}

/// Machines whose CPU numbers are below one of `possible`: with holes among those online, or none online at all;
/// nodes without a CPU, CPUs whose node is out of range; plenty of memory, or next to none; hints that are true, or
/// lie.
fn machines(possible: impl Strategy<Value = usize>) -> impl Strategy<Value = Machine> {
    let online = prop_oneof![1 => Just(None), 2 => vec(any::<u16>(), 0..10).prop_map(Some)];
    let homes = prop_oneof![Just(Vec::new()), vec(0..9usize, 1..7)];
    let room = prop_oneof![2 => Just(1000), 1 => 0..40usize];
    (possible, online, 1..6usize, homes, room, prop::bool::weighted(0.2)).prop_map(
        |(possible, online, nodes, homes, room, hint_lies)| Machine {
            online: match online {
                None => CpuSet::first(possible),
                Some(some) => some.into_iter().map(|cpu| usize::from(cpu) % possible).collect(),
            },
            nodes,
            homes,
            hint_lies,
            ..with_room(possible, room)
        },
    )
}

/// Cases on machines with up to so many CPUs, and up to so many operations.
pub fn cases(possible: RangeInclusive<usize>, most: usize) -> impl Strategy<Value = Case> {
    let population = prop_oneof![Just(Population::OnFirstUse), Just(Population::Eager)];
    (machines(possible), population, prop::bool::weighted(0.3), vec(ops(), 1..most))
        .prop_map(|(machine, population, listened, ops)| Case { machine, population, listened, ops })
}
