//! Walks over the wrong CPUs, or at the wrong time.

use kmem_core::cpu::Mistake;

use super::Exhibit;
use crate::Protocol;
use crate::catalogue::{ALL, DOWN, DOWN_UP, UP, USED, USED_0, WITHOUT_1, actor, scenario};
use crate::scenario::{Actor, After, Op::*, Scenario};

/// A cache with objects in the slot of CPU 1 alone.
const USED_1: Actor = actor("", 1, &[Create(0), Alloc(0), Alloc(0), Free(0), Free(0)]);

pub(super) static EXHIBITS: [Exhibit; 6] = [
    Exhibit {
        name: "a destroy drains the CPUs that are online",
        year: 2021,
        source: "Linux, mm/slub.c, flush_all and the shutdown of a cache, after cpus_read_lock was taken out of them",
        invariant: 16,
        seen_as: &[6, 7, 8, 10],
        wrong: "\"All CPUs\" were those online. A CPU that had left, and whose CPU_DEAD had not run yet, kept its \
                objects, and the cache counted as busy although no user had one.",
        right: "The slots of all possible CPUs that are enabled are drained, online or not.",
        slip: Some("walks the CPUs that are online: one that left and is not dead yet still holds objects"),
        protocol: Protocol::LISTED.with(Mistake::DrainsOnline),
        scenario: scenario(
            "a used cache is destroyed while a CPU goes down",
            ALL,
            USED,
            &[actor("rmmod minix", 0, &[Destroy(0)]), DOWN],
        ),
    },
    Exhibit {
        name: "a shrink walks online instead of possible CPUs",
        year: 2026,
        source: "Linux, shrink against the offlining of a CPU; the same in a sum over per-CPU counters: 8b57b11cca88, \"pcpcntrs: fix dying cpu summation race\", 2023",
        invariant: 14,
        seen_as: &[],
        wrong: "A shrink that ran while a CPU went offline left out the objects that this CPU still held, and they came \
                to the shared lists after it.",
        right: "The walk is over the CPUs whose slot is enabled; what a CPU held is in the depot when its slot is \
                disabled, and depots are reaped last.",
        slip: Some("walks the CPUs that are online: one that left and is not dead yet still holds objects"),
        protocol: Protocol::LISTED.with(Mistake::DrainsOnline),
        scenario: Scenario {
            after: After::NothingCached,
            ..scenario(
                "an unused cache is shrunk while a CPU goes down",
                ALL,
                USED,
                &[actor("slabinfo -s", 0, &[Shrink(0)]), DOWN],
            )
        },
    },
    Exhibit {
        name: "a destroy drains, and then shuts the door",
        year: 2019,
        source: "Linux, mm/zsmalloc.c, zs_destroy_pool; 701d678599d0, \"mm/zsmalloc.c: fix race condition in zs_destroy_pool\"",
        invariant: 18,
        seen_as: &[10, 6, 7, 8, 16],
        wrong: "What was deferred was flushed first, and new work was kept out after it. Work that came in between was \
                never seen, and used what had been freed.",
        right: "The order of I18: shut out new slots, drain slots, drain depots, look.",
        slip: Some("was drained while it was live, and is not drained again"),
        protocol: Protocol::LISTED.with(Mistake::DrainsBeforeDying),
        scenario: scenario(
            "a cache is destroyed while a CPU comes up",
            WITHOUT_1,
            USED_0,
            &[actor("rmmod minix", 0, &[Destroy(0)]), UP],
        ),
    },
    Exhibit {
        name: "objects in a reaper's hands count as in use",
        year: 2024,
        source: "Linux, objects on their way by kfree_rcu made kmem_cache_destroy complain; \"mm, slab: call kvfree_rcu_barrier() from kmem_cache_destroy()\"",
        invariant: 16,
        seen_as: &[],
        wrong: "A worker had taken free objects out of one place, and had not put them into the next. A destroy that \
                counted then found objects in use that no user had.",
        right: "A depot is reaped under its lock: a thread that finds it empty finds the objects where they went.",
        slip: Some("holds free objects in its hands, between the depot and their slab"),
        protocol: Protocol::BOTH.with(Mistake::ReapsByHand),
        scenario: scenario(
            "a cache is shrunk while it is destroyed",
            ALL,
            actor("", 0, &[Create(0), RunOn(1), Alloc(0), Alloc(0), Free(0), Free(0), RunOn(0), Down(1)]),
            &[actor("rmmod minix", 0, &[Destroy(0)]), actor("slabinfo -s", 0, &[Shrink(0)])],
        ),
    },
    Exhibit {
        name: "reap work moves to another CPU",
        year: 2018,
        source: "Linux, mm/slab.c; \"mm, slab: reschedule cache_reap() on the same CPU\"",
        invariant: 27,
        seen_as: &[],
        wrong: "Each CPU reaped its own array, by work that armed itself again on whatever CPU it had run on. Some CPUs \
                were reaped twice as often, and others never.",
        right: "One thread looks at the slots of all CPUs, from any of them, and disturbs only those that are still.",
        slip: Some("reaps the slots of the CPU that it happens to run on"),
        protocol: Protocol::BOTH.with(Mistake::AgesWhereItRuns),
        scenario: Scenario {
            after: After::UpkeepReaches,
            ..scenario(
                "the worker of a CPU is moved off, and the CPU comes back",
                ALL,
                USED_1,
                &[
                    actor("kworker/1", 1, &[Age, RunOn(0), Age, Age]),
                    actor("find /minix", 1, &[Alloc(0), Free(0)]),
                    DOWN_UP,
                ],
            )
        },
    },
    Exhibit {
        name: "the node of a CPU is looked up, and is not there",
        year: 2025,
        source: "Linux, mm/slub.c, on nodes without memory; \"slab: fix barn NULL pointer dereference on memoryless nodes\"",
        invariant: 44,
        seen_as: &[1],
        wrong: "What CPU 1 cached went to the shared lists of its node. A node without memory has none, and a machine \
                with such a node did not boot.",
        right: "Every look-up of the topology may miss: a node out of range is mapped to one that exists.",
        slip: Some("looks for the lists of a node that has none"),
        protocol: Protocol::BOTH.with(Mistake::TrustsTopology),
        scenario: Scenario {
            homes: &[0, 9, 0],
            ..scenario(
                "a CPU of a node without memory goes down",
                ALL,
                USED,
                &[actor("find /minix", 1, &[Alloc(0), Free(0)]), DOWN],
            )
        },
    },
];
