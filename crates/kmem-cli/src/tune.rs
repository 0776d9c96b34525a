//! `kmem tune`: changes a cache of a running process, or the limit of an account.
//!
//! The process is asked through its memory ([`ask`](crate::ask)), so this needs the right to trace it, as a debugger
//! does. It carries the request out by itself, on a slow path of malloc or free, or on the thread of
//! `KMEM_UPKEEP=always`. A process that does neither is not disturbed; then the command says so.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::BinaryBytes;
use kmem::control::message::{Kind, NONE, NUMBERS, Refusal};

use crate::ask::{AskError, Asked, Reply};

/// Arguments of `kmem tune`.
#[derive(Args)]
#[command(
    after_help = "Examples: kmem tune 4711 dentry limit=32\n          kmem tune 4711 --account images limit=512MiB"
)]
pub struct TuneArgs {
    /// A running process on kmem
    #[arg(value_name = "PID")]
    pid: u32,
    /// The cache, or with --account the account, by its name
    #[arg(value_name = "NAME")]
    name: String,
    /// What a cache is set to: limit=N objects that each CPU caches, batch=N objects that move at a time, depot=N full
    /// magazines that wait on each node. An account: limit=BYTES (a number, or one with KiB, MiB or GiB), limit=none
    #[arg(value_name = "NAME=VALUE", required = true)]
    settings: Vec<String>,
    /// Change the limit of an account
    #[arg(long)]
    account: bool,
    /// Seconds to wait for the process to look
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: u64,
}

/// What can be set, in the order of a request's arguments.
const SETTINGS: [&str; 3] = ["limit", "batch", "depot"];

/// Asks the process, and prints what became of it.
pub fn tune(args: &TuneArgs) -> ExitCode {
    let (kind, parsed) = match args.account {
        true => (Kind::Limit, limit(&args.settings).map(|limit| vec![limit])),
        false => (Kind::Tune, parse(&args.settings).map(Vec::from)),
    };
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("kmem tune: {error}");
            return ExitCode::from(2);
        }
    };
    let patience = Duration::from_secs(args.wait);
    match Asked::find(args.pid).and_then(|asked| asked.ask(kind, &args.name, &arguments, patience)) {
        Ok(Reply::Done(numbers)) => {
            let text = if args.account { charged(args, numbers) } else { done(args, numbers) };
            ExitCode::from(u8::from(!crate::print(&text)))
        }
        Ok(Reply::Refused(why, numbers)) => {
            eprintln!("kmem tune: process {}: {}", args.pid, refused(&args.name, why, numbers));
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

/// The limit of an account that the settings stand for.
fn limit(settings: &[String]) -> Result<u64, String> {
    const FORM: &str = "an account has limit=BYTES (a number, or one with KiB, MiB or GiB) or limit=none";
    let [setting] = settings else { return Err(format!("'{}' are too many settings: {FORM}", settings.join(" "))) };
    let value = setting.strip_prefix("limit=").ok_or_else(|| format!("'{setting}' is no setting: {FORM}"))?;
    if value == "none" {
        return Ok(NONE);
    }
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let with_unit = units.iter().find_map(|(unit, shift)| Some((value.strip_suffix(unit)?, *shift)));
    let (digits, shift) = with_unit.unwrap_or((value, 0));
    let bytes = digits.parse().ok().and_then(|number: u64| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes < NONE).ok_or_else(|| format!("limit={value}: {FORM}"))
}

/// What became of an account.
fn charged(args: &TuneArgs, [used, ..]: [u64; NUMBERS]) -> String {
    let (name, pid, settings) = (&args.name, args.pid, args.settings.join(" "));
    format!("process {pid}: {name}: {settings}, {} charged\n", BinaryBytes(used))
}

fn done(args: &TuneArgs, [now, later, ..]: [u64; NUMBERS]) -> String {
    let (cache, pid, settings) = (&args.name, args.pid, args.settings.join(" "));
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
        Some(Refusal::NoSuchAccount) => format!("no account is named '{cache}'"),
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

    #[test]
    fn an_account_has_a_limit_in_bytes() {
        let of = |setting: &str| limit(&[setting.to_string()]);
        assert_eq!([of("limit=0"), of("limit=4096")], [Ok(0), Ok(4096)]);
        assert_eq!([of("limit=3KiB"), of("limit=512MiB"), of("limit=2GiB")], [Ok(3 << 10), Ok(512 << 20), Ok(2 << 30)]);
        assert_eq!(of("limit=none"), Ok(NONE));
        for wrong in ["limit", "limit=", "limit=KiB", "limit=-1", "limit=1TiB", "limit=18446744073709551615", "batch=3"]
        {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(limit(&["limit=1".to_string(), "limit=2".to_string()]).is_err());
    }
}
