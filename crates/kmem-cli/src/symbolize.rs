//! `kmem symbolize`: adds functions, files and lines to what the checked heap reports.
//!
//! A process that reports a fault knows of its code which file an address is in, and where: `(file+0x1234)`. Here, in a
//! process that may allocate, addr2line(1) turns this into a function and a line by the debug information of that file.
//! Text without such places passes unchanged, and so does all text where there is no addr2line.
//!
//! `kmem run --debug` lets the program's standard error pass through this command. It is started before the program,
//! and is no child of it: the program keeps its process id, exit code and signals.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

/// Arguments of `kmem symbolize`.
#[derive(Args)]
pub struct SymbolizeArgs {
    /// Write to standard error, in the background: for `kmem run`
    #[arg(long, hide = true)]
    beside: bool,
}

/// Copies standard input to standard output, with functions, files and lines added.
pub fn symbolize(args: &SymbolizeArgs) -> ExitCode {
    if args.beside {
        return begin_beside();
    }
    let mut files = Files::default();
    let (mut input, mut out) = (io::stdin().lock(), io::stdout().lock());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line);
        let place = text.strip_suffix('\n').and_then(|text| files.place_of(text));
        let written = match place {
            Some(place) => writeln!(out, "{} {place}", text.trim_end_matches('\n')),
            None => out.write_all(&line),
        };
        if written.and_then(|()| out.flush()).is_err() {
            break;
        }
        line.clear();
    }
    ExitCode::SUCCESS
}

/// Starts this command again, and does not wait for it: so it is no child of the process that called.
fn begin_beside() -> ExitCode {
    let started = std::env::current_exe().and_then(|own| {
        let stderr = io::stderr();
        let out = rustix::io::dup(&stderr)?;
        Command::new(own).arg("symbolize").stdout(Stdio::from(out)).spawn()
    });
    match started {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("kmem symbolize: {e}");
            ExitCode::FAILURE
        }
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

/// The end of a pipe to write to, of which this command takes what is written.
pub fn pipe() -> io::Result<Stdio> {
    let (reader, writer) = io::pipe()?;
    let own = std::env::current_exe()?;
    let status = Command::new(own).args(["symbolize", "--beside"]).stdin(reader).status()?;
    if status.success() { Ok(writer.into()) } else { Err(io::Error::other("`kmem symbolize` did not start")) }
}
