//! Exploring schedules: the threads of a scenario run one at a time, in one order after another.
//!
//! The engine calls the platform between its steps, and the director lets one thread go on each time. A run is decided
//! by its [`Schedule`], so it can be run again. The search goes from few to many preemptions (Musuvathi and Qadeer,
//! iterative context bounding): first every run in which threads only pass the baton on when they wait or are done,
//! then every run in which one of them is preempted once, anywhere, then twice. Most races need only one or two
//! preemptions, and the first schedule found is one that a person can read. The rest of the budget is spent on random
//! runs with any number of preemptions.

mod director;
pub mod event;
mod plan;
mod schedule;
mod search;
pub(crate) mod seat;

pub use director::Fault;
pub use schedule::{MAX_THREADS, NoSchedule, Schedule, Turn};
pub use search::{Broken, Explored, Finding, Limits, Stage, Trouble, explore, replay};
