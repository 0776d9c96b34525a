//! Code of the program that runs while its thread keeps a cache from being freed: destructors, visitors of the
//! statistics, and what makes room in an account.
//!
//! A destroy waits until the cache is no longer pinned (I19). If such code called it for the cache that its own thread
//! keeps pinned, it would wait for ever, and safe code can do that: by a value that owns its cache and is dropped by a
//! trim, for example. So a thread notes what it is *inside* of, and a destroy from there is refused
//! ([`DestroyError::InsideItself`](crate::DestroyError)).
//!
//! ```text
//! trim                     pins the cache
//!   a destructor           noted: this thread, this cache
//!     destroy              refused: the cache is as it was
//!   ...                    the note goes
//! ```
//! Notes are on the stacks of their threads, linked under a lock; no other lock is taken under it. A cache counts its
//! notes, so a destroy of one that has none takes no lock; a thread always sees the notes that it made itself.

use core::ptr::NonNull;

use super::CacheDesc;
use crate::host::Host;
use crate::sync::{Mutex, Ordering, Rank, Word};

/// A thread is inside of a cache.
struct Note {
    thread: usize,
    cache: NonNull<CacheDesc>,
    next: Option<NonNull<Note>>,
}

#[derive(Default)]
struct Notes {
    head: Option<NonNull<Note>>,
}

// SAFETY: notes are linked while their threads are inside, and read under the lock around them.
unsafe impl Send for Notes {}

impl Notes {
    /// Unlinks the notes that are not to be kept.
    fn retain(&mut self, keep: impl Fn(&Note) -> bool) {
        let mut place = &mut self.head;
        while let Some(note) = *place {
            // SAFETY: a note that is linked is there until it is unlinked, and the lock is held.
            let note = unsafe { &mut *note.as_ptr() };
            if keep(note) {
                place = &mut note.next;
            } else {
                *place = note.next;
            }
        }
    }
}

/// What the threads of an engine are inside of.
pub(crate) struct Inside {
    notes: Mutex<Notes>,
}

/// Unlinks a note, even if the code unwinds.
struct Leave<'a, P: Host> {
    inside: &'a Inside,
    platform: &'a P,
    cache: &'a CacheDesc,
    note: NonNull<Note>,
}

impl<P: Host> Drop for Leave<'_, P> {
    fn drop(&mut self) {
        let note = self.note;
        self.inside.notes.lock(self.platform).retain(|other| NonNull::from(other) != note);
        self.cache.insides.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inside {
    pub(crate) fn new() -> Self {
        Self { notes: Mutex::new(Rank::Stats, Notes::default()) }
    }

    /// Runs the program's `code` inside of `cache`, which the calling thread keeps from being freed. The caller holds
    /// no lock.
    pub(crate) fn run<P: Host, R>(&self, platform: &P, cache: &CacheDesc, code: impl FnOnce() -> R) -> R {
        let mut note = Note { thread: platform.thread_token(), cache: NonNull::from(cache), next: None };
        let note = NonNull::from(&mut note);
        cache.insides.fetch_add(1, Ordering::Relaxed);
        {
            let mut notes = self.notes.lock(platform);
            // SAFETY: the note is this function's, which unlinks it before it returns or unwinds.
            unsafe { (*note.as_ptr()).next = notes.head };
            notes.head = Some(note);
        }
        let _leave = Leave { inside: self, platform, cache, note };
        code()
    }

    /// Whether the calling thread is inside of `cache`.
    pub(crate) fn is_in<P: Host>(&self, platform: &P, cache: &CacheDesc) -> bool {
        if cache.insides.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let (thread, cache) = (platform.thread_token(), NonNull::from(cache));
        let notes = self.notes.lock(platform);
        let mut at = notes.head;
        while let Some(note) = at {
            // SAFETY: a note that is linked is there, and the lock is held.
            let note = unsafe { note.as_ref() };
            if note.thread == thread && note.cache == cache {
                return true;
            }
            at = note.next;
        }
        false
    }

    /// Whether the calling thread is inside of any cache.
    pub(crate) fn is_in_any<P: Host>(&self, platform: &P) -> bool {
        let thread = platform.thread_token();
        let notes = self.notes.lock(platform);
        // SAFETY: a note that is linked is there, and the lock is held.
        core::iter::successors(notes.head, |note| unsafe { note.as_ref() }.next)
            // SAFETY: as above.
            .any(|note| unsafe { note.as_ref() }.thread == thread)
    }

    /// The word of the lock, for fork.
    pub(crate) fn word(&self) -> &Word {
        self.notes.word()
    }

    /// In a child, forgets the notes of threads that do not exist there, because their stacks will be reused. Does
    /// nothing if the calling thread is itself in the middle of something here.
    pub(crate) fn forget_others<P: Host>(&self, platform: &P) {
        let Some(mut notes) = self.notes.try_lock(platform) else { return };
        let thread = platform.thread_token();
        notes.retain(|note| {
            if note.thread != thread {
                // SAFETY: its cache was pinned, and this process has freed nothing yet.
                unsafe { note.cache.as_ref() }.insides.fetch_sub(1, Ordering::Relaxed);
            }
            note.thread == thread
        });
    }
}
