//! Peers that come as source, from crates.io.
//!
//! The crates wrap allocators for Rust programs. What is needed here is a shared object that exports malloc and related
//! functions: cargo fetches and compiles the crate as the only dependency of an empty project, each in a folder of its
//! own in the user's cache, and the C compiler links the archive that the crate's build script produced; if that
//! archive lacks malloc, the C compiler compiles the allocator's own sources from the crate. Versions are exact.
//! Everything is built in release mode, because in debug mode some of the crates compile debug versions of their
//! allocators.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::executables::cache_folder;

/// One peer.
pub struct Peer {
    /// As `--allocators` names it.
    pub name: &'static str,
    /// The allocator's own version.
    pub version: &'static str,
    /// The crate, and its exact version.
    package: &'static str,
    package_version: &'static str,
    features: &'static [&'static str],
    make: Make,
    /// It registers rseq itself, so glibc must not register it.
    pub own_rseq: bool,
}

/// How the shared object is built.
#[derive(Hash)]
enum Make {
    /// The build script's archive of this name exports malloc.
    Archive(&'static str),
    /// The same, but its functions have other names: (exported name, name in the archive).
    Renamed(&'static str, &'static [(&'static str, &'static str)]),
    /// The crate is only fetched; these sources in it build the allocator's own library for preloading.
    Source {
        compiler: &'static str,
        sources: &'static [&'static str],
        include: &'static str,
        flags: &'static [&'static str],
    },
}

/// All of them.
pub const ALL: [Peer; 6] = [
    Peer {
        name: "mimalloc2",
        version: "2.3.2",
        package: "libmimalloc-sys",
        package_version: "0.1.49",
        features: &["v2", "override"],
        make: Make::Archive("libmimalloc.a"),
        own_rseq: false,
    },
    Peer {
        name: "mimalloc3",
        version: "3.6.2",
        package: "rustfs-mimalloc-sys",
        package_version: "0.7.4",
        features: &["override"],
        make: Make::Archive("libmimalloc.a"),
        own_rseq: false,
    },
    Peer {
        name: "snmalloc",
        version: "0.7.6",
        package: "snmalloc-sys",
        package_version: "0.7.6",
        features: &[],
        make: Make::Source { compiler: "c++", sources: SNMALLOC, include: "upstream/src", flags: SNMALLOC_FLAGS },
        own_rseq: false,
    },
    Peer {
        name: "rpmalloc",
        version: "1.4.3",
        package: "rpmalloc-sys",
        package_version: "0.2.3",
        features: &[],
        make: Make::Source {
            compiler: "cc",
            sources: &["rpmalloc/rpmalloc/rpmalloc.c"],
            include: "rpmalloc/rpmalloc",
            flags: &["-D_GNU_SOURCE", "-DENABLE_OVERRIDE=1", "-DENABLE_PRELOAD=1"],
        },
        own_rseq: false,
    },
    Peer {
        name: "jemalloc",
        version: "5.3.1",
        package: "tikv-jemalloc-sys",
        package_version: "0.7.1",
        features: &["unprefixed_malloc_on_supported_platforms"],
        make: Make::Archive("lib/libjemalloc_pic.a"),
        own_rseq: false,
    },
    Peer {
        name: "tcmalloc",
        version: "libtcmalloc-sys 0.1.14",
        package: "libtcmalloc-sys",
        package_version: "0.1.14",
        features: &["8k_pages"],
        make: Make::Renamed("libtcmalloc.a", TCMALLOC),
        own_rseq: true,
    },
];

const SNMALLOC: &[&str] = &["upstream/src/snmalloc/override/malloc.cc", "upstream/src/snmalloc/override/new.cc"];
/// The flags of its own build files for its preload library on Linux.
const SNMALLOC_FLAGS: &[&str] = &[
    "-std=c++20",
    "-mcx16",
    "-mprfchw",
    "-fno-rtti",
    "-fomit-frame-pointer",
    "-fvisibility=hidden",
    "-ftls-model=initial-exec",
    "-DSNMALLOC_EXPORT=__attribute__((visibility(\"default\")))",
    "-DSNMALLOC_USE_WAIT_ON_ADDRESS=1",
    "-DSNMALLOC_USE_CXX11_THREAD_ATEXIT_DIRECT",
    "-DSNMALLOC_CHECK_LOADS=false",
    "-DSNMALLOC_PAGEID=false",
    "-latomic",
];

/// Google's tcmalloc; the crate omits its replacement of libc's names.
const TCMALLOC: &[(&str, &str)] = &[
    ("malloc", "TCMallocInternalMalloc"),
    ("free", "TCMallocInternalFree"),
    ("calloc", "TCMallocInternalCalloc"),
    ("realloc", "TCMallocInternalRealloc"),
    ("memalign", "TCMallocInternalMemalign"),
    ("aligned_alloc", "TCMallocInternalAlignedAlloc"),
    ("posix_memalign", "TCMallocInternalPosixMemalign"),
    ("malloc_usable_size", "TCMallocInternalMallocSize"),
];

impl Peer {
    /// The path of the shared object, built or not. One that is built in another way has another name.
    pub fn library(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (self.features, &self.make).hash(&mut hasher);
        self.folder().join(format!("lib{}-{:08x}.so", self.name, hasher.finish() as u32))
    }

    /// What it is built from, and how.
    pub fn how(&self) -> String {
        let features =
            if self.features.is_empty() { String::new() } else { format!(" ({})", self.features.join(", ")) };
        let by = match self.make {
            Make::Source { compiler, sources, .. } => format!("{compiler} -O3 -DNDEBUG of its {}", sources.join(", ")),
            _ => "cargo's release profile".to_string(),
        };
        format!("crate {} {}{features}, {by}", self.package, self.package_version)
    }

    fn folder(&self) -> PathBuf {
        cache_folder().join("peers").join(format!("{}-{}-{}", self.name, self.package, self.package_version))
    }

    /// Builds the shared object, if it does not exist yet.
    ///
    /// # Errors
    /// The error of the network, cargo or the compiler.
    pub fn build(&self) -> Result<(), String> {
        if self.library().exists() {
            return Ok(());
        }
        let folder = self.folder();
        self.write_project(&folder).map_err(|e| format!("cannot write to {}: {e}", folder.display()))?;
        let made = folder.join("made.so");
        match &self.make {
            Make::Archive(archive) => self.link(&folder, archive, &[], &made)?,
            Make::Renamed(archive, names) => self.link(&folder, archive, names, &made)?,
            Make::Source { compiler, sources, include, flags } => {
                let crate_folder = self.sources(&folder)?;
                let mut command = Command::new(compiler);
                command.args(["-O3", "-DNDEBUG", "-shared", "-fPIC", "-pthread", "-w", "-o"]).arg(&made);
                command.arg("-I").arg(crate_folder.join(include));
                command.args(sources.iter().map(|source| crate_folder.join(source))).args(*flags).arg("-ldl");
                run(&mut command)?;
            }
        }
        fs::rename(&made, self.library()).map_err(|e| format!("cannot rename {}: {e}", made.display()))
    }

    /// An empty project with one dependency.
    fn write_project(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("src/lib.rs"), "")?;
        let (package, version, features) = (self.package, self.package_version, self.features);
        fs::write(
            folder.join("Cargo.toml"),
            format!(
                "[package]\nname = \"peer\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
                 [dependencies.{package}]\nversion = \"={version}\"\nfeatures = {features:?}\n"
            ),
        )
    }

    /// Compiles the crate, and links the archive of its build script.
    fn link(&self, folder: &Path, archive: &str, names: &[(&str, &str)], made: &Path) -> Result<(), String> {
        let mut cargo = self.cargo(folder, "build");
        let told = run(cargo.args(["--release", "--message-format=json"]))?;
        let out = out_folder(&told.stdout, self.package)
            .ok_or_else(|| format!("cargo reports no build script of {}", self.package))?;
        let mut linker = Command::new("c++");
        linker.args(["-shared", "-o"]).arg(made);
        linker.arg("-Wl,--whole-archive").arg(out.join(archive)).arg("-Wl,--no-whole-archive");
        linker.args(names.iter().map(|(exported, own)| format!("-Wl,--defsym={exported}={own}")));
        run(linker.args(["-pthread", "-ldl", "-lm"])).map(drop)
    }

    /// The folder of the crate's sources.
    fn sources(&self, folder: &Path) -> Result<PathBuf, String> {
        let told = run(self.cargo(folder, "metadata").args(["--format-version=1"]))?;
        let metadata: serde_json::Value =
            serde_json::from_slice(&told.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let manifest = packages
            .filter(|package| package["name"] == self.package)
            .find_map(|package| package["manifest_path"].as_str())
            .ok_or_else(|| format!("cargo reports no sources of {}", self.package))?;
        Ok(Path::new(manifest).parent().unwrap_or(Path::new("/")).to_path_buf())
    }

    fn cargo(&self, folder: &Path, command: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.arg(command).current_dir(folder);
        // If cargo started this process (`cargo run`), it has set these.
        cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
        cargo
    }
}

/// Runs a step to its end, and keeps its output in case it fails.
fn run(command: &mut Command) -> Result<Output, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("cannot run {program}: {e}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let telling = |line: &&str| line.contains("error") && !line.contains("ld returned");
    let line = said.lines().find(telling).or(said.lines().next()).unwrap_or_default();
    Err(format!("{program}: {}: {}", output.status, line.trim()))
}

/// The folder that the crate's build script wrote to, from cargo's messages.
fn out_folder(messages: &[u8], package: &str) -> Option<PathBuf> {
    String::from_utf8_lossy(messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "build-script-executed")
        .filter(|message| message["package_id"].as_str().is_some_and(|id| id.contains(package)))
        .find_map(|message| message["out_dir"].as_str().map(PathBuf::from))
}
