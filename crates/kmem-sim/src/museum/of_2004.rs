//! The order of 2004, and what was forgotten in it and in what was built like it.

use kmem_core::cpu::Mistake;

use super::Exhibit;
use crate::Protocol;
use crate::catalogue::{ALL, DOWN, NOTHING, SCENARIOS, UP, USED, USED_0, WITHOUT_1, actor, scenario};
use crate::scenario::Op::*;

pub(super) static EXHIBITS: [Exhibit; 6] = [
    Exhibit {
        name: "a cache is listed after its slots are made",
        year: 2004,
        source: "Linux 2.6, mm/slab.c; mended by 52930067 of the history tree, \"Fix slab creation/destruction vs. CPU Hotplug\"",
        invariant: 11,
        seen_as: &[],
        wrong: "kmem_cache_create made arrays for the CPUs that were online, and then put the cache on the list. A CPU \
                that was offline at the first step, and whose CPU_DEAD came after the second, found the cache on the \
                list and freed an array that was never made.",
        right: "A cache is listed before it has any slot, and a slot that does not exist is an ordinary miss.",
        slip: None,
        protocol: Protocol::Y2004,
        scenario: SCENARIOS[0],
    },
    Exhibit {
        name: "a cache is unlisted before it is drained",
        year: 2004,
        source: "Linux 2.6, mm/slab.c; mended by the same commit",
        invariant: 14,
        seen_as: &[],
        wrong: "kmem_cache_destroy took the cache off the list, and then interrupted the CPUs that were online. A CPU \
                that prepared to come up after the first step did not see the cache, and took the interrupt of the \
                second without an array.",
        right: "A dying cache stays listed until it is drained, and gets no slot meanwhile.",
        slip: None,
        protocol: Protocol::Y2004,
        scenario: SCENARIOS[1],
    },
    Exhibit {
        name: "a tune forgets the gate",
        year: 2006,
        source: "Linux, mm/slab.c, do_tune_cpucache, which the fix of 2004 left out; \"mm: slab: eliminate lock_cpu_hotplug from slab\"",
        invariant: 2,
        seen_as: &[1],
        wrong: "Writing to /proc/slabinfo made new arrays for the CPUs that were online, and then had each CPU take its \
                own. A CPU that came up in between took NULL.",
        right: "A tune holds the gate, stops the CPUs whose slot is enabled, and reads the capacity under each CPU's \
                control.",
        slip: Some("do_tune_cpucache installs what it made for this CPU, which was not online then: NULL"),
        protocol: Protocol::GATE.with(Mistake::TunesWithoutGate),
        scenario: scenario(
            "a cache is tuned while a CPU comes up",
            WITHOUT_1,
            USED_0,
            &[actor("tune minix", 0, &[Tune(0, 2), RunOn(1), Alloc(0), Free(0)]), UP],
        ),
    },
    Exhibit {
        name: "a cancel counts on a whole preparation",
        year: 2006,
        source: "Linux, CPU_UP_CANCELED of several callbacks, slab's among them; fc75cdfa5b43, \"cpu hotplug: fix CPU_UP_CANCEL handling\"",
        invariant: 23,
        seen_as: &[1],
        wrong: "CPU_UP_CANCELED shared its code with CPU_DEAD, and freed what CPU_UP_PREPARE makes. Where the preparation \
                had failed half way, or had not begun, that was NULL.",
        right: "Cancel is total: it is valid after none, part or all of a preparation.",
        slip: Some("CPU_UP_CANCELED goes the way of CPU_DEAD"),
        protocol: Protocol::GATE.with(Mistake::CancelCountsOnSlots),
        scenario: scenario(
            "a CPU cannot come up while a cache is used",
            WITHOUT_1,
            USED_0,
            &[actor("find /minix", 0, &[Alloc(0), Free(0)]), actor("echo 1 > cpu1/online", 2, &[UpStarved(1), Up(1)])],
        ),
    },
    Exhibit {
        name: "a create ignores that its slots could not be made",
        year: 2006,
        source: "Linux, mm/slab.c, the result of enable_cpucache was not looked at",
        invariant: 12,
        seen_as: &[1],
        wrong: "There was no memory for the arrays, and the cache was listed without them. Its first user read NULL.",
        right: "A create that fails is undone by a destroy, which is valid for part of a cache, and returns the error.",
        slip: Some("the slots could not be made, and the cache is listed all the same"),
        protocol: Protocol::GATE.with(Mistake::ListsWithoutSlots),
        scenario: scenario(
            "a cache is created without memory while a CPU goes down",
            ALL,
            NOTHING,
            &[actor("modprobe minix", 0, &[CreateStarved(0), Alloc(0), Free(0)]), DOWN],
        ),
    },
    Exhibit {
        name: "slots are made for online CPUs only",
        year: 2015,
        source: "SPL of OpenZFS: magazines for the CPUs that were online at the create, and a CPU that was added later crashed; \
                 per-CPU structures of Linux, twice in 2026",
        invariant: 1,
        seen_as: &[],
        wrong: "The create of a cache made a magazine for each CPU that was online, and nothing made any for a CPU that \
                came up later.",
        right: "Every possible CPU has a place in every cache from the start: a page of zeros is a page of disabled \
                slots, and the first miss enables one.",
        slip: Some("the CPU is prepared, and gets no slot of any cache"),
        protocol: Protocol::GATE.with(Mistake::PreparesNothing),
        scenario: scenario(
            "a CPU comes up, and its cache is used there",
            WITHOUT_1,
            USED,
            &[actor("find /minix", 0, &[Alloc(0), RunOn(1), Alloc(0), Free(0), Free(0)]), UP],
        ),
    },
];
