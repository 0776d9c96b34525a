//! What nothing leads to any longer, listed when the program ends (`KMEM_LEAKS=1`).
//!
//! The search is a conservative one: every word of memory that can be written to counts as a pointer if it leads to an
//! object, to its beginning or into it. Roots are the data of all files, the stacks and all that the program mapped;
//! the objects that they lead to are searched as well. What was not found is lost. Both are listed, by who allocated
//! them.
//!
//! The words are read by the kernel, so that a page which cannot be read ends nothing. A pointer that is kept in a
//! register of another thread only, or hidden (a compressed one, the difference of two), is not seen.

use super::options::Options;
use super::track::{self, Mark};
use super::zone::{self, PAGE};
use super::{Heap, heap_if_on, large, pool, report};
use crate::os::sys::{self, PROT_READ, PROT_WRITE};
use crate::os::text::decimal;

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;
/// Objects that wait to be searched, at most.
const WAITING: usize = 1 << 20;
/// Stacks that are told apart.
const GROUPS: usize = 1 << 12;
/// Groups that are listed.
const SHOWN: usize = 20;

/// What one stack allocated.
#[derive(Clone, Copy)]
struct Group {
    mark: Mark,
    objects: usize,
    bytes: usize,
}

/// The memory of a search.
struct Search {
    heap: &'static Heap,
    /// Where it is, and how long.
    own: usize,
    len: usize,
    waiting: usize,
}

impl Search {
    fn piece(&self) -> usize {
        self.own
    }

    fn stack(&self) -> *mut (usize, usize) {
        (self.own + PIECE) as *mut (usize, usize)
    }

    fn groups(&self) -> *mut Group {
        (self.own + PIECE + WAITING * size_of::<(usize, usize)>()) as *mut Group
    }

    /// Looks at the words of a range, and adds the objects that they lead to.
    fn scan(&mut self, from: usize, to: usize) {
        let mut at = from.next_multiple_of(8);
        while at < to {
            let read = sys::read_own(at, self.piece(), PIECE.min(to - at));
            for offset in (0..read & !7).step_by(8) {
                // SAFETY: the words were just read into the piece.
                let word = unsafe { ((self.piece() + offset) as *const usize).read() };
                self.follow(word);
            }
            // What cannot be read is left out, a page at a time.
            at = if read < 8 { (at + PAGE) & !(PAGE - 1) } else { at + (read & !7) };
        }
    }

    fn follow(&mut self, word: usize) {
        let found = match zone::region_of(word) {
            Some(index) => self.heap.region(index).and_then(|region| region.reach(word)),
            None => pool::reach(word).or_else(|| large::reach(word)),
        };
        if let Some(object) = found
            && self.waiting < WAITING
        {
            // SAFETY: the stack has room.
            unsafe { self.stack().add(self.waiting).write(object) };
            self.waiting += 1;
        }
    }

    /// Searches the objects that were found, until there is none left.
    fn flood(&mut self) {
        while self.waiting > 0 {
            self.waiting -= 1;
            // SAFETY: it was written.
            let (address, size) = unsafe { self.stack().add(self.waiting).read() };
            self.scan(address, address + size);
        }
    }

    fn is_ours(&self, from: usize) -> bool {
        zone::has(from)
            || pool::has(from)
            || (self.own..self.own + self.len).contains(&from)
            || large::has(from)
            || track::has(from)
            || core::ptr::from_ref(self.heap).addr() == from
    }

    /// Searches what the program can write to.
    fn roots(&mut self) {
        let mut line = Line { from: 0, to: 0, field: 0, writable: false };
        let mut buffer = [0; 512];
        // What lies below the stack pointer is left over from calls that are done.
        let stack = (&raw const line).addr();
        sys::for_each_piece(c"/proc/self/maps", &mut buffer, |piece| {
            for byte in piece {
                if line.add(*byte) {
                    if line.writable && !self.is_ours(line.from) {
                        let is_stack = (line.from..line.to).contains(&stack);
                        self.scan(if is_stack { stack } else { line.from }, line.to);
                        self.flood();
                    }
                    line = Line { from: 0, to: 0, field: 0, writable: false };
                }
            }
        });
    }

    /// Adds an object to the group of its stack.
    fn count(&mut self, groups: &mut usize, size: usize, mark: Mark) {
        // SAFETY: so many groups were written, and there is room for more.
        unsafe {
            for index in 0..*groups {
                let group = &mut *self.groups().add(index);
                if group.mark.stack == mark.stack || *groups == GROUPS {
                    group.objects += 1;
                    group.bytes += size;
                    return;
                }
            }
            self.groups().add(*groups).write(Group { mark, objects: 1, bytes: size });
        }
        *groups += 1;
    }

    /// Lists the objects that were found, or those that were not.
    fn list(&mut self, what: &str, reached: bool) {
        let (mut groups, mut objects, mut bytes) = (0, 0, 0);
        let heap = self.heap;
        let mut each = |_: usize, size: usize, found: bool, mark: Mark| {
            if found == reached {
                (objects, bytes) = (objects + 1, bytes + size);
                self.count(&mut groups, size, mark);
            }
        };
        heap.for_each_region(|region| region.for_each_live(&mut each));
        pool::for_each_live(&mut each);
        large::for_each_live(&mut each);
        say(what, objects, bytes);
        for _ in 0..groups.min(SHOWN) {
            // SAFETY: so many groups were written.
            let all = unsafe { core::slice::from_raw_parts_mut(self.groups(), groups) };
            let Some(most) = all.iter_mut().max_by_key(|group| group.bytes * 2 + usize::from(group.objects > 0)) else {
                return;
            };
            say("  ", most.objects, most.bytes);
            report::user("  allocated by", most.mark);
            (most.objects, most.bytes) = (0, 0);
        }
    }
}

fn say(what: &str, objects: usize, bytes: usize) {
    let (mut first, mut second) = ([0; 20], [0; 20]);
    sys::report(&[what, decimal(bytes, &mut first), " bytes in ", decimal(objects, &mut second), " objects"]);
}

/// A line of the list of mappings, as far as it was read.
struct Line {
    from: usize,
    to: usize,
    field: u32,
    writable: bool,
}

impl Line {
    /// Takes the next byte; returns whether the line is complete.
    fn add(&mut self, byte: u8) -> bool {
        match (self.field, byte) {
            (_, b'\n') => return true,
            (0, b'-') | (1, b' ') => self.field += 1,
            (0, _) => self.from = self.from << 4 | digit(byte),
            (1, _) => self.to = self.to << 4 | digit(byte),
            (2, _) => self.field = 3,
            (3, _) => {
                self.writable = byte == b'w';
                self.field = 4;
            }
            _ => {}
        }
        false
    }
}

fn digit(byte: u8) -> usize {
    usize::from(if byte > b'9' { byte - b'a' + 10 } else { byte - b'0' })
}

/// Lists what is lost, if that is wanted.
#[cold]
fn list_all() {
    if !Options::chosen().lists_leaks() {
        return;
    }
    let Some(heap) = heap_if_on() else { return };
    let len = PIECE + WAITING * size_of::<(usize, usize)>() + GROUPS * size_of::<Group>();
    let Some(own) = zone::map(len, PROT_READ | PROT_WRITE) else { return };
    let mut search = Search { heap, own, len, waiting: 0 };
    heap.for_each_region(super::Region::forget_search);
    search.roots();
    search.list("kmem: LEAK: not reachable: ", false);
    search.list("kmem: still reachable: ", true);
    // SAFETY: the search is over.
    let _ = unsafe { sys::munmap(own, len) };
}

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = run_at_end;

extern "C" fn run_at_end() {
    if super::are_on() {
        list_all();
    }
}
