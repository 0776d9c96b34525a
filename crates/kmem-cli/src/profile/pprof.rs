//! pprof's format with names: `profile.proto` of github.com/google/pprof, in gzip.

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::symbols::{Function, Symbols};
use super::{Values, Weighted};

/// A message of protocol buffers under way.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn numbers(self, field: u32, values: impl IntoIterator<Item = u64>) -> Self {
        let mut packed = Self::default();
        values.into_iter().for_each(|value| packed.varint(value));
        self.bytes(field, &packed.0)
    }

    fn message(self, field: u32, message: Self) -> Self {
        self.bytes(field, &message.0)
    }
}

/// Strings, each with its number.
struct Strings(HashMap<String, u64>, Vec<String>);

impl Strings {
    fn get(&mut self, text: &str) -> u64 {
        if let Some(number) = self.0.get(text) {
            return *number;
        }
        self.1.push(text.to_string());
        self.0.insert(text.to_string(), self.1.len() as u64 - 1);
        self.1.len() as u64 - 1
    }
}

/// Writes a profile.
pub fn write(out: impl Write, weighted: &Weighted, symbols: &mut Symbols) -> io::Result<()> {
    let mut strings = Strings(HashMap::new(), Vec::new());
    strings.get("");
    let mut profile = Message::default();
    let value_type = |strings: &mut Strings, kind: &str, unit: &str| {
        Message::default().number(1, strings.get(kind)).number(2, strings.get(unit))
    };
    for (kind, unit) in
        [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]
    {
        profile = profile.message(1, value_type(&mut strings, kind, unit));
    }
    for (index, mapping) in symbols.mappings.iter().enumerate() {
        let message = Message::default()
            .number(1, index as u64 + 1)
            .number(2, mapping.start)
            .number(3, mapping.end)
            .number(4, mapping.offset)
            .number(5, strings.get(&mapping.path))
            .number(6, strings.get(&mapping.build_id))
            .number(7, 1)
            .number(8, 1)
            .number(9, 1)
            .number(10, 1);
        profile = profile.message(3, message);
    }
    let (mut functions, mut locations): (HashMap<Function, u64>, HashMap<u64, u64>) = Default::default();
    let labels = [strings.get("cache"), strings.get("bytes")];
    for site in &weighted.sites {
        let mut ids = Vec::new();
        for address in site.callers.iter().map(|caller| caller - 1) {
            if let Some(id) = locations.get(&address) {
                ids.push(*id);
                continue;
            }
            let id = locations.len() as u64 + 1;
            let mapping = symbols.mapping(address).map_or(0, |index| index as u64 + 1);
            let mut location = Message::default().number(1, id).number(2, mapping).number(3, address);
            for function in symbols.functions(address) {
                let line = u64::from(function.line);
                // One function, wherever in it a line is.
                let function = Function { line: 0, ..function };
                let next = functions.len() as u64 + 1;
                let number = *functions.entry(function.clone()).or_insert(next);
                if number == next {
                    let [name, file] = [&function.name, &function.file].map(|text| strings.get(text));
                    let message = Message::default().number(1, number).number(2, name).number(3, name).number(4, file);
                    profile = profile.message(5, message);
                }
                location = location.message(4, Message::default().number(1, number).number(2, line));
            }
            profile = profile.message(4, location);
            locations.insert(address, id);
            ids.push(id);
        }
        let Values { allocated_objects, allocated_bytes, live_objects, live_bytes } = site.values;
        let values = [allocated_objects, allocated_bytes, live_objects, live_bytes].map(|value| value.round() as u64);
        let sample = Message::default()
            .numbers(1, ids)
            .numbers(2, values)
            .message(3, Message::default().number(1, labels[0]).number(2, strings.get(&site.cache)))
            .message(3, Message::default().number(1, labels[1]).number(3, site.requested));
        profile = profile.message(2, sample);
    }
    let (period, default) = (value_type(&mut strings, "space", "bytes"), strings.get("inuse_space"));
    profile = profile.number(9, weighted.ended).number(10, weighted.nanoseconds);
    profile = profile.message(11, period).number(12, weighted.rate).number(14, default);
    for text in &strings.1 {
        profile = profile.bytes(6, text.as_bytes());
    }
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&profile.0)?;
    gzip.finish()?.flush()
}
