//! `kmem bench`, from outside.

use assert_cmd::Command;
use serde_json::Value;

fn kmem() -> Command {
    Command::cargo_bin("kmem").unwrap()
}

#[test]
fn a_workload_has_figures_for_each_allocator_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let mut command = kmem();
    command.env("XDG_CACHE_HOME", folder.path());
    command
        .args(["bench", "--quick", "--only", "pair", "--allocators", "glibc,kmem", "--json", "--report"])
        .arg(&report);
    let output = command.assert().success().get_output().stdout.clone();
    let result: Value = serde_json::from_slice(&output).unwrap();
    let served = result["workloads"][0]["results"].as_array().unwrap();
    assert_eq!(served.len(), 2);
    for one in served {
        assert!(one["failed"].is_null(), "{one}");
        for figure in ["ns", "cpu_ns", "cycles", "floor_cycles", "peak_kib", "settled_kib"] {
            assert!(one["figures"][figure]["median"].as_f64().unwrap() > 0.0, "{figure}: {one}");
        }
    }
    assert!(result["targets"][0]["met"].is_boolean(), "{}", result["targets"][0]);
    assert!(std::fs::read_to_string(report.join("figures.csv")).unwrap().contains("\npair,kmem,cycles,"));
    let markdown = std::fs::read_to_string(report.join("BENCHMARKS.md")).unwrap();
    assert!(markdown.contains("| T1 |"));
    assert!(std::fs::read_to_string(report.join("index.html")).unwrap().contains("</html>"));

    let again = folder.path().join("again");
    kmem().args(["bench", "--from"]).arg(report.join("figures.json")).arg("--report").arg(&again).assert().success();
    assert_eq!(std::fs::read_to_string(again.join("BENCHMARKS.md")).unwrap(), markdown);
}

/// If no cpuset can be created the workload removes the CPU from the affinity masks of all its threads, to the same
/// effect.
#[test]
fn without_a_cpuset_the_masks_lose_the_cpu() {
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        return println!("skipped: there is one CPU only");
    }
    let workloads = kmem_bench::executables::Executables::unpack().unwrap().workloads;
    let cached = |policy: &str| {
        let mut command = kmem();
        command.env("KMEM_UPKEEP", "always").env("KMEM_CPUS", policy).args(["run", "--"]).arg(&workloads);
        command.args(["leave_cpu", "quick", ""]).arg(assert_cmd::cargo::cargo_bin("kmem")).arg("bench-left");
        let output = String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap();
        let told = |name| output.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        assert!(told("kept_kib").is_some(), "{output}");
        told("cached_bytes").unwrap_or_else(|| panic!("{output}"))
    };
    assert_eq!(cached("follow"), 0.0);
    assert!(cached("fixed") > 0.0, "if CPUs are not followed it stays, or this test shows nothing");
}

#[test]
fn a_file_that_is_no_result_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("figures.json");
    for content in [None, Some("{}")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let error = kmem().args(["bench", "--from"]).arg(&file).assert().code(2).get_output().stderr.clone();
        let error = String::from_utf8_lossy(&error);
        assert!(error.contains("figures.json") && error.contains("--report"), "{error}");
    }
}

#[test]
fn unknown_names_are_refused() {
    for (option, name) in [("--only", "pare"), ("--allocators", "gmalloc")] {
        let error = kmem().args(["bench", option, name]).assert().code(2).get_output().stderr.clone();
        assert!(String::from_utf8_lossy(&error).contains(&format!("'{name}'")), "{option}");
    }
}
