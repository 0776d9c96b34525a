//! Which thread waits for which word: what a fork in a signal handler has to know.
//!
//! A thread that forks while it holds a lock further up in its stack cannot wait for everything: a thread that waits
//! for *that* lock does not release what it holds meanwhile. So a thread that is about to sleep says so here, where the
//! sleep costs more than the note, and [`chain`](Waiters::chain) tells whether a thread can go on before the forking
//! thread does.
//!
//! ```text
//! T: holds a node, interrupted; forks; wants the depot   ->  held by B
//! B: holds the depot; waits for the node                 ->  noted here: B, node; and the node is T's
//! ```
//! 'Stuck' is never a wrong result: B notes the word before it sleeps and removes the note after it has the word, and
//! T's own lock stays T's while T asks. So B is between the two. If there are more links, the chain is checked from its
//! end: once C is known to be stuck, the word that C holds stays C's, and is checked again.
//!
//! A word is read through its note, and the note is *pinned* meanwhile: the thread that made it waits until the pin is
//! gone, so neither it nor another thread has freed the memory that the word is in.
//!
//! If all places are taken the thread does not sleep, but looks again and again until there is one. The atomics here
//! are `core`'s in every build: model checkers look at the words, not at this.

use core::fmt;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::Park;
use super::word::{Word, owner};

/// More threads than ever sleep on locks at a time: those of one processor each.
const PLACES: usize = 512;
/// Threads between the one that is asked for and the one that asks: each holds a lock of a higher rank than the one
/// before.
const LINKS: usize = 10;
/// In the lower bits of a note's address.
const PINNED: usize = 1;
const FORKS: usize = 2;

/// Why a thread waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It takes a lock, at a place where all that it holds is in order.
    Operation,
    /// It forks. What it holds for that is in order; what it holds further up in its stack may not be.
    Fork,
}

#[derive(Debug)]
struct Place {
    who: AtomicUsize,
    word: AtomicPtr<Word>,
}

/// The notes of one engine's threads.
#[derive(Debug)]
pub struct Waiters {
    places: [Place; PLACES],
}

/// A note; dropping it takes it away.
pub struct Note<'a, P: Park> {
    place: &'a Place,
    park: &'a P,
}

impl<P: Park> fmt::Debug for Note<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Note").field(self.place).finish()
    }
}

impl Waiters {
    /// No notes.
    pub const fn new() -> Self {
        Self { places: [const { Place { who: AtomicUsize::new(0), word: AtomicPtr::new(null_mut()) } }; PLACES] }
    }

    /// Notes that the thread waits for `word`; `None` where there is no room.
    ///
    /// # Safety
    /// The note is dropped, on this thread, before the word goes away: others read the word through it.
    pub unsafe fn note<'a, P: Park>(&'a self, park: &'a P, word: &Word, why: Why) -> Option<Note<'a, P>> {
        let who = park.thread_token();
        let place = self.places.iter().find(|place| {
            place.who.load(Ordering::Relaxed) == 0
                && place.who.compare_exchange(0, who, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })?;
        let mark = if why == Why::Fork { FORKS } else { 0 };
        place.word.store(core::ptr::from_ref(word).cast_mut().map_addr(|address| address | mark), Ordering::SeqCst);
        Some(Note { place, park })
    }

    /// Whether `who` waits, maybe by way of others, for a word that `me`, the calling thread, holds, so that it will
    /// not get on before `me` does; and what the last of them does, which waits for `me` itself.
    pub fn chain(&self, who: usize, me: usize) -> Option<Why> {
        self.chain_of(who, me, LINKS)
    }

    fn chain_of(&self, who: usize, me: usize, links: usize) -> Option<Why> {
        self.places.iter().filter(|place| place.who.load(Ordering::SeqCst) == who).find_map(|place| {
            place.pinned(|word, why| {
                // The place may have become another thread's meanwhile; from the pin on it cannot.
                if place.who.load(Ordering::SeqCst) != who {
                    return None;
                }
                match owner(word.value()) {
                    0 => None,
                    holder if holder == me => Some(why),
                    holder if holder == who || links == 0 => None,
                    holder => self.chain_of(holder, me, links - 1).filter(|_| owner(word.value()) == holder),
                }
            })
        })
    }

    /// Whether the thread is in a fork that waits.
    pub(super) fn is_in_fork(&self, who: usize) -> bool {
        let forks = |place: &&Place| place.word.load(Ordering::Relaxed).addr() & FORKS != 0;
        self.places.iter().filter(|place| place.who.load(Ordering::Relaxed) == who).any(|place| forks(&place))
    }

    /// Takes all notes but those of `me` away: in a child made by fork the other threads are gone.
    pub(super) fn forget_others(&self, me: usize) {
        for place in &self.places {
            if ![0, me].contains(&place.who.load(Ordering::Relaxed)) {
                place.word.store(null_mut(), Ordering::Relaxed);
                place.who.store(0, Ordering::Release);
            }
        }
    }
}

impl Default for Waiters {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// Looks at the word that is noted; `None` also where another thread looks.
    fn pinned(&self, look: impl FnOnce(&Word, Why) -> Option<Why>) -> Option<Why> {
        let noted = self.word.load(Ordering::SeqCst);
        if noted.is_null() || noted.addr() & PINNED != 0 {
            return None;
        }
        let pinned = noted.map_addr(|address| address | PINNED);
        self.word.compare_exchange(noted, pinned, Ordering::SeqCst, Ordering::Relaxed).ok()?;
        let why = if noted.addr() & FORKS != 0 { Why::Fork } else { Why::Operation };
        // SAFETY: the thread that noted the word has borrowed it until its note is taken away, which waits for the pin.
        let answer = look(unsafe { &*noted.map_addr(|address| address & !(PINNED | FORKS)) }, why);
        self.word.store(noted, Ordering::SeqCst);
        answer
    }
}

impl<P: Park> Drop for Note<'_, P> {
    fn drop(&mut self) {
        let word = &self.place.word;
        let mut tries = 0;
        loop {
            let noted = word.load(Ordering::Relaxed);
            let nothing = null_mut();
            if noted.addr() & PINNED == 0
                && word.compare_exchange(noted, nothing, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                break;
            }
            self.park.rest(tries);
            tries += 1;
        }
        self.place.who.store(0, Ordering::Release);
    }
}

/// Sleeps on `word` until `look`, which returns the value to sleep on, returns `None`. A thread that sleeps has left a
/// note.
#[cold]
pub(crate) fn sleep<P: Park>(park: &P, word: &Word, mut look: impl FnMut() -> Option<usize>) {
    let (mut note, mut tries) = (None, 0);
    while let Some(value) = look() {
        if let (None, Some(waiters)) = (&note, park.waiters()) {
            // SAFETY: the note is a variable of this call, which has borrowed the word.
            note = unsafe { waiters.note(park, word, Why::Operation) };
            if note.is_none() {
                park.rest(tries);
                tries += 1;
                continue;
            }
        }
        park.wait(&word.0, value);
    }
}
