//! Heap profiles: what a program allocated is what its profile says, exactly where every object is sampled, and within
//! a few per cent where one in so many bytes is; each site has its function and line; what cannot be profiled is
//! refused with a reason.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use assert_cmd::cargo::cargo_bin;

/// With an argument: goes on until its input ends, allocating 64,000 bytes that it keeps and 256,000 that it does not,
/// over and over. Without: once each of what sizes tell apart.
const SITES: &str = r#"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void *kept[10000000];
static unsigned long n;
__attribute__((noinline)) void leak_here(void)
{
    for (int i = 0; i < 1000; i++)
        kept[n++] = malloc(64);
}
__attribute__((noinline)) void churn_here(void)
{
    static void *objects[4000];
    for (int i = 0; i < 4000; i++)
        objects[i] = malloc(64);
    for (int i = 0; i < 4000; i++)
        free(objects[i]);
}
__attribute__((noinline)) void once(void)
{
    for (int i = 0; i < 20000; i++)
        kept[n++] = malloc(1111);
    for (int i = 0; i < 20000; i++)
        free(malloc(777));
    for (int i = 0; i < 1000; i++)
        kept[n++] = calloc(3, 11111);
    for (int i = 0; i < 50; i++)
        kept[n++] = realloc(malloc(300001), 600002);
    for (int i = 0; i < 1000; i++)
        kept[n++] = realloc(malloc(50), 2222);
    for (unsigned long i = 0; i < 20000; i += 2)
        free(kept[i]);
}
int main(int argc, char **argv)
{
    struct pollfd input = {0, POLLIN, 0};
    (void)argv;
    if (argc == 1) {
        once();
        if (fork() == 0)
            exit(0);
        return 0;
    }
    puts("ready");
    fflush(stdout);
    do {
        leak_here();
        churn_here();
    } while (n < 9000000 && poll(&input, 1, 2) == 0);
    return 0;
}
"#;

fn built(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sites-{name}"));
    let source = program.with_extension("c");
    std::fs::write(&source, SITES).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-g", "-fno-builtin", "-o"]).arg(&program).arg(&source);
    assert!(compiler.status().unwrap().success());
    program
}

/// A program on kmem.
fn on_kmem(program: &Path) -> Command {
    let mut command = Command::new(cargo_bin("kmem"));
    command.env_remove("LD_PRELOAD").env_remove("KMEM_PROFILE").args(["run", "--"]).arg(program);
    command
}

/// Fields of a message of protocol buffers: number, value, bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let varint = |bytes: &mut &[u8]| {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    };
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = varint(&mut bytes);
        let (body, rest) = bytes.split_at(if tag & 7 == 2 { value as usize } else { 0 });
        assert!(matches!(tag & 7, 0 | 2), "a field of another kind");
        found.push((tag >> 3, value, body));
        bytes = rest;
    }
    found
}

fn numbers(packed: &[u8]) -> Vec<u64> {
    let (mut all, mut value, mut shift) = (Vec::new(), 0, 0);
    for byte in packed {
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            all.push(value);
            (value, shift) = (0, 0);
        }
    }
    all
}

/// The values of a profile by the size of what was asked for.
fn by_size(file: &Path) -> HashMap<u64, [u64; 4]> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_end(&mut text).unwrap();
    let profile = fields(&text);
    let strings: Vec<&[u8]> = profile.iter().filter(|field| field.0 == 6).map(|field| field.2).collect();
    let locations = profile.iter().filter(|field| field.0 == 4).count();
    assert!(strings[0].is_empty() && locations > 0);
    let mut sizes: HashMap<u64, [u64; 4]> = HashMap::new();
    for (.., sample) in profile.iter().filter(|field| field.0 == 2) {
        let sample = fields(sample);
        let values = numbers(sample.iter().find(|field| field.0 == 2).unwrap().2);
        assert!(!numbers(sample.iter().find(|field| field.0 == 1).unwrap().2).is_empty(), "a sample without callers");
        let size = sample.iter().filter(|field| field.0 == 3).find_map(|(.., label)| {
            let label = fields(label);
            let key = label.iter().find(|field| field.0 == 1).unwrap().1;
            (strings[key as usize] == b"bytes").then(|| label.iter().find(|field| field.0 == 3).unwrap().1)
        });
        let sum = sizes.entry(size.expect("a size")).or_default();
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    sizes
}

/// Objects allocated and in use, by size.
const TRUTH: [(u64, u64, u64); 7] = [
    (1111, 20000, 10000),
    (777, 20000, 0),
    (33333, 1000, 1000),
    (300_001, 50, 0),
    (600_002, 50, 50),
    (50, 1000, 0),
    (2222, 1000, 1000),
];

#[test]
fn a_profile_of_every_object_is_exact() {
    let (program, file) = (built("exact"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("exact.pb.gz"));
    let status = on_kmem(&program).env("KMEM_PROFILE", format!("{},rate=1", file.display())).status().unwrap();
    assert!(status.success());
    let sizes = by_size(&file);
    for (size, allocated, live) in TRUTH {
        assert_eq!(sizes[&size], [allocated, allocated * size, live, live * size], "{size}");
    }
}

#[test]
fn a_profile_by_samples_is_near() {
    let (program, file) = (built("near"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("near.pb.gz"));
    let status = on_kmem(&program).env("KMEM_PROFILE", format!("{},rate=8KiB", file.display())).status().unwrap();
    assert!(status.success());
    let sizes = by_size(&file);
    // Of 20,000 objects of 1,111 bytes some 2,600 are samples: a standard deviation is 1.8 %.
    for (size, allocated, live) in TRUTH.into_iter().filter(|(size, ..)| !matches!(size, 50 | 2222)) {
        let [objects, bytes, live_objects, live_bytes] = sizes[&size].map(|value| value as f64);
        let near = |found: f64, truth: u64| (found - truth as f64).abs() <= truth as f64 * 0.12;
        assert!(near(objects, allocated) && near(bytes, allocated * size), "{size}: {objects} {bytes}");
        assert!(near(live_objects, live) && near(live_bytes, live * size), "{size}: {live_objects} {live_bytes}");
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_process_is_profiled_and_its_leak_has_a_line() {
    let (program, file) = (built("running"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("running.pb.gz"));
    let flame = file.with_extension("svg");
    let mut running =
        Running(on_kmem(&program).arg("on").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    // A second profile finds the process as the first one did.
    for _ in 0..2 {
        let mut kmem = Command::new(cargo_bin("kmem"));
        kmem.args(["profile", &running.0.id().to_string(), "--seconds", "1", "--rate", "16KiB"]);
        let output = kmem.arg("-o").arg(&file).arg("--flame").arg(&flame).output().unwrap();
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && errors.is_empty(), "{errors}");
        let first = text.lines().nth(2).expect("a site");
        assert!(first.contains("kmalloc-64") && first.contains("leak_here sites-running.c:11"), "{text}");
        let [_, bytes, _, live] = by_size(&file)[&64];
        let kept = live as f64 / bytes as f64;
        assert!((kept - 0.2).abs() < 0.08, "{kept} of what is allocated is kept: {text}");
        let drawn = std::fs::read_to_string(&flame).unwrap();
        assert!(drawn.starts_with("<?xml") && drawn.contains("leak_here") && drawn.ends_with("</svg>"));
    }
    assert!(running.0.try_wait().unwrap().is_none(), "the process goes on");
    if let Ok(pprof) = Command::new("go").args(["tool", "pprof", "-top"]).arg(&file).output()
        && pprof.status.success()
    {
        assert!(String::from_utf8_lossy(&pprof.stdout).contains("leak_here"));
    }
}

#[test]
fn what_cannot_be_profiled_is_refused() {
    let profile = |pid: &str| {
        let output = Command::new(cargo_bin("kmem")).args(["profile", pid, "--seconds", "0"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let mut sleeping = Running(Command::new("sleep").arg("60").env_remove("LD_PRELOAD").spawn().unwrap());
    let pid = sleeping.0.id().to_string();
    assert!(profile(&pid).contains(&pid), "a process without kmem is named");
    let _ = sleeping.0.kill();
    sleeping.0.wait().unwrap();
    assert!(profile(&pid).contains("there is no process"), "{}", profile(&pid));
}

#[test]
fn a_value_that_is_not_understood_is_said_once() {
    let program = built("said");
    // Set by a program in between: the command reads its environment too, before it becomes the program.
    let mut command = on_kmem(Path::new("env"));
    let output = command.arg("KMEM_PROFILE=heap.pb.gz,rat=4").arg(&program).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success());
    assert_eq!(errors.matches("KMEM_PROFILE=heap.pb.gz,rat=4 is not understood: a file").count(), 1, "{errors}");
}
