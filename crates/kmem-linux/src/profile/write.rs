//! Writing a profile when the program ends: [`KMEM_PROFILE`](super).
//!
//! What is written has addresses and the builds that they belong to, and no names of functions: pprof finds these in
//! the files of the program. (`kmem profile` finds them itself.) Like all that happens at the end it is done by the
//! thread that ends the program, and may make system calls that a sandbox forbids.

use core::ffi::CStr;
use core::ptr::NonNull;

use kmem_core::Engine;
use kmem_core::platform::Clock;
use kmem_core::sync::{AtomicUsize, Ordering};

use super::hash::Map;
use super::interval::weight;
use super::layout::{chunk, head, site};
use super::objects;
use super::pprof::{Block, Gzip, Message, Sink, field, put_bytes, put_number};
use super::state::get_head;
use super::{RATE, end, switch_on};
use crate::instance::existing;
use crate::os::settings::{self, Setting};
use crate::os::{pages, profile_setting, sys};
use crate::platform::Linux;

/// Bytes of the file's name at most.
const NAME_MAX: usize = 1100;

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = at_end;

/// The process that began; 0: none did.
static BEGUN_BY: AtomicUsize = AtomicUsize::new(0);

/// Switches a profile on, if the environment says so. Called once the engine exists.
#[cold]
#[inline(never)]
pub(crate) fn at_start(engine: &Engine<Linux>) {
    if !settings::is_said(Setting::Profile) {
        return;
    }
    match switch_on(engine, profile_setting::rate().unwrap_or(RATE)) {
        Ok(()) => BEGUN_BY.store(sys::getpid(), Ordering::Relaxed),
        Err(_) => sys::report(&["kmem: there is no memory for the profile of KMEM_PROFILE"]),
    }
}

/// Writes the profile, if the environment says where.
#[cold]
pub extern "C" fn at_end() {
    let begun_by = BEGUN_BY.swap(0, Ordering::Relaxed);
    if begun_by == 0 || existing().is_none() {
        return;
    }
    let mut name = [0; NAME_MAX];
    let is_numbered = file_name(&mut name);
    // A child would write over its parent's.
    if !is_numbered && begun_by != sys::getpid() {
        return;
    }
    let path = CStr::from_bytes_until_nul(&name).unwrap_or(c"");
    let Some(block) = pages::map(size_of::<Block>()) else { return };
    // Writing takes the loader's lock, under which another thread may allocate: so no lock is held here, and what is
    // written does not change.
    end();
    match sys::create(path) {
        // SAFETY: the mapping is ours alone, zero and long enough.
        Ok(fd) => write(fd, unsafe { block.cast::<Block>().as_mut() }),
        Err(_) => sys::report(&["kmem: the file of KMEM_PROFILE cannot be written: ", path.to_str().unwrap_or("")]),
    }
    // SAFETY: as above; it is no longer used.
    unsafe { pages::unmap(block, size_of::<Block>()) };
}

/// The file's name, with a null after it; whether the number of the process is in it.
fn file_name(into: &mut [u8; NAME_MAX]) -> bool {
    let (mut len, mut is_numbered, mut percent) = (0, false, false);
    let mut put = |byte: u8| {
        if len + 1 < NAME_MAX {
            into[len] = byte;
            len += 1;
        }
    };
    for byte in profile_setting::path() {
        match (percent, byte) {
            (false, b'%') => percent = true,
            (true, b'p') => {
                let (mut digits, mut rest, mut at) = ([0; 20], sys::getpid(), 20);
                while at == 20 || rest > 0 {
                    at -= 1;
                    digits[at] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
                digits[at..].iter().for_each(|digit| put(*digit));
                (percent, is_numbered) = (false, true);
            }
            _ => {
                if core::mem::take(&mut percent) {
                    put(b'%');
                }
                put(byte);
            }
        }
    }
    is_numbered
}

fn write(fd: usize, block: &mut Block) {
    let out = |bytes: &[u8]| {
        let mut left = bytes;
        while !left.is_empty() {
            // SAFETY: the descriptor is ours.
            match unsafe { sys::write(fd, left) } {
                Ok(written) => left = &left[written.min(left.len())..],
                Err(sys::Errno::INTR) => {}
                Err(_) => break,
            }
        }
    };
    let mut gzip = Gzip::begin(out, block);
    Writer { sink: &mut gzip, strings: 0, names: Map::new(), locations: Map::new() }.profile();
    gzip.end();
    sys::close(fd);
}

/// A profile on its way to a sink.
struct Writer<'a, S: Sink> {
    sink: &'a mut S,
    /// How many strings were written.
    strings: usize,
    /// The hash of a cache's name -> its string.
    names: Map,
    /// Addresses that were written.
    locations: Map,
}

impl<S: Sink> Writer<'_, S> {
    fn string(&mut self, text: &[u8]) -> u64 {
        put_bytes(field::STRING, text, self.sink);
        self.strings += 1;
        self.strings as u64 - 1
    }

    fn value_type(&mut self, field: u32, kind: u64, unit: u64) {
        Message::new().number(1, kind).number(2, unit).put(field, self.sink);
    }

    fn profile(mut self) {
        self.string(b"");
        let [count, bytes, space] = [&b"count"[..], b"bytes", b"space"].map(|text| self.string(text));
        let types = [(&b"alloc_objects"[..], count), (b"alloc_space", bytes), (b"inuse_objects", count)];
        for (name, unit) in types {
            let name = self.string(name);
            self.value_type(field::SAMPLE_TYPE, name, unit);
        }
        let in_use = self.string(b"inuse_space");
        self.value_type(field::SAMPLE_TYPE, in_use, bytes);
        self.value_type(field::PERIOD_TYPE, space, bytes);
        put_number(field::PERIOD, get_head(head::RATE) as u64, self.sink);
        put_number(field::DEFAULT_TYPE, in_use, self.sink);
        let now = existing().map_or(0, |engine| engine.platform().now());
        put_number(field::DURATION, now.saturating_sub(get_head(head::BEGUN) as u64), self.sink);
        let labels = [self.string(b"cache"), self.string(b"bytes")];
        self.mappings();
        let mut at = get_head(head::CHUNKS);
        while let Some(memory) = NonNull::new(at as *mut u64) {
            // SAFETY: chunks stay, with as many words as are used, because the profile has ended.
            let words = unsafe {
                at = memory.add(chunk::NEXT).read() as usize;
                core::slice::from_raw_parts(memory.as_ptr(), memory.add(chunk::USED).read() as usize)
            };
            let mut rest = &words[chunk::WORDS..];
            while rest.len() >= site::CALLERS {
                let depth = rest[site::DEPTH] as usize;
                // The end of a program must not fail because of a site that is unfinished.
                let Some((one, others)) = rest.split_at_checked(site::CALLERS.saturating_add(depth)) else { break };
                self.site(one, labels);
                rest = others;
            }
        }
        self.names.clear();
        self.locations.clear();
    }

    fn mappings(&mut self) {
        let mut number = 0;
        objects::for_each(|part| {
            let mut program = [0; 512];
            let len =
                if part.path.is_empty() { sys::read_link(c"/proc/self/exe", &mut program).unwrap_or(0) } else { 0 };
            let path = self.string(if len > 0 { &program[..len] } else { part.path });
            let mut digits = [0; 80];
            let count = part.build_id.len().min(40);
            for (place, byte) in digits.chunks_exact_mut(2).zip(part.build_id) {
                place.copy_from_slice(&[byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[digit as usize]));
            }
            let id = self.string(&digits[..2 * count]);
            number += 1;
            let mut mapping = Message::new();
            mapping.number(1, number).number(2, part.start as u64).number(3, part.end as u64);
            mapping.number(4, part.offset as u64).number(5, path).number(6, id).put(field::MAPPING, self.sink);
        });
    }

    fn site(&mut self, site: &[u64], labels: [u64; 2]) {
        let [requested, usable, sampled, freed] =
            [site::REQUESTED, site::USABLE, site::SAMPLED, site::FREED].map(|word| site[word]);
        // The innermost place is first; a return address comes after its call.
        let callers = site[site::CALLERS..].iter().map(|caller| caller - 1);
        let mut ids = Message::new();
        for caller in callers {
            self.location(caller);
            ids.raw(caller);
        }
        let stands_for = weight(usable as usize, get_head(head::RATE));
        let mut values = Message::new();
        for (samples, size) in [(sampled, 1), (sampled, requested), (sampled - freed, 1), (sampled - freed, requested)]
        {
            values.raw((samples as f64 * stands_for * size as f64 + 0.5) as u64);
        }
        let name = self.name(&site[site::NAME..site::NAME + site::NAME_WORDS]);
        let (mut cache, mut bytes) = (Message::new(), Message::new());
        cache.number(1, labels[0]).number(2, name);
        bytes.number(1, labels[1]).number(3, requested);
        let mut sample = Message::new();
        sample.bytes(1, ids.as_slice()).bytes(2, values.as_slice());
        sample.bytes(3, cache.as_slice()).bytes(3, bytes.as_slice()).put(field::SAMPLE, self.sink);
    }

    /// The string of a cache's name.
    fn name(&mut self, words: &[u64]) -> u64 {
        let hash = words.iter().fold(1usize, |hash, word| (hash ^ *word as usize).wrapping_mul(0x100_0000_01b3)) | 1;
        if let Some(string) = self.names.get(hash) {
            return string as u64;
        }
        let mut bytes = [0; site::NAME_WORDS * 8];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let string = self.string(&bytes[..len]);
        self.names.set(hash, string as usize);
        string
    }

    /// A place of the program, whose number is its address.
    fn location(&mut self, address: u64) {
        if self.locations.get(address as usize).is_some() {
            return;
        }
        self.locations.set(address as usize, 1);
        let (mut number, mut mapping) = (0, 0);
        objects::for_each(|part| {
            number += 1;
            if (part.start..part.end).contains(&(address as usize)) {
                mapping = number;
            }
        });
        let mut location = Message::new();
        location.number(1, address).number(2, mapping).number(3, address).put(field::LOCATION, self.sink);
    }
}
