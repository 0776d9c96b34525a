//! Whether the loader will preload a library into a program, as far as the program's file shows.
//!
//! Preloading is done by the dynamic loader, so a statically linked program, which has no loader, is not affected. The
//! loader refuses if the program gains rights that its caller does not have. And a library for one processor cannot be
//! loaded on another. In all three cases the program runs on its own malloc, and only a warning from this command says
//! so.
//!
//! The file is found as execvp(3) finds it. A script is run by the interpreter named in its first line, so the
//! interpreter is examined instead; what the interpreter `env` starts is not. About a file that cannot be read nothing
//! is said: if it cannot be executed either, the system reports that.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The search path if PATH is not set, as in execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// How many scripts that are interpreted by scripts the kernel follows.
const SCRIPTS: usize = 4;

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;

const X86_64: u16 = 62;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_SONAME: u64 = 14;

/// Why a program runs on its own malloc.
#[derive(Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It has no dynamic loader.
    Static(PathBuf),
    /// It runs with rights that its caller does not have.
    OtherRights(PathBuf),
    /// It is for another processor, or for the 32-bit mode of this one.
    Foreign(PathBuf),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, why) = match self {
            Self::Static(path) => (path, "is linked statically, so nothing can be preloaded"),
            Self::OtherRights(path) => {
                (path, "runs with rights that its caller does not have, so the loader preloads nothing")
            }
            Self::Foreign(path) => (path, "is not for x86-64 in 64-bit mode, so the library cannot be loaded"),
        };
        write!(f, "{} {why}: it runs on its own malloc", path.display())
    }
}

/// What prevents preloading into a program, as far as its file shows.
pub fn obstacle(program: &OsStr) -> Option<Obstacle> {
    let mut path = find(program)?;
    for _ in 0..SCRIPTS {
        let file = File::open(&path).ok()?;
        match interpreter(&file) {
            Some(next) => path = next,
            None => return of_executable(path, &file),
        }
    }
    None
}

/// The file that execvp(3) would execute for a name.
fn find(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program));
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The program that runs a script; `None` if the file is not a script.
fn interpreter(mut file: &File) -> Option<PathBuf> {
    let mut head = [0; 256];
    let length = file.read(&mut head).ok()?;
    let line = head[..length].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let name = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsString::from_vec(name.to_vec())))
}

fn of_executable(path: PathBuf, file: &File) -> Option<Obstacle> {
    let executable = Executable::read(file)?;
    if executable.machine != X86_64 {
        return Some(Obstacle::Foreign(path));
    }
    if !executable.has_loader {
        return Some(Obstacle::Static(path));
    }
    gives_rights(file).then_some(Obstacle::OtherRights(path))
}

/// Whether the program gains the rights of another owner, or capabilities.
fn gives_rights(file: &File) -> bool {
    let Ok(data) = file.metadata() else { return false };
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let other_user = data.mode() & SET_USER != 0 && data.uid() != user;
    let other_group = data.mode() & SET_GROUP != 0 && data.gid() != group;
    // Root has all capabilities already, so a file that grants some adds nothing.
    let capabilities = user != 0 && rustix::fs::fgetxattr(file, "security.capability", &mut [0u8; 64]).is_ok();
    other_user || other_group || capabilities
}

/// The relevant parts of an ELF file.
struct Executable {
    /// Its processor; 0 for a 32-bit file.
    machine: u16,
    /// It names a dynamic loader, or is one: a loader has a name for others to link to, a program has none.
    has_loader: bool,
}

impl Executable {
    fn read(file: &File) -> Option<Self> {
        let mut head = [0; 64];
        file.read_exact_at(&mut head, 0).ok()?;
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let is_64_bits = head[4] == 2;
        let mut executable = Self { machine: if is_64_bits { half(&head, 18) } else { 0 }, has_loader: false };
        if executable.machine != X86_64 {
            return Some(executable);
        }
        let (table, entry, count) = (word(&head, 32), u64::from(half(&head, 54)), u64::from(half(&head, 56)));
        for at in (0..count).map(|index| table + index * entry) {
            let mut segment = [0; 56];
            file.read_exact_at(&mut segment, at).ok()?;
            executable.has_loader |= match word(&segment, 0) & 0xffff_ffff {
                PT_INTERP => true,
                PT_DYNAMIC => has_name(file, word(&segment, 8), word(&segment, 32)),
                _ => false,
            };
        }
        Some(executable)
    }
}

/// Whether the dynamic section of `length` bytes has a name by which others link to the file.
fn has_name(file: &File, start: u64, length: u64) -> bool {
    (start..start + length).step_by(16).any(|at| {
        let mut entry = [0; 16];
        file.read_exact_at(&mut entry, at).is_ok() && word(&entry, 0) == DT_SONAME
    })
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}
