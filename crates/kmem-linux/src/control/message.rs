//! What a request and its answer look like, in words of eight bytes in the machine's order: for this process, and for
//! the command that asks it.

/// Of the note and of what it leads to.
pub const VERSION: u32 = 1;
/// The note's name, with its end.
pub const NOTE: &[u8; 5] = b"kmem\0";
/// The bytes of the note's description: those of the area (4), and how far it is from this very number (8).
pub const NOTE_BYTES: usize = 12;
/// Most bytes of a name.
pub const NAME_MAX: usize = 64;
/// Arguments of a request.
pub const ARGUMENTS: usize = 8;
/// Numbers of an answer.
pub const NUMBERS: usize = 4;
/// The argument that is not given.
pub const NONE: u64 = u64::MAX;
/// A flag: what is asked for may make system calls, because no filter of the process minds.
pub const MAY_CALL: u64 = 1;

const NAME: usize = 3 + ARGUMENTS;
const CHECK: usize = NAME + NAME_MAX / 8;
/// Words of a request: sequence, kind, flags, arguments, name, checksum.
pub const REQUEST_WORDS: usize = CHECK + 1;
/// Words of an answer: sequence, the reason why it was refused, numbers.
pub const ANSWER_WORDS: usize = 2 + NUMBERS;

/// Where things lie in the area, in bytes.
pub mod at {
    /// One who asks writes 1 here after the request.
    pub const ATTENTION: usize = 0;
    /// 1 once there is an engine.
    pub const MADE: usize = 4;
    /// Where a request is written.
    pub const REQUEST: usize = 64;
    /// Where the answer is read.
    pub const ANSWER: usize = REQUEST + 8 * super::REQUEST_WORDS;
    /// The end of what is used.
    pub const END: usize = ANSWER + 8 * super::ANSWER_WORDS;
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// The named cache gets another limit (argument 0), batch (1) and depot (2), or those of them that are given. The
    /// answer: CPUs whose slots have the limit now, and CPUs that get it when their slot is next enabled.
    Tune = 1,
    /// A heap profile is switched on (argument 0: 1, argument 1: the rate) or off (0). The answer: the address of its
    /// head, and whether it was on before.
    Profile,
    /// The named account gets another limit in bytes (argument 0; none is no limit). The answer: bytes that are charged
    /// to it.
    Limit,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Tune, Self::Profile, Self::Limit];

    /// The kind of this number.
    pub fn of(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// This version knows no such kind. The number: the kind.
    UnknownKind = 1,
    /// The name is no text.
    BadName,
    /// No cache has this name.
    NoSuchCache,
    /// The cache is being destroyed.
    Dying,
    /// The limit is 0 or too large. The numbers: which, and the most.
    Capacity,
    /// There is no memory for it.
    NoMemory,
    /// The rate of a profile is 0 or too large. The numbers: which, and the most.
    Rate,
    /// The batch is 0 or too large. The same numbers.
    Batch,
    /// The depot is too large. The same numbers.
    Depot,
    /// No account has this name.
    NoSuchAccount,
}

impl Refusal {
    const ALL: [Self; 10] = [
        Self::UnknownKind,
        Self::BadName,
        Self::NoSuchCache,
        Self::Dying,
        Self::Capacity,
        Self::NoMemory,
        Self::Rate,
        Self::Batch,
        Self::Depot,
        Self::NoSuchAccount,
    ];

    /// The reason of this number.
    pub fn of(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|why| *why as u64 == number)
    }
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Any number but 0, and another one for each request.
    pub sequence: u64,
    /// A [`Kind`].
    pub kind: u64,
    /// [`MAY_CALL`].
    pub flags: u64,
    /// What they mean depends on the kind.
    pub arguments: [u64; ARGUMENTS],
    /// What it is about; zeros follow the name.
    pub name: [u8; NAME_MAX],
}

/// FNV-1a, by words.
fn checksum(words: &[u64]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| (sum ^ word).wrapping_mul(0x100_0000_01b3))
}

impl Request {
    /// A request about `name`; `None` if that is too long.
    pub fn new(sequence: u64, kind: Kind, flags: u64, about: &str, given: &[u64]) -> Option<Self> {
        let (mut name, mut arguments) = ([0; NAME_MAX], [NONE; ARGUMENTS]);
        name.get_mut(..about.len())?.copy_from_slice(about.as_bytes());
        arguments.get_mut(..given.len())?.copy_from_slice(given);
        Some(Self { sequence, kind: kind as u64, flags, arguments, name })
    }

    /// As it is written.
    pub fn to_words(&self) -> [u64; REQUEST_WORDS] {
        let mut words = [0; REQUEST_WORDS];
        (words[0], words[1], words[2]) = (self.sequence, self.kind, self.flags);
        words[3..NAME].copy_from_slice(&self.arguments);
        for (word, bytes) in words[NAME..CHECK].iter_mut().zip(self.name.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        words[CHECK] = checksum(&words[..CHECK]);
        words
    }

    /// No request.
    pub const fn nothing() -> Self {
        Self { sequence: 0, kind: 0, flags: 0, arguments: [NONE; ARGUMENTS], name: [0; NAME_MAX] }
    }

    /// Becomes the one whose words these are; `false` if that is not whole.
    #[inline(never)]
    pub fn read(&mut self, read: impl Fn(usize) -> u64) -> bool {
        let words: [u64; REQUEST_WORDS] = core::array::from_fn(read);
        (self.sequence, self.kind, self.flags) = (words[0], words[1], words[2]);
        self.arguments.copy_from_slice(&words[3..NAME]);
        for (bytes, word) in self.name.as_chunks_mut().0.iter_mut().zip(&words[NAME..CHECK]) {
            *bytes = word.to_ne_bytes();
        }
        words[CHECK] == checksum(&words[..CHECK])
    }

    /// The name, if it is a text.
    pub fn name(&self) -> Option<&str> {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_MAX);
        core::str::from_utf8(&self.name[..end]).ok()
    }

    /// An argument, if it is given.
    pub fn argument(&self, index: usize) -> Option<usize> {
        self.arguments.get(index).filter(|given| **given != NONE).map(|given| *given as usize)
    }

    /// Whether what is asked for may make system calls.
    pub fn may_call(&self) -> bool {
        self.flags & MAY_CALL != 0
    }
}

/// An answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// That of its request.
    pub sequence: u64,
    /// A [`Refusal`], or 0.
    pub refused: u64,
    /// What they mean depends on the kind, or on the refusal.
    pub numbers: [u64; NUMBERS],
}

impl Answer {
    /// As it is read.
    pub fn of_words(words: &[u64; ANSWER_WORDS]) -> Self {
        let mut numbers = [0; NUMBERS];
        numbers.copy_from_slice(&words[2..]);
        Self { sequence: words[0], refused: words[1], numbers }
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    fn request() -> Request {
        Request::new(7, Kind::Tune, MAY_CALL, "dentry", &[16, NONE, 3]).expect("it fits")
    }

    #[test]
    fn a_request_reads_as_it_was_written() {
        let words = request().to_words();
        let mut read = Request::nothing();
        assert!(read.read(|index| words[index]));
        assert_eq!(read, request());
        assert_eq!((read.name(), read.may_call()), (Some("dentry"), true));
        assert_eq!([0, 1, 2, 7, 8].map(|index| read.argument(index)), [Some(16), None, Some(3), None, None]);
        let [longest, longer] = [NAME_MAX, NAME_MAX + 1].map(|len| String::from_iter(core::iter::repeat_n('x', len)));
        assert_eq!(Request::new(1, Kind::Tune, 0, &longest, &[]).expect("it fits").name(), Some(&*longest));
        assert_eq!(Request::new(1, Kind::Tune, 0, &longer, &[]), None);
    }

    #[test]
    fn a_request_that_is_torn_is_none() {
        let words = request().to_words();
        for torn in 0..REQUEST_WORDS {
            assert!(!Request::nothing().read(|index| words[index] ^ u64::from(index == torn)), "{torn}");
        }
    }

    #[test]
    fn kinds_and_reasons_have_numbers() {
        assert!(Kind::ALL.into_iter().all(|kind| Kind::of(kind as u64) == Some(kind)));
        assert!(Refusal::ALL.into_iter().all(|why| Refusal::of(why as u64) == Some(why)));
        assert_eq!((Kind::of(0), Refusal::of(0)), (None, None));
    }
}
