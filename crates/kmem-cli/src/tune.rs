//! `kmem tune`: changes a cache of a running process.
//!
//! The process is asked through its memory ([`ask`](crate::ask)), so this needs the right to trace it, as a debugger
//! does. It carries the request out by itself, on a slow path of malloc or free, or on the thread of
//! `KMEM_UPKEEP=always`. A process that does neither is not disturbed; then the command says so.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use kmem::control::message::{Kind, NONE, NUMBERS, Refusal};

use crate::ask::{AskError, Asked, Reply};

/// Arguments of `kmem tune`.
#[derive(Args)]
#[command(after_help = "Example: kmem tune 4711 dentry limit=32")]
pub struct TuneArgs {
    /// A running process on kmem
    #[arg(value_name = "PID")]
    pid: u32,
    /// The cache, by its name
    #[arg(value_name = "CACHE")]
    cache: String,
    /// What it is set to: limit=N objects that each CPU caches, batch=N objects that move at a time, depot=N full
    /// magazines that wait on each node
    #[arg(value_name = "NAME=VALUE", required = true)]
    settings: Vec<String>,
    /// Seconds to wait for the process to look
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: u64,
}

/// What can be set, in the order of a request's arguments.
const SETTINGS: [&str; 3] = ["limit", "batch", "depot"];

/// Asks the process, and prints what became of it.
pub fn tune(args: &TuneArgs) -> ExitCode {
    let arguments = match parse(&args.settings) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("kmem tune: {error}");
            return ExitCode::from(2);
        }
    };
    let patience = Duration::from_secs(args.wait);
    match Asked::find(args.pid).and_then(|asked| asked.ask(Kind::Tune, &args.cache, &arguments, patience)) {
        Ok(Reply::Done(numbers)) => ExitCode::from(u8::from(!crate::print(&done(args, numbers)))),
        Ok(Reply::Refused(why, numbers)) => {
            eprintln!("kmem tune: process {}: {}", args.pid, refused(&args.cache, why, numbers));
            ExitCode::FAILURE
        }
        Err(error @ AskError::NameTooLong(_)) => {
            eprintln!("kmem tune: {error}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("kmem tune: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments that the settings stand for.
fn parse(settings: &[String]) -> Result<[u64; SETTINGS.len()], String> {
    let known = SETTINGS.map(|name| format!("{name}=N")).join(", ");
    let mut arguments = [NONE; SETTINGS.len()];
    for setting in settings {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(format!("'{setting}' is no setting: {known}"));
        };
        let Some(place) = SETTINGS.iter().position(|known| *known == name) else {
            return Err(format!("'{name}' is not known: {known}"));
        };
        let number = value.parse().ok().filter(|number: &u64| *number < NONE);
        arguments[place] = number.ok_or_else(|| format!("{name}={value}: the value is a number"))?;
    }
    Ok(arguments)
}

fn done(args: &TuneArgs, [now, later, ..]: [u64; NUMBERS]) -> String {
    let (cache, pid, settings) = (&args.cache, args.pid, args.settings.join(" "));
    let mut text = format!("process {pid}: {cache}: {settings}");
    if now > 0 {
        text.push_str(&format!(", on {now} CPUs at once"));
    }
    text.push('\n');
    if later > 0 {
        text.push_str(&format!(
            "{later} CPUs keep what they cache of it until they have not used it for a while: the process has a seccomp \
             filter, which might not let it fence them\n"
        ));
    }
    text
}

/// The reason, in words.
fn refused(cache: &str, why: Option<Refusal>, [first, second, ..]: [u64; NUMBERS]) -> String {
    match why {
        Some(Refusal::UnknownKind) => "it has another version of kmem, which cannot be asked for that".to_string(),
        Some(Refusal::BadName) => format!("'{cache}' is not understood"),
        Some(Refusal::NoSuchCache) => format!("no cache is named '{cache}'"),
        Some(Refusal::Dying) => format!("the cache {cache} is being destroyed"),
        Some(Refusal::Capacity) => format!("limit={first}: a CPU caches 1 to {second} objects of {cache}"),
        Some(Refusal::Batch) => format!("batch={first}: with this limit, a batch of {cache} has 1 to {second} objects"),
        Some(Refusal::Depot) => format!("depot={first}: a depot holds 0 to {second} magazines"),
        _ => "it refused for a reason that this version of the command does not know".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[&str]) -> Result<[u64; SETTINGS.len()], String> {
        parse(&settings.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn settings_are_numbers_by_name() {
        assert_eq!(of(&["limit=32"]), Ok([32, NONE, NONE]));
        assert_eq!(of(&["depot=0", "batch=8"]), Ok([NONE, 8, 0]));
        for wrong in ["limit", "limit=", "limit=x", "limit=-1", "limit=18446744073709551615", "size=3", "=3"] {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
    }
}
