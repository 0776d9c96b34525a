//! Two listeners that write down what they hear; the second refuses what it is told to.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use kmem_core::cpu::{Event, Refused};

use super::common::{E, listen};

/// What was heard: by the first or the second, and of which CPU.
pub type Heard = Vec<(usize, Event, usize)>;

#[derive(Default)]
struct Shared {
    heard: Mutex<Heard>,
    refuses: AtomicBool,
}

/// The two.
pub struct Ears(Arc<Shared>);

impl Ears {
    pub fn of(engine: &E) -> Self {
        let shared = Arc::<Shared>::default();
        for ear in [0, 1] {
            let shared = shared.clone();
            listen(engine, move |event, cpu| {
                shared.heard.lock().expect("no panic").push((ear, event, cpu));
                let asked = matches!(event, Event::UpPrepare | Event::DownPrepare);
                if ear == 1 && asked && shared.refuses.load(Ordering::Relaxed) { Err(Refused) } else { Ok(()) }
            });
        }
        Self(shared)
    }

    /// Listens to `transition`, refusing it or not.
    pub fn hear<R>(&self, refuses: bool, transition: impl FnOnce() -> R) -> (R, Heard) {
        self.0.heard.lock().expect("no panic").clear();
        self.0.refuses.store(refuses, Ordering::Relaxed);
        let answer = transition();
        self.0.refuses.store(false, Ordering::Relaxed);
        (answer, std::mem::take(&mut *self.0.heard.lock().expect("no panic")))
    }
}

/// What both hear of a transition that was asked for and then happened.
pub fn granted(cpu: usize, asked: Event, done: Event) -> Heard {
    vec![(0, asked, cpu), (1, asked, cpu), (0, done, cpu), (1, done, cpu)]
}

/// What both hear of one that the second refused: only who had granted hears that it was undone.
pub fn refused(cpu: usize, asked: Event, undone: Event) -> Heard {
    vec![(0, asked, cpu), (1, asked, cpu), (0, undone, cpu)]
}
