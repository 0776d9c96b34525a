//! Which allocators are measured, and where their libraries are.
//!
//! Every allocator is a shared object that is preloaded, except for glibc's, which needs no preloading. A probe process
//! checks that each of them really provides malloc: a library that the loader refuses is reported as missing, because
//! the loader itself only warns and continues with glibc's.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child::Job;
use crate::executables::Executables;
use crate::figures::Measured;
use crate::peers;

/// kmem itself.
pub const KMEM: &str = "kmem";
/// The system's allocator.
pub const GLIBC: &str = "glibc";
/// kmem in a process without restartable sequences: measured only if asked for.
pub const KMEM_FALLBACK: &str = "kmem-fallback";

/// Libraries of Debian: the name used here, the file, the package.
const DEBIAN: [(&str, &str, &str); 3] = [
    ("jemalloc-deb", "libjemalloc.so.2", "libjemalloc2"),
    ("mimalloc-deb", "libmimalloc.so.2.0", "libmimalloc2.0"),
    ("gperftools", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
];
const LIBRARY_FOLDERS: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];

/// One allocator that can be measured.
#[derive(Clone)]
pub struct Allocator {
    /// As `--allocators` names it.
    pub name: String,
    /// The library that is preloaded; none for the system's allocator.
    pub library: Option<PathBuf>,
    /// Environment variables that it needs for its best performance.
    pub environment: Vec<(&'static str, &'static str)>,
    /// The object file that malloc was found in.
    pub serving: PathBuf,
}

impl Allocator {
    /// The environment of a process that runs on it.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        let preload = self.library.iter().map(|library| ("LD_PRELOAD".to_string(), library.clone().into_os_string()));
        preload.chain(self.environment.iter().map(|(name, value)| (name.to_string(), value.into()))).collect()
    }
}

/// The allocators that were asked for: those that work, and a record of all.
pub struct Field {
    /// Those that can be measured, in order.
    pub present: Vec<Allocator>,
    /// All of them; for the missing ones, the reason.
    pub measured: Vec<Measured>,
}

/// No allocator has this name.
#[derive(Debug)]
pub struct UnknownAllocator(String);

impl fmt::Display for UnknownAllocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no allocator is called '{}'; there are {}", self.0, names().join(", "))
    }
}

impl std::error::Error for UnknownAllocator {}

/// All names, kmem and glibc first.
pub fn names() -> Vec<&'static str> {
    let debian = DEBIAN.iter().map(|(name, ..)| *name);
    let built = peers::ALL.iter().map(|peer| peer.name);
    [KMEM, GLIBC].into_iter().chain(debian).chain(built).chain([KMEM_FALLBACK]).collect()
}

/// Finds the allocators of these names, or all (except the fallback) if none is given. `kmem` is the path of kmem's
/// library.
///
/// # Errors
/// A name that no allocator has.
pub fn find(asked: &[String], kmem: &Path, executables: &Executables) -> Result<Field, UnknownAllocator> {
    if let Some(unknown) = asked.iter().find(|name| !names().contains(&name.as_str())) {
        return Err(UnknownAllocator(unknown.clone()));
    }
    let mut field = Field { present: Vec::new(), measured: Vec::new() };
    for name in names() {
        let wanted = if asked.is_empty() { name != KMEM_FALLBACK } else { asked.iter().any(|asked| asked == name) };
        if wanted {
            field.add(candidate(name, kmem), executables);
        }
    }
    Ok(field)
}

/// An allocator that has not been probed yet.
struct Candidate {
    name: &'static str,
    version: String,
    how: String,
    /// The path of the library; `Ok(None)` for the system's allocator; or why there is none.
    library: Result<Option<PathBuf>, String>,
    environment: Vec<(&'static str, &'static str)>,
}

fn candidate(name: &'static str, kmem: &Path) -> Candidate {
    let own = |how: &str, environment| Candidate {
        name,
        version: env!("CARGO_PKG_VERSION").into(),
        how: how.into(),
        library: Ok(Some(kmem.to_path_buf())),
        environment,
    };
    match name {
        KMEM => own("this build", vec![]),
        KMEM_FALLBACK => own("this build, GLIBC_TUNABLES=glibc.pthread.rseq=0", vec![(TUNABLES, NO_RSEQ)]),
        GLIBC => Candidate {
            name,
            version: String::new(),
            how: "the system's".into(),
            library: Ok(None),
            environment: vec![],
        },
        _ => debian(name).unwrap_or_else(|| built(name)),
    }
}

fn debian(name: &'static str) -> Option<Candidate> {
    let (_, file, package) = DEBIAN.into_iter().find(|(ours, ..)| *ours == name)?;
    let found = LIBRARY_FOLDERS.iter().map(|folder| Path::new(folder).join(file)).find(|path| path.exists());
    Some(Candidate {
        name,
        version: package_version(package),
        how: format!("package {package}"),
        library: found.map(Some).ok_or_else(|| format!("{file} is not installed: apt-get install {package}")),
        environment: vec![],
    })
}

const TUNABLES: &str = "GLIBC_TUNABLES";
const NO_RSEQ: &str = "glibc.pthread.rseq=0";

fn built(name: &'static str) -> Candidate {
    let peer = peers::ALL.iter().find(|peer| peer.name == name).expect("every name belongs to an allocator");
    let environment = if peer.own_rseq { vec![(TUNABLES, NO_RSEQ)] } else { vec![] };
    let note = if peer.own_rseq { ", with glibc's rseq off, so that it has its own" } else { "" };
    let library = peer.library();
    Candidate {
        name,
        version: peer.version.into(),
        how: format!("{}{note}", peer.how()),
        library: if library.exists() {
            Ok(Some(library))
        } else {
            Err("not built: `kmem bench --peers` builds it".to_string())
        },
        environment,
    }
}

/// Debian's own version of an installed package, if this is a Debian.
fn package_version(package: &str) -> String {
    let asked = Command::new("dpkg-query").args(["-W", "-f=${Version}", package]).output();
    asked
        .ok()
        .filter(|answer| answer.status.success())
        .map_or_else(String::new, |answer| String::from_utf8_lossy(&answer.stdout).trim().to_string())
}

impl Field {
    fn add(&mut self, candidate: Candidate, executables: &Executables) {
        let Candidate { name, mut version, how, library, environment } = candidate;
        let probed = library.and_then(|library| {
            let allocator = Allocator { name: name.into(), library, environment, serving: PathBuf::new() };
            probe(allocator, executables)
        });
        let missing = match probed {
            Ok((allocator, libc)) => {
                if name == GLIBC {
                    version = libc;
                }
                self.present.push(allocator);
                None
            }
            Err(why) => Some(why),
        };
        self.measured.push(Measured { name: name.into(), version, how, missing });
    }
}

/// Asks a process where its malloc is from. Its answer includes the version of libc.
fn probe(allocator: Allocator, executables: &Executables) -> Result<(Allocator, String), String> {
    let job = Job {
        program: executables.workloads.clone(),
        arguments: vec!["probe".into(), "quick".into()],
        environment: allocator.environment(),
        patience: Duration::from_secs(20),
    };
    let answer = job.run().map_err(|failure| format!("a program with it preloaded does not run: {failure}"))?;
    let mut lines = answer.output.lines();
    let serving = PathBuf::from(lines.next().unwrap_or_default());
    let libc = lines.next().unwrap_or_default().to_string();
    let same = |a: &Path, b: &Path| a.canonicalize().ok() == b.canonicalize().ok();
    match &allocator.library {
        Some(library) if !same(library, &serving) => {
            Err(format!("the loader does not accept {}: malloc is that of {}", library.display(), serving.display()))
        }
        _ => Ok((Allocator { serving, ..allocator }, libc)),
    }
}
