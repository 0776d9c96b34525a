//! Ctrl-C: the first one asks a command to stop and report what it has so far, the second one kills it at once.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use console::Term;
use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// The exit code of a command that was stopped, by the shells' convention: 128 plus the signal.
pub const EXIT_STOPPED: u8 = 130;
/// A sleeping command notices Ctrl-C within this time.
const LOOK: Duration = Duration::from_millis(50);

/// Whether the command was asked to stop.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on Ctrl-C only sets the flag. If the handler cannot be installed, Ctrl-C kills the command as usual.
    pub fn watch() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        // The order matters: the first signal must find the flag clear, and only set it.
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

    /// The flag that Ctrl-C sets. It is leaked, which is fine because a command watches only once.
    pub fn flag(self) -> &'static AtomicBool {
        Box::leak(Box::new(self.0))
    }

    /// Sleeps, but wakes up on Ctrl-C.
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

/// Erases the `^C` that the terminal echoed at the cursor.
pub fn clean_line() {
    let term = Term::stderr();
    if term.is_term() {
        // On a terminal that cannot erase a line it stays.
        let _ = term.clear_line();
    }
}
