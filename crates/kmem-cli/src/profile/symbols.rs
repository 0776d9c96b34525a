//! From addresses of a process to functions, files and lines.
//!
//! The files are opened as the process sees them (`/proc/PID/root`), so it may be in a container. A file that is gone
//! or was written anew since gives no names, or those of its exports.

use std::collections::HashMap;
use std::path::PathBuf;
use std::{fs, io};

use addr2line::{Loader, demangle_auto};
use object::{Object, ObjectSegment};

/// A mapping that holds code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub offset: u64,
    pub path: String,
    pub build_id: String,
}

/// A function that an address is in; several, where one was compiled in line of the other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Function {
    pub name: String,
    pub file: String,
    pub line: u32,
}

/// A file of code, opened.
struct Code {
    loader: Option<Loader>,
    /// Offset, length and address of each of its segments.
    segments: Vec<[u64; 3]>,
}

/// The code of a process.
pub struct Symbols {
    root: PathBuf,
    pub mappings: Vec<Mapping>,
    files: HashMap<String, Code>,
    known: HashMap<u64, Vec<Function>>,
}

impl Symbols {
    /// Looks at what a process has mapped.
    pub fn of(pid: u32) -> io::Result<Self> {
        let maps = fs::read(format!("/proc/{pid}/maps"))?;
        let mappings = String::from_utf8_lossy(&maps).lines().filter_map(mapping).collect();
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let mut this = Self { root, mappings, files: HashMap::new(), known: HashMap::new() };
        for index in 0..this.mappings.len() {
            this.mappings[index].build_id = this.build_id(&this.mappings[index].path);
        }
        Ok(this)
    }

    fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn build_id(&self, path: &str) -> String {
        let Ok(bytes) = fs::read(self.file(path)) else { return String::new() };
        let file = object::File::parse(bytes.as_slice()).ok();
        let id = file.as_ref().and_then(|file| file.build_id().ok().flatten()).unwrap_or_default();
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The number of the mapping that an address is in.
    pub fn mapping(&self, address: u64) -> Option<usize> {
        self.mappings.iter().position(|mapping| (mapping.start..mapping.end).contains(&address))
    }

    /// The functions at an address, the innermost first; at least one, whose name may be the address.
    pub fn functions(&mut self, address: u64) -> Vec<Function> {
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        let mut found = self.look_up(address).unwrap_or_default();
        if found.is_empty() {
            let place = self.mapping(address).map(|index| &self.mappings[index]);
            let name = match place {
                Some(mapping) => {
                    let file = mapping.path.rsplit('/').next().unwrap_or_default();
                    format!("{file}+{:#x}", address - mapping.start + mapping.offset)
                }
                None => format!("{address:#x}"),
            };
            found.push(Function { name, file: String::new(), line: 0 });
        }
        self.known.insert(address, found.clone());
        found
    }

    fn look_up(&mut self, address: u64) -> Option<Vec<Function>> {
        let mapping = self.mappings[self.mapping(address)?].clone();
        let path = self.file(&mapping.path);
        let code = self.files.entry(mapping.path).or_insert_with(|| open(&path));
        let offset = address - mapping.start + mapping.offset;
        let [from, _, at] = code.segments.iter().find(|[from, len, _]| (*from..from + len).contains(&offset))?;
        let address = offset - from + at;
        let loader = code.loader.as_ref()?;
        let mut found = Vec::new();
        if let Ok(mut frames) = loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let Some(function) = frame.function else { break };
                let name = function.demangle().ok()?.into_owned();
                let place = frame.location.as_ref();
                let file = place.and_then(|place| place.file).unwrap_or_default().to_string();
                found.push(Function { name, file, line: place.and_then(|place| place.line).unwrap_or(0) });
            }
        }
        if found.is_empty()
            && let Some(symbol) = loader.find_symbol(address)
        {
            let name = demangle_auto(symbol.into(), None).into_owned();
            found.push(Function { name, file: String::new(), line: 0 });
        }
        Some(found)
    }
}

fn open(path: &PathBuf) -> Code {
    let segments = fs::read(path).ok().and_then(|bytes| {
        let file = object::File::parse(bytes.as_slice()).ok()?;
        let each = file.segments().map(|segment| {
            let (from, len) = segment.file_range();
            [from, len, segment.address()]
        });
        Some(each.collect())
    });
    Code { loader: Loader::new(path).ok(), segments: segments.unwrap_or_default() }
}

/// Parses `START-END r-xp OFFSET DEVICE INODE  PATH`, if the mapping holds code of a file.
fn mapping(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (rights, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let path = &rest[rest.find('/')?..];
    let (start, end) = range.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    (rights.as_bytes().get(2) == Some(&b'x')).then_some(())?;
    let path = path.strip_suffix(" (deleted)").unwrap_or(path).to_string();
    Some(Mapping { start: number(start)?, end: number(end)?, offset: number(offset)?, path, build_id: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_code_are_read() {
        let line = "7f5e3c028000-7f5e3c1bd000 r-xp 00028000 fe:00 1234      /usr/lib/a b.so.6 (deleted)";
        let found = mapping(line).expect("code");
        assert_eq!((found.start, found.end, found.offset), (0x7f5e_3c02_8000, 0x7f5e_3c1b_d000, 0x28000));
        assert_eq!(found.path, "/usr/lib/a b.so.6");
        for other in [&line.replace("r-xp", "r--p"), "7f5e3c028000-7f5e3c1bd000 r-xp 00000000 00:00 0  [vdso]", ""] {
            assert_eq!(mapping(other), None);
        }
    }

    #[test]
    fn a_function_of_this_program_has_its_name_and_line() {
        let mut symbols = Symbols::of(std::process::id()).expect("this process");
        let found = symbols.functions(mapping as *const () as u64 + 1);
        let last = found.last().expect("a function");
        assert!(last.name.contains("symbols::mapping"), "{found:?}");
        assert!(found.iter().any(|function| function.file.ends_with("symbols.rs") && function.line > 0), "{found:?}");
        assert_eq!(symbols.functions(1)[0].name, "0x1");
    }
}
