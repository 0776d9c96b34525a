//! The variables of the environment that kmem goes by: all of them, and what each may say.
//!
//! ```text
//! KMEM_RSEQ      off, own, cid   how sections are kept apart               mode
//! KMEM_UPKEEP    off, always     who takes the turns of upkeep             upkeep
//! KMEM_CPUS      fixed           CPUs that leave are not followed          control
//! KMEM_HUGE      off             no advice on huge pages                   huge
//! KMEM_SECURE    0, 1            all memory is hardened                    checks
//! KMEM_DEBUG     letters, names  caches whose objects are checked          checks
//! KMEM_GUARD     1/N             one in N between guard pages              checks
//! KMEM_LEAKS     1               what is lost is listed at the end         checks
//! KMEM_PROFILE   a file          a heap profile is taken, and written      profile
//! KMEM_DEEPBIND  keep            plugins keep a malloc of their own        the preload library
//! KMEM_STATS     0, 1            a table of slabs at the end               the preload library
//! KMEM_STORM     a number        so many caches a second come and go       the preload library
//! ```
//! They are read once, all of them, at the first look, which is the first miss of the process: what a program sets for
//! itself later counts for what it execs. A variable that is empty says nothing.
//!
//! # What is not understood is said
//! A value that its variable does not know is as good as none, and a name that is nearly one of ours is none. Whoever
//! wrote it would never learn that, so both are named on standard error, once in a process. Other names that begin with
//! `KMEM_` may be another program's.
//!
//! # Other rights
//! Where a process has other rights than its caller, the caller wrote the environment, and nothing of it counts (nor is
//! it named: the message would be the caller's text in another one's log).

use core::str::from_utf8;

use kmem_core::sync::{AtomicU32, AtomicUsize, Ordering};

use super::environment::{for_each_entry, is_secure};
use super::{profile_setting, sys};

/// A variable, by its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the table at the head says what they are")]
pub enum Setting {
    Rseq,
    Upkeep,
    Cpus,
    Huge,
    Secure,
    Debug,
    Guard,
    Leaks,
    Profile,
    Deepbind,
    Stats,
    Storm,
}

struct Variable {
    /// What follows [`PREFIX`].
    name: &'static str,
    may_be: Values,
}

enum Values {
    Words(&'static [&'static str]),
    /// A decimal number from 1 on.
    Number,
    /// Any text: its reader says what it does not understand.
    Any,
    /// What a module of its own understands, and keeps: 1 if it does. And what it understands, in words.
    Text(fn(&[u8]) -> Option<usize>, &'static str),
}

const PREFIX: &str = "KMEM_";
const VARIABLES: usize = Setting::Storm as usize + 1;
static TABLE: [Variable; VARIABLES] = [
    Variable { name: "RSEQ", may_be: Values::Words(&["off", "own", "cid"]) },
    Variable { name: "UPKEEP", may_be: Values::Words(&["off", "always"]) },
    Variable { name: "CPUS", may_be: Values::Words(&["fixed"]) },
    Variable { name: "HUGE", may_be: Values::Words(&["off"]) },
    Variable { name: "SECURE", may_be: Values::Words(&["0", "1"]) },
    Variable { name: "DEBUG", may_be: Values::Any },
    Variable { name: "GUARD", may_be: Values::Any },
    Variable { name: "LEAKS", may_be: Values::Words(&["0", "1"]) },
    Variable { name: "PROFILE", may_be: Values::Text(profile_setting::parse, profile_setting::UNDERSTOOD) },
    Variable { name: "DEEPBIND", may_be: Values::Words(&["keep"]) },
    Variable { name: "STATS", may_be: Values::Words(&["0", "1"]) },
    Variable { name: "STORM", may_be: Values::Number },
];

/// What each says: the number of a word, counted from 1, the number itself, or where the text is; 0 where it says
/// nothing.
static SAID: [AtomicUsize; VARIABLES] = [const { AtomicUsize::new(0) }; VARIABLES];
static READ: AtomicU32 = AtomicU32::new(0);
/// Whether a thread reads, or has read: it is the one that speaks.
static SPOKEN: AtomicU32 = AtomicU32::new(0);

/// What a variable says, one of the words of its row; `None` where it says nothing that is understood.
#[cold]
pub fn word(setting: Setting) -> Option<&'static str> {
    match TABLE[setting as usize].may_be {
        Values::Words(words) => words.get(said(setting).checked_sub(1)?).copied(),
        Values::Number | Values::Any | Values::Text(..) => None,
    }
}

/// Whether a variable says something that is understood.
#[cold]
pub(crate) fn is_said(setting: Setting) -> bool {
    said(setting) > 0
}

/// The number that a variable says; `None` where it says none.
#[cold]
pub fn number(setting: Setting) -> Option<usize> {
    match TABLE[setting as usize].may_be {
        Values::Words(_) | Values::Any | Values::Text(..) => None,
        Values::Number => Some(said(setting)).filter(|number| *number > 0),
    }
}

/// The text that a variable says; `None` where it says none.
#[cold]
pub fn text(setting: Setting) -> Option<&'static [u8]> {
    match TABLE[setting as usize].may_be {
        Values::Any => Some(said(setting))
            .filter(|at| *at != 0)
            // SAFETY: the address is that of a value in the environment, which ends with a null and stays.
            .map(|at| unsafe { core::ffi::CStr::from_ptr(at as *const core::ffi::c_char) }.to_bytes()),
        Values::Words(_) | Values::Number | Values::Text(..) => None,
    }
}

fn said(setting: Setting) -> usize {
    if READ.load(Ordering::Acquire) == 0 {
        read();
    }
    SAID[setting as usize].load(Ordering::Relaxed)
}

/// Reads the environment. Threads that do so at the same time find the same; the first of them speaks.
#[cold]
#[inline(never)]
fn read() {
    if !is_secure() {
        let speaks = SPOKEN.swap(1, Ordering::Relaxed) == 0;
        let mut seen = [false; VARIABLES];
        for_each_entry(|entry| {
            let Some((name, value)) = split(entry) else { return };
            let Some(index) = TABLE.iter().position(|variable| variable.name.as_bytes() == name) else {
                if speaks && let Some(meant) = TABLE.iter().find(|variable| is_nearly(name, variable.name.as_bytes())) {
                    sys::report(&["kmem: ", PREFIX, shown(name), " is not known: is ", PREFIX, meant.name, " meant?"]);
                }
                return;
            };
            // As for getenv, the first of a name counts.
            if core::mem::replace(&mut seen[index], true) || value.is_empty() {
                return;
            }
            match parse(&TABLE[index].may_be, value) {
                Some(said) => SAID[index].store(said, Ordering::Relaxed),
                None if speaks => say(&TABLE[index], value),
                None => {}
            }
        });
    }
    READ.store(1, Ordering::Release);
}

/// Name, without [`PREFIX`], and value of an entry that has it.
fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = entry.strip_prefix(PREFIX.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'=')?;
    Some((&rest[..end], &rest[end + 1..]))
}

fn parse(may_be: &Values, value: &[u8]) -> Option<usize> {
    match may_be {
        Values::Words(words) => words.iter().position(|word| word.as_bytes() == value).map(|index| index + 1),
        Values::Number => value
            .iter()
            .try_fold(0usize, |number, digit| {
                let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
                number.checked_mul(10)?.checked_add(usize::from(digit))
            })
            .filter(|number| *number > 0),
        Values::Any => Some(value.as_ptr() as usize),
        Values::Text(parse, _) => parse(value),
    }
}

/// Names a value that is not understood, and those that are.
fn say(variable: &Variable, value: &[u8]) {
    let mut parts = ["kmem: ", PREFIX, variable.name, "=", shown(value), " is not understood: ", "", "", "", "", ""];
    match variable.may_be {
        Values::Words(words) => {
            for (index, word) in words.iter().enumerate() {
                parts[6 + 2 * index] = word;
                if index > 0 {
                    parts[5 + 2 * index] = ", ";
                }
            }
        }
        Values::Number => parts[6] = "a number from 1 on",
        Values::Any => {}
        Values::Text(_, understood) => parts[6] = understood,
    }
    sys::report(&parts);
}

/// The beginning of a text that anybody may have written, as far as it is plain.
fn shown(text: &[u8]) -> &str {
    let plain = text.iter().take(40).take_while(|byte| byte.is_ascii_graphic()).count();
    from_utf8(&text[..plain]).unwrap_or("")
}

/// Whether a name differs from one of ours in a letter or two next to each other: changed, missing, too many, or in the
/// wrong order.
fn is_nearly(name: &[u8], ours: &[u8]) -> bool {
    let shorter = name.len().min(ours.len());
    let before = name.iter().zip(ours).take_while(|(a, b)| a == b).count();
    let behind = name.iter().rev().zip(ours.iter().rev()).take_while(|(a, b)| a == b).count().min(shorter - before);
    before + behind > 1 && name.len().max(ours.len()) - before - behind <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_table_and_no_others() {
        let rseq = &TABLE[Setting::Rseq as usize].may_be;
        assert_eq!(
            [&b"off"[..], b"own", b"cid", b"OFF", b"of", b"off "].map(|value| parse(rseq, value)).to_vec(),
            [Some(1), Some(2), Some(3), None, None, None]
        );
        let storm = &TABLE[Setting::Storm as usize].may_be;
        let numbers = [&b"200"[..], b"0", b"", b"-1", b"2x", b"99999999999999999999"];
        assert_eq!(numbers.map(|value| parse(storm, value)), [Some(200), None, None, None, None, None]);
    }

    #[test]
    fn names_are_split_from_values() {
        assert_eq!(split(b"KMEM_CPUS=fixed"), Some((&b"CPUS"[..], &b"fixed"[..])));
        assert_eq!(split(b"KMEM_CPUS=a=b"), Some((&b"CPUS"[..], &b"a=b"[..])));
        assert_eq!([split(b"KMEM_CPUS"), split(b"kmem_cpus=fixed"), split(b"X")], [None; 3]);
    }

    #[test]
    fn what_is_misspelt_is_nearly_the_name() {
        for near in ["UPKEP", "UPKEEEP", "UPKEPE", "UPKEEPS", "UPKEE", "PKEEP", "UKPEEP"] {
            assert!(is_nearly(near.as_bytes(), b"UPKEEP"), "{near}");
        }
        for far in ["", "CASE", "EXPECT", "KEEPUP", "UPKEEP_PERIOD", "STRESS_HITS", "C"] {
            let near = TABLE.iter().find(|variable| is_nearly(far.as_bytes(), variable.name.as_bytes()));
            assert!(near.is_none(), "{far} is taken for {}", near.map_or("", |near| near.name));
        }
    }

    #[test]
    fn what_is_shown_of_a_text_is_short_and_plain() {
        assert_eq!(shown(b"foo"), "foo");
        assert_eq!(shown(b"fo\x1b[31mo"), "fo");
        assert_eq!(shown(&[b'x'; 1000]).len(), 40);
    }
}
