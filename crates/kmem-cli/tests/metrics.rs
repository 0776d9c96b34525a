//! `kmem metrics`: its text is as promtool wants it, and a Prometheus scrapes it.

#[path = "held/program.rs"]
mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

use program::Held;

/// A process that is killed when the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        println!("skipped: {program} is missing");
    }
    there
}

fn full() -> Held {
    let mut held = Held::start(&[("KMEM_UPKEEP", "always")]);
    held.step("1");
    sleep(Duration::from_millis(1200));
    held
}

/// The server, and its address.
fn serving(pids: &[u32]) -> (Killed, String) {
    let mut command = Command::new(cargo_bin("kmem"));
    command.args(["metrics", "--listen", "127.0.0.1:0"]).args(pids.iter().map(u32::to_string));
    let mut child = Killed(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once("http://").unwrap().1.strip_suffix("/metrics").unwrap().to_string();
    (child, address)
}

fn asked(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn promtool_finds_nothing_to_improve() {
    let held = full();
    let output = held.asked("metrics PID");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("kmem_large_bytes{pid="), "{text}");
    if !is_there("promtool") {
        return;
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// The dashboard in docs asks for nothing that is not there.
#[test]
fn the_dashboard_asks_for_what_there_is() {
    let held = full();
    let text = String::from_utf8(held.asked("metrics PID").stdout).unwrap();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/grafana.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut asked = 0;
    for target in targets {
        let expression = target["expr"].as_str().unwrap();
        let from = expression.find("kmem_").unwrap();
        let name: String = expression[from..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is in\n{text}");
        asked += 1;
    }
    assert!(asked >= 8);
}

#[test]
fn a_process_that_ended_is_down_and_the_others_go_on() {
    let held = full();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let (_server, address) = serving(&[held.pid(), gone.id()]);
    let answer = asked(&address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("text/plain; version=0.0.4"), "{answer}");
    for (pid, up) in [(held.pid(), 1), (gone.id(), 0)] {
        assert!(answer.contains(&format!("kmem_up{{pid=\"{pid}\"}} {up}\n")), "{answer}");
    }
    // What is no request of ours gets an answer, or none, and hurts nobody.
    assert!(asked(&address, "GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(asked(&address, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(asked(&address, &"x".repeat(8 << 10)).starts_with("HTTP/1.1 405"));
    let silent = TcpStream::connect(&address).unwrap();
    drop(silent);
    assert!(asked(&address, "HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    let (held, gone) = (held.pid().to_string(), gone.id().to_string());
    let output = Command::new(cargo_bin("kmem")).args(["metrics", &held, &gone]).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no process"), "{output:?}");
}

#[test]
fn a_prometheus_scrapes_it() {
    if !is_there("prometheus") {
        return;
    }
    let held = full();
    let (_server, address) = serving(&[held.pid()]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let targets = format!("      - targets: [\"{address}\"]\n");
    let yaml =
        format!("global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: kmem\n    static_configs:\n{targets}");
    std::fs::write(&config, yaml).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", config.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    prometheus.arg(format!("--web.listen-address={listen}")).stdout(Stdio::null()).stderr(Stdio::null());
    let _prometheus = Killed(prometheus.spawn().unwrap());
    let since = Instant::now();
    let query = "GET /api/v1/query?query=kmem_large_bytes HTTP/1.0\r\n\r\n";
    loop {
        if let Ok(mut stream) = TcpStream::connect(&listen) {
            let mut answer = String::new();
            stream.write_all(query.as_bytes()).unwrap();
            let _ = stream.read_to_string(&mut answer);
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let told: Value = serde_json::from_str(body).unwrap_or_default();
            if let Some(sample) = told["data"]["result"].as_array().and_then(|samples| samples.first()) {
                assert_eq!(sample["value"][1], (27 << 20).to_string(), "{told:#}");
                assert_eq!(sample["metric"]["pid"], held.pid().to_string());
                return;
            }
        }
        assert!(since.elapsed() < Duration::from_secs(30), "Prometheus knows nothing of the process");
        sleep(Duration::from_millis(200));
    }
}
