//! All tests of the engine in one executable, for who builds them again for each mutant (`.ci/mutation`): thirty
//! executables take six times as long. `cargo test` passes over this one; each file beside it is a test target as well.
#![allow(clippy::duplicate_mod)]

#[path = "accounts.rs"]
mod accounts;
#[path = "age.rs"]
mod age;
#[path = "constructors.rs"]
mod constructors;
#[path = "controls.rs"]
mod controls;
#[path = "create.rs"]
mod create;
#[path = "decay.rs"]
mod decay;
#[path = "destroy.rs"]
mod destroy;
#[path = "exhaustion.rs"]
mod exhaustion;
#[path = "fence.rs"]
mod fence;
#[path = "first_use.rs"]
mod first_use;
#[path = "foreign_code.rs"]
mod foreign_code;
#[path = "fork.rs"]
mod fork;
#[path = "general.rs"]
mod general;
#[path = "give_up.rs"]
mod give_up;
#[path = "hotplug.rs"]
mod hotplug;
#[path = "idle_pages.rs"]
mod idle_pages;
#[path = "listeners.rs"]
mod listeners;
#[path = "locks.rs"]
mod locks;
#[path = "model/main.rs"]
mod model;
#[path = "moving.rs"]
mod moving;
#[path = "order.rs"]
mod order;
#[path = "packing.rs"]
mod packing;
#[path = "page_sizes.rs"]
mod page_sizes;
#[path = "pages.rs"]
mod pages;
#[path = "readable.rs"]
mod readable;
#[path = "rest.rs"]
mod rest;
#[path = "sweep.rs"]
mod sweep;
#[path = "threads.rs"]
mod threads;
#[path = "tune.rs"]
mod tune;
#[path = "units.rs"]
mod units;
