//! The scenarios: the storm, broken into pieces small enough to run every order of their steps.
//!
//! All have at most three CPUs, of which CPU 0 stays online, and magazines that are created with caches and CPUs, as in
//! 2004.

use crate::scenario::{Actor, After, Op, Scenario};

use Op::*;

pub(crate) const NOTHING: Actor = Actor { name: "", cpu: 0, ops: &[] };

pub(crate) const fn actor(name: &'static str, cpu: usize, ops: &'static [Op]) -> Actor {
    Actor { name, cpu, ops }
}

pub(crate) const fn scenario(
    name: &'static str,
    online: &'static [usize],
    before: Actor,
    actors: &'static [Actor],
) -> Scenario {
    Scenario { name, possible: 3, online, before, actors, fences: true, homes: &[], after: After::Nothing }
}

pub(crate) const DOWN: Actor = actor("echo 0 > cpu1/online", 2, &[Down(1)]);
pub(crate) const UP: Actor = actor("echo 1 > cpu1/online", 2, &[Up(1)]);
pub(crate) const DOWN_UP: Actor = actor("echo 0, 1 > cpu1/online", 2, &[Down(1), Up(1)]);
pub(crate) const UP_DOWN: Actor = actor("echo 1, 0 > cpu1/online", 2, &[Up(1), Down(1)]);
pub(crate) const ALL: &[usize] = &[0, 1, 2];
pub(crate) const WITHOUT_1: &[usize] = &[0, 2];
/// A cache with objects in the slots of CPUs 0 and 1, and some on a slab.
pub(crate) const USED: Actor =
    actor("", 0, &[Create(0), Alloc(0), Free(0), RunOn(1), Alloc(0), Alloc(0), Free(0), Free(0)]);
/// The same, with an object held by a user.
pub(crate) const HELD: Actor = actor("", 0, &[Create(0), Alloc(0), Alloc(0), Free(0)]);
/// The same, while CPU 1 is offline.
pub(crate) const USED_0: Actor = actor("", 0, &[Create(0), Alloc(0), Alloc(0), Free(0), Free(0)]);

/// All of them. The first two are the two races of 2004.
pub static SCENARIOS: [Scenario; 17] = [
    scenario(
        "a cache is created while a CPU goes down",
        ALL,
        NOTHING,
        &[actor("modprobe minix", 0, &[Create(0), Alloc(0), Free(0)]), DOWN],
    ),
    scenario(
        "a cache is destroyed while a CPU comes up",
        WITHOUT_1,
        USED_0,
        &[actor("rmmod minix", 0, &[Destroy(0)]), UP],
    ),
    scenario(
        "a cache is created while a CPU comes up",
        WITHOUT_1,
        NOTHING,
        &[
            actor(
                "modprobe minix",
                0,
                &[Create(0), Alloc(0), RunOn(1), Alloc(0), Free(0), Free(0), RunOn(0), Destroy(0)],
            ),
            UP,
        ],
    ),
    scenario(
        "a used cache is destroyed while a CPU goes down",
        ALL,
        USED,
        &[actor("rmmod minix", 0, &[Destroy(0)]), DOWN],
    ),
    scenario(
        "a busy cache is not destroyed while a CPU comes up",
        WITHOUT_1,
        HELD,
        &[actor("rmmod minix", 0, &[Destroy(0), RunOn(1), Alloc(0), Free(0), RunOn(0), Alloc(0), Free(0)]), UP_DOWN],
    ),
    scenario(
        "a module is loaded and unloaded while a CPU goes down and up",
        ALL,
        NOTHING,
        &[actor("modprobe, rmmod minix", 0, &[Create(0), Alloc(0), RunOn(1), Free(0), RunOn(0), Destroy(0)]), DOWN_UP],
    ),
    scenario(
        "a cache is shrunk while its users run and a CPU goes down and up",
        ALL,
        USED,
        &[
            actor("slabinfo -s", 0, &[Shrink(0)]),
            actor("find /minix", 1, &[Alloc(0), Alloc(0), Free(0), Free(0)]),
            DOWN_UP,
        ],
    ),
    scenario(
        "a cache is tuned while its users run and a CPU goes down and up",
        ALL,
        USED,
        &[
            actor("tune minix", 0, &[Tune(0, 2)]),
            actor("find /minix", 1, &[Alloc(0), Alloc(0), Free(0), Free(0)]),
            DOWN_UP,
        ],
    ),
    scenario(
        "a busy cache is not destroyed, and another is, while a CPU goes down",
        ALL,
        NOTHING,
        &[
            actor("modprobe minix", 0, &[Create(0), Alloc(0), Destroy(0)]),
            actor("modprobe ext2", 1, &[Create(1), Alloc(1), Alloc(1), Free(1), Free(1), Destroy(1)]),
            DOWN,
        ],
    ),
    scenario(
        "a cache is shrunk while it is destroyed and a CPU goes down",
        ALL,
        USED,
        &[actor("rmmod minix", 0, &[Destroy(0)]), actor("slabinfo -s", 0, &[Shrink(0)]), DOWN],
    ),
    scenario(
        "everything is trimmed while a cache is destroyed and a CPU comes up",
        WITHOUT_1,
        USED_0,
        &[actor("rmmod minix", 0, &[Destroy(0)]), actor("echo 2 > drop_caches", 0, &[Trim]), UP],
    ),
    scenario(
        "figures are read while a cache is destroyed and a CPU goes down",
        ALL,
        USED,
        &[actor("rmmod minix", 0, &[Destroy(0)]), actor("cat /proc/slabinfo", 0, &[Look]), DOWN],
    ),
    scenario(
        "two of one name are created while a CPU comes up",
        WITHOUT_1,
        NOTHING,
        &[actor("modprobe minix", 0, &[Create(0)]), actor("modprobe minix", 0, &[Create(0)]), UP],
    ),
    scenario(
        "a cache is destroyed twice while a CPU goes down and up",
        ALL,
        USED,
        &[actor("rmmod minix", 0, &[Destroy(0)]), actor("rmmod minix", 0, &[Destroy(0)]), DOWN_UP],
    ),
    scenario(
        "a CPU goes down and is refused its return while a cache is created",
        ALL,
        NOTHING,
        &[
            actor("modprobe, rmmod minix", 0, &[Create(0), Alloc(0), Free(0), Destroy(0)]),
            actor("echo 0, 1 > cpu1/online", 2, &[Down(1), UpRefused(1)]),
        ],
    ),
    scenario(
        "a used cache is destroyed while a CPU is kept from going down",
        ALL,
        USED,
        &[
            actor("rmmod, modprobe minix", 0, &[Destroy(0), Create(0), Alloc(0), Free(0)]),
            actor("echo 0, 0 > cpu1/online", 2, &[DownRefused(1), Down(1)]),
        ],
    ),
    scenario(
        "the storm",
        WITHOUT_1,
        USED_0,
        &[
            actor("rmmod, modprobe minix", 0, &[Destroy(0), Create(0), Alloc(0), Free(0), Destroy(0)]),
            actor("modprobe, rmmod ext2", 2, &[Create(1), Alloc(1), RunOn(1), Alloc(1), Free(1), Free(1), Destroy(1)]),
            actor("slabinfo -s", 0, &[Shrink(0), Trim, Look]),
            UP_DOWN,
        ],
    ),
];

/// A user allocates while the cache is shrunk, on a platform whose fence does nothing: the negative control, which must
/// fail.
pub const NO_FENCE: Scenario = Scenario {
    fences: false,
    ..scenario(
        "a cache is shrunk under its user, without a fence",
        ALL,
        USED,
        &[
            actor(
                "slabinfo -s",
                0,
                &[Shrink(0), Alloc(0), Alloc(0), Alloc(0), Alloc(0), Alloc(0), Alloc(0), Alloc(0), Alloc(0)],
            ),
            actor("find /minix", 1, &[Alloc(0)]),
        ],
    )
};

/// The same with the fence.
pub const FENCE: Scenario = Scenario { fences: true, ..NO_FENCE };
