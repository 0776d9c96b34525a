//! Decodes the fuzzer's bytes into a case of the model: first the machine, then one operation after another until the
//! bytes end.

use arbitrary::{Result, Unstructured};
use kmem_core::Population;
use kmem_core::cpu::CpuSet;
use kmem_sim::fake::Machine;

use crate::common::with_room;
use crate::ops::{Case, Meddling, Op, Pick, Shape, Victim};

/// Most operations of a case: after each of them the whole engine is checked.
const MOST: usize = 200;

pub fn case(u: &mut Unstructured<'_>) -> Result<Case> {
    Ok(Case {
        machine: machine(u)?,
        population: if u.arbitrary()? { Population::Eager } else { Population::OnFirstUse },
        listened: u.ratio(1, 4)?,
        ops: {
            let mut ops = Vec::new();
            while !u.is_empty() && ops.len() < MOST {
                ops.push(op(u)?);
            }
            ops
        },
    })
}

fn machine(u: &mut Unstructured<'_>) -> Result<Machine> {
    let possible = u.int_in_range(1..=8)?;
    // With holes, or without any.
    let online: u8 = u.arbitrary()?;
    let room = if u.ratio(1, 3)? { u.int_in_range(0..=40)? } else { 1000 };
    Ok(Machine {
        online: (0..8).filter(|cpu| online & (1 << cpu) != 0 && *cpu < possible).collect::<CpuSet>(),
        nodes: u.int_in_range(1..=4)?,
        homes: (0..u.int_in_range(0..=3)?).map(|_| u.int_in_range(0..=5)).collect::<Result<_>>()?,
        hint_lies: u.ratio(1, 6)?,
        ..with_room(possible, room)
    })
}

fn op(u: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match u.int_in_range(0..=24)? {
        0 | 1 => Op::Create(shape(u)?),
        2 => Op::Destroy { cache: pick(u)?, first_free_all: u.arbitrary()? },
        3..6 => Op::Alloc { cache: pick(u)?, count: count(u)?, seed: u.arbitrary()? },
        6..9 => Op::Free { cache: pick(u)?, count: count(u)?, from: pick(u)? },
        9 | 10 => Op::General { size: size(u)?, align_shift: u.int_in_range(0..=13)?, seed: u.arbitrary()? },
        11 | 12 => Op::GeneralFree { which: pick(u)? },
        13 => Op::Realloc { which: pick(u)?, size: size(u)?, seed: u.arbitrary()? },
        14 => Op::Shrink { cache: pick(u)? },
        15 => Op::Trim,
        16 | 17 => Op::RunOn { cpu: pick(u)? },
        18 => Op::Believe { cpu: if u.arbitrary()? { Some(pick(u)?) } else { None } },
        19 => Op::Up { cpu: pick(u)?, refused: u.ratio(1, 5)? },
        20 => Op::Down { cpu: pick(u)?, hold: u.arbitrary()?, refused: u.ratio(1, 5)? },
        21 => Op::Fail { n: u.int_in_range(0..=4)?, and_all_later: u.arbitrary()? },
        22 => Op::FailNever,
        23 => Op::Interrupt(meddling(u)?),
        _ => Op::EachFailure(victim(u)?),
    })
}

fn meddling(u: &mut Unstructured<'_>) -> Result<Meddling> {
    Ok(match u.int_in_range(0..=3)? {
        0 => Meddling::Shrink { cache: pick(u)? },
        1 => Meddling::Trim,
        2 => Meddling::Left { cpu: pick(u)? },
        _ => Meddling::Use { cache: pick(u)?, count: u.int_in_range(1..=80)? },
    })
}

fn victim(u: &mut Unstructured<'_>) -> Result<Victim> {
    Ok(match u.int_in_range(0..=4)? {
        0 => Victim::Create(shape(u)?),
        1 => Victim::Up { cpu: pick(u)? },
        2 => Victim::Alloc { cache: pick(u)?, count: count(u)?, seed: u.arbitrary()? },
        3 => Victim::General { size: size(u)?, align_shift: u.int_in_range(0..=13)?, seed: u.arbitrary()? },
        _ => Victim::Realloc { which: pick(u)?, size: size(u)?, seed: u.arbitrary()? },
    })
}

fn shape(u: &mut Unstructured<'_>) -> Result<Shape> {
    let constructed = u.ratio(1, 5)?;
    let size = match u.int_in_range(0..=7)? {
        0 => 70_000,
        1 => 9000,
        2..5 => u.int_in_range(1..=3000)?,
        shift => 8usize << shift,
    };
    // A constructed object begins with two words of the model.
    let (size, align) = if constructed { (size.max(16), 8) } else { (size, 1 << u.int_in_range(0..=7)?) };
    Ok(Shape { size, align, constructed })
}

fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    let most = [600, 600, 40_000, 300_000][u.int_in_range(0..=3)?];
    u.int_in_range(0..=most)
}

fn count(u: &mut Unstructured<'_>) -> Result<u16> {
    if u.ratio(3, 4)? { Ok(1) } else { u.int_in_range(0..=300) }
}

fn pick(u: &mut Unstructured<'_>) -> Result<Pick> {
    Ok(u.arbitrary::<u8>()?.into())
}
