//! Thousands of caches: the page grows with them, rows of destroyed ones go, and the memory says the same.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

const CACHES: usize = 6000;
/// Each so many has an object.
const EACH: usize = 6;

/// What is said of this process by one source; waits until it has as many caches named `many-` with an object.
fn told(source: &str, used: usize) -> Option<Value> {
    let since = Instant::now();
    loop {
        let pid = std::process::id().to_string();
        let output = Command::new(cargo_bin("kmem")).args(["info", "--json", "--from", source, &pid]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("ptrace_scope") {
            println!("skipped: one process may not read the memory of another");
            return None;
        }
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let caches = told["caches"].as_array().cloned().unwrap_or_default();
        let ours = |row: &&Value| row["name"].as_str().unwrap().starts_with("many-") && row["active_objects"] == 1;
        if caches.iter().filter(ours).count() == used {
            return Some(told);
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{source}: {said}, {} caches", caches.len());
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn thousands_of_caches_are_seen_and_forgotten() {
    kmem::set_upkeep(true);
    let caches: Vec<_> =
        (0..CACHES).map(|index| kmem::Cache::<[u64; 8]>::new(&format!("many-{index}")).expect("a cache")).collect();
    let objects: Vec<_> = caches.iter().step_by(EACH).map(|cache| cache.alloc([1; 8]).expect("memory")).collect();
    for source in ["page", "memory"] {
        if let Some(told) = told(source, CACHES / EACH) {
            assert!(told["cache_count"].as_u64().unwrap() >= CACHES as u64, "{}", told["cache_count"]);
            assert!(told["seconds_ago"].as_f64().unwrap() < 5.0);
        }
    }
    drop(objects);
    caches.into_iter().for_each(|cache| cache.destroy().map_err(|_| "in use").expect("no object is in use"));
    for source in ["page", "memory"] {
        if let Some(told) = told(source, 0) {
            let named = |row: &Value| row["name"].as_str().unwrap().starts_with("many-");
            assert!(!told["caches"].as_array().unwrap().iter().any(named), "{source}");
        }
    }
}
