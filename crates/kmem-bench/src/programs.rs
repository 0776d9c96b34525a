//! Real programs as workloads: what an allocator is worth in practice.
//!
//! Each works on an input that is generated here, always the same. A program that is not installed is named in the
//! result. Launchers (such as the shell scripts that `pyenv` puts on PATH) are not measured: the interpreter itself
//! reports its path, and is run by that.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::allocators::Allocator;
use crate::child::{Cost, Failure, Job};
use crate::executables::cache_folder;
use crate::redis;

/// A real program and what it does.
pub struct Program {
    /// As `--only` names it.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Names of the executable, the best first.
    commands: &'static [&'static str],
    /// The package that has it.
    package: &'static str,
    /// Arguments that make an interpreter print its own path; none if the command is the program itself.
    whereabouts: &'static [&'static str],
    input: Input,
}

/// The input of the program. The two numbers of repetitions are for a full run and for a quick one.
enum Input {
    /// A script that is passed the number of repetitions.
    Script(&'static str, [u32; 2]),
    /// An XML document, parsed and printed repeatedly.
    Xml([u32; 2]),
    /// Arguments of a program that needs no file; `{}` stands for the number.
    Arguments(&'static [&'static str], [u32; 2]),
    /// A problem for a solver, of a size that depends on the number.
    Problem(fn(u32) -> String, [u32; 2]),
    /// A server that is sent a script repeatedly.
    Redis(&'static str, [u32; 2]),
}

/// All of them.
pub const ALL: [Program; 9] = [
    Program {
        name: "xmllint",
        about: "xmllint --repeat: a document of 4,000 elements is parsed 100 times a round",
        commands: &["xmllint"],
        package: "libxml2-utils",
        whereabouts: &[],
        input: Input::Xml([3, 1]),
    },
    Program {
        name: "redis",
        about: "redis-server: EVAL of a Lua script that fills, reads and deletes lists and hashes",
        commands: &["redis-server"],
        package: "redis-server",
        whereabouts: &[],
        input: Input::Redis(include_str!("../programs/redis.lua"), [150, 30]),
    },
    Program {
        name: "python",
        about: "python3 with PYTHONMALLOC=malloc: dictionaries, lists, strings, objects",
        commands: &["python3"],
        package: "python3",
        whereabouts: &["-c", "import sys; print(sys.executable)"],
        input: Input::Script(include_str!("../programs/objects.py"), [8, 2]),
    },
    Program {
        name: "ruby",
        about: "ruby: hashes, arrays, strings, objects",
        commands: &["ruby"],
        package: "ruby",
        whereabouts: &["-e", "puts RbConfig.ruby"],
        input: Input::Script(include_str!("../programs/objects.rb"), [8, 2]),
    },
    Program {
        name: "lua",
        about: "lua: tables, strings, closures",
        commands: &["lua5.4", "lua5.3", "lua"],
        package: "lua5.4",
        whereabouts: &[],
        input: Input::Script(include_str!("../programs/objects.lua"), [8, 2]),
    },
    Program {
        name: "perl",
        about: "perl: hashes, arrays, strings, references",
        commands: &["perl"],
        package: "perl",
        whereabouts: &["-e", "print $^X"],
        input: Input::Script(include_str!("../programs/objects.pl"), [8, 2]),
    },
    Program {
        name: "z3",
        about: "z3: a pigeonhole problem and linear arithmetic",
        commands: &["z3"],
        package: "z3",
        whereabouts: &[],
        input: Input::Problem(pigeons, [7, 6]),
    },
    Program {
        name: "ghostscript",
        about: "gs: a PostScript program that draws and sorts",
        commands: &["gs"],
        package: "ghostscript",
        whereabouts: &[],
        input: Input::Script(include_str!("../programs/draw.ps"), [12, 3]),
    },
    Program {
        name: "jq",
        about: "jq: builds and reduces objects",
        commands: &["jq"],
        package: "jq",
        whereabouts: &[],
        input: Input::Arguments(
            &["-n", "[range({}) | {a: ., b: (. | tostring), c: [., . + 1]}] | map(.b + \"x\") | unique | length"],
            [40_000, 10_000],
        ),
    },
];

/// A program that can be run.
pub(crate) struct Ready<'a> {
    job: Job,
    /// If the program is a server: the socket, the script and how often it is sent.
    server: Option<(PathBuf, &'a str, u32)>,
}

impl Program {
    /// Finds the program and generates its input. The error is why that failed.
    pub(crate) fn prepare(&self, quick: bool, patience: Duration) -> Result<Ready<'_>, String> {
        let program =
            self.find().ok_or_else(|| format!("{} is not installed: apt-get install {}", self.name, self.package))?;
        let folder = cache_folder().join("bench/programs");
        fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        let file = |content: &str| write(&folder.join(format!("{}.{}", self.name, std::process::id())), content);
        let times = |pair: [u32; 2]| pair[usize::from(quick)];
        let mut server = None;
        let arguments: io::Result<Vec<OsString>> = (|| {
            Ok(match &self.input {
                Input::Script(script, pair) if self.name == "ghostscript" => vec![
                    "-q".into(),
                    "-dNODISPLAY".into(),
                    "-dBATCH".into(),
                    "-dNOSAFER".into(),
                    format!("-dtimes={}", times(*pair)).into(),
                    file(script)?.into(),
                ],
                Input::Script(script, pair) => vec![file(script)?.into(), times(*pair).to_string().into()],
                Input::Xml(pair) => {
                    let document = file(&document())?;
                    let mut arguments: Vec<OsString> = vec!["--repeat".into(), "--noout".into()];
                    arguments.extend((0..times(*pair)).map(|_| document.clone().into()));
                    arguments
                }
                Input::Arguments(arguments, pair) => {
                    arguments.iter().map(|argument| argument.replace("{}", &times(*pair).to_string()).into()).collect()
                }
                Input::Problem(problem, pair) => vec!["-smt2".into(), file(&problem(times(*pair)))?.into()],
                Input::Redis(script, pair) => {
                    let socket = folder.join(format!("redis.{}", std::process::id()));
                    let arguments = redis::arguments(&socket, &folder);
                    server = Some((socket, *script, times(*pair)));
                    arguments
                }
            })
        })();
        let arguments = arguments.map_err(|e| format!("cannot write its input to {}: {e}", folder.display()))?;
        let environment = if self.name == "python" { vec![("PYTHONMALLOC".into(), "malloc".into())] } else { vec![] };
        Ok(Ready { job: Job { program, arguments, environment, patience }, server })
    }

    fn find(&self) -> Option<PathBuf> {
        let found = self.commands.iter().find_map(|command| on_path(command))?;
        if self.whereabouts.is_empty() {
            return Some(found);
        }
        let told = Command::new(&found).args(self.whereabouts).stdin(Stdio::null()).output().ok()?;
        let path = PathBuf::from(String::from_utf8(told.stdout).ok()?.trim());
        path.is_absolute().then_some(path).filter(|path| path.exists())
    }
}

impl Ready<'_> {
    /// One run under an allocator. For a server the cost is that of the whole process, and the time is what its clients
    /// saw.
    pub(crate) fn run(&self, allocator: &Allocator) -> Result<Cost, Failure> {
        let mut job = self.job.clone();
        job.environment.extend(allocator.environment());
        match &self.server {
            None => job.run(),
            Some((socket, script, times)) => {
                // Some builds of the server are linked with another allocator, so libc's is preloaded like the others.
                if allocator.library.is_none() {
                    job.environment.push(("LD_PRELOAD".into(), allocator.serving.clone().into()));
                }
                redis::run(&job, socket, script, *times)
            }
        }
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        let files = self.job.arguments.iter().map(Path::new).filter(|path| path.is_absolute() && path.is_file());
        for file in files {
            // If it cannot be removed, a small file stays in the cache folder.
            let _ = fs::remove_file(file);
        }
    }
}

fn write(path: &Path, content: &str) -> io::Result<PathBuf> {
    fs::write(path, content)?;
    Ok(path.to_path_buf())
}

fn on_path(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(command)).find(|file| file.is_file())
}

/// 4,000 elements with attributes and text.
fn document() -> String {
    let elements = (0..4000).map(|i| {
        let (kind, weight) = (i % 7, i * 31 % 1000);
        format!("<item id=\"i{i}\" kind=\"k{kind}\"><name>object {i}</name><weight>{weight}</weight></item>\n")
    });
    format!("<?xml version=\"1.0\"?>\n<items>\n{}</items>\n", elements.collect::<String>())
}

/// `n` pigeons in `n - 1` holes, which is unsatisfiable, and sums that are satisfiable.
fn pigeons(n: u32) -> String {
    let hole = |pigeon: u32, hole: u32| format!("p{pigeon}_{hole}");
    let mut text = String::new();
    for pigeon in 0..=n {
        for h in 0..n {
            text += &format!("(declare-const {} Bool)\n", hole(pigeon, h));
        }
        let somewhere: Vec<_> = (0..n).map(|h| hole(pigeon, h)).collect();
        text += &format!("(assert (or {}))\n", somewhere.join(" "));
        for other in 0..pigeon {
            for h in 0..n {
                text += &format!("(assert (not (and {} {})))\n", hole(pigeon, h), hole(other, h));
            }
        }
    }
    text += "(push)\n(check-sat)\n(pop)\n(reset)\n";
    let unknowns = 60 * n;
    for i in 0..unknowns {
        text += &format!("(declare-const x{i} Int)\n(assert (> x{i} {}))\n", i % 5);
    }
    for i in 1..unknowns {
        text += &format!("(assert (< (+ x{} (* 2 x{i})) {}))\n", i - 1, 40 + i % 7);
    }
    text + "(check-sat)\n"
}
