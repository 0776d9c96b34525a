//! `kmem symbolize`: adds functions, files and lines to what the checked heap reports.
//!
//! A process that reports a fault knows of its code which file an address is in, and where: `(file+0x1234)`. Here, in a
//! process that may allocate, addr2line(1) turns this into a function and a line by the debug information of that file.
//! Text without such places passes unchanged, and so does all text where there is no addr2line.
//!
//! `kmem run --debug` passes the program's standard error through the same filter ([`crate::supervise`]). What a
//! program writes is passed on at once, also half a line: only what is added waits for the line's end.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Of a longer line only this much is looked at.
const LONGEST_LINE: usize = 16 << 10;

/// Copies standard input to standard output, with functions, files and lines added.
pub fn symbolize() -> ExitCode {
    let (mut input, mut out) = (io::stdin().lock(), io::stdout().lock());
    let mut filter = Filter::default();
    let mut chunk = vec![0; LONGEST_LINE];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return ExitCode::SUCCESS,
            Ok(count) => {
                let text = filter.pass(&chunk[..count]);
                // A reader that has closed the pipe has seen enough.
                if out.write_all(&text).and_then(|()| out.flush()).is_err() {
                    return ExitCode::SUCCESS;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                eprintln!("kmem symbolize: standard input cannot be read: {e}");
                return ExitCode::FAILURE;
            }
        }
    }
}

/// Adds to a text, which comes in pieces, what its lines lack.
#[derive(Default)]
pub struct Filter {
    files: Files,
    /// The line that has begun.
    line: Vec<u8>,
}

impl Filter {
    /// The next piece of the text, with places added to the lines that end in it.
    pub fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len());
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n");
            let begun = text.unwrap_or(part);
            out.extend_from_slice(begun);
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&begun[..begun.len().min(room)]);
            if text.is_some() {
                if let Some(place) = str::from_utf8(&self.line).ok().and_then(|line| self.files.place_of(line)) {
                    out.push(b' ');
                    out.extend_from_slice(place.as_bytes());
                }
                out.push(b'\n');
                self.line.clear();
            }
        }
        out
    }
}

/// The lowest address of each file that was asked for, and the places that were found.
#[derive(Default)]
struct Files {
    lowest: HashMap<String, Option<u64>>,
    places: HashMap<(String, u64), Option<String>>,
}

impl Files {
    /// Function, file and line of the place that a line ends with.
    fn place_of(&mut self, line: &str) -> Option<String> {
        let (file, offset) = line.strip_suffix(')')?.rsplit_once(" (")?.1.rsplit_once("+0x")?;
        let offset = u64::from_str_radix(offset, 16).ok()?;
        let lowest = (*self.lowest.entry(file.to_string()).or_insert_with(|| lowest_address(Path::new(file))))?;
        // What is on a stack is where a call returns to, which may be the next line's.
        let address = (offset + lowest).checked_sub(1)?;
        self.places.entry((file.to_string(), address)).or_insert_with(|| asked(file, address)).clone()
    }
}

/// What addr2line says: pairs of a function and a place, the innermost first.
fn asked(file: &str, address: u64) -> Option<String> {
    let mut command = Command::new("addr2line");
    command.args(["--functions", "--demangle", "--inlines", "--exe", file, &format!("{address:#x}")]);
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let known = lines.chunks_exact(2).filter(|pair| !pair[1].starts_with("??"));
    let places: Vec<String> = known.map(|pair| format!("{} at {}", pair[0], pair[1])).collect();
    (!places.is_empty()).then(|| places.join(", in line in "))
}

/// The address that the first byte of a file is meant to have: 0, except in an executable of fixed place.
fn lowest_address(file: &Path) -> Option<u64> {
    let bytes = std::fs::read(file).ok()?;
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (headers, size, count) = (word(32)? as usize, half(54)? as usize, half(56)? as usize);
    let loads = (0..count).map(|index| headers + index * size).filter(|at| bytes.get(*at) == Some(&1));
    loads.filter_map(|at| word(at + 16)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_pieces_passes_unchanged() {
        let text = b"one\n\xff\xfe (no+0x12)\n (/nowhere+0x12)\nprompt> ";
        for size in 1..=text.len() {
            let mut filter = Filter::default();
            let out: Vec<u8> = text.chunks(size).flat_map(|piece| filter.pass(piece)).collect();
            assert_eq!(out, text);
        }
    }

    #[test]
    fn half_a_line_is_passed_on_at_once() {
        let mut filter = Filter::default();
        assert_eq!(filter.pass(b"a\nWhat now? "), b"a\nWhat now? ");
        assert_eq!(filter.pass(b"b\n"), b"b\n");
    }

    #[test]
    fn a_place_is_added_to_a_line_that_came_in_halves() {
        let own = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let first = maps.lines().find(|line| line.ends_with(own.to_str().unwrap())).unwrap();
        let base = u64::from_str_radix(first.split_once('-').unwrap().0, 16).unwrap();
        let offset = lowest_address as *const () as u64 - base + 1;
        let line = format!("    ({}+{offset:#x})", own.display());
        let mut filter = Filter::default();
        let (begin, end) = line.as_bytes().split_at(line.len() / 2);
        let mut out = filter.pass(begin);
        out.extend(filter.pass(end));
        assert_eq!(out, line.as_bytes());
        let rest = String::from_utf8(filter.pass(b"\nnext\n")).unwrap();
        assert!(rest.contains("lowest_address at ") && rest.ends_with("\nnext\n"), "{rest}");
    }
}
