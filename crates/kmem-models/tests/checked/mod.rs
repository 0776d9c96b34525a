//! What the models share: the engine on a platform made of a model checker's own types, small machines, and the books
//! that the models keep.
#![allow(dead_code)]

pub mod books;
pub mod cache;
pub mod platform;

#[path = "../../../kmem-sim/src/modelled.rs"]
mod modelled;

/// The checker of this build.
#[cfg(kmem_loom)]
pub mod checker {
    pub use loom::sync::Mutex;
    pub use loom::{thread, thread_local};
}
/// The checker of this build.
#[cfg(kmem_shuttle)]
pub mod checker {
    pub use shuttle::sync::Mutex;
    pub use shuttle::{thread, thread_local};
}

use std::sync::Arc;

use kmem_core::classes::CLASSES;
use kmem_core::cpu::{CpuSet, Event, Listener, Refused};
use kmem_core::slab::FreeError;
use kmem_core::{Config, Engine, Population};

pub use books::Books;
pub use cache::Cache;
pub use checker::thread;
pub use platform::{Machine, Model};

/// An engine that threads share.
pub type E = Arc<Engine<Model>>;

/// An engine without general caches, with room for four others.
pub fn engine(machine: Machine, population: Population) -> E {
    engine_that(machine, population, no_bad_free)
}

/// An engine with general caches, and room for no others.
pub fn general_engine(machine: Machine) -> E {
    let config = Config { max_caches: CLASSES, population: Population::OnFirstUse, bad_free: no_bad_free };
    Arc::new(Engine::new(Model::new(machine), config).expect("an engine"))
}

/// The same, which tells `bad_free` of pointers that are no live objects.
pub fn engine_that(machine: Machine, population: Population, bad_free: fn(usize, FreeError)) -> E {
    let config = Config { max_caches: 4, population, bad_free };
    // SAFETY: models that use memory by size have a `general_engine`.
    Arc::new(unsafe { Engine::without_general(Model::new(machine), config) }.expect("an engine"))
}

/// A model that frees what it does not hold is wrong, or has found something.
pub fn no_bad_free(object: usize, error: FreeError) {
    panic!("{object:#x} was refused: {error:?}");
}

/// A thread on a CPU.
#[track_caller]
pub fn on<R: Send + 'static>(
    engine: &E,
    cpu: usize,
    code: impl FnOnce() -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    let engine = engine.clone();
    thread::spawn(move || {
        engine.platform().enter(cpu);
        code()
    })
}

/// Waits for a thread, and dies with it.
pub fn join<R>(thread: thread::JoinHandle<R>) -> R {
    thread.join().expect("a thread that does not panic")
}

/// The CPUs of a list.
pub fn cpus(list: &[usize]) -> CpuSet {
    list.iter().copied().collect()
}

struct Closure(Box<dyn Fn(Event, usize) -> Result<(), Refused> + Sync + Send>);

impl Listener for Closure {
    fn event(&self, event: Event, cpu: usize) -> Result<(), Refused> {
        (self.0)(event, cpu)
    }
}

/// A listener that is a closure.
pub fn listen(engine: &E, hear: impl Fn(Event, usize) -> Result<(), Refused> + Sync + Send + 'static) {
    engine.subscribe(Box::leak(Box::new(Closure(Box::new(hear))))).expect("room for a listener");
}
