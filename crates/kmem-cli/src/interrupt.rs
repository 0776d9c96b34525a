//! Ctrl-C: the first one asks a command to stop and to tell what it has so far, the second one ends it at once.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use console::Term;
use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// The code of a command that was stopped, as shells have it: 128 and the signal.
pub const EXIT_STOPPED: u8 = 130;
/// A stop is noticed within this time.
const LOOK: Duration = Duration::from_millis(50);

/// Whether the command was asked to stop.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on Ctrl-C asks. Where the handler cannot be had it ends the command, as without one.
    pub fn watch() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        // In this order: the first signal finds the flag down, and only raises it.
        let handlers: io::Result<_> =
            flag::register_conditional_shutdown(SIGINT, i32::from(EXIT_STOPPED), Arc::clone(&asked))
                .and_then(|_| flag::register(SIGINT, Arc::clone(&asked)));
        if let Err(error) = handlers {
            eprintln!("kmem: Ctrl-C will end the command without a report: {error}");
        }
        Self(asked)
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What becomes true when Ctrl-C is pressed. It lives for ever: a command watches once.
    pub fn flag(self) -> &'static AtomicBool {
        Box::leak(Box::new(self.0))
    }

    /// Sleeps, but not through a Ctrl-C.
    pub fn sleep(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_asked() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK));
        }
    }
}

/// Takes away the `^C` that the terminal wrote where the cursor was.
pub fn clean_line() {
    let term = Term::stderr();
    if term.is_term() {
        // A terminal that cannot do that keeps it.
        let _ = term.clear_line();
    }
}
