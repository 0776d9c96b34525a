//! The guest's file system: an archive in the format `newc` of cpio, which the kernel unpacks into memory.
//!
//! Each entry is a header of 13 numbers in eight hexadecimal digits, the path, and the bytes, the last two padded to
//! four bytes. Directories precede their contents; each path is written once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive under construction.
#[derive(Default)]
pub struct Image {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
}

impl Image {
    /// Adds the device that the kernel opens as the standard streams of process 1.
    pub fn console(&mut self) {
        self.parents("/dev/console");
        self.entry("/dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    }

    /// Adds an executable file, and the directories above it. A path that exists already is not changed.
    pub fn file(&mut self, path: &str, bytes: &[u8]) {
        self.parents(path);
        self.entry(path, PROGRAM, (0, 0), bytes);
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("/TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/').skip(1) {
            self.entry(&path[..end], DIRECTORY, (0, 0), &[]);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) {
        if !self.paths.insert(path.to_owned()) {
            return;
        }
        let name = path.trim_start_matches('/');
        let length = u32::try_from(bytes.len()).expect("files of a guest are smaller than 4 GiB");
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let inode = self.paths.len() as u32;
        let numbers = [inode, mode, 0, 0, links, 0, length, 0, 0, device.0, device.1, name.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        for number in numbers {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The libraries of a dynamic program, including its loader, as `ldd` finds them on this machine. None for a static
/// program.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>, String> {
    let output = Command::new("ldd").arg(program).output().map_err(|e| format!("ldd: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| library(line.trim())).collect()
}

/// The library in a line of `ldd`: `name => /path (address)`, `/path (address)`, `name (address)` for the kernel's own,
/// or `name => not found`.
fn library(line: &str) -> Option<Result<PathBuf, String>> {
    let place = line.split_once("=> ").map_or(line, |(_, place)| place);
    if place == "not found" {
        return Some(Err(format!("a library is missing: {line}")));
    }
    let path = place.split(" (").next().filter(|path| path.starts_with('/'))?;
    Some(Ok(path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_each_directory_once_and_pads() {
        let mut image = Image::default();
        image.file("/bin/a", b"12345");
        image.file("/bin/b", b"");
        image.file("/bin/a", b"again");
        let text = String::from_utf8(image.finish()).unwrap();
        assert_eq!(text.len() % 4, 0);
        assert_eq!(text.matches("070701").count(), 4, "bin, bin/a, bin/b, the trailer");
        assert!(text.contains("12345\0\0\x00070701"));
        assert!(!text.contains("again"));
        assert!(text.contains("0000000b00000000TRAILER!!!\0"), "the length of the name counts its end");
    }

    #[test]
    fn lines_of_ldd_are_understood() {
        assert_eq!(library("linux-vdso.so.1 (0x00007f4b06ec4000)"), None);
        assert_eq!(library("statically linked"), None);
        let path = |line| library(line).unwrap().unwrap();
        assert_eq!(
            path("libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x0000)"),
            Path::new("/lib/x86_64-linux-gnu/libc.so.6")
        );
        assert_eq!(path("/lib64/ld-linux-x86-64.so.2 (0x0000)"), Path::new("/lib64/ld-linux-x86-64.so.2"));
        assert!(library("libx.so => not found").unwrap().is_err());
    }
}
