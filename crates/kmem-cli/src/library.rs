//! Where `libkmem_malloc.so` is, and how it comes to the front of `LD_PRELOAD`.
//!
//! ```text
//! HOME, HOME/deps                         where cargo leaves it; HOME is the folder of this command
//! HOME/../lib, ../lib/TRIPLET, ../lib64   where `make install` and packages put it: also as libkmem_malloc.so.0, the
//!                                         only name that there is without the files for building programs
//! what pkg-config says of kmem            where none of these has it: an installation with another prefix
//! ```
//! `cargo build` copies the library next to the executable, but a build that needs it only as a dependency (`cargo
//! run`, `cargo test`) leaves it in `deps/`. If several places have one, all but one may be stale, so the newest is
//! used.
//!
//! `cargo install` does not install libraries, so the error for a missing one says how to install it.

#![forbid(unsafe_code)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// The file that is preloaded.
const LIBRARY: &str = "libkmem_malloc.so";
/// The name by which linked programs ask for it (`crates/kmem-malloc/build.rs`).
const SONAME: &str = "libkmem_malloc.so.0";
/// Why the library cannot be preloaded.
#[derive(Debug)]
pub enum SetupError {
    /// The path of this command's own executable is unknown.
    NoExecutable(io::Error),
    /// The library is in none of these places.
    NoLibrary(Vec<PathBuf>),
    /// `LD_PRELOAD` cannot contain this path, because the loader splits it at blanks and colons.
    Unnameable(PathBuf),
}

impl std::error::Error for SetupError {}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoExecutable(e) => {
                write!(f, "cannot find the kmem executable, next to which {LIBRARY} should be: {e}")
            }
            Self::NoLibrary(tried) => {
                writeln!(f, "{LIBRARY} was not found. Searched")?;
                for path in tried {
                    writeln!(f, "    {}", path.display())?;
                }
                write!(
                    f,
                    "and what `pkg-config --variable=libdir kmem` says. `cargo install` installs only the command. In \
                     kmem's sources, `make install PREFIX=FOLDER` installs command and library; or build {LIBRARY} with \
                     `cargo build --release -p kmem-malloc`, and copy it to one of these places."
                )
            }
            Self::Unnameable(path) => write!(
                f,
                "the path {} contains a blank or a colon, which LD_PRELOAD cannot. \
                 Move `kmem` and {LIBRARY} to a directory without one.",
                path.display()
            ),
        }
    }
}

/// The newest library in the places where cargo, an installation or a person puts it.
pub fn find() -> Result<PathBuf, SetupError> {
    let executable = env::current_exe().map_err(SetupError::NoExecutable)?;
    let home = executable.parent().unwrap_or(Path::new("/"));
    let mut places = vec![home.join(LIBRARY), home.join("deps").join(LIBRARY)];
    if let Some(prefix) = home.parent() {
        let triplet = format!("lib/{}", triplet());
        places.extend(["lib", &triplet, "lib64"].iter().flat_map(|folder| names_in(&prefix.join(folder))));
    }
    if let Some(found) = newest(&places) {
        return Ok(found);
    }
    let others: Vec<_> = told_by_pkg_config().iter().flat_map(|folder| names_in(folder)).collect();
    newest(&others).ok_or_else(|| SetupError::NoLibrary([places, others].concat()))
}

/// A folder of Debian's and its kin, for libraries of one processor and C library.
fn triplet() -> String {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-linux-{libc}", env::consts::ARCH)
}

/// Both names of an installed library. Of two that were written at once [`newest`] takes the last.
fn names_in(folder: &Path) -> [PathBuf; 2] {
    [LIBRARY, SONAME].map(|name| folder.join(name))
}

/// The folder that an installation's `kmem.pc` names; none without `pkg-config` or such a file.
fn told_by_pkg_config() -> Option<PathBuf> {
    let mut question = Command::new("pkg-config");
    question.args(["--variable=libdir", "kmem"]).stdin(Stdio::null()).stderr(Stdio::null());
    let answer = question.output().ok().filter(|output| output.status.success())?;
    let folder = Path::new(OsStr::from_bytes(answer.stdout.trim_ascii()));
    folder.is_absolute().then(|| folder.to_path_buf())
}

/// The file among `places` that was written last.
fn newest(places: &[PathBuf]) -> Option<PathBuf> {
    places
        .iter()
        .filter_map(|path| {
            let data = path.metadata().ok().filter(|data| data.is_file())?;
            Some((data.modified().unwrap_or(SystemTime::UNIX_EPOCH), path))
        })
        .max_by_key(|&(written, _)| written)
        .map(|(_, path)| path.clone())
}

/// The new `LD_PRELOAD`: the library, then everything that the caller preloads (the library only once, in nested runs).
pub fn preload_list(library: &Path) -> Result<OsString, SetupError> {
    let separates = |byte: &u8| matches!(byte, b' ' | b':' | b'\t' | b'\n');
    if library.as_os_str().as_bytes().iter().any(separates) {
        return Err(SetupError::Unnameable(library.to_path_buf()));
    }
    let before = env::var_os("LD_PRELOAD").unwrap_or_default();
    let mut list = library.as_os_str().to_os_string();
    for other in before.as_bytes().split(separates) {
        if !other.is_empty() && other != library.as_os_str().as_bytes() {
            list.push(":");
            list.push(OsStr::from_bytes(other));
        }
    }
    Ok(list)
}
