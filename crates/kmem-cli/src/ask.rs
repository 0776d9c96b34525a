//! Asking another process for something, through its memory (see `kmem::control`).
//!
//! The area to write to is found by an ELF note in the memory of the process: of each file that is mapped from its
//! beginning, the program headers are read, and in its notes the one named `kmem`. Nothing that is read is believed:
//! sizes are bounded, and the area must lie in memory of the process that it may write itself. What could be harmed by
//! a forged note is the process that forged it.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use kmem::control::message::{self, ANSWER_WORDS, Answer, Kind, MAY_CALL, NAME_MAX, Refusal, Request, at};

use crate::remote_status::{OutsideError, is_alive};

/// Between two looks for the answer.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of program headers and of notes that are looked at.
const HEADERS_MAX: usize = 64 * 56;
const NOTES_MAX: usize = 64 << 10;
/// Of a program header: loaded; a note.
const LOAD: u32 = 1;
const NOTES: u32 = 4;

/// Why a process was not asked, or gave no answer.
#[derive(Debug)]
pub enum AskError {
    /// It cannot be looked into.
    Outside(OutsideError),
    /// Its memory may not be written.
    NotWritable(u32),
    /// The name is longer than a request can hold.
    NameTooLong(usize),
    /// Nobody looked in time.
    NoAnswer {
        /// The process.
        pid: u32,
        /// For so long.
        waited: Duration,
    },
    /// Another command asks the process at the same time.
    Overwritten(u32),
}

impl From<OutsideError> for AskError {
    fn from(error: OutsideError) -> Self {
        Self::Outside(error)
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(error) => error.fmt(f),
            Self::NotWritable(pid) => write!(
                f,
                "the memory of process {pid} may not be written: run this as its user, or as root (and see \
                 kernel.yama.ptrace_scope)"
            ),
            Self::NameTooLong(bytes) => write!(f, "a name of {bytes} bytes: none has more than {NAME_MAX}"),
            Self::NoAnswer { pid, waited } => write!(
                f,
                "process {pid} has made no slow path of malloc or free for {} s, so it has not looked; it carries the \
                 request out with the next one. In a process with KMEM_UPKEEP=always a thread looks",
                waited.as_secs_f64()
            ),
            Self::Overwritten(pid) => {
                write!(f, "another command asks process {pid} at the same time: look at what it did, and try again")
            }
        }
    }
}

/// What a process answered.
pub enum Reply {
    /// It was done.
    Done([u64; message::NUMBERS]),
    /// It was refused; `None`: for a reason of another version.
    Refused(Option<Refusal>, [u64; message::NUMBERS]),
}

/// The areas of a process, open for writing.
pub struct Asked {
    pid: u32,
    memory: File,
    /// Where they begin.
    areas: Vec<u64>,
    /// Whether a filter may end the process for a system call that it did not expect.
    filtered: bool,
}

impl Asked {
    /// Finds what to write to.
    pub fn find(pid: u32) -> Result<Self, AskError> {
        let maps = crate::remote_status::maps(pid)?;
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"));
        let memory = memory.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => AskError::NotWritable(pid),
            _ if !is_alive(pid) => OutsideError::NoSuchProcess(pid).into(),
            _ => OutsideError::System(pid, error).into(),
        })?;
        let mappings: Vec<Mapping> = maps.lines().filter_map(Mapping::of_line).collect();
        let beginnings = mappings.iter().filter(|mapping| mapping.is_beginning);
        let mut areas: Vec<u64> = beginnings
            .filter_map(|mapping| area_by_note(&memory, mapping.first))
            .filter(|area| mappings.iter().any(|mapping| mapping.holds(*area)))
            .collect();
        areas.dedup();
        if areas.is_empty() {
            return Err(OutsideError::NotOnKmem(pid).into());
        }
        areas.retain(|area| word(&memory, area + at::MADE as u64) == Some(1));
        if areas.is_empty() {
            return Err(OutsideError::NotPublished(pid).into());
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let filtered = !status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "0"));
        Ok(Self { pid, memory, areas, filtered })
    }

    /// Asks, and waits for the answer for so long. A program with several instances of kmem in it is asked one after
    /// the other, until one knows what it is about.
    pub fn ask(&self, kind: Kind, name: &str, arguments: &[u64], patience: Duration) -> Result<Reply, AskError> {
        let mut reply = None;
        for area in &self.areas {
            match self.ask_one(*area, kind, name, arguments, patience)? {
                Reply::Refused(Some(why @ (Refusal::NoSuchCache | Refusal::NoSuchAccount)), numbers) => {
                    reply = Some(Reply::Refused(Some(why), numbers));
                }
                other => return Ok(other),
            }
        }
        reply.ok_or(AskError::Outside(OutsideError::NotOnKmem(self.pid)))
    }

    fn ask_one(
        &self,
        area: u64,
        kind: Kind,
        name: &str,
        arguments: &[u64],
        patience: Duration,
    ) -> Result<Reply, AskError> {
        let (sequence, flags) = (fastrand::u64(1..), if self.filtered { 0 } else { MAY_CALL });
        let request = Request::new(sequence, kind, flags, name, arguments);
        let words = request.ok_or(AskError::NameTooLong(name.len()))?.to_words();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.write(area + at::REQUEST as u64, &bytes)?;
        let since = Instant::now();
        loop {
            // Each time: the process may have decided in this moment that nothing is due.
            self.write(area + at::ATTENTION as u64, &1u32.to_ne_bytes())?;
            std::thread::sleep(PAUSE);
            let answer = Answer::of_words(&self.read(area + at::ANSWER as u64)?);
            if answer.sequence == sequence {
                return Ok(match answer.refused {
                    0 => Reply::Done(answer.numbers),
                    why => Reply::Refused(Refusal::of(why), answer.numbers),
                });
            }
            if self.read::<1>(area + at::REQUEST as u64)? != [sequence] {
                return Err(AskError::Overwritten(self.pid));
            }
            if since.elapsed() >= patience {
                return Err(AskError::NoAnswer { pid: self.pid, waited: patience });
            }
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), AskError> {
        self.memory.write_all_at(bytes, at).map_err(|error| self.of_memory(error))
    }

    fn read<const N: usize>(&self, at: u64) -> Result<[u64; N], AskError> {
        let mut bytes = [0; 8 * ANSWER_WORDS];
        self.memory.read_exact_at(&mut bytes[..8 * N], at).map_err(|error| self.of_memory(error))?;
        Ok(std::array::from_fn(|index| {
            u64::from_ne_bytes(bytes[8 * index..8 * index + 8].try_into().expect("eight bytes"))
        }))
    }

    fn of_memory(&self, error: io::Error) -> AskError {
        if is_alive(self.pid) {
            OutsideError::System(self.pid, error).into()
        } else {
            OutsideError::NoSuchProcess(self.pid).into()
        }
    }
}

/// A mapping, from its line of maps.
struct Mapping {
    first: u64,
    end: u64,
    /// It may be read and written, and is the process's own.
    is_own: bool,
    /// It may be read, and begins with the beginning of a file.
    is_beginning: bool,
}

impl Mapping {
    /// Parses `START-END rights OFFSET DEVICE INODE NAME`.
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (first, end) = words.next()?.split_once('-')?;
        let (first, end) = (u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let (rights, offset, _device, inode) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let is_file = inode != "0" && u64::from_str_radix(offset, 16).ok()? == 0;
        Some(Self {
            first,
            end,
            is_own: rights.starts_with("rw") && rights.ends_with('p'),
            is_beginning: rights.starts_with('r') && is_file,
        })
    }

    /// Whether an area that begins there is in it.
    fn holds(&self, area: u64) -> bool {
        let end = area.checked_add(at::END as u64);
        self.is_own && area >= self.first && end.is_some_and(|end| end <= self.end)
    }
}

fn bytes(memory: &File, at: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    memory.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

fn word(memory: &File, at: u64) -> Option<u32> {
    Some(number(&bytes(memory, at, 4)?, 0, 4)? as u32)
}

/// The number of `len` bytes at `at`.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let mut number = [0; 8];
    number[..len].copy_from_slice(bytes.get(at..at.checked_add(len)?)?);
    Some(u64::from_le_bytes(number))
}

/// The area that the notes of the object lead to which is loaded at `base`.
fn area_by_note(memory: &File, base: u64) -> Option<u64> {
    let elf = bytes(memory, base, 64)?;
    if !elf.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let (offset, size, count) = (number(&elf, 32, 8)?, number(&elf, 54, 2)? as usize, number(&elf, 56, 2)? as usize);
    let len = size.checked_mul(count).filter(|len| size >= 56 && *len <= HEADERS_MAX)?;
    let headers = bytes(memory, base.checked_add(offset)?, len)?;
    let of_kind = |kind: u32| headers.chunks(size).filter(move |header| number(header, 0, 4) == Some(kind.into()));
    let loaded = of_kind(LOAD).next().and_then(|header| number(header, 16, 8))?;
    let bias = base.wrapping_sub(loaded & !0xfff);
    of_kind(NOTES).find_map(|header| {
        let (at, len) = (number(header, 16, 8)?.wrapping_add(bias), number(header, 40, 8)? as usize);
        let notes = bytes(memory, at, Some(len).filter(|len| *len <= NOTES_MAX)?)?;
        area_in(&notes, at)
    })
}

/// The area that these notes lead to, which stand at `at`.
fn area_in(notes: &[u8], at: u64) -> Option<u64> {
    let mut next = 0;
    loop {
        let [name, described, kind] = [0, 4, 8].map(|field| number(notes, next + field, 4));
        let (name, described, kind) = (name? as usize, described? as usize, kind?);
        let text = next + 12;
        let content = text + name.checked_next_multiple_of(4)?;
        if notes.get(text..text + name)? == message::NOTE && described == message::NOTE_BYTES {
            // An area that is shorter than we think is another version's.
            let long_enough = number(notes, content, 4)? >= at::END as u64;
            let place = at.wrapping_add(content as u64 + 4);
            let is_ours = kind == u64::from(message::VERSION) && long_enough;
            return is_ours.then_some(place.wrapping_add(number(notes, content + 4, 8)?));
        }
        next = content + described.checked_next_multiple_of(4)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut note: Vec<u8> =
            [name.len() as u32, content.len() as u32, kind].iter().flat_map(|n| n.to_le_bytes()).collect();
        for part in [name, content] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_note_is_found_behind_others() {
        let mut content = (at::END as u32).to_le_bytes().to_vec();
        content.extend_from_slice(&0x1000u64.to_le_bytes());
        let mut notes = note(b"GNU\0", 3, &[7; 20]);
        notes.extend(note(message::NOTE, message::VERSION, &content));
        // 36 bytes of the first note, 20 of the second before its content, 4 of that before the distance.
        assert_eq!(area_in(&notes, 0x40_0000), Some(0x40_0000 + 36 + 20 + 4 + 0x1000));
    }

    #[test]
    fn notes_that_are_forged_lead_nowhere() {
        let mut content = 8u32.to_le_bytes().to_vec();
        content.extend_from_slice(&0u64.to_le_bytes());
        assert_eq!(area_in(&note(message::NOTE, message::VERSION, &content), 0), None, "too short");
        content[0] = 0xff;
        content[1] = 0xff;
        assert_eq!(area_in(&note(message::NOTE, 9, &content), 0), None, "another version");
        assert_eq!(area_in(&[0xff; 64], 0), None);
        assert_eq!(area_in(&note(b"GNU\0", 3, &[]), 0), None);
        assert_eq!(area_in(b"", 0), None);
    }

    #[test]
    fn lines_of_maps_are_understood() {
        let line = "7f1200000000-7f1200003000 r--p 00000000 fe:01 2077     /usr/lib/libkmem_malloc.so";
        let mapping = Mapping::of_line(line).expect("a mapping");
        assert!(mapping.is_beginning && !mapping.is_own && mapping.first == 0x7f12_0000_0000);
        let data = Mapping::of_line(&line.replace("r--p 00000000", "rw-p 00003000")).expect("a mapping");
        assert!(data.is_own && !data.is_beginning);
        assert!(data.holds(0x7f12_0000_0000) && !data.holds(0x7f12_0000_2fff) && !data.holds(u64::MAX));
        assert!(Mapping::of_line("").is_none() && Mapping::of_line("x-y rw-p 0 0 0").is_none());
    }
}
