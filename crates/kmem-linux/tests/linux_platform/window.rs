//! The page source: the window, its pieces, moving them, with and without a limit of address space.

use kmem_core::pages::GRANULE;
use kmem_core::platform::{CommitError, MoveError, PageSource};
use kmem_linux::Linux;
use kmem_linux::os::fault::{self, Call};

use super::passes;
use super::world::discover;

unsafe extern "C" {
    fn setrlimit(resource: i32, limits: *const [u64; 2]) -> i32;
}

pub fn window(linux: Linux, len: usize) {
    let window = linux.reserve().expect("a window");
    assert_eq!((window.len, window.base % GRANULE), (len, 0), "{window:?}");
    assert!(window.base + window.len <= 1 << 47, "{window:?}");
    let piece = 2 << 20;
    for start in [window.base, window.base + piece, window.base + window.len - piece] {
        // SAFETY: pieces of the window, each once.
        unsafe {
            assert_eq!(linux.commit(start, piece), Ok(()), "{start:x}");
            let last = (start + piece - 1) as *mut u8;
            assert_eq!(last.read(), 0);
            last.write(7);
            linux.purge(start, piece);
            assert_eq!(last.read(), 0);
            last.write(8);
        }
    }
    moving(&linux, window.base + (8 << 20), window.base + (16 << 20));
    let mapping = linux.map(10_000).expect("a mapping");
    // SAFETY: ours, and given back once.
    unsafe {
        mapping.add(9_999).write(1);
        linux.unmap(mapping, 10_000);
    }
    fault::fail_after(Call::Map, 0);
    assert!(linux.map(1).is_none());
    fault::heal(Call::Map);
    fault::fail_after(Call::Commit, 0);
    // SAFETY: refused.
    assert_eq!(unsafe { linux.commit(window.base + 8 * piece, piece) }, Err(CommitError::NoMemory));
}

/// Pages go from one committed piece of the window to another, and leave a place where others may be.
fn moving(linux: &Linux, from: usize, to: usize) {
    let (piece, longer) = (2 << 20, 3 << 20);
    // SAFETY: pieces of the window that nobody else uses.
    unsafe {
        assert_eq!((linux.commit(from, piece), linux.commit(to, longer)), (Ok(()), Ok(())));
        let words = |at: usize| [at, at + 4096, at + piece - 8].map(|at| at as *mut usize);
        words(from).into_iter().for_each(|word| word.write(word as usize));
        words(to).into_iter().chain(words(to + (1 << 20))).for_each(|word| word.write(1));
        fault::fail_after(Call::Move, 0);
        assert_eq!(linux.move_pages(from, piece, to, longer), Err(MoveError::Refused));
        fault::heal(Call::Move);
        // A range that is not all there is refused by the kernel, and both are as they were.
        assert_eq!(linux.move_pages(from + piece, piece, to, longer), Err(MoveError::Refused));
        to_is_committed(to);
        assert_eq!(linux.move_pages(from, piece, to, longer), Ok(()));
        let came = |to: usize| words(to).into_iter().zip(words(from)).all(|(new, old)| new.read() == old as usize);
        assert!(came(to));
        assert_eq!(((to + longer - 8) as *const usize).read(), 0, "the rest is fresh");
        // What was left can be committed again, and is zero.
        assert_eq!(linux.commit(from, piece), Ok(()));
        assert!(words(from).into_iter().all(|word| word.read() == 0));
        // What was moved and what is behind it are two mappings: such a range stays where it is, all of it.
        let (next, end) = (to + longer, to + 2 * longer);
        assert_eq!((linux.commit(next, longer), linux.commit(end, 3 * longer)), (Ok(()), Ok(())));
        (next as *mut usize).write(7);
        assert_eq!(linux.move_pages(to, 2 * longer, end, 3 * longer), Err(MoveError::Refused));
        assert!(came(to) && (next as *const usize).read() == 7);
        linux.uncommit(from, piece);
        linux.uncommit(to, 5 * longer);
    }
}

fn to_is_committed(at: usize) {
    // SAFETY: the test's own piece of the window.
    unsafe {
        (at as *mut usize).write(1);
        assert_eq!((at as *mut usize).read(), 1);
    }
}

pub fn limited() {
    let limit = 1u64 << 30;
    // SAFETY: the limits are two words.
    assert_eq!(unsafe { setrlimit(9, &[limit, limit]) }, 0);
    let linux = discover();
    let claimed = linux.reserve().expect("a place");
    // SAFETY: pieces of the window, each once.
    unsafe {
        assert_eq!(linux.commit(claimed.base + (64 << 20), 1 << 20), Ok(()));
        assert_eq!(linux.commit(claimed.base + (63 << 20), 2 << 20), Err(CommitError::Taken));
        let mapping = linux.map(512 << 20).expect("half of the limit");
        assert_eq!(linux.commit(claimed.base + (128 << 20), 768 << 20), Err(CommitError::NoMemory));
        linux.unmap(mapping, 512 << 20);
    }
    window(discover(), 1 << 30);
}

#[test]
fn windows_are_claimed() {
    passes("window", &[]);
    passes("limited", &[]);
}

/// One process, one place: where the window begins, in granules.
pub fn place() {
    println!("place: {}", discover().reserve().expect("a place").base / GRANULE);
}

/// In some hundred runs at least 28 bits of the address are 0 and 1 about as often as each other, as far as kernel and
/// architecture leave any to chance.
#[test]
fn the_place_varies_by_28_bits_from_run_to_run() {
    const RUNS: usize = 300;
    let said = |text: String| text.lines().find_map(|line| line.strip_prefix("place: ")?.parse::<u64>().ok());
    let places: Vec<u64> = (0..RUNS).map(|_| said(passes("place", &[])).expect("a number")).collect();
    let ones = |bit: u32| places.iter().filter(|place| **place >> bit & 1 == 1).count();
    let varying: Vec<u32> = (0..64).filter(|bit| (RUNS / 5..=RUNS * 4 / 5).contains(&ones(*bit))).collect();
    let (least, most) = (places.iter().min().expect("some"), places.iter().max().expect("some"));
    println!("{} bits vary: {varying:?}; places from {:x}0000 to {:x}0000", varying.len(), least, most);
    assert!(varying.len() >= 28, "{varying:?}");
    let different: std::collections::BTreeSet<&u64> = places.iter().collect();
    assert!(different.len() >= RUNS - 1, "{} of {RUNS} places differ", different.len());
}
