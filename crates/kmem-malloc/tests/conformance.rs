//! `libkmem_malloc.so` serves unmodified programs: C and C++ programs from `tests/c`, compiled here by the system's
//! compilers, run under `LD_PRELOAD` of the library in each mode it has, and each says itself what it checked (the head
//! of each program tells what that is). Beside that: what the library exports, and what it says when a program frees
//! what it must not.
//!
//! This file does not link the library: the object under test is the file that `cargo test` built for it. To see how
//! another allocator fares, or that a program is right, set `KMEM_CONFORMANCE_LIBRARY` to the path of another library,
//! or to `none` for the C library's own malloc; then nothing is asked that is ours alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Longer than any program takes on a slow machine with a debug build of the library; a hang is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(180);

/// SIGABRT on Linux.
const ABORTED: i32 = 6;

/// A way in which the library finds its CPU-local sections: glibc's registration of rseq, none, one of its own, or
/// glibc's with concurrency ids in the place of CPU numbers (where the kernel has none, that is the first again).
struct Mode {
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
}

const RSEQ: Mode = Mode { name: "rseq", variables: &[] };
const FALLBACK: Mode = Mode { name: "fallback", variables: &[("GLIBC_TUNABLES", "glibc.pthread.rseq=0")] };
const OWN_RSEQ: Mode =
    Mode { name: "own_rseq", variables: &[("GLIBC_TUNABLES", "glibc.pthread.rseq=0"), ("KMEM_RSEQ", "own")] };

const CID: Mode = Mode { name: "cid", variables: &[("KMEM_RSEQ", "cid")] };

/// The library under test.
enum Library {
    /// Ours: the programs insist that it is loaded.
    Kmem(PathBuf),
    /// Another allocator's, for comparison.
    Other(PathBuf),
    /// No preload at all.
    None,
}

impl Library {
    fn path(&self) -> Option<&Path> {
        match self {
            Library::Kmem(path) | Library::Other(path) => Some(path),
            Library::None => None,
        }
    }

    fn is_ours(&self) -> bool {
        matches!(self, Library::Kmem(_))
    }
}

/// Not a `LazyLock`: where there is no library each test shall say so, and not only the first.
fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| match std::env::var_os("KMEM_CONFORMANCE_LIBRARY") {
        None => Library::Kmem(built_library()),
        Some(none) if none == "none" => Library::None,
        Some(path) => Library::Other(path.into()),
    })
}

/// The newer of the two places where cargo leaves the library: beside this executable (`deps`), and one above it.
fn built_library() -> PathBuf {
    let executable = std::env::current_exe().expect("the path of this test executable");
    let places: Vec<PathBuf> =
        executable.ancestors().skip(1).take(2).map(|folder| folder.join("libkmem_malloc.so")).collect();
    let modified = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let newest = places.iter().filter(|path| path.is_file()).max_by_key(|path| modified(path));
    newest
        .cloned()
        .unwrap_or_else(|| panic!("libkmem_malloc.so is in none of the places where cargo puts it: {places:?}"))
}

/// Where programs are compiled and their output is kept: a folder of this profile alone.
static WORKSHOP: LazyLock<PathBuf> = LazyLock::new(|| {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance").join(profile);
    fs::create_dir_all(&folder).expect("a folder to compile in");
    folder
});

/// The program compiled from `source`, of `tests/c`: compiled by the first test that asks, for all that follow.
fn built(source: &'static str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<&str, Arc<OnceLock<PathBuf>>>> = Mutex::new(BTreeMap::new());
    let cell = Arc::clone(BUILT.lock().expect("no test panics while it holds this lock").entry(source).or_default());
    cell.get_or_init(|| compile(source, source.split('.').next().unwrap_or(source), &[])).clone()
}

/// Compiles `source` into the workshop as `output`. Built under another name and then renamed, so that whoever runs the
/// same tests at the same time never starts half a program.
fn compile(source: &str, output: &str, extra: &[&OsStr]) -> PathBuf {
    let (compiler, standard) = if source.ends_with(".cc") { ("g++", "-std=gnu++17") } else { ("gcc", "-std=gnu11") };
    let target = WORKSHOP.join(output);
    let unfinished = WORKSHOP.join(format!("{output}.{}", std::process::id()));
    let result = Command::new(compiler)
        // No builtins: the compiler must not reason about malloc, it is what is being tested.
        .args([standard, "-O2", "-g", "-fno-builtin", "-Wall", "-Wextra", "-pthread", "-o"])
        .arg(&unfinished)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(source))
        .args(extra)
        .arg("-ldl")
        .output()
        .unwrap_or_else(|error| panic!("{compiler} is needed to build the conformance programs: {error}"));
    assert!(result.status.success(), "{source} does not compile:\n{}", String::from_utf8_lossy(&result.stderr));
    fs::rename(&unfinished, &target).expect("the compiled program to be put in its place");
    target
}

/// What became of a program.
struct Outcome {
    status: ExitStatus,
    stdout: String,
    stderr: String,
    seconds: f64,
}

/// Runs a program under the library in a mode, and waits for it no longer than `PATIENCE`. Output goes to files: a pipe
/// that a left-over grandchild holds open must not keep us waiting.
fn run(mode: &Mode, name: &str, program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> Outcome {
    let output = |kind: &str| WORKSHOP.join(format!("{name}.{}.{}.{kind}", mode.name, std::process::id()));
    let (stdout, stderr) = (output("stdout"), output("stderr"));
    let mut command = Command::new(program.as_ref());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).expect("a file for stdout"))
        .stderr(File::create(&stderr).expect("a file for stderr"))
        .env_remove("GLIBC_TUNABLES")
        .env_remove("LD_PRELOAD")
        .env_remove("KMEM_RSEQ")
        .env_remove("KMEM_STATS")
        .env_remove("KMEM_STORM")
        .env_remove("KMEM_PROFILE")
        .env_remove("KMEM_DEEPBIND")
        .envs(mode.variables.iter().copied())
        // A group of its own, so that a hanging program can be ended with all its children.
        .process_group(0);
    if let Some(library) = library().path() {
        command.env("LD_PRELOAD", library);
    }
    if library().is_ours() {
        command.env("KMEM_EXPECT", "1");
    }
    let begun = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let mut status = None;
    while status.is_none() && begun.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
        status = child.try_wait().expect("to wait for the program");
    }
    let hung = status.is_none();
    if hung {
        // The group, by its id; the child itself as well, should `kill` be missing.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status();
        let _ = child.kill();
    }
    let status = status.unwrap_or_else(|| child.wait().expect("to wait for the program"));
    let read = |path: &Path| {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let _ = fs::remove_file(path);
        text
    };
    let outcome =
        Outcome { status, stdout: read(&stdout), stderr: read(&stderr), seconds: begun.elapsed().as_secs_f64() };
    assert!(
        !hung,
        "{name} ({}) hung and was ended after {PATIENCE:?}\n{}{}",
        mode.name, outcome.stdout, outcome.stderr
    );
    outcome
}

/// A program succeeds when it says so, with its count of checks, and has nothing to say on stderr.
fn must_succeed(mode: &Mode, name: &str, program: impl AsRef<OsStr>, arguments: &[&OsStr]) {
    let outcome = run(mode, name, program, arguments);
    println!("{name} ({}, {:.1} s): {}", mode.name, outcome.seconds, outcome.stdout.trim_end());
    assert!(
        outcome.status.success() && outcome.stdout.contains(" 0 failed") && outcome.stderr.is_empty(),
        "{name} ({}): {}\n{}{}",
        mode.name,
        outcome.status,
        outcome.stdout,
        outcome.stderr
    );
}

/// A module of tests, one for each mode of the library.
macro_rules! in_each_mode {
    ($name:ident, $test:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn rseq() {
                $test(&RSEQ);
            }

            #[test]
            fn fallback() {
                $test(&FALLBACK);
            }

            #[test]
            fn own_rseq() {
                $test(&OWN_RSEQ);
            }

            #[test]
            fn cid() {
                $test(&CID);
            }
        }
    };
}

in_each_mode!(entry_points, |mode| must_succeed(mode, "entry_points", built("entry_points.c"), &[]));
in_each_mode!(names, |mode| must_succeed(mode, "names", built("names.c"), &[]));
in_each_mode!(parts, |mode| must_succeed(mode, "parts", built("parts.c"), &[]));
in_each_mode!(refusals, |mode| must_succeed(mode, "refusals", built("refusals.c"), &[]));
in_each_mode!(placement, |mode| must_succeed(mode, "placement", built("placement.c"), &[]));
in_each_mode!(figures, |mode| must_succeed(mode, "figures", built("figures.c"), &[]));
in_each_mode!(trim, |mode| must_succeed(mode, "trim", built("trim.c"), &[]));
in_each_mode!(contents, |mode| must_succeed(mode, "contents", built("contents.c"), &[]));
in_each_mode!(operators, |mode| must_succeed(mode, "operators", built("operators.cc"), &[]));
in_each_mode!(replaced, |mode| must_succeed(mode, "replaced", built("replaced.cc"), &[]));
in_each_mode!(streams, |mode| must_succeed(mode, "streams", built("streams.c"), &[]));
in_each_mode!(threads, |mode| must_succeed(mode, "threads", built("threads.c"), &[]));
in_each_mode!(upkeep, |mode| must_succeed(mode, "upkeep", built("upkeep.c"), &[]));
in_each_mode!(privileges, |mode| must_succeed(mode, "privileges", built("privileges.c"), &[]));
in_each_mode!(sandbox, |mode| must_succeed(mode, "sandbox", built("sandbox.c"), &[]));
in_each_mode!(forks, |mode| must_succeed(mode, "fork", built("fork.c"), &[]));
in_each_mode!(fork_handlers, |mode| must_succeed(mode, "atfork", built("atfork.c"), &[]));
in_each_mode!(forks_in_signal_handlers, |mode| must_succeed(mode, "signal_fork", built("signal_fork.c"), &[]));
in_each_mode!(children_on_a_thread, |mode| must_succeed(mode, "vfork", built("vfork.c"), &[]));
in_each_mode!(stepped, an_instruction_at_a_time);
in_each_mode!(stress, |mode| must_succeed(mode, "stress", built("stress.cc"), &[]));
in_each_mode!(lifecycle, before_main_and_after);
in_each_mode!(deepbind, |mode| must_succeed(mode, "deepbind", plugin_host(), &[]));
in_each_mode!(exhaustion, |mode| must_succeed(mode, "exhaustion", built("exhaustion.c"), &[]));
in_each_mode!(exhaustion_in_100_mb, |mode| under_limit(mode, 100 * 1024));
in_each_mode!(exhaustion_in_64_mb, |mode| under_limit(mode, 64 * 1024));
in_each_mode!(limited_data, |mode| limits(mode, "data"));
in_each_mode!(locked_memory, |mode| limits(mode, "locked"));
in_each_mode!(zeros_of_half_a_granule_and_more, |mode| limits(mode, "zeros"));
in_each_mode!(misuse, is_reported);
in_each_mode!(stack, takes_little_stack);
in_each_mode!(api, |mode| linked(mode, "api.c"));
in_each_mode!(umem, written_for_libumem);
in_each_mode!(defrag, |mode| linked(mode, "defrag.c"));

/// What the environment says to other allocators means nothing here, and nobody says a word about it.
mod settings_of_others {
    use super::*;

    const OTHERS: Mode = Mode {
        name: "others",
        variables: &[
            ("MALLOC_ARENA_MAX", "1"),
            ("MALLOC_CHECK_", "3"),
            ("MALLOC_PERTURB_", "165"),
            ("MALLOC_MMAP_THRESHOLD_", "4096"),
            ("MALLOC_TRIM_THRESHOLD_", "0"),
            ("MALLOC_CONF", "junk:true,stats_print:true"),
            ("MIMALLOC_VERBOSE", "1"),
        ],
    };

    #[test]
    fn contents() {
        must_succeed(&OTHERS, "contents", built("contents.c"), &[]);
    }

    #[test]
    fn trim() {
        must_succeed(&OTHERS, "trim", built("trim.c"), &[]);
    }

    #[test]
    fn threads() {
        must_succeed(&OTHERS, "threads", built("threads.c"), &[]);
    }
}

/// The busiest programs once more, while the library takes CPUs down and up and creates and destroys caches beneath
/// them.
mod storm {
    use super::*;

    const STORM: Mode = Mode { name: "storm", variables: &[("KMEM_STORM", "200")] };

    #[test]
    fn threads() {
        must_succeed(&STORM, "threads", built("threads.c"), &[]);
    }

    #[test]
    fn forks() {
        must_succeed(&STORM, "fork", built("fork.c"), &[]);
    }

    #[test]
    fn stress() {
        must_succeed(&STORM, "stress", built("stress.cc"), &[]);
    }

    #[test]
    fn stress_by_concurrency_id() {
        const CID: Mode = Mode { name: "storm_cid", variables: &[("KMEM_STORM", "200"), ("KMEM_RSEQ", "cid")] };
        must_succeed(&CID, "stress", built("stress.cc"), &[]);
    }
}

/// Programs that fork and that may make few system calls, while a heap profile samples them. A profile that is not
/// whole at the end would be said.
mod profiled {
    use super::*;

    const PROFILED: Mode = Mode { name: "profiled", variables: &[("KMEM_PROFILE", "/dev/null,rate=1024")] };

    #[test]
    fn forks_in_signal_handlers() {
        must_succeed(&PROFILED, "signal_fork", built("signal_fork.c"), &[]);
    }

    #[test]
    fn fork_handlers() {
        must_succeed(&PROFILED, "atfork", built("atfork.c"), &[]);
    }

    #[test]
    fn children_on_a_thread() {
        must_succeed(&PROFILED, "vfork", built("vfork.c"), &[]);
    }

    #[test]
    fn sandbox() {
        must_succeed(&PROFILED, "sandbox", built("sandbox.c"), &[]);
    }
}

/// Programs that fork, are sandboxed, have many threads, and use each form of new with its delete, the library's and
/// their own, while all memory is checked.
mod checked {
    use super::*;

    const DEBUG: Mode = Mode { name: "debug", variables: &[("KMEM_DEBUG", "FZPU")] };
    const SECURE: Mode = Mode { name: "secure", variables: &[("KMEM_SECURE", "1")] };

    #[test]
    fn sandbox() {
        must_succeed(&DEBUG, "sandbox", built("sandbox.c"), &[]);
        must_succeed(&SECURE, "sandbox", built("sandbox.c"), &[]);
    }

    #[test]
    fn forks_in_signal_handlers() {
        must_succeed(&DEBUG, "signal_fork", built("signal_fork.c"), &[]);
        must_succeed(&SECURE, "signal_fork", built("signal_fork.c"), &[]);
    }

    #[test]
    fn vfork() {
        must_succeed(&SECURE, "vfork", built("vfork.c"), &[]);
    }

    #[test]
    fn operators() {
        [DEBUG, SECURE].iter().for_each(|mode| must_succeed(mode, "operators", built("operators.cc"), &[]));
    }

    #[test]
    fn replaced() {
        [DEBUG, SECURE].iter().for_each(|mode| must_succeed(mode, "replaced", built("replaced.cc"), &[]));
    }
}

/// What is shipped takes at most 2 KiB of its caller's stack. A debug build takes what it likes, and so do others.
fn takes_little_stack(mode: &Mode) {
    let limit = if library().is_ours() && !cfg!(debug_assertions) { "limited" } else { "unlimited" };
    must_succeed(mode, "stack", built("stack.c"), &[OsStr::new(limit)]);
}

/// A program that calls what kmem offers beside malloc is linked with the library, which serves it in this way alone.
fn linked(mode: &Mode, source: &'static str) {
    let Library::Kmem(library) = library() else {
        return println!("not our library: it has none of these functions");
    };
    let name = source.split('.').next().unwrap_or(source);
    let [_, at_run] = named(library);
    let program = compile(source, &format!("{name}-{}", mode.name), &[library.as_os_str(), at_run]);
    must_succeed(mode, name, program, &[]);
}

/// A folder with the names of the library that programs are linked by and ask for, as an option of the linker's and as
/// one for the loader.
fn named(library: &Path) -> [&'static OsStr; 2] {
    static NAMED: OnceLock<[OsString; 2]> = OnceLock::new();
    let options = NAMED.get_or_init(|| {
        let folder = WORKSHOP.join("named");
        fs::create_dir_all(&folder).expect("a folder for the library's other names");
        for name in ["libumem.so", "libkmem_malloc.so.0"] {
            let link = folder.join(name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(library, link).expect("a link");
        }
        ["-L", "-Wl,-rpath,"].map(|option| [OsStr::new(option), folder.as_os_str()].into_iter().collect())
    });
    options.each_ref().map(OsString::as_os_str)
}

/// `umem.c` is compiled and linked as its authors would with libumem: by the name of the header and of the library.
fn written_for_libumem(mode: &Mode) {
    let Library::Kmem(library) = library() else {
        return println!("not our library: it has none of these functions");
    };
    let [folder, at_run] = named(library);
    let headers = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");
    let program =
        compile("umem.c", &format!("umem-{}", mode.name), &[OsStr::new(headers), folder, at_run, OsStr::new("-lumem")]);
    must_succeed(mode, "umem", program, &[]);
}

/// `lifecycle.c` is linked against one copy of its plugin, and loads another.
fn before_main_and_after(mode: &Mode) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (program, plugin) = BUILT.get_or_init(|| {
        let shared = [OsStr::new("-shared"), OsStr::new("-fPIC")];
        let plugin = compile("plugin.c", "plugin.so", &shared);
        let linked = compile("plugin.c", "linked.so", &shared);
        (compile("lifecycle.c", "lifecycle", &[linked.as_os_str()]), plugin)
    });
    must_succeed(mode, "lifecycle", program, &[plugin.as_os_str()]);
}

/// Without turns of upkeep: they come by the clock, so that a program which is stepped through takes one at every turn.
fn an_instruction_at_a_time(mode: &Mode) {
    must_succeed(mode, "stepped", "env", &[OsStr::new("KMEM_UPKEEP=off"), built("stepped.cc").as_os_str()]);
}

/// `deepbind.c`, which finds its plugin beside itself.
fn plugin_host() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        compile("deepbind_plugin.c", "deepbind-plugin.so", &["-shared", "-fPIC"].map(OsStr::new));
        compile("deepbind.c", "deepbind", &["-rdynamic", "-Wl,--enable-new-dtags,-rpath,$ORIGIN"].map(OsStr::new))
    })
}

/// With the flag in place a plugin is isolated, its malloc included.
#[test]
fn deepbind_that_is_kept_isolates() {
    const KEEP: Mode = Mode { name: "keep", variables: &[("KMEM_DEEPBIND", "keep")] };
    must_succeed(&KEEP, "deepbind", plugin_host(), &[OsStr::new("keep")]);
}

/// Memory of another namespace's malloc is refused with a message that says what it may be.
#[test]
fn memory_that_crosses_namespaces_is_named() {
    if !library().is_ours() {
        return println!("not our library: what it says is its own affair");
    }
    let outcome = run(&RSEQ, "deepbind-cross", plugin_host(), &[OsStr::new("cross")]);
    let (said, pointer) = (&outcome.stderr, outcome.stdout.trim());
    assert!(pointer.starts_with("0x") && !pointer.contains("freed"), "{}{said}", outcome.stdout);
    assert!(said.contains("kmem: ") && said.contains(pointer) && said.contains("dlmopen"), "{said}");
    assert_eq!(outcome.status.signal(), Some(ABORTED));
}

/// The limit is set by a shell before it becomes the program, so the library meets it when it plans its reservation.
fn under_limit(mode: &Mode, kib: u32) {
    let script = format!("ulimit -v {kib} && exec \"$0\" inherited");
    let program = built("exhaustion.c");
    must_succeed(
        mode,
        &format!("exhaustion_in_{kib}"),
        "sh",
        &[OsStr::new("-c"), OsStr::new(&script), program.as_os_str()],
    );
}

fn limits(mode: &Mode, case: &str) {
    must_succeed(mode, &format!("limits_{case}"), built("limits.c"), &[OsStr::new(case)]);
}

/// Every way in which `misuse.c` offends ends in SIGABRT, with the library's name and the pointer on stderr.
fn is_reported(mode: &Mode) {
    const WAYS: [&str; 18] = [
        "stack",
        "static",
        "code",
        "mapping",
        "nowhere",
        "low",
        "high",
        "realloc-stack",
        "odd",
        "interior-small",
        "interior-medium",
        "interior-large",
        "interior-huge",
        "double-small",
        "double-later",
        "double-medium",
        "double-large",
        "double-huge",
    ];
    let mut wrong = String::new();
    for way in WAYS {
        let outcome = run(mode, &format!("misuse-{way}"), built("misuse.c"), &[OsStr::new(way)]);
        let pointer = outcome.stdout.trim();
        assert!(pointer.starts_with("0x"), "misuse {way} to print the pointer that it frees, got {pointer:?}");
        let said = outcome.stderr.contains("kmem") && outcome.stderr.contains(pointer);
        let reported = if library().is_ours() {
            outcome.status.signal() == Some(ABORTED) && said
        } else {
            // Others die in their own ways, or not at all.
            true
        };
        if !reported {
            wrong += &format!(
                "  {way}: expected SIGABRT and a message with \"kmem\" and {pointer}; got {}, stderr {:?}\n",
                outcome.status, outcome.stderr
            );
        }
    }
    assert!(wrong.is_empty(), "misuse that is not reported ({}):\n{wrong}", mode.name);
}

/// The malloc family, the replaceable C++ operators, dlopen, and names of our own; not a symbol of Rust's among them.
#[test]
fn exports_only_what_it_serves() {
    const MALLOC_FAMILY: &str = "malloc free calloc realloc reallocarray posix_memalign aligned_alloc memalign valloc \
        pvalloc malloc_usable_size free_sized free_aligned_sized malloc_trim __libc_malloc __libc_free __libc_calloc \
        __libc_realloc __libc_memalign __libc_valloc __libc_pvalloc __posix_memalign cfree dlopen \
        mallinfo mallinfo2 mallopt malloc_info malloc_stats __libc_mallinfo __libc_mallopt";
    // new and new[], plain and aligned, throwing and not.
    const NEW: &str = "_Znwm _Znam _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t _ZnwmSt11align_val_t _ZnamSt11align_val_t \
        _ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t";
    // delete and delete[], plain, sized and nothrow, each aligned too.
    const DELETE: &str = "_ZdlPv _ZdaPv _ZdlPvm _ZdaPvm _ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t \
        _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t _ZdlPvmSt11align_val_t _ZdaPvmSt11align_val_t \
        _ZdlPvSt11align_val_tRKSt9nothrow_t _ZdaPvSt11align_val_tRKSt9nothrow_t";
    let Library::Kmem(library) = library() else {
        println!("not our library: its symbols are its own affair");
        return;
    };
    let listing =
        Command::new("nm").args(["-D", "--defined-only"]).arg(library).output().expect("nm (binutils) to run");
    assert!(listing.status.success(), "nm to read {library:?}: {}", String::from_utf8_lossy(&listing.stderr));
    let listing = String::from_utf8(listing.stdout).expect("symbol names to be text");
    // Address, kind, name; a version follows its name after '@'.
    let exported: BTreeSet<&str> =
        listing.lines().filter_map(|line| line.split_whitespace().last()?.split('@').next()).collect();
    const UMEM: &str = "umem_alloc umem_zalloc umem_alloc_align umem_free umem_free_align umem_nofail_callback \
        umem_cache_create umem_cache_destroy umem_cache_alloc umem_cache_free";
    const CHILDREN: &str = "fork vfork __vfork clone";
    let wanted: BTreeSet<&str> =
        [MALLOC_FAMILY, NEW, DELETE, CHILDREN, UMEM].iter().flat_map(|names| names.split_whitespace()).collect();
    let missing: Vec<_> = wanted.difference(&exported).collect();
    let header = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/kmem.h")).expect("kmem.h");
    let is_declared = |name: &str| header.contains(&format!("{name}("));
    let surplus: Vec<_> = exported.difference(&wanted).filter(|name| !is_declared(name)).collect();
    assert!(missing.is_empty(), "expected {library:?} to export these: {missing:?}");
    assert!(surplus.is_empty(), "expected {library:?} not to export these: {surplus:?}");
}
