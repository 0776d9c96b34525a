//! The malloc family on the real platform: every entry point, three threads that free each other's memory, while CPUs
//! go down and come up.
//!
//! The program's own malloc is kmem's as well, including the fuzzer's. The checks are: addresses, alignments, errors
//! and errno; that memory of calloc is zero; and that nothing else writes to memory between its malloc and its free.
#![no_main]

mod memory;

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use arbitrary::Arbitrary;
use kmem_malloc::c;
use libfuzzer_sys::fuzz_target;

use memory::Memory;

const ENOMEM: c_int = 12;
const EINVAL: c_int = 22;
/// Most pieces of memory that are held at a time.
const MOST: usize = 64;
/// Larger requests are refused by any allocator, or cost too much time.
const LARGEST: usize = 1 << 20;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// A number of bytes, mostly a small one.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Size {
    Small(u8),
    Medium(u16),
    Large(u32),
    /// More than can exist.
    Absurd(u8),
}

impl Size {
    fn bytes(self) -> usize {
        match self {
            Self::Small(bytes) => bytes.into(),
            Self::Medium(bytes) => bytes.into(),
            Self::Large(bytes) => bytes as usize % LARGEST,
            Self::Absurd(less) => usize::MAX / 2 + 1 + usize::from(less),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Op {
    Malloc {
        size: Size,
    },
    Calloc {
        count: u8,
        size: Size,
    },
    AlignedAlloc {
        shift: u8,
        size: Size,
    },
    /// An alignment, which may be invalid.
    PosixMemalign {
        align: u16,
        size: Size,
    },
    Memalign {
        align: u16,
        size: Size,
    },
    Valloc {
        size: Size,
    },
    Pvalloc {
        size: Size,
    },
    Realloc {
        which: u8,
        size: Size,
    },
    Reallocarray {
        which: u8,
        count: u8,
        size: Size,
    },
    Free {
        which: u8,
        how: u8,
    },
    /// Another thread checks it, perhaps moves it, and frees it, some time later.
    Hand {
        which: u8,
        to: bool,
        size: Option<u16>,
    },
    Trim,
    CpuDown {
        cpu: u8,
    },
    CpuUp {
        cpu: u8,
    },
}

/// Memory for another thread, or the request to reply when everything before is done.
enum Letter {
    Free(Memory, Option<u16>),
    Answer,
}

struct Thread {
    letters: Sender<Letter>,
    answers: Receiver<()>,
}

impl Thread {
    fn new() -> Self {
        let (letters, inbox) = channel();
        let (outbox, answers) = channel();
        std::thread::spawn(move || {
            for letter in inbox {
                match letter {
                    Letter::Free(memory, None) => memory.free(0),
                    Letter::Free(memory, Some(size)) => {
                        realloc(memory, size.into()).into_iter().for_each(|m| m.free(0))
                    }
                    Letter::Answer => outbox.send(()).expect("a thread waits"),
                }
            }
        });
        Self { letters, answers }
    }
}

/// Two more threads, for as long as the program runs. Only the fuzzer's thread uses these ends of the channels.
struct Others([Thread; 2]);

// SAFETY: one thread runs all inputs.
unsafe impl Sync for Others {}

static OTHERS: LazyLock<Others> = LazyLock::new(|| Others([Thread::new(), Thread::new()]));

fn errno() -> &'static mut c_int {
    // SAFETY: libc returns the address of the calling thread's own errno, which is not borrowed elsewhere.
    unsafe { &mut *__errno_location() }
}

/// Checks the result of a call: memory of `size` bytes aligned to `align`, or an error that is one of `errors`.
fn had(call: impl FnOnce() -> *mut c_void, size: usize, align: usize, errors: &[c_int]) -> Option<Memory> {
    *errno() = 0;
    let address = call();
    if address.is_null() {
        assert!(errors.contains(errno()), "errno is {}", errno());
        return None;
    }
    assert!(errors.is_empty(), "memory where there should be an error: {errors:?}");
    Some(Memory::new(address, size, align).filled())
}

/// The errors that a request for this many bytes may return.
fn errors_of(size: usize) -> &'static [c_int] {
    if size > isize::MAX as usize { &[ENOMEM] } else { &[] }
}

/// The memory after realloc: `None` if realloc freed it, unchanged if realloc failed.
fn realloc(memory: Memory, size: usize) -> Option<Memory> {
    let (address, kept) = memory.give();
    *errno() = 0;
    // SAFETY: the memory is ours; if it is moved, nothing uses the old address.
    let moved = unsafe { c::realloc(address, size) };
    match () {
        () if size == 0 => {
            assert!(moved.is_null(), "size 0 frees");
            None
        }
        () if moved.is_null() => {
            assert_eq!((*errno(), errors_of(size).len()), (ENOMEM, 1));
            Some(kept.back(address))
        }
        () => {
            assert!(errors_of(size).is_empty());
            Some(kept.moved(moved, size))
        }
    }
}

#[derive(Default)]
struct Held(Vec<Memory>);

impl Held {
    fn keep(&mut self, memory: Option<Memory>) {
        if let Some(memory) = memory {
            self.0.push(memory);
            if self.0.len() > MOST {
                self.0.remove(0).free(0);
            }
        }
    }

    fn take(&mut self, which: u8) -> Option<Memory> {
        let count = self.0.len();
        (count > 0).then(|| self.0.swap_remove(usize::from(which) % count))
    }

    /// # Safety
    /// The calls fulfil C's contract: what they free is ours, and is not used afterwards.
    unsafe fn apply(&mut self, op: Op) {
        // SAFETY: passed on.
        unsafe {
            match op {
                Op::Malloc { size } => {
                    let size = size.bytes();
                    self.keep(had(|| c::malloc(size), size, 16, errors_of(size)));
                }
                Op::Calloc { count, size } => {
                    let (count, size) = (usize::from(count), size.bytes());
                    let bytes = count.checked_mul(size).unwrap_or(usize::MAX);
                    if bytes <= 4 * LARGEST || bytes > isize::MAX as usize {
                        let zero = || {
                            let address = c::calloc(count, size);
                            memory::is_zero(address, bytes);
                            address
                        };
                        self.keep(had(zero, bytes, 16, errors_of(bytes)));
                    }
                }
                Op::AlignedAlloc { shift, size } => {
                    let (align, size) = (1 << (shift % 22), size.bytes());
                    self.keep(had(|| c::aligned_alloc(align, size), size, align, errors_of(size)));
                }
                Op::PosixMemalign { align, size } => self.posix_memalign(align.into(), size.bytes()),
                Op::Memalign { align, size } => {
                    let (align, size) = (usize::from(align), size.bytes());
                    let rounded = align.next_power_of_two();
                    self.keep(had(|| c::memalign(align, size), size, rounded, errors_of(size)));
                }
                Op::Valloc { size } => {
                    let size = size.bytes();
                    self.keep(had(|| c::valloc(size), size, 4096, errors_of(size)));
                }
                Op::Pvalloc { size } => {
                    let size = size.bytes();
                    let whole = size.max(1).next_multiple_of(4096);
                    self.keep(had(|| c::pvalloc(size), whole, 4096, errors_of(size)));
                }
                Op::Realloc { which, size } => match self.take(which) {
                    Some(memory) => self.keep(realloc(memory, size.bytes())),
                    None => self.keep(had(
                        || c::realloc(null_mut(), size.bytes()),
                        size.bytes(),
                        16,
                        errors_of(size.bytes()),
                    )),
                },
                Op::Reallocarray { which, count, size } => {
                    let (count, size) = (usize::from(count), size.bytes());
                    match (self.take(which), count.checked_mul(size)) {
                        (Some(memory), Some(bytes)) if bytes <= 4 * LARGEST => self.keep(realloc(memory, bytes)),
                        (Some(memory), None) => {
                            let (address, kept) = memory.give();
                            *errno() = 0;
                            assert!(c::reallocarray(address, count, size).is_null());
                            assert_eq!(*errno(), ENOMEM);
                            self.keep(Some(kept.back(address)));
                        }
                        (memory, _) => self.keep(memory),
                    }
                }
                Op::Free { which, how } => self.take(which).into_iter().for_each(|memory| memory.free(how)),
                Op::Hand { which, to, size } => {
                    if let Some(memory) = self.take(which) {
                        let letter = Letter::Free(memory, size);
                        OTHERS.0[usize::from(to)].letters.send(letter).expect("the thread lives");
                    }
                }
                Op::Trim => _ = kmem::trim(),
                // Whether it succeeds does not matter here.
                Op::CpuDown { cpu } => _ = kmem::hotplug::cpu_down(usize::from(cpu % 4)),
                Op::CpuUp { cpu } => _ = kmem::hotplug::cpu_up(usize::from(cpu % 4)),
            }
        }
    }

    fn posix_memalign(&mut self, align: usize, size: usize) {
        let mut place = null_mut();
        *errno() = 0;
        // SAFETY: the place is ours.
        let error = unsafe { c::posix_memalign(&mut place, align, size) };
        assert_eq!(*errno(), 0, "posix_memalign leaves errno alone");
        let expected = match () {
            () if !align.is_power_of_two() || !align.is_multiple_of(size_of::<usize>()) => EINVAL,
            () if size > isize::MAX as usize => ENOMEM,
            () => 0,
        };
        assert_eq!((error, place.is_null()), (expected, expected != 0), "aligned to {align}, {size} bytes");
        if error == 0 {
            self.keep(Some(Memory::new(place, size, align).filled()));
        }
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let mut held = Held::default();
    for op in ops {
        // SAFETY: only a `Memory` is freed, and it is consumed by that.
        unsafe { held.apply(op) };
    }
    held.0.drain(..).for_each(|memory| memory.free(0));
    for thread in &OTHERS.0 {
        thread.letters.send(Letter::Answer).expect("the thread lives");
        thread.answers.recv().expect("it replies");
    }
});
