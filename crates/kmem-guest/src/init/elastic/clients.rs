//! The load on the server: clients that store, read and delete values of their own, and check each reply.
//!
//! A client's keys are numbers that count up; it deletes the oldest when it has enough, so a value lives for a while,
//! as sessions and cached pages do. A value's length and bytes follow from its key, so any reply can be checked.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use redis::{Client, Connection, RedisResult};

use super::SOCKET;

const CLIENTS: u64 = 4;
/// Values that each client keeps; after `expire` a third.
const VALUES: usize = 10_000;
/// Commands that travel together. A latency is that of all of them.
const TOGETHER: usize = 8;
const START: Duration = Duration::from_secs(30);

/// What the clients share with the observer.
struct Shared {
    keep: AtomicUsize,
    over: AtomicBool,
    /// Since the observer looked last, and in all.
    replies: AtomicU64,
    all_replies: AtomicU64,
    /// Microseconds, since the observer looked last.
    latencies: Mutex<Histogram<u64>>,
}

/// Clients at work.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

impl Clients {
    /// None.
    pub fn idle() -> Self {
        let latencies =
            Mutex::new(Histogram::new_with_max(60_000_000, 3).expect("a minute and three digits are possible"));
        let shared = Shared {
            keep: AtomicUsize::new(VALUES),
            over: AtomicBool::new(false),
            replies: AtomicU64::new(0),
            all_replies: AtomicU64::new(0),
            latencies,
        };
        Self { shared: Arc::new(shared), threads: Vec::new() }
    }

    /// Fills the server, and goes on in the background.
    pub fn start() -> Result<Self, String> {
        let mut clients = Self::idle();
        let mut filled = Vec::new();
        for number in 0..CLIENTS {
            let mut client = One::connect(number)?;
            let failed = |e| format!("the server cannot be filled: {e}");
            while client.next - client.oldest < VALUES as u64 {
                client.store(100).map_err(failed)?;
            }
            filled.push(client);
        }
        for client in filled {
            let shared = Arc::clone(&clients.shared);
            clients.threads.push(thread::spawn(move || client.work(&shared)));
        }
        Ok(clients)
    }

    /// The clients delete the older two thirds of their values, and keep so many from here on.
    pub fn expire(&self) {
        self.shared.keep.store(VALUES / 3, Relaxed);
    }

    /// Replies and latencies in microseconds since the last call.
    pub fn take(&self) -> (u64, Histogram<u64>) {
        let mut latencies = self.shared.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = latencies.clone();
        latencies.reset();
        (self.shared.replies.swap(0, Relaxed), taken)
    }

    /// Ends the clients, and returns how many replies there were. The error is a reply that was lost or wrong.
    pub fn finish(self) -> Result<u64, String> {
        self.shared.over.store(true, Relaxed);
        self.threads.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))?;
        Ok(self.shared.all_replies.load(Relaxed))
    }
}

/// The one way to the server.
pub fn connect() -> Result<Connection, String> {
    let began = Instant::now();
    loop {
        match Client::open(format!("unix://{SOCKET}")).and_then(|client| client.get_connection()) {
            Ok(connection) => return Ok(connection),
            Err(e) if began.elapsed() > START => return Err(format!("no connection to the server: {e}")),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A client, and the range of its keys that are stored.
struct One {
    connection: Connection,
    number: u64,
    oldest: u64,
    next: u64,
    luck: fastrand::Rng,
}

impl One {
    fn connect(number: u64) -> Result<Self, String> {
        Ok(Self { connection: connect()?, number, oldest: 0, next: 0, luck: fastrand::Rng::with_seed(number) })
    }

    fn work(mut self, shared: &Shared) -> Result<(), String> {
        while !shared.over.load(Relaxed) {
            let began = Instant::now();
            let stored = (self.next - self.oldest) as usize;
            let count = if stored > shared.keep.load(Relaxed) {
                self.delete(TOGETHER)
            } else if self.luck.bool() {
                self.read()
            } else {
                self.store(TOGETHER)
            };
            let count = count.map_err(|e| format!("client {}: a reply is lost or wrong: {e}", self.number))?;
            let took = began.elapsed().as_micros() as u64;
            shared.replies.fetch_add(count, Relaxed);
            shared.all_replies.fetch_add(count, Relaxed);
            shared.latencies.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
        }
        Ok(())
    }

    fn store(&mut self, count: usize) -> RedisResult<u64> {
        let mut pipe = redis::pipe();
        for _ in 0..count {
            pipe.set(key(self.number, self.next), value(self.number, self.next)).ignore();
            self.next += 1;
        }
        pipe.query::<()>(&mut self.connection)?;
        Ok(count as u64)
    }

    fn read(&mut self) -> RedisResult<u64> {
        let mut pipe = redis::pipe();
        let keys: Vec<u64> = (0..TOGETHER).map(|_| self.luck.u64(self.oldest..self.next)).collect();
        for &one in &keys {
            pipe.get(key(self.number, one));
        }
        let values: Vec<Vec<u8>> = pipe.query(&mut self.connection)?;
        let right = values.iter().zip(&keys).all(|(found, &one)| *found == value(self.number, one));
        if values.len() == keys.len() && right { Ok(keys.len() as u64) } else { Err(wrong("a value")) }
    }

    fn delete(&mut self, count: usize) -> RedisResult<u64> {
        let mut pipe = redis::pipe();
        for _ in 0..count {
            pipe.del(key(self.number, self.oldest));
            self.oldest += 1;
        }
        let deleted: Vec<u64> = pipe.query(&mut self.connection)?;
        if deleted == vec![1; count] { Ok(count as u64) } else { Err(wrong("what was deleted")) }
    }
}

fn wrong(what: &'static str) -> redis::RedisError {
    (redis::ErrorKind::ResponseError, what).into()
}

fn key(client: u64, number: u64) -> String {
    format!("{client}:{number}")
}

/// 64 to 2,048 bytes.
fn value(client: u64, number: u64) -> Vec<u8> {
    let mixed = (client << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    vec![mixed as u8; 64 + (mixed >> 32) as usize % 1985]
}
