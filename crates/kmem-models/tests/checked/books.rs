//! The books of a model: which objects users hold, as the models themselves know it. An object that is handed out twice
//! is found when it is handed out.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

/// The objects that users hold. Its lock is no step of a schedule.
#[derive(Clone, Default)]
pub struct Books(Arc<Mutex<HashSet<usize>>>);

impl Books {
    /// Notes that `object` was handed out.
    ///
    /// # Panics
    /// If somebody holds it (I7).
    pub fn taken(&self, object: usize) -> usize {
        let new = self.0.lock().unwrap_or_else(|dead| dead.into_inner()).insert(object);
        assert!(new, "object {object:#x} was handed out twice (I7)");
        object
    }

    /// Notes that `object` is about to be given back.
    pub fn given(&self, object: usize) -> usize {
        let held = self.0.lock().unwrap_or_else(|dead| dead.into_inner()).remove(&object);
        assert!(held, "the model gives back what it does not hold");
        object
    }

    /// How many objects users hold.
    pub fn held(&self) -> usize {
        self.0.lock().unwrap_or_else(|dead| dead.into_inner()).len()
    }
}
