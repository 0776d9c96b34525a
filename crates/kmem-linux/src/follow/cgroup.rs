//! The files of the process's control groups: version 2, or the controllers of version 1, wherever they are mounted by
//! custom.
//!
//! `/proc/self/cgroup` says in which group the process is, by controller (version 1) or for all (version 2, controller
//! list empty). In a container the path may be that of the host, of which only the end is mounted; then the root of the
//! mount is the process's own group.

use core::ffi::CStr;

use crate::os::fault::{self, Call};
use crate::os::sys;

/// Bytes of a path, at most; a group nested deeper is not found.
const PATH: usize = 512;

/// A path, ended by a null.
pub(super) struct Path {
    bytes: [u8; PATH],
    len: usize,
}

impl Path {
    fn new() -> Self {
        Self { bytes: [0; PATH], len: 0 }
    }

    fn of(parts: &[&[u8]]) -> Option<Self> {
        let mut path = Self::new();
        for part in parts {
            let room = path.bytes.get_mut(path.len..path.len + part.len())?;
            room.copy_from_slice(part);
            path.len += part.len();
        }
        (path.len < PATH).then_some(path)
    }

    pub(super) fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}

/// Where version 2, or a controller of version 1, is mounted.
const V2: [&[u8]; 2] = [b"/sys/fs/cgroup", b"/sys/fs/cgroup/unified"];
const V1: &[u8] = b"/sys/fs/cgroup/";

/// Calls `read` with the content of `file` of the process's own group, then of the groups that it is in, up to the
/// root; stops where that returns `false`. Returns whether there was any such file. `controller`: that of version 1, or
/// empty for version 2.
pub(super) fn each_group(controller: &[u8], file: &[u8], mut read: impl FnMut(&[u8], &CStr) -> bool) -> bool {
    if fault::refused(Call::Cgroup) {
        return false;
    }
    let mut text = [0; 4096];
    let len = sys::read_file(c"/proc/self/cgroup", &mut text).unwrap_or(0);
    let Some(group) = text[..len].split(|byte| *byte == b'\n').find_map(|line| group_of(line, controller)) else {
        return false;
    };
    if controller.is_empty() {
        V2.iter().any(|mount| climb(mount, b"", group, file, &mut read))
    } else {
        climb(V1, controller, group, file, &mut read)
    }
}

/// The path of a line `4:memory:/a/b` that names the controller.
fn group_of<'a>(line: &'a [u8], controller: &[u8]) -> Option<&'a [u8]> {
    let mut fields = line.splitn(3, |byte| *byte == b':').skip(1);
    let (list, path) = (fields.next()?, fields.next()?);
    let is_it = list.split(|byte| *byte == b',').any(|name| name == controller);
    is_it.then_some(path)
}

#[cold]
fn climb(
    mount: &[u8],
    controller: &[u8],
    mut group: &[u8],
    file: &[u8],
    read: &mut impl FnMut(&[u8], &CStr) -> bool,
) -> bool {
    let mut found = false;
    loop {
        group = group.strip_suffix(b"/").unwrap_or(group);
        if let Some(path) = Path::of(&[mount, controller, group, b"/", file])
            && let Some(path) = path.as_c_str()
        {
            let mut text = [0; 512];
            if let Ok(len) = sys::read_file(path, &mut text) {
                found = true;
                if !read(&text[..len], path) {
                    return true;
                }
            }
        }
        match group.iter().rposition(|byte| *byte == b'/') {
            Some(end) => group = &group[..end],
            None => return found,
        }
    }
}

/// The number after `key` in lines such as `high 12` or `some avg10=0.00 total=345`.
pub(super) fn number_after(text: &[u8], key: &[u8]) -> Option<u64> {
    let at = text.windows(key.len()).position(|window| window == key)? + key.len();
    number(&text[at..])
}

/// The number that a text begins with.
pub(super) fn number(rest: &[u8]) -> Option<u64> {
    let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    core::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_groups() {
        assert_eq!(group_of(b"0::/user.slice/a", b""), Some(&b"/user.slice/a"[..]));
        assert_eq!(group_of(b"3:cpu,cpuacct:/x", b"cpuacct"), Some(&b"/x"[..]));
        assert_eq!(group_of(b"3:cpu,cpuacct:/x", b"cpuset"), None);
        assert_eq!(group_of(b"nonsense", b""), None);
    }

    #[test]
    fn numbers_stand_behind_their_keys() {
        let pressure = b"some avg10=1.50 avg60=0.00 avg300=0.00 total=345\nfull avg10=0.00 total=7\n";
        assert_eq!(number_after(pressure, b"total="), Some(345));
        assert_eq!(number_after(b"low 0\nhigh 12\nmax 3\n", b"high "), Some(12));
        assert_eq!(number_after(b"low 0\n", b"high "), None);
        assert_eq!(number(b"200000 100000"), Some(200_000));
        assert_eq!((number(b"max 100000"), number(b"-1\n"), number(b"")), (None, None, None));
    }
}
