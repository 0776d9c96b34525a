//! `kmem census`: who is in the objects of a running process.
//!
//! An allocator that keeps a bit for each object knows from outside which are in use, without a list of its own and
//! without a word in front of them. So live objects are counted by cache and by the age of their slab (an object is at
//! most as old as its slab), and the bytes of all live objects of a cache are written to a file, with their addresses.
//! The process is not stopped: of one that runs on, the count is of slightly different moments.
//!
//! # The file of `--snapshot`
//! A line of JSON (`format`, `pid`, `program`, `cache`, `object_size`), then for each object eight bytes of address and
//! `object_size` bytes of content, in the machine's order, in no particular order. Only its owner may read the file: it
//! may hold secrets of the process.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use crate::inspect::{printable, program};
use crate::outside::{Cache, Engine};
use crate::remote_status::OutsideError;

/// Ages of slabs in seconds: below each of these, and older.
const AGES: [u32; 5] = [1, 10, 60, 600, 3600];
const AGE_NAMES: [&str; AGES.len() + 1] = ["< 1 s", "< 10 s", "< 1 min", "< 10 min", "< 1 h", "older"];

/// Arguments of `kmem census`.
#[derive(Args)]
pub struct CensusArgs {
    /// A running process on kmem
    #[arg(value_name = "PID")]
    pid: u32,
    /// Print one JSON document
    #[arg(long, conflicts_with = "snapshot")]
    json: bool,
    /// Write the live objects of this cache to a file, as bytes with their addresses
    #[arg(long, value_name = "CACHE", requires = "output")]
    snapshot: Option<String>,
    /// The file
    #[arg(short, long, value_name = "FILE", requires = "snapshot")]
    output: Option<PathBuf>,
}

/// The live objects of a cache; the field names are the JSON keys.
#[derive(Serialize)]
struct Counted {
    cache: String,
    object_size: u64,
    live_objects: u64,
    live_bytes: u64,
    /// By age of their slab: below 1 s, 10 s, 1 min, 10 min, 1 h, and older.
    by_slab_age: [u64; AGES.len() + 1],
}

/// The document of `--json`.
#[derive(Serialize)]
struct Census {
    pid: u32,
    program: String,
    live_objects: u64,
    live_bytes: u64,
    caches: Vec<Counted>,
}

/// The first line of a snapshot.
#[derive(Serialize)]
struct Head<'a> {
    format: &'static str,
    pid: u32,
    program: &'a str,
    cache: &'a str,
    object_size: u64,
}

/// Why there is no census, or no snapshot.
enum Failed {
    Outside(OutsideError),
    /// No cache has the name.
    NoCache(String),
    /// The file cannot be written.
    File(PathBuf, io::Error),
}

/// Counts, or writes a snapshot.
pub fn census(args: &CensusArgs) -> ExitCode {
    let result = match (&args.snapshot, &args.output) {
        (Some(cache), Some(file)) => snapshot(args.pid, cache, file),
        _ => counted(args.pid).map(|census| if args.json { crate::json(&census) } else { table(&census) }),
    };
    match result {
        Ok(document) => return ExitCode::from(u8::from(!crate::print(&document))),
        Err(Failed::Outside(error)) => eprintln!("kmem census: {error}"),
        Err(Failed::NoCache(name)) => eprintln!(
            "kmem census: process {} has no cache {}; `kmem info --all {}` lists those that it has",
            args.pid,
            printable(&name),
            args.pid
        ),
        Err(Failed::File(file, error)) => eprintln!("kmem census: {}: {error}", file.display()),
    }
    ExitCode::FAILURE
}

fn counted(pid: u32) -> Result<Census, Failed> {
    let engine = Engine::find(pid).map_err(Failed::Outside)?;
    let broken = |_| Failed::Outside(OutsideError::Implausible(pid));
    let in_slots = engine.in_slots().map_err(broken)?;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec as u32;
    let mut caches = Vec::new();
    for cache in engine.caches().map_err(broken)? {
        let mut by_slab_age = [0; AGES.len() + 1];
        // A cache that is destroyed meanwhile has none.
        let _ = engine.live(&cache, &in_slots, |slab| {
            let age = now.saturating_sub(slab.born);
            let place = AGES.iter().position(|limit| age < *limit).unwrap_or(AGES.len());
            by_slab_age[place] += slab.live.len() as u64;
            Ok(())
        });
        let live_objects = by_slab_age.iter().sum();
        if live_objects > 0 {
            let live_bytes = cache.stride.saturating_mul(live_objects);
            let (cache, object_size) = (cache.name.clone(), cache.object_size);
            caches.push(Counted { cache, object_size, live_objects, live_bytes, by_slab_age });
        }
    }
    caches.sort_by(|a, b| b.live_bytes.cmp(&a.live_bytes).then_with(|| a.cache.cmp(&b.cache)));
    let sum = |figure: fn(&Counted) -> u64| caches.iter().map(figure).fold(0, u64::saturating_add);
    let (live_objects, live_bytes) = (sum(|cache| cache.live_objects), sum(|cache| cache.live_bytes));
    Ok(Census { pid, program: program(pid), live_objects, live_bytes, caches })
}

fn table(census: &Census) -> String {
    let mut out = String::new();
    let (objects, bytes) = (HumanCount(census.live_objects), BinaryBytes(census.live_bytes));
    let _ = writeln!(out, "process {} ({}): {objects} live objects, {bytes}", census.pid, census.program);
    let _ = writeln!(out, "live objects by the age of their slab:");
    let _ = write!(out, "{:<20} {:>10} {:>12}", "cache", "objects", "bytes");
    let ages: String = AGE_NAMES.iter().map(|age| format!(" {age:>8}")).collect();
    let _ = writeln!(out, "{ages}");
    for cache in &census.caches {
        let bytes = BinaryBytes(cache.live_bytes).to_string();
        let _ = write!(out, "{:<20} {:>10} {bytes:>12}", printable(&cache.cache), cache.live_objects);
        let ages: String = cache.by_slab_age.iter().map(|objects| format!(" {objects:>8}")).collect();
        let _ = writeln!(out, "{ages}");
    }
    out
}

/// Writes the live objects of a cache, and says how many these are.
fn snapshot(pid: u32, name: &str, path: &Path) -> Result<String, Failed> {
    let engine = Engine::find(pid).map_err(Failed::Outside)?;
    let broken = |_| Failed::Outside(OutsideError::Implausible(pid));
    let in_slots = engine.in_slots().map_err(broken)?;
    let caches = engine.caches().map_err(broken)?;
    let cache = caches.iter().find(|cache| cache.name == name).ok_or_else(|| Failed::NoCache(name.to_string()))?;
    let of_file = |error| Failed::File(path.to_path_buf(), error);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(of_file)?;
    let mut out = BufWriter::new(file);
    let program = program(pid);
    let head = Head { format: "kmem-snapshot-1", pid, program: &program, cache: name, object_size: cache.object_size };
    let head = serde_json::to_string(&head).expect("plain numbers and strings always serialise");
    writeln!(out, "{head}").map_err(of_file)?;
    let mut objects = 0;
    let written = engine.live(cache, &in_slots, |slab| {
        // A slab that goes meanwhile is left out.
        let Ok(bytes) = engine.bytes_of(&slab, cache) else { return Ok(()) };
        for index in &slab.live {
            objects += write_object(&mut out, cache, slab.first, *index, &bytes)?;
        }
        Ok(())
    });
    written.and_then(|()| out.flush()).map_err(of_file)?;
    Ok(format!("{} live objects of {} in {}\n", HumanCount(objects), printable(name), path.display()))
}

/// Writes one object: its address, and its bytes. Returns how many were written.
fn write_object(out: &mut impl Write, cache: &Cache, first: u64, index: u64, bytes: &[u8]) -> io::Result<u64> {
    let offset = index * cache.stride;
    let content = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
    let Some(content) = content.and_then(|rest| rest.get(..cache.object_size as usize)) else { return Ok(0) };
    out.write_all(&first.wrapping_add(offset).to_ne_bytes())?;
    out.write_all(content)?;
    Ok(1)
}
