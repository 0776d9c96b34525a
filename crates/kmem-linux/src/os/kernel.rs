//! Which kernel this is, where it matters: kernels that break a promise that sections are built on.
//!
//! On arm64, Linux 6.19 to 7.0.13 does not abort a sequence whose thread is preempted and goes on on the same CPU (as
//! told on the kernel's mailing list, 22 April 2026; the change for all processors left that one out). Every object
//! could be handed out twice. Nothing but the release tells such a kernel, so its number is what is asked for.

use super::sys;

/// Numbers of a release: 7.0.13 is `[7, 0, 13]`.
type Release = [u32; 3];

/// The first and the last release whose sections are not safe.
const BROKEN: (Release, Release) = ([6, 19, 0], [7, 0, 13]);

/// Whether this is a kernel that does not abort every sequence that it interrupts. What cannot be read may be one.
pub(crate) fn forgets_to_abort() -> bool {
    if !cfg!(target_arch = "aarch64") {
        return false;
    }
    let mut names = [[0; sys::UTS_NAME]; sys::UTS_NAMES];
    !(sys::uname(&mut names).is_ok() && aborts(&names[sys::UTS_RELEASE]))
}

/// Whether a release of arm64 is one that aborts. Candidates of 7.1 are taken for broken: the repair came among them.
fn aborts(text: &[u8]) -> bool {
    let Some(release) = parse(text) else { return false };
    let candidate = release == [7, 1, 0] && text.windows(3).any(|part| part == b"-rc");
    !(candidate || (BROKEN.0 <= release && release <= BROKEN.1))
}

/// The numbers at the beginning of a release; those that are missing are 0.
fn parse(text: &[u8]) -> Option<Release> {
    let mut release = [None, Some(0), Some(0)];
    let mut at = 0;
    for part in &mut release {
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            break;
        }
        *part = core::str::from_utf8(&text[at..at + digits]).ok()?.parse().ok();
        at += digits;
        if text.get(at) != Some(&b'.') {
            break;
        }
        at += 1;
    }
    Some([release[0]?, release[1]?, release[2]?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_kernels_write_them() {
        for (text, release) in [
            (&b"6.1.0-50-arm64\0\0"[..], Some([6, 1, 0])),
            (b"6.12.117+deb12-arm64-16k", Some([6, 12, 117])),
            (b"7.0.13", Some([7, 0, 13])),
            (b"7.1.0-rc3-00017-g1234", Some([7, 1, 0])),
            (b"6.19", Some([6, 19, 0])),
            (b"7", Some([7, 0, 0])),
            (b"4.4.0\n", Some([4, 4, 0])),
            (b"", None),
            (b"Linux", None),
            (b"99999999999.1", None),
            (b"6.99999999999", None),
        ] {
            assert_eq!(parse(text), release, "{}", std::string::String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn kernels_that_do_not_abort_are_known_by_their_release() {
        for (text, good) in [
            (&b"5.10.0-33-arm64"[..], true),
            (b"6.18.99", true),
            (b"6.19.0", false),
            (b"6.19.0-rc1", false),
            (b"6.20.3", false),
            (b"7.0.0-1-arm64", false),
            (b"7.0.13-cloud", false),
            (b"7.0.14", true),
            (b"7.1.0-rc1", false),
            (b"7.1.0", true),
            (b"7.1.2-rc1", true),
            (b"8.0.0", true),
            (b"", false),
        ] {
            assert_eq!(aborts(text), good, "{}", std::string::String::from_utf8_lossy(text));
        }
    }
}
