//! What nothing leads to any longer, listed when the program ends (`KMEM_LEAKS=1`).
//!
//! The search is a conservative one: every word of memory that can be written to counts as a pointer if it leads to an
//! object, to its beginning or into it. Roots are the data of all files, the stacks and all that the program mapped;
//! the objects that they lead to are searched as well. What was not found is lost. Both are listed, by who allocated
//! them.
//!
//! The words are read by the kernel, so that a page which cannot be read ends nothing. A pointer that is kept in a
//! register of another thread only, or hidden (a compressed one, the difference of two), is not seen.
//!
//! What the checked heap keeps for itself leads to all objects, and counts for nothing. The kernel may show a mapping
//! of ours and one of the program's that lie side by side as one; so ours are left out by their addresses.

use super::heap::{self, Heap, heap_if_on};
use super::options::Options;
use super::region::Region;
use super::track::{self, Mark};
use super::zone::{self, PAGE};
use super::{large, pool, report};
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
/// Ranges that are left out, at most: regions, and some others.
const OWN: usize = zone::REGIONS + 8;
/// Large objects, at most.
const LARGE: usize = 1 << 16;

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
    waiting: usize,
    /// Whether there was no room for an object that was found.
    missed: bool,
    /// How many ranges are left out, and how many large objects there are.
    ranges: usize,
    large: usize,
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

    /// Ranges that are left out, then large objects: where each begins and ends.
    fn pairs(&self) -> *mut (usize, usize) {
        self.groups().wrapping_add(GROUPS).cast()
    }

    fn large_pairs(&self) -> *mut (usize, usize) {
        self.pairs().wrapping_add(OWN)
    }

    fn len() -> usize {
        PIECE + GROUPS * size_of::<Group>() + (WAITING + OWN + LARGE) * size_of::<(usize, usize)>()
    }

    /// Notes what is left out, and where large objects are.
    fn prepare(&mut self) {
        let own = self.own;
        let mut leave_out = |from: usize, len: usize| {
            if len > 0 && self.ranges < OWN {
                // SAFETY: there is room.
                unsafe { self.pairs().add(self.ranges).write((from, from + len)) };
                self.ranges += 1;
            }
        };
        leave_out(own, Self::len());
        for (from, len) in [zone::all(), pool::pages(), pool::table(), large::table(), track::table()] {
            leave_out(from, len);
        }
        heap::for_each_mapping(leave_out);
        large::for_each_live(|address, size, _, _| {
            if self.large < LARGE {
                // SAFETY: there is room.
                unsafe { self.large_pairs().add(self.large).write((address, address + size)) };
                self.large += 1;
            }
        });
        // SAFETY: so many were written, and no other place leads to them.
        unsafe { core::slice::from_raw_parts_mut(self.large_pairs(), self.large) }.sort_unstable();
    }

    /// The large object that an address is in, if it was not found before.
    fn reach_large(&self, address: usize) -> Option<(usize, usize)> {
        // SAFETY: so many were written.
        let all = unsafe { core::slice::from_raw_parts(self.large_pairs(), self.large) };
        let (begin, end) = *all.get(all.partition_point(|(begin, _)| *begin <= address).checked_sub(1)?)?;
        if address < end { large::reach(begin) } else { None }
    }

    /// The range that is left out and that `at` is in, or the next one: where it begins and ends.
    fn left_out(&self, at: usize) -> Option<(usize, usize)> {
        // SAFETY: so many were written.
        let (own, large) = unsafe {
            (
                core::slice::from_raw_parts(self.pairs(), self.ranges),
                core::slice::from_raw_parts(self.large_pairs(), self.large),
            )
        };
        // Large objects are searched as objects. They are in order.
        let next_large = large.get(large.partition_point(|(_, end)| *end <= at));
        own.iter().filter(|(_, end)| at < *end).chain(next_large).min().copied()
    }

    /// Looks at the words of a mapping, but for those of ours and of large objects.
    fn scan_mapping(&mut self, from: usize, to: usize) {
        let mut at = from;
        while at < to {
            let (begin, end) = self.left_out(at).unwrap_or((to, to));
            if at < begin {
                self.scan(at, begin.min(to));
                self.flood();
            }
            at = end.max(at);
        }
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
            None => pool::reach(word).or_else(|| self.reach_large(word)),
        };
        let Some(object) = found else { return };
        if self.waiting == WAITING {
            self.missed = true;
            return;
        }
        // SAFETY: the stack has room.
        unsafe { self.stack().add(self.waiting).write(object) };
        self.waiting += 1;
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

    /// Searches the objects that were found once more, where there was no room for some that they lead to.
    fn search_again(&mut self) {
        let heap = self.heap;
        while core::mem::replace(&mut self.missed, false) {
            let mut again = |address: usize, size: usize, found: bool, _: Mark| {
                if found {
                    self.scan(address, address + size);
                    self.flood();
                }
            };
            heap.for_each_region(|region| region.for_each_live(&mut again));
            pool::for_each_live(&mut again);
            for index in 0..self.large {
                // SAFETY: so many were written.
                let (begin, end) = unsafe { self.large_pairs().add(index).read() };
                if large::is_reached(begin) {
                    self.scan(begin, end);
                    self.flood();
                }
            }
        }
    }

    /// Searches what the program can write to; `false`: the kernel does not tell.
    fn roots(&mut self) -> bool {
        let mut line = Line { from: 0, to: 0, field: 0, writable: false };
        let (mut buffer, mut any) = ([0; 512], false);
        // What lies below the stack pointer is left over from calls that are done.
        let stack = (&raw const line).addr();
        sys::for_each_piece(c"/proc/self/maps", &mut buffer, |piece| {
            for byte in piece {
                if line.add(*byte) {
                    any = true;
                    if line.writable {
                        let is_stack = (line.from..line.to).contains(&stack);
                        self.scan_mapping(if is_stack { stack } else { line.from }, line.to);
                    }
                    line = Line { from: 0, to: 0, field: 0, writable: false };
                }
            }
        });
        any
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
    let Some(own) = zone::map(Search::len(), PROT_READ | PROT_WRITE) else { return };
    let mut search = Search { heap, own, waiting: 0, missed: false, ranges: 0, large: 0 };
    heap.for_each_region(Region::forget_search);
    search.prepare();
    let me = (&raw const search).addr();
    if !search.roots() || sys::read_own(me, search.piece(), 8) != 8 {
        // A sandbox, or a process that may not be looked at.
        sys::report(&["kmem: what is lost cannot be searched for: the kernel does not let memory be listed and read"]);
        // SAFETY: the search is over.
        let _ = unsafe { sys::munmap(own, Search::len()) };
        return;
    }
    search.search_again();
    search.list("kmem: LEAK: not reachable: ", false);
    search.list("kmem: still reachable: ", true);
    // SAFETY: the search is over.
    let _ = unsafe { sys::munmap(own, Search::len()) };
}

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = run_at_end;

extern "C" fn run_at_end() {
    if super::are_on() {
        list_all();
    }
}
