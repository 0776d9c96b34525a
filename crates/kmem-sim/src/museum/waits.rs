//! Waiting with a lock that others need, waiting for ever, and not waiting.

use kmem_core::cpu::Mistake;

use super::Exhibit;
use crate::Protocol;
use crate::catalogue::{ALL, DOWN, UP, USED, USED_0, WITHOUT_1, actor, scenario};
use crate::scenario::Op::*;

pub(super) static EXHIBITS: [Exhibit; 8] = [
    Exhibit {
        name: "a CPU is buried under its user",
        year: 2025,
        source: "Linux, mm/zswap.c; CVE-2025-21693, \"mm: zswap: properly synchronize freeing resources during CPU hotunplug\"",
        invariant: 36,
        seen_as: &[6, 7, 8, 10, 16],
        wrong: "A thread took the resources of its CPU and was moved elsewhere. The CPU went, and its resources were \
                freed under the thread.",
        right: "The area is withdrawn and the CPU fenced before anything in it is touched: a section that began earlier \
                does not commit.",
        slip: Some("empties the CPU without a fence"),
        protocol: Protocol::BOTH.with(Mistake::BuriesWithoutFence),
        scenario: scenario(
            "a cache is used on a CPU that goes down",
            ALL,
            USED,
            &[
                actor("find /minix", 1, &[Alloc(0)]),
                actor(
                    "echo 0 > cpu1/online",
                    2,
                    &[Down(1), Alloc(0), Alloc(0), Alloc(0), Alloc(0), Alloc(0), Alloc(0), Alloc(0), Alloc(0)],
                ),
            ],
        ),
    },
    Exhibit {
        name: "pinned is taken for alone",
        year: 2021,
        source: "Linux with PREEMPT_RT, mm/slub.c, after 2180da7ea70a; \"mm/slub: restore/expand unfreeze_partials() local exclusion scope\"",
        invariant: 38,
        seen_as: &[6, 7, 8, 10, 16],
        wrong: "A thread that cannot leave its CPU can be preempted there. Its per-CPU list was emptied by another while \
                it was in the middle of it.",
        right: "Affinity proves nothing: the fence does, or a lock of the CPU's.",
        slip: Some("takes the slot of a running CPU without a fence"),
        protocol: Protocol::BOTH.with(Mistake::ShrinksWithoutFence),
        scenario: scenario(
            "a cache is shrunk under its user",
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
        ),
    },
    Exhibit {
        name: "an array is exchanged and freed under its users",
        year: 2016,
        source: "Linux, mm/slab.c: a tune freed the old shared array without a grace period",
        invariant: 9,
        seen_as: &[6, 7, 8, 10, 16],
        wrong: "The new array was published, and the old one freed at once, while a CPU that had read the pointer before \
                was still using it.",
        right: "Publish, wait, reclaim: the area is withdrawn, the CPUs fenced, and then magazines exchanged.",
        slip: Some("exchanges the magazine of a running CPU without a fence"),
        protocol: Protocol::BOTH.with(Mistake::TunesWithoutFence),
        scenario: scenario(
            "a cache is tuned under its user",
            ALL,
            USED,
            &[actor("tune minix", 0, &[Tune(0, 1)]), actor("find /minix", 1, &[Alloc(0), Free(0), Alloc(0), Free(0)])],
        ),
    },
    Exhibit {
        name: "a cache is freed under a reader of its figures",
        year: 2016,
        source: "Linux, mm/slub.c and sysfs; 52b4b950b507, \"mm: slab: free kmem_cache_node after destroy sysfs file\"",
        invariant: 19,
        seen_as: &[],
        wrong: "A reader of /sys/kernel/slab was on its way through the lists of a cache whose nodes were freed by then.",
        right: "Readers pin one cache at a time; a destroy unlists, and frees when the pins are gone.",
        slip: Some("frees the descriptor, although a reader has it"),
        protocol: Protocol::BOTH.with(Mistake::FreesUnderReaders),
        scenario: scenario(
            "figures are read while a cache is destroyed",
            ALL,
            USED,
            &[actor("rmmod minix", 0, &[Destroy(0)]), actor("cat /proc/slabinfo", 0, &[Look])],
        ),
    },
    Exhibit {
        name: "a destroy waits under the registry",
        year: 2012,
        source: "Linux, mm/slab_common.c, rcu_barrier() under slab_mutex; 210ed9defffc, \"mm, slab: release slab_mutex earlier in kmem_cache_destroy()\"",
        invariant: 32,
        seen_as: &[29, 40],
        wrong: "The destroy of a cache waited for all readers while it held the lock of the list of caches. The readers \
                needed that lock, by way of CPU hotplug.",
        right: "A destroy waits with no lock held, and not with the gate.",
        slip: Some("waits for readers, and holds the registry"),
        protocol: Protocol::BOTH.with(Mistake::WaitsUnderRegistry),
        scenario: scenario(
            "figures are read while a cache is destroyed",
            ALL,
            USED,
            &[actor("rmmod minix", 0, &[Destroy(0)]), actor("cat /proc/slabinfo", 0, &[Look])],
        ),
    },
    Exhibit {
        name: "a destroy waits under the gate",
        year: 2022,
        source: "Linux, mm/slab_common.c; 0495e337b703, \"mm/slab_common: Deleting kobject in kmem_cache_destroy() without holding slab_mutex/cpu_hotplug_lock\"",
        invariant: 32,
        seen_as: &[40],
        wrong: "The destroy waited for readers of sysfs while it held the hotplug lock for reading. A reader wanted it \
                too, and had to let a transition pass that waited for the destroy.",
        right: "The gate is released before the wait.",
        slip: Some("waits for readers, and holds the gate"),
        protocol: Protocol::BOTH.with(Mistake::WaitsUnderGate),
        scenario: scenario(
            "a cache is shrunk while it is destroyed and a CPU comes up",
            WITHOUT_1,
            USED_0,
            &[actor("rmmod minix", 0, &[Destroy(0)]), actor("slabinfo -s", 0, &[Shrink(0)]), UP],
        ),
    },
    Exhibit {
        name: "a lock is taken, and then the gate",
        year: 2022,
        source: "Linux, kernel/cgroup; 4f7e7236435c, \"cgroup: Fix threadgroup_rwsem <-> cpus_read_lock() deadlock\"; a recursive lock of its own hid such orders of slab from lockdep until 2017",
        invariant: 29,
        seen_as: &[40],
        wrong: "One path took a lock and then the hotplug lock, and hotplug took the same lock under its own.",
        right: "The gate is the first of one total order, which debug builds assert at every acquire.",
        slip: Some("holds the life of the cache, and asks for the gate"),
        protocol: Protocol::BOTH.with(Mistake::TakesGateLate),
        scenario: scenario(
            "a cache is tuned while a CPU comes up",
            WITHOUT_1,
            USED_0,
            &[actor("tune minix", 0, &[Tune(0, 2)]), UP],
        ),
    },
    Exhibit {
        name: "a transition sleeps, and no thread wakes it",
        year: 2026,
        source: "Linux, kernel/cpu.c: the hotplug thread of a dying CPU slept, and no thread was left to wake it",
        invariant: 40,
        seen_as: &[],
        wrong: "A thread of hotplug went to sleep for a condition that others make true, and those that made it true did \
                not know that it slept.",
        right: "A writer marks the place of the reader that it waits for, and a reader that leaves a marked place wakes \
                it.",
        slip: None,
        protocol: Protocol::BOTH.with(Mistake::WakesNobody),
        scenario: scenario(
            "a CPU goes down while a cache is destroyed",
            ALL,
            USED,
            &[actor("rmmod minix", 0, &[Destroy(0)]), DOWN],
        ),
    },
];
