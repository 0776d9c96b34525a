//! A container that shrinks and grows under a server: what happens to its memory, with one allocator after another.
//!
//! redis runs in a control group with all CPUs of the guest; clients outside of the group put load on it
//! ([`clients`]), and check every reply. Then, in seconds after the server was filled ([`SCHEDULE`]):
//!
//! ```text
//!  4   the older two thirds of all values are deleted, as when sessions end
//!  9   the group is left with one CPU
//! 14   memory.high is halved; so far it was a quarter more than the group used when the server was full
//! 19   the group gets all its CPUs back
//! 24   end
//! ```
//!
//! Four times a second [`observed`] notes what the server holds, and what the clients saw. Each note is a line on the
//! serial line: `sample`, and an object in JSON. The emulator's host runs all CPUs in turn, so latencies can only be
//! compared with each other.
//!
//! What kmem promises is a check: from a second after CPUs left, nothing is cached there, what is cached is within what
//! the process is entitled to, and resident memory is at most 5 % more than what lives and that. Whatever the allocator
//! is, no reply is lost or wrong.

mod clients;
mod observed;

use std::fs;
use std::ops::Range;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::child::Running;
use super::cpus::Set;
use super::machine;
use clients::Clients;
use observed::{Cached, Observed, Sample};

/// What happens when.
pub const SCHEDULE: [(u64, Event); 5] =
    [(4, Event::Expire), (9, Event::OneCpu), (14, Event::HalfTheMemory), (19, Event::AllCpus), (24, Event::End)];

/// Something that happens to the server or its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Expire,
    OneCpu,
    HalfTheMemory,
    AllCpus,
    End,
}

const EACH: Duration = Duration::from_millis(250);
/// How long what was cached may take to follow the CPUs.
const PROMPT: Duration = Duration::from_secs(1);
/// The file name of kmem's library in /bin; the other libraries there are peers'.
const OURS: &str = "libkmem_malloc.so";
const SOCKET: &str = "/tmp/redis";

/// A library to preload, or none, and what else is in the environment.
pub struct Allocator {
    pub name: String,
    variables: Vec<(&'static str, String)>,
    /// Whether a thread follows the CPUs, so that the promises hold.
    follows: bool,
}

/// The server's own allocator, and those of the libraries in /bin. kmem comes twice: only a thread of its own follows
/// the CPUs.
pub fn allocators() -> Vec<Allocator> {
    let names = fs::read_dir("/bin").into_iter().flatten().flatten();
    let mut libraries: Vec<String> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.ends_with(".so")).collect();
    libraries.sort();
    let mut all = vec![Allocator { name: "own".into(), variables: Vec::new(), follows: false }];
    for library in libraries {
        let preload = ("LD_PRELOAD", format!("/bin/{library}"));
        if library == OURS {
            let variables = vec![preload.clone(), ("KMEM_UPKEEP", "always".into())];
            all.push(Allocator { name: "kmem, upkeep".into(), variables, follows: true });
        }
        let name = if library == OURS { "kmem" } else { library.trim_start_matches("lib").trim_end_matches(".so") };
        all.push(Allocator { name: name.into(), variables: vec![preload], follows: false });
    }
    all
}

/// What happens with an allocator.
pub fn scenario(allocator: &Allocator) -> Result<String, String> {
    let Allocator { name, variables, follows } = allocator;
    let set = machine::enable("memory").and_then(|()| Set::new("container"));
    let set = set.map_err(|e| format!("no container: {e}"))?;
    let mut command = Command::new("/bin/redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", SOCKET, "--dir", "/tmp"]);
    command.env_clear().env("PATH", "/bin").envs(variables.iter().cloned());
    let server = Running::start(command, Some(&set.members()))?;
    let pid = server.child.id();
    let mut observed = Observed::connect(pid)?;
    let empty = observed.look(0.0, &Clients::idle(), false)?;
    let clients = Clients::start()?;
    let room = set.used()? / 4 * 5;
    set.limit(room)?;
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut events = SCHEDULE.iter().peekable();
    loop {
        thread::sleep(EACH);
        let seconds = began.elapsed().as_secs_f64();
        if let Some((_, event)) = events.next_if(|(at, _)| *at as f64 <= seconds) {
            match event {
                Event::Expire => clients.expire(),
                Event::OneCpu => set.allow("0").map_err(|e| e.to_string())?,
                Event::HalfTheMemory => set.limit(room / 2)?,
                Event::AllCpus => set.allow_all().map_err(|e| e.to_string())?,
                Event::End => break,
            }
        }
        let is_judged = *follows && judged().contains(&seconds);
        let sample = observed.look(seconds, &clients, is_judged)?;
        println!("sample {}", sample.line(name));
        samples.push(sample);
    }
    let replies = clients.finish()?;
    let low = lowest_rate(&samples);
    let words = format!("{replies} replies, all as they should be; at least {low:.0} a second");
    if *follows { promised(&empty, &samples).map(|held| format!("{words}; {held}")) } else { Ok(words) }
}

fn lowest_rate(samples: &[Sample]) -> f64 {
    samples.windows(4).map(|four| four.iter().map(|sample| sample.rate).sum::<f64>() / 4.0).fold(f64::MAX, f64::min)
}

/// When the promises are to hold: the time with one CPU, from soon after the others left.
fn judged() -> Range<f64> {
    let at = |event| SCHEDULE.iter().find(|(_, other)| *other == event).map_or(0.0, |(at, _)| *at as f64);
    at(Event::OneCpu) + PROMPT.as_secs_f64() + EACH.as_secs_f64()..at(Event::AllCpus)
}

/// What kmem promises for the time when one CPU is left.
fn promised(empty: &Sample, samples: &[Sample]) -> Result<String, String> {
    let shrunk: Vec<(&Sample, &Cached)> =
        samples.iter().filter_map(|sample| sample.cached.as_ref().map(|cached| (sample, cached))).collect();
    let most = |of: &dyn Fn(&Sample, &Cached) -> u64| {
        shrunk.iter().map(|(sample, cached)| of(sample, cached)).max().unwrap_or(u64::MAX)
    };
    // What an empty server has besides: its code, stacks and tables.
    let besides = empty.resident.saturating_sub(empty.live);
    let elsewhere = most(&|_, cached| cached.elsewhere);
    let over = most(&|_, cached| cached.bytes.saturating_sub(cached.entitled));
    let beyond = most(&|sample, cached| {
        let allowed = (sample.live + cached.entitled) * 105 / 100 + besides;
        sample.resident.saturating_sub(allowed)
    });
    let cached = most(&|_, cached| cached.bytes);
    let above = most(&|sample, _| sample.resident.saturating_sub(besides + sample.live));
    let words = format!(
        "with one CPU at most {cached} bytes are cached, of them {elsewhere} on CPUs that left, and {above} resident \
         beside what lives; {over} and {beyond} more than the process is entitled to"
    );
    if (elsewhere, over, beyond) == (0, 0, 0) { Ok(words) } else { Err(words) }
}
