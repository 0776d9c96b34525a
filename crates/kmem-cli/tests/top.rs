//! `kmem top`: plain text in a pipe, and the screen in a real terminal (tmux), 80 and 60 columns wide.

#[path = "held/program.rs"]
mod program;

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;

use program::Held;

/// A terminal of a server of our own.
struct Terminal {
    socket: String,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

impl Terminal {
    /// `None` where tmux is missing.
    fn open(name: &str, columns: u32, rows: u32) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("skipped: tmux is missing");
            return None;
        }
        let terminal = Self { socket: format!("kmem-{name}-{columns}-{}", std::process::id()) };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        // A shell, so that what a command leaves behind is seen.
        let shell = "env PS1='prompt> ' sh";
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, shell]);
        terminal.until("prompt>");
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.socket]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Runs one of our commands.
    fn run(&self, arguments: &str) {
        let command = format!("clear; {} {arguments}", cargo_bin("kmem").display());
        self.keys(&[&command, "Enter"]);
    }

    /// Waits until the screen contains a text, and returns it.
    fn until(&self, text: &str) -> String {
        let since = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "{text} is not on\n{screen}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the command has ended, and the terminal is the shell's again: a line that it echoes, and the cursor.
    fn is_clean(&self) {
        self.until("prompt>");
        self.keys(&["echo cle''an", "Enter"]);
        let screen = self.until("\nclean");
        assert!(!screen.contains("OBJ SIZE"), "the screen is back\n{screen}");
        assert_eq!(self.tmux(&["display-message", "-p", "#{cursor_flag} #{alternate_on}"]).trim(), "1 0");
    }
}

fn line<'a>(screen: &'a str, name: &str) -> &'a str {
    screen.lines().find(|line| line.ends_with(name)).unwrap_or_else(|| panic!("{name} is not on\n{screen}"))
}

#[test]
fn a_pipe_gets_plain_text() {
    let mut held = Held::start(&[("KMEM_UPKEEP", "always")]);
    held.step("1");
    sleep(Duration::from_millis(1200));
    for command in ["top PID", "top --once --sort n PID", "top --once --cpus PID"] {
        let output = held.asked(command);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !text.contains('\u{1b}'), "{command}: {text}");
        assert!(text.contains("large 27.00 MiB"), "{text}");
        let has = if command.contains("cpus") { "CPU  STATE" } else { "kmalloc-3072" };
        assert!(text.contains(has) && text.lines().all(|line| line.len() <= 80), "{text}");
    }
    let text = String::from_utf8(held.asked("top --once --filter 3072 PID").stdout).unwrap();
    assert!(text.contains("kmalloc-3072") && !text.contains("kmalloc-48"), "{text}");
    let list = String::from_utf8(held.asked("top --once").stdout).unwrap();
    assert!(list.lines().any(|line| line.trim_start().starts_with(&held.pid().to_string())), "{list}");
    let output = held.asked("top 4294967295");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no process"));
}

fn driven(columns: u32) {
    let Some(terminal) = Terminal::open("driven", columns, 24) else { return };
    let mut held = Held::start(&[("KMEM_UPKEEP", "always")]);
    let pid = held.pid();
    sleep(Duration::from_millis(600));
    terminal.run(&format!("top --delay 1 {pid}"));
    let screen = terminal.until("OBJ SIZE");
    assert!(screen.lines().all(|line| line.chars().count() <= columns as usize), "{screen}");
    assert_eq!(screen.contains("OBJ/SLAB"), columns >= 80, "{screen}");
    // What grows since the start is marked, and comes first.
    held.step("1");
    let screen = terminal.until("large-4M");
    assert!(line(&screen, "large-4M").contains('+'), "{screen}");
    assert!(line(&terminal.until("kmalloc-3072"), "kmalloc-3072").contains('+'), "{screen}");
    terminal.keys(&["n"]);
    terminal.until("by name");
    terminal.keys(&["/"]);
    terminal.until("show only");
    terminal.keys(&["3072", "Enter"]);
    let screen = terminal.until("only *3072*");
    assert!(screen.contains("kmalloc-3072") && !screen.contains("kmalloc-48"), "{screen}");
    terminal.keys(&["1"]);
    terminal.until("STATE");
    terminal.keys(&["h"]);
    terminal.until("sort by object size");
    terminal.keys(&["q"]);
    terminal.is_clean();
    terminal.run(&format!("top {pid}"));
    terminal.until("OBJ SIZE");
    terminal.keys(&["C-c"]);
    terminal.is_clean();
    terminal.run("top");
    terminal.until("Enter shows");
    terminal.keys(&["q"]);
    terminal.is_clean();
    terminal.run(&format!("top --delay 1 {pid}"));
    terminal.until("OBJ SIZE");
    drop(held);
    terminal.until("has ended");
    terminal.is_clean();
}

#[test]
fn keys_do_what_slabtops_do_in_eighty_columns() {
    driven(80);
}

#[test]
fn sixty_columns_suffice() {
    driven(60);
}

/// A terminal that goes away, with the shell that would tell its jobs so: nothing stays behind.
#[test]
fn a_terminal_that_is_gone_ends_the_command() {
    let Some(terminal) = Terminal::open("gone", 80, 24) else { return };
    let held = Held::start(&[("KMEM_UPKEEP", "always")]);
    terminal.keys(&[&format!("trap '' HUP; exec {} top {}", cargo_bin("kmem").display(), held.pid()), "Enter"]);
    terminal.until("OBJ SIZE");
    let pid = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]).trim().to_string();
    let begins =
        |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("kmem"));
    assert!(begins(&pid), "the shell's number is the command's");
    drop(terminal);
    let since = Instant::now();
    while begins(&pid) {
        assert!(since.elapsed() < Duration::from_secs(5), "process {pid} stayed");
        sleep(Duration::from_millis(50));
    }
}
