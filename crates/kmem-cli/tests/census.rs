//! `kmem census`: live objects are counted from outside as the allocator counts them, and a snapshot has their bytes.

#[path = "held/program.rs"]
mod program;

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use program::{Held, figure};

fn document(held: &Held, command: &str) -> Option<Value> {
    let output = held.asked(command);
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("ptrace_scope") {
        println!("skipped: kernel.yama.ptrace_scope keeps one process from reading another");
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn live(census: &Value, cache: &str) -> u64 {
    let caches = census["caches"].as_array().unwrap();
    caches.iter().find(|row| row["cache"] == cache).map_or(0, |row| row["live_objects"].as_u64().unwrap())
}

#[test]
fn live_objects_are_those_that_the_allocator_counts() {
    for mode in ["", "off", "cid"] {
        let mut held = Held::start(&[("KMEM_RSEQ", mode)]);
        let Some(before) = document(&held, "census PID --json") else { return };
        held.step("1");
        let census = document(&held, "census PID --json").unwrap();
        assert_eq!(live(&census, "kmalloc-48") - live(&before, "kmalloc-48"), 3 * 1500, "{census:#}");
        assert_eq!(live(&census, "kmalloc-3072") - live(&before, "kmalloc-3072"), 3 * 300);
        let info = held.info("memory");
        for row in census["caches"].as_array().unwrap() {
            assert_eq!(figure(&info, row["cache"].as_str().unwrap(), "active_objects"), row["live_objects"], "{row}");
            let ages = row["by_slab_age"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap());
            assert_eq!(ages.sum::<u64>(), row["live_objects"]);
        }
        let text = String::from_utf8(held.asked("census PID").stdout).unwrap();
        assert!(text.lines().any(|line| line.starts_with("kmalloc-3072")) && text.contains("older"), "{text}");
    }
}

#[test]
fn a_snapshot_has_the_objects_and_their_addresses() {
    let mut held = Held::start(&[]);
    held.step("1");
    let Some(census) = document(&held, "census PID --json") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot");
    let output = held.asked(&format!("census PID --snapshot kmalloc-3072 -o {}", file.display()));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let head: Value = serde_json::from_slice(&bytes[..end]).unwrap();
    assert_eq!((&head["format"], &head["object_size"]), (&"kmem-snapshot-1".into(), &3072.into()));
    let objects: Vec<(u64, &[u8])> = bytes[end + 1..]
        .chunks(8 + 3072)
        .map(|object| (u64::from_ne_bytes(object[..8].try_into().unwrap()), &object[8..]))
        .collect();
    assert_eq!(objects.len() as u64, live(&census, "kmalloc-3072"));
    assert_eq!(objects.iter().map(|object| object.0).collect::<HashSet<_>>().len(), objects.len());
    // What the program wrote there.
    let filled = objects.iter().filter(|object| object.1[..3000].iter().all(|byte| *byte == 1)).count();
    assert_eq!(filled, 3 * 300);
    let output = held.asked(&format!("census PID --snapshot no-such -o {}", file.display()));
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("has no cache no-such"));
    let output = held.asked("census PID --snapshot kmalloc-3072 -o /no/such/folder");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("/no/such/folder"));
}
