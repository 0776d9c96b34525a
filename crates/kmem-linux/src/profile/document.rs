//! A profile in the format of pprof, as it is written at the end of a program.
//!
//! It has addresses and the builds that they belong to, and no names of functions: pprof finds these in the files of
//! the program. (`kmem profile` finds them itself.)

use kmem_core::platform::Clock;

use super::hash::Map;
use super::interval::weight;
use super::layout::{head, site};
use super::pprof::{Long, Short, Sink, field, put_bytes, put_number};
use super::state::get_head;
use super::{chunks, objects};
use crate::instance::existing;
use crate::os::sys;

/// Parts of objects whose addresses are told apart. Addresses in further ones belong to none.
const PARTS: usize = 4096;

/// What a document is made on, which is too much for a stack that is not ours.
pub(super) struct Paper {
    /// The callers of a sample, and the sample.
    callers: Long,
    sample: Long,
    /// The path of the program.
    path: [u8; 512],
    /// From where to where the parts of objects are that hold code.
    parts: [[usize; 2]; PARTS],
}

/// Writes the profile, which has ended. Returns whether all of its sites were sound; the others are left out.
pub(super) fn write(sink: &mut impl Sink, paper: &mut Paper) -> bool {
    Writer { sink, paper, strings: 0, parts: 0, names: Map::new(), locations: Map::new() }.profile()
}

/// A profile on its way to a sink.
struct Writer<'a, S: Sink> {
    sink: &'a mut S,
    paper: &'a mut Paper,
    /// How many strings were written.
    strings: usize,
    /// How many parts of objects are noted.
    parts: usize,
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
        Short::new().number(1, kind).number(2, unit).put(field, self.sink);
    }

    fn profile(mut self) -> bool {
        let labels = self.beginning();
        self.mappings();
        let are_sound = chunks::for_each(|one| self.site(one, labels));
        self.names.clear();
        self.locations.clear();
        are_sound
    }

    /// What the figures are. Returns the strings of the labels.
    #[inline(never)]
    fn beginning(&mut self) -> [u64; 2] {
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
        [self.string(b"cache"), self.string(b"bytes")]
    }

    fn mappings(&mut self) {
        let mut number = 0;
        objects::for_each(|part| {
            number += 1;
            if let Some(place) = self.paper.parts.get_mut(self.parts) {
                *place = [part.start, part.end];
                self.parts += 1;
            }
            self.mapping(number, &part);
        });
    }

    #[inline(never)]
    fn mapping(&mut self, number: u64, part: &objects::Part<'_>) {
        let program = &mut self.paper.path;
        let len = if part.path.is_empty() { sys::read_link(c"/proc/self/exe", program).unwrap_or(0) } else { 0 };
        let path = self.strings as u64;
        self.strings += 1;
        put_bytes(field::STRING, if len > 0 { &self.paper.path[..len] } else { part.path }, self.sink);
        let mut digits = [0; 80];
        let count = part.build_id.len().min(40);
        for (place, byte) in digits.chunks_exact_mut(2).zip(part.build_id) {
            place.copy_from_slice(&[byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[digit as usize]));
        }
        let id = self.string(&digits[..2 * count]);
        let mut mapping = Short::new();
        mapping.number(1, number).number(2, part.start as u64).number(3, part.end as u64);
        mapping.number(4, part.offset as u64).number(5, path).number(6, id).put(field::MAPPING, self.sink);
    }

    fn site(&mut self, site: &[u64], labels: [u64; 2]) {
        self.callers(&site[site::CALLERS..]);
        let [requested, usable, sampled, freed] =
            [site::REQUESTED, site::USABLE, site::SAMPLED, site::FREED].map(|word| site[word]);
        let stands_for = weight(usable as usize, get_head(head::RATE));
        let mut values = Short::new();
        for (samples, size) in [(sampled, 1), (sampled, requested), (sampled - freed, 1), (sampled - freed, requested)]
        {
            values.raw((samples as f64 * stands_for * size as f64 + 0.5) as u64);
        }
        let name = self.name(&site[site::NAME..site::NAME + site::NAME_WORDS]);
        let Paper { callers, sample, .. } = &mut *self.paper;
        sample.clear();
        sample.bytes(1, callers.as_slice()).bytes(2, values.as_slice());
        values.clear();
        sample.bytes(3, values.number(1, labels[0]).number(2, name).as_slice());
        values.clear();
        sample.bytes(3, values.number(1, labels[1]).number(3, requested).as_slice());
        sample.put(field::SAMPLE, self.sink);
    }

    /// The places of a sample. The innermost is first; a return address comes after its call.
    fn callers(&mut self, callers: &[u64]) {
        self.paper.callers.clear();
        for caller in callers.iter().map(|caller| caller.wrapping_sub(1)) {
            self.location(caller);
            self.paper.callers.raw(caller);
        }
    }

    /// The string of a cache's name.
    #[inline(never)]
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
    #[inline(never)]
    fn location(&mut self, address: u64) {
        if self.locations.get(address as usize).is_some() {
            return;
        }
        self.locations.set(address as usize, 1);
        let parts = &self.paper.parts[..self.parts];
        let mapping = parts.iter().position(|[start, end]| (*start..*end).contains(&(address as usize)));
        let mapping = mapping.map_or(0, |index| index as u64 + 1);
        Short::new().number(1, address).number(2, mapping).number(3, address).put(field::LOCATION, self.sink);
    }
}
