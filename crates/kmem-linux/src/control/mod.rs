//! Control: how another process asks this one for something, and gets an answer.
//!
//! A user wants to tune a cache or to change a limit of a process that must not be restarted. A signal, a socket or a
//! file to look at would each cost a process that is never asked. So the command writes into this process's memory, for
//! which the kernel wants the right to trace it, and the process reads one word where it looks at due things anyway: in
//! each turn of upkeep, and on slow paths, where the word is the one that they load in any case (`Area::attention`). No
//! fast path knows of it, and the process makes no system call for it.
//!
//! ```text
//! command                                      process
//! finds the area by the note                   |
//! writes the request, then attention = ASK     |
//!                                              |  a slow path, or the thread: the request is new, and whole
//!                                              |  carries it out; writes the answer, its sequence last
//! sees its own sequence in the answer          |
//! ```
//!
//! # Where the area is
//! A program or shared object with kmem in it has an ELF note of the name `kmem` ([`message::NOTE`]) that says how far
//! from itself the [`Area`] is. Notes are among what is loaded and survive `strip`, so the command finds the area in
//! every process, by the program headers in its memory, whether it publishes a status page or not.
//!
//! # What a request can do
//! Only a process that may write this one's memory can write one. A request is validated all the same, because it may
//! be of another version or half written: it is copied first, its checksum tells a torn one, which is looked at again
//! later, and each kind is refused with a reason where its values are out of range.
//!
//! # Where it is carried out
//! On a slow path of the program's, with no lock of the engine held, on the stack of its caller; or on the upkeep's
//! thread. So a kind waits for no transition and no thread that may be suspended (it is `Outcome::Later` then), runs
//! no code of the program's, and takes little of the stack. It makes a system call only if the request says that no
//! filter of the process minds ([`message::MAY_CALL`]): the command has looked.
//!
//! # Adding a kind
//! A number in [`message::Kind`], an arm in `carry_out`, and what it refuses in [`message::Refusal`]. An answer has
//! room for [`message::NUMBERS`] numbers; more than that lies in memory of the process, whose address is one of them.
//!
//! # Fork
//! A child has been asked nothing (`after_fork_in_child`).

pub mod message;
mod tune;

use core::cell::UnsafeCell;

use kmem_core::Engine;
use kmem_core::sync::{AtomicU32, AtomicU64, Ordering};

use crate::platform::Linux;
use crate::profile::{RATE_MAX, Refused};
use crate::upkeep::Work;
use message::{ANSWER_WORDS, Kind, REQUEST_WORDS, Refusal, Request};

/// Slow paths need not look.
pub(crate) const QUIET: u32 = 0;
/// Slow paths look now and then whether anything is due.
pub(crate) const ASK: u32 = 1;

/// What is written from outside, and what is read there.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Area {
    /// Whether slow paths look at what is due: the one word that they load. [`upkeep`](crate::upkeep) changes it, and
    /// one who asks.
    pub(crate) attention: AtomicU32,
    /// 1 once the engine of this program or shared object exists.
    made: AtomicU32,
    _gap: [u32; 14],
    request: [AtomicU64; REQUEST_WORDS],
    answer: [AtomicU64; ANSWER_WORDS],
}

// What the command writes and reads lies where it thinks it does.
const _: () = assert!(
    core::mem::offset_of!(Area, attention) == message::at::ATTENTION
        && core::mem::offset_of!(Area, made) == message::at::MADE
        && core::mem::offset_of!(Area, request) == message::at::REQUEST
        && core::mem::offset_of!(Area, answer) == message::at::ANSWER
        && size_of::<Area>() == message::at::END.next_multiple_of(64)
);

/// The area of this program or shared object.
pub static AREA: Area = Area {
    attention: AtomicU32::new(ASK),
    made: AtomicU32::new(0),
    _gap: [0; 14],
    request: [const { AtomicU64::new(0) }; REQUEST_WORDS],
    answer: [const { AtomicU64::new(0) }; ANSWER_WORDS],
};

core::arch::global_asm!(
    ".pushsection .note.kmem,\"a\",@note",
    ".balign 4",
    ".long 5, 12, {version}",
    ".asciz \"kmem\"",
    ".balign 4",
    ".long {length}",
    ".quad {area} - .",
    ".popsection",
    version = const message::VERSION,
    length = const size_of::<Area>(),
    area = sym AREA,
);

/// The copy of a request that is being carried out: it is too large for the stack of a slow path's caller.
struct Copy(UnsafeCell<Request>);

// SAFETY: only the thread that has the work of upkeep uses it.
unsafe impl Sync for Copy {}

static COPY: Copy = Copy(UnsafeCell::new(Request::nothing()));

/// What became of a request.
pub(crate) enum Outcome {
    /// It was carried out: numbers that depend on the kind.
    Done([u64; message::NUMBERS]),
    /// It was refused, and nothing has changed: the reason, and numbers that depend on it.
    Refused(Refusal, [u64; message::NUMBERS]),
    /// It would have to wait: it is looked at again.
    Later,
}

/// Notes that there is an engine to ask.
#[cold]
pub(crate) fn engine_exists() {
    AREA.made.store(1, Ordering::Release);
}

/// Carries out what was asked for since the last look, if anything was. The thread that has the work of upkeep calls
/// this, which proves that no other does.
#[inline]
pub(crate) fn look(engine: &Engine<Linux>, _work: &mut Work) {
    let asked = AREA.request[0].load(Ordering::Acquire);
    if asked != 0 && asked != AREA.answer[0].load(Ordering::Relaxed) {
        answer(engine);
    }
}

/// Carries out a new request and writes the answer.
#[cold]
#[inline(never)]
fn answer(engine: &Engine<Linux>) {
    // SAFETY: one thread at a time is here, and the copy is used here only.
    let copy = unsafe { &mut *COPY.0.get() };
    if !copy.read(|index| AREA.request[index].load(Ordering::Relaxed)) {
        // It is being written, or another one over it.
        return;
    }
    match carry_out(engine, copy) {
        Outcome::Done(numbers) => write(copy.sequence, 0, numbers),
        Outcome::Refused(why, numbers) => write(copy.sequence, why as u64, numbers),
        Outcome::Later => {}
    }
}

/// Writes an answer, its sequence last.
fn write(sequence: u64, refused: u64, numbers: [u64; message::NUMBERS]) {
    let [first, reason, places @ ..] = &AREA.answer;
    reason.store(refused, Ordering::Relaxed);
    places.iter().zip(numbers).for_each(|(place, number)| place.store(number, Ordering::Relaxed));
    first.store(sequence, Ordering::Release);
}

#[inline(never)]
fn carry_out(engine: &Engine<Linux>, request: &Request) -> Outcome {
    match Kind::of(request.kind) {
        Some(Kind::Tune) => tune::tune(engine, request),
        Some(Kind::Profile) => profile(request),
        Some(Kind::Limit) => tune::limit(engine, request),
        None => Outcome::Refused(Refusal::UnknownKind, [request.kind, 0, 0, 0]),
    }
}

/// Switches a heap profile on or off.
#[cold]
#[inline(never)]
fn profile(request: &Request) -> Outcome {
    let rate = request.argument(1).unwrap_or(0);
    if request.argument(0) == Some(0) {
        crate::profile::switch_off();
        return Outcome::Done([crate::profile::head_address() as u64, 0, 0, 0]);
    }
    let Some(engine) = crate::instance::existing() else { return Outcome::Later };
    match crate::profile::switch_on(engine, rate) {
        Ok(()) => Outcome::Done([crate::profile::head_address() as u64, 0, 0, 0]),
        Err(Refused::IsOn) => Outcome::Done([crate::profile::head_address() as u64, 1, 0, 0]),
        Err(Refused::NoMemory) => Outcome::Refused(Refusal::NoMemory, [0; message::NUMBERS]),
        Err(Refused::Rate) => Outcome::Refused(Refusal::Rate, [rate as u64, RATE_MAX as u64, 0, 0]),
    }
}

/// Whether a request waits for a look.
pub(crate) fn is_asked() -> bool {
    AREA.request[0].load(Ordering::Relaxed) != AREA.answer[0].load(Ordering::Relaxed)
}

/// A child has been asked nothing: what its parent was asked is the parent's.
pub(crate) fn after_fork_in_child() {
    AREA.answer[0].store(AREA.request[0].load(Ordering::Relaxed), Ordering::Relaxed);
}
