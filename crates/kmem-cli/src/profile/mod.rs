//! `kmem profile`: where the memory of a running process was allocated.
//!
//! The process samples what it allocates (`kmem::profile`) from when it is asked to until the command ends; a process
//! that was started with `KMEM_PROFILE` samples already, and goes on afterwards. The command copies the samples out of
//! its memory, finds the names of the functions in its files, and writes a profile for pprof, a flame graph, or both,
//! and the largest sites as a table.

#![forbid(unsafe_code)]

mod flame;
mod outside;
mod pprof;
mod symbols;

use std::fmt;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use indicatif::{BinaryBytes, HumanCount};
use kmem::control::message::{Kind, Refusal};
use kmem::profile::RATE_MAX;
use kmem::profile::interval::weight;

use crate::ask::{AskError, Asked, Reply};
use crate::interrupt::Interrupt;
use outside::{Sampled, Unreadable};
use symbols::Symbols;

/// Arguments of `kmem profile`.
#[derive(Args)]
#[command(after_help = "Examples: kmem profile 4711 --seconds 60 -o heap.pb.gz; go tool pprof -http=: heap.pb.gz")]
pub struct ProfileArgs {
    /// A running process on kmem
    #[arg(value_name = "PID")]
    pid: u32,
    /// Write a profile for pprof to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write a flame graph of what is held to this file (SVG)
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,
    /// How long to sample; Ctrl-C ends it before
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=604_800))]
    seconds: u64,
    /// One sample in so many bytes: a number, or one with KiB or MiB
    #[arg(long, value_name = "BYTES", default_value = "512KiB", value_parser = bytes)]
    rate: usize,
    /// Sites that the table shows
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    top: usize,
}

/// A number of bytes that a rate may be.
fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix("KiB") {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix("MiB").map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let number = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    number.filter(|number| (1..=RATE_MAX).contains(number)).ok_or_else(|| "1 to 128MiB, as in 64KiB".to_string())
}

/// What the objects of a site stand for.
#[derive(Clone, Copy, Default)]
pub struct Values {
    pub allocated_objects: f64,
    pub allocated_bytes: f64,
    pub live_objects: f64,
    pub live_bytes: f64,
}

/// A site with what it stands for.
pub struct WeightedSite {
    pub requested: u64,
    pub cache: String,
    pub callers: Vec<u64>,
    pub values: Values,
}

/// A profile, ready to be written.
pub struct Weighted {
    pub rate: u64,
    /// How long samples were taken.
    pub nanoseconds: u64,
    /// When it was read, in nanoseconds since 1970.
    pub ended: u64,
    pub lost: u64,
    pub sites: Vec<WeightedSite>,
}

impl Weighted {
    fn of(sampled: Sampled) -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        let ended = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let ours = &sampled.ours;
        let sites = sampled.sites.into_iter().map(|site| {
            let each = weight(site.usable as usize, sampled.rate as usize);
            let (all, live) = (each * site.sampled as f64, each * (site.sampled - site.freed) as f64);
            let size = site.requested as f64;
            let values = Values {
                allocated_objects: all,
                allocated_bytes: all * size,
                live_objects: live,
                live_bytes: live * size,
            };
            let callers = site.callers.into_iter().filter(|caller| *caller > 0);
            let callers = callers.skip_while(|caller| ours.contains(caller)).collect();
            WeightedSite { requested: site.requested, cache: site.cache, callers, values }
        });
        Self {
            rate: sampled.rate,
            nanoseconds: now.saturating_sub(sampled.begun),
            ended,
            lost: sampled.lost,
            sites: sites.collect(),
        }
    }
}

/// Why there is no profile.
#[derive(Debug)]
enum ProfileError {
    Ask(AskError),
    Refused(Option<Refusal>),
    Read(Unreadable),
    Maps(std::io::Error),
    Write(PathBuf, std::io::Error),
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(error) => write!(f, "{error}"),
            Self::Refused(Some(Refusal::NoMemory)) => f.write_str("the process has no memory for a profile"),
            Self::Refused(_) => {
                f.write_str("the process does not take profiles: it has another version of kmem than this command")
            }
            Self::Read(Unreadable::System(error)) => {
                write!(f, "the profile cannot be read (did the process end?): {error}")
            }
            Self::Read(Unreadable::Version(found)) => {
                write!(f, "the process's profile has version {found}: use the kmem it was built with")
            }
            Self::Read(Unreadable::NoProfile | Unreadable::Broken) => {
                f.write_str("what the process has for a profile is none")
            }
            Self::Maps(error) => write!(f, "the process's mappings cannot be read: {error}"),
            Self::Write(path, error) => write!(f, "{} cannot be written: {error}", path.display()),
        }
    }
}

/// Takes a profile.
pub fn profile(args: &ProfileArgs) -> ExitCode {
    match take(args) {
        Ok(text) => ExitCode::from(u8::from(!crate::print(&text))),
        Err(error) => {
            eprintln!("kmem profile: process {}: {error}", args.pid);
            ExitCode::FAILURE
        }
    }
}

/// How long the process may take until it looks at what is asked for.
const PATIENCE: Duration = Duration::from_secs(5);

fn take(args: &ProfileArgs) -> Result<String, ProfileError> {
    let asked = Asked::find(args.pid).map_err(ProfileError::Ask)?;
    let ask = |on: bool| match asked.ask(Kind::Profile, "", &[u64::from(on), args.rate as u64], PATIENCE) {
        Ok(Reply::Done(numbers)) => Ok(numbers),
        Ok(Reply::Refused(why, _)) => Err(ProfileError::Refused(why)),
        Err(error) => Err(ProfileError::Ask(error)),
    };
    let interrupt = Interrupt::watch();
    let [head, was_on, ..] = ask(true)?;
    interrupt.sleep(Duration::from_secs(args.seconds));
    let sampled = outside::read(args.pid, head).map_err(ProfileError::Read);
    // The mappings are those of now; what ends meanwhile ends the command.
    let symbols = Symbols::of(args.pid).map_err(ProfileError::Maps);
    if was_on == 0 {
        // What was sampled is read already, so a process that no longer looks costs only itself.
        if let Err(error) = ask(false) {
            eprintln!("kmem profile: process {}: it goes on sampling: {error}", args.pid);
        }
    }
    let (weighted, mut symbols) = (Weighted::of(sampled?), symbols?);
    if let Some(path) = &args.output {
        let file = File::create(path).map_err(|error| ProfileError::Write(path.clone(), error))?;
        pprof::write(BufWriter::new(file), &weighted, &mut symbols)
            .map_err(|error| ProfileError::Write(path.clone(), error))?;
    }
    if let Some(path) = &args.flame {
        let title = format!("process {}: what is held, by who allocated it", args.pid);
        let svg = flame::draw(&weighted, &mut symbols, &title);
        fs::write(path, svg).map_err(|error| ProfileError::Write(path.clone(), error))?;
    }
    Ok(table(args, &weighted, &mut symbols))
}

/// The largest sites, as text.
fn table(args: &ProfileArgs, weighted: &Weighted, symbols: &mut Symbols) -> String {
    use fmt::Write;
    let mut places: Vec<(String, String, Values)> = Vec::new();
    for site in &weighted.sites {
        let functions = site.callers.first().map(|caller| symbols.functions(caller - 1)).unwrap_or_default();
        let place = functions.first().map_or_else(
            || "(unknown)".to_string(),
            |function| {
                let file = Path::new(&function.file).file_name().unwrap_or_default().to_string_lossy();
                if function.line > 0 {
                    format!("{} {file}:{}", function.name, function.line)
                } else {
                    function.name.clone()
                }
            },
        );
        match places.iter_mut().find(|(name, cache, _)| (name, cache) == (&place, &site.cache)) {
            Some((.., sum)) => sum.add(&site.values),
            None => places.push((place, site.cache.clone(), site.values)),
        }
    }
    places.sort_by(|a, b| b.2.live_bytes.total_cmp(&a.2.live_bytes));
    let mut sum = Values::default();
    places.iter().for_each(|(.., values)| sum.add(values));
    let size = |bytes: f64| BinaryBytes(bytes as u64).to_string();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "process {}: {:.1} s, one sample in {}: {} held, {} allocated",
        args.pid,
        weighted.nanoseconds as f64 / 1e9,
        BinaryBytes(weighted.rate),
        size(sum.live_bytes),
        size(sum.allocated_bytes),
    );
    if weighted.lost > 0 {
        let _ = writeln!(out, "{} samples were lost: there was no memory for them", HumanCount(weighted.lost));
    }
    let _ = writeln!(out, "{:>12} {:>12} {:>12}  {:<14} allocated by", "held", "objects", "allocated", "cache");
    for (place, cache, values) in places.iter().take(args.top) {
        let objects = HumanCount(values.live_objects as u64).to_string();
        let (held, allocated) = (size(values.live_bytes), size(values.allocated_bytes));
        let _ = writeln!(out, "{held:>12} {objects:>12} {allocated:>12}  {cache:<14} {place}");
    }
    out
}

impl Values {
    fn add(&mut self, other: &Self) {
        self.allocated_objects += other.allocated_objects;
        self.allocated_bytes += other.allocated_bytes;
        self.live_objects += other.live_objects;
        self.live_bytes += other.live_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bytes_with_a_unit_or_none() {
        assert_eq!([bytes("4096"), bytes("64KiB"), bytes("1MiB")], [Ok(4096), Ok(65536), Ok(1 << 20)]);
        assert_eq!(bytes("512KiB"), Ok(kmem::profile::RATE));
        for wrong in ["", "0", "129MiB", "-1", "1k", "KiB", "1.5MiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
