//! What the server holds, by the kernel's account, its own and kmem's; and what its clients saw.

use std::fs;
use std::time::{Duration, Instant};

use redis::Connection;
use serde_json::{Value, json};

use super::clients::{Clients, connect};
use crate::child::{self, Mode};

/// kmem's limit for what is cached for each CPU that it is worth to cache for (docs/design.md).
const ENTITLED_A_CPU: u64 = 16 << 20;
const PAGE: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(30);

/// A server under observation.
pub struct Observed {
    pid: u32,
    connection: Connection,
    last: Instant,
}

/// What was seen at one time.
pub struct Sample {
    pub seconds: f64,
    /// Resident bytes, as the kernel counts them.
    pub resident: u64,
    /// Bytes that the server holds, as it counts them.
    pub live: u64,
    pub cached: Option<Cached>,
    /// Replies a second, and latencies in microseconds, since the last sample.
    pub rate: f64,
    pub median: u64,
    pub slowest_hundredth: u64,
}

/// Bytes that kmem caches.
pub struct Cached {
    pub bytes: u64,
    /// Of them on CPUs that the server may not use.
    pub elsewhere: u64,
    /// How many may be cached.
    pub entitled: u64,
}

impl Observed {
    pub fn connect(pid: u32) -> Result<Self, String> {
        Ok(Self { pid, connection: connect()?, last: Instant::now() })
    }

    /// Looks. What kmem caches is read by another process, which takes processor time from the server, so it is read
    /// only if that is asked for.
    pub fn look(&mut self, seconds: f64, clients: &Clients, with_cached: bool) -> Result<Sample, String> {
        let (replies, latencies) = clients.take();
        let since = std::mem::replace(&mut self.last, Instant::now()).elapsed().as_secs_f64();
        let path = format!("/proc/{}/statm", self.pid);
        let words = fs::read_to_string(&path).map_err(|e| format!("{path}: the server has ended: {e}"))?;
        let resident = words.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE;
        let told: String = redis::cmd("INFO")
            .arg("memory")
            .query(&mut self.connection)
            .map_err(|e| format!("the server says nothing of its memory: {e}"))?;
        let live = told.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok()).unwrap_or(0);
        let cached = if with_cached { Some(self.cached()?) } else { None };
        Ok(Sample {
            seconds,
            resident,
            live,
            cached,
            rate: replies as f64 / since,
            median: latencies.value_at_quantile(0.5),
            slowest_hundredth: latencies.value_at_quantile(0.99),
        })
    }

    fn cached(&self) -> Result<Cached, String> {
        let pid = self.pid.to_string();
        let printed = child::run(Mode::Rseq.command("/bin/kmem", &["info", &pid, "--json"]), PATIENCE)?;
        let told: Value = serde_json::from_str(&printed).map_err(|e| format!("{e}: {printed}"))?;
        let number = |value: &Value| value.as_u64().ok_or_else(|| format!("a number is missing in {printed}"));
        let mut elsewhere = 0;
        for cpu in told["cpus"].as_array().into_iter().flatten().filter(|cpu| cpu["state"] == "gone") {
            elsewhere += number(&cpu["cached_bytes"])?;
        }
        let (bytes, cpus) = (number(&told["cached_bytes"])?, number(&told["entitled_cpus"])?);
        Ok(Cached { bytes, elsewhere, entitled: cpus * ENTITLED_A_CPU })
    }
}

impl Sample {
    /// As an object in JSON.
    pub fn line(&self, allocator: &str) -> Value {
        json!({
            "allocator": allocator,
            "seconds": self.seconds,
            "resident_bytes": self.resident,
            "live_bytes": self.live,
            "replies_a_second": self.rate,
            "median_us": self.median,
            "p99_us": self.slowest_hundredth,
        })
    }
}
