//! Rollbacks: in the wrong order, half, forgotten, with the wrong result.

use kmem_core::cpu::Mistake;

use super::Exhibit;
use crate::Protocol;
use crate::catalogue::{ALL, NOTHING, USED, USED_0, WITHOUT_1, actor, scenario};
use crate::scenario::{Actor, Op::*};

/// A cache whose CPU 1 the process has left.
const LEFT: Actor = actor("", 0, &[Create(0), Alloc(0), Free(0), Left(1)]);

pub(super) static EXHIBITS: [Exhibit; 7] = [
    Exhibit {
        name: "a cancel empties the CPU before it takes it offline",
        year: 2026,
        source: "kmem, before \"A canceled CPU is offline before it is emptied\"",
        invariant: 8,
        seen_as: &[10],
        wrong: "A preparation that a listener refused was undone: slots emptied, then the CPU offline. While it counted \
                as prepared, a create that had taken its set of CPUs earlier enabled a slot that the walk had passed. The gate \
                kept that out; listing alone did not.",
        right: "The CPU is offline before it is emptied, so no slot can be enabled that the walk has passed.",
        slip: Some("has emptied the CPU, and takes it offline only now"),
        protocol: Protocol::LISTED.with(Mistake::EmptiesBeforeOffline),
        scenario: scenario(
            "a cache is created while a CPU goes down and its return is refused",
            ALL,
            NOTHING,
            &[
                actor("modprobe, rmmod minix", 0, &[Create(0), Alloc(0), Free(0), Destroy(0)]),
                actor("echo 0, 1 > cpu1/online", 2, &[Down(1), UpRefused(1)]),
            ],
        ),
    },
    Exhibit {
        name: "a cancel leaves what was made",
        year: 2007,
        source: "Linux, mm/slab.c, arrays leaked where CPU_UP_PREPARE failed",
        invariant: 22,
        seen_as: &[8],
        wrong: "CPU_UP_PREPARE failed at one cache, and what it had made for those before stayed.",
        right: "Cancel drains every slot of the CPU, and puts its area away.",
        slip: Some("takes the CPU offline, and leaves its slots"),
        protocol: Protocol::BOTH.with(Mistake::LeavesSlots),
        scenario: scenario(
            "a CPU is refused while a cache is used",
            WITHOUT_1,
            USED_0,
            &[actor("find /minix", 0, &[Alloc(0), Free(0)]), actor("echo 1 > cpu1/online", 2, &[UpRefused(1)])],
        ),
    },
    Exhibit {
        name: "a rollback hides the error of a prepare",
        year: 2026,
        source: "Linux, CPU hotplug: the result of the rollback took the place of the error",
        invariant: 22,
        seen_as: &[40],
        wrong: "A prepare failed, its rollback succeeded, and the caller was told that all went well: a CPU that never \
                came up counted as up.",
        right: "The error of what failed is returned; a rollback cannot fail and has no result.",
        slip: Some("the rollback went well, so cpu_up returns 0"),
        protocol: Protocol::BOTH.with(Mistake::HidesError),
        scenario: scenario(
            "a CPU cannot come up while a cache is destroyed",
            WITHOUT_1,
            USED_0,
            &[actor("rmmod minix", 0, &[Destroy(0)]), actor("echo 1 > cpu1/online", 2, &[UpStarved(1)])],
        ),
    },
    Exhibit {
        name: "a down that is refused is not undone",
        year: 2024,
        source: "Linux, kernel/sched; CVE-2024-44958, \"sched/smt: Fix unbalance sched_smt_present dec/inc\"",
        invariant: 25,
        seen_as: &[40],
        wrong: "What the first steps of going down had changed stayed so when a later one refused. The next attempt \
                started from a state that is none.",
        right: "A guard undoes the step on every way out, a refusal and a panic of a listener included.",
        slip: Some("a listener refuses, and the CPU stays half way down"),
        protocol: Protocol::BOTH.with(Mistake::ForgetsDownFailed),
        scenario: scenario(
            "a CPU is kept from going down, and goes later",
            ALL,
            USED,
            &[
                actor("find /minix", 0, &[Alloc(0), Free(0)]),
                actor("echo 0, 0 > cpu1/online", 2, &[DownRefused(1), Down(1)]),
            ],
        ),
    },
    Exhibit {
        name: "canceled without prepare",
        year: 2007,
        source: "Linux, kernel/cpu.c; \"cpu: deliver CPU_UP_CANCELED only to NOTIFY_OKed callbacks with CPU_UP_PREPARE\", lkml.org/lkml/2007/7/22/132",
        invariant: 23,
        seen_as: &[],
        wrong: "CPU_UP_PREPARE went along a chain up to the first refusal, and CPU_UP_CANCELED reached callbacks that \
                had not been asked or had refused. Each had to guess what there was to undo.",
        right: "Every listener is asked, and those that granted hear of the cancel, the last one first.",
        slip: Some("the first refusal ends the asking, and all hear CPU_UP_CANCELED"),
        protocol: Protocol::BOTH.with(Mistake::CancelsUnasked),
        scenario: scenario(
            "the first of two listeners refuses a CPU",
            WITHOUT_1,
            USED_0,
            &[actor("rmmod minix", 0, &[Destroy(0)]), actor("echo 1 > cpu1/online", 2, &[UpRefused(1)])],
        ),
    },
    Exhibit {
        name: "a thread brings a CPU up that was taken down meanwhile",
        year: 2026,
        source: "kmem, found by this explorer: tests/race.rs, a_cpu_that_is_taken_down_stays_down",
        invariant: 40,
        seen_as: &[],
        wrong: "A thread that ran on a CPU that was down looked whether it may come up by itself, and then took the \
                gate. In between, the CPU was brought up and taken down by name, and did not stay down.",
        right: "It looks again under the gate.",
        slip: Some("brings the CPU up by what it saw before it took the gate"),
        protocol: Protocol::BOTH.with(Mistake::AdoptsAtOneLook),
        scenario: scenario(
            "a thread runs on a CPU that comes up and goes down",
            WITHOUT_1,
            USED_0,
            &[actor("find /minix", 1, &[Alloc(0), Free(0)]), actor("echo 1, 0 > cpu1/online", 2, &[Up(1), Down(1)])],
        ),
    },
    Exhibit {
        name: "a cpuset follows CPUs, and hotplug goes on",
        year: 2026,
        source: "Linux, cpuset against CPU hotplug",
        invariant: 40,
        seen_as: &[],
        wrong: "The set of CPUs that tasks may use was computed from what was online at one moment, and put into effect \
                at another.",
        right: "What the process may use is a hint. Whether a CPU is held down is looked up under the gate.",
        slip: Some("brings the CPU up by what it saw before it took the gate"),
        protocol: Protocol::BOTH.with(Mistake::FollowsAtOneLook),
        scenario: scenario(
            "a CPU comes back to a process while it is taken down",
            ALL,
            LEFT,
            &[actor("cpuset", 0, &[Came(1)]), actor("echo 0 > cpu1/online", 2, &[Down(1)])],
        ),
    },
];
