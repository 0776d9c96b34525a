//! `kmem metrics`: figures of processes for Prometheus, over HTTP.
//!
//! Each scrape looks into the processes anew ([`inspect`](crate::inspect)). A process that ended, or cannot be read, is
//! reported by `kmem_up` 0, and the others go on. The server is a listener that answers one request at a time: a
//! scraper asks every few seconds. It reads no more of a request than its head, waits no longer than a few seconds for
//! it, and listens on the address that it is given, which should be a local one: whoever can connect reads the names of
//! caches.

#![forbid(unsafe_code)]

mod exposition;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::inspect::inspect;
use crate::interrupt::EXIT_STOPPED;

/// Bytes of the head of a request that are read.
const HEAD: usize = 8 << 10;
/// For how long a request is waited for, and a reader of what is answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon a connection, or a signal, is noticed.
const SOON: Duration = Duration::from_millis(20);
/// The type of Prometheus's text.
const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Arguments of `kmem metrics`.
#[derive(Args)]
pub struct MetricsArgs {
    /// Running processes on kmem
    #[arg(value_name = "PID", required = true)]
    pids: Vec<u32>,
    /// Serve http://ADDRESS:PORT/metrics until Ctrl-C; without it, print the figures once
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// Prints the figures, or serves them.
pub fn metrics(args: &MetricsArgs) -> ExitCode {
    let Some(address) = args.listen else { return printed(&args.pids) };
    match serve(address, &args.pids) {
        Ok(()) => ExitCode::from(EXIT_STOPPED),
        Err(error) => {
            eprintln!("kmem metrics: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The figures once. A process that cannot be read fails the command.
fn printed(pids: &[u32]) -> ExitCode {
    let mut seen = Vec::new();
    for pid in pids {
        match inspect(*pid, None) {
            Ok(process) => seen.push((*pid, Some(process))),
            Err(error) => {
                eprintln!("kmem metrics: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::from(u8::from(!crate::print(&exposition::text(&seen))))
}

fn looked(pids: &[u32]) -> String {
    let seen: Vec<_> = pids.iter().map(|pid| (*pid, inspect(*pid, None).ok())).collect();
    exposition::text(&seen)
}

/// Serves until a signal.
fn serve(address: SocketAddr, pids: &[u32]) -> io::Result<()> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&stopped))?;
    }
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    eprintln!("kmem metrics: serving http://{}/metrics", listener.local_addr()?);
    while !stopped.load(Ordering::Relaxed) {
        match listener.accept() {
            // A scraper that goes away is its own affair.
            Ok((stream, _)) => drop(answer(stream, pids)),
            Err(_) => sleep(SOON),
        }
    }
    Ok(())
}

/// Answers one request, and closes.
fn answer(mut stream: TcpStream, pids: &[u32]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = head(&mut stream)?;
    let mut words = head.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", TYPE, looked(pids)),
        ("GET" | "HEAD", "/") => ("200 OK", "text/plain; charset=utf-8", "kmem metrics: see /metrics\n".to_string()),
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain; charset=utf-8", "see /metrics\n".to_string()),
        ("", _) => return Ok(()),
        _ => ("405 Method Not Allowed", "text/plain; charset=utf-8", "GET only\n".to_string()),
    };
    let length = body.len();
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    )?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}

/// The head of a request: to its empty line, to its end, or as far as is read.
fn head(stream: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    let until = Instant::now() + PATIENCE;
    while head.len() < HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = until.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut piece)? {
            0 => break,
            count => head.extend_from_slice(&piece[..count]),
        }
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
