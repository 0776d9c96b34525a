//! Accounts of a running process, from outside: `kmem info` tells what is charged, and `kmem tune --account` changes
//! the limit.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// Has an account within another, and a cache of objects of 1,024 bytes that is charged to it. For each line of input
/// it allocates as many as it can get, up to 100 in all, and says how many it has.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <kmem.h>
#pragma weak kmem_account_create
#pragma weak kmem_cache_create
#pragma weak kmem_cache_charge
#pragma weak kmem_cache_alloc
int main(void)
{
    kmem_account *house = kmem_account_create("house", (size_t)-1, NULL, NULL, NULL);
    kmem_account *images = kmem_account_create("images", 16 << 10, house, NULL, NULL);
    kmem_cache *tiles = kmem_cache_create("tiles", 1024, 0, NULL, NULL, NULL);
    int held = 0, c;
    if (!images || !tiles || kmem_cache_charge(tiles, images) != 0)
        return 1;
    do {
        while (held < 100 && kmem_cache_alloc(tiles))
            held++;
        printf("%d\n", held);
        fflush(stdout);
        while ((c = getchar()) != EOF && c != '\n')
            ;
    } while (c != EOF);
    return 0;
}
"#;

struct Charged {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Charged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Charged {
    fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("charged-{name}"));
        let source = program.with_extension("c");
        std::fs::write(&source, PROGRAM).unwrap();
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kmem-malloc/include");
        let built = Command::new("cc").arg("-I").arg(include).arg("-o").args([&program, &source]).status().unwrap();
        assert!(built.success());
        let mut command = Command::new(cargo_bin("kmem"));
        command.args(["run", "--"]).arg(program).envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// How many objects it says that it has.
    fn held(&mut self) -> u64 {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    /// The same, after another attempt.
    fn held_now(&mut self) -> u64 {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.held()
    }

    fn kmem(&self, command: &str, arguments: &[&str]) -> Output {
        let pid = self.child.id().to_string();
        Command::new(cargo_bin("kmem")).args([command, &pid]).args(arguments).output().unwrap()
    }

    /// What its page says, as soon as there is one.
    fn first_page(&self) -> Value {
        let since = Instant::now();
        loop {
            let output = self.kmem("info", &["--json", "--from", "page"]);
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).unwrap();
            }
            assert!(since.elapsed() < Duration::from_secs(10), "{output:?}");
            sleep(Duration::from_millis(20));
        }
    }

    fn accounts(&self) -> Value {
        let output = self.kmem("info", &["--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["accounts"].take()
    }

    /// Asserts that the command fails with this code, and returns what it complains of.
    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.kmem("tune", arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn what_is_charged_is_told() {
    let mut charged = Charged::start("told", &[("KMEM_UPKEEP", "always")]);
    assert_eq!(charged.held(), 16);
    let accounts = charged.accounts();
    let [house, images] = [&accounts[0], &accounts[1]];
    assert_eq!([&house["name"], &images["name"]], ["house", "images"]);
    assert_eq!([&house["parent"], &images["parent"]], [&Value::Null, &Value::from("house")]);
    assert_eq!([&house["limit_bytes"], &images["limit_bytes"]], [&Value::Null, &Value::from(16 << 10)]);
    assert_eq!([&house["used_bytes"], &images["used_bytes"]], [16 << 10, 16 << 10]);
    assert_eq!((&images["high_bytes"], &images["refused"]), (&Value::from(16 << 10), &Value::from(1)));
    assert_eq!(charged.first_page()["accounts"], Value::Null);
    let metrics = String::from_utf8(charged.kmem("metrics", &[]).stdout).unwrap();
    let of_house: Vec<&str> = metrics.lines().filter(|line| line.contains("account=\"house\"")).collect();
    assert!(of_house.len() == 3 && of_house[0].starts_with("kmem_account_used_bytes{"), "{of_house:?}");
    assert!(of_house[0].ends_with(" 16384") && metrics.contains("# TYPE kmem_account_limit_bytes gauge"), "{metrics}");
    let text = String::from_utf8(charged.kmem("info", &[]).stdout).unwrap();
    let line = text.lines().find(|line| line.contains("images")).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(line.matches("16.00 KiB").count(), 3, "{text}");
}

#[test]
fn a_limit_is_changed_while_the_process_runs() {
    for (name, variables) in
        [("thread", &[("KMEM_UPKEEP", "always")][..]), ("fallback", &[("KMEM_UPKEEP", "always"), ("KMEM_RSEQ", "off")])]
    {
        let mut charged = Charged::start(name, variables);
        assert_eq!(charged.held(), 16);
        let said = charged.kmem("tune", &["--account", "images", "limit=20KiB"]);
        assert!(said.status.success(), "{said:?}");
        assert!(String::from_utf8_lossy(&said.stdout).contains("images: limit=20KiB, 16.00 KiB charged"), "{said:?}");
        assert_eq!(charged.held_now(), 20);
        assert!(charged.kmem("tune", &["--account", "images", "limit=4096"]).status.success());
        assert_eq!(charged.accounts()[1]["limit_bytes"], 4096);
        assert_eq!(charged.held_now(), 20, "nothing is lost, and nothing is had");
        assert!(charged.kmem("tune", &["--account", "house", "limit=30KiB"]).status.success());
        assert!(charged.kmem("tune", &["--account", "images", "limit=none"]).status.success());
        assert_eq!(charged.held_now(), 30, "the account that it is within has a limit now");
    }
}

#[test]
fn what_is_unknown_is_refused_with_a_reason() {
    let mut charged = Charged::start("refused", &[("KMEM_UPKEEP", "always")]);
    charged.held();
    assert!(charged.refused(&["--account", "nobody", "limit=7"], 1).contains("no account is named 'nobody'"));
    assert!(
        charged.refused(&["--account", "images", "limit=much"], 2).contains("limit=much: an account has limit=BYTES")
    );
    assert!(charged.refused(&["--account", "images", "batch=3"], 2).contains("'batch=3' is no setting"));
    assert!(charged.refused(&["--account", "images", "limit=1", "limit=2"], 2).contains("too many settings"));
    assert!(charged.refused(&["images", "limit=7"], 1).contains("no cache is named 'images'"));
    assert_eq!(charged.accounts()[1]["limit_bytes"], 16 << 10, "nothing has changed");
}
