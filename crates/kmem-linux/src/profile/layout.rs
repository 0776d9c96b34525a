//! Where what is in a profile: for this process, and for the command that reads it from outside. Words of eight bytes.
//!
//! A head leads to chunks, each of which names the next one, and a chunk holds sites one after the other. What was
//! written stays as it is while a profile goes on; only the two counts of a site move. So a reader needs no lock: it
//! copies a chunk as far as that says it is used.

/// The head's first word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"kmemprof");
/// Of all of this.
pub const VERSION: u64 = 1;
/// Bytes of a chunk.
pub const CHUNK: usize = 64 << 10;

/// Words of the head.
pub mod head {
    /// [`MAGIC`](super::MAGIC).
    pub const MAGIC: usize = 0;
    /// [`VERSION`](super::VERSION).
    pub const VERSION: usize = 1;
    /// Bytes from one sample to the next, on average; 0: there was never a profile.
    pub const RATE: usize = 2;
    /// 1 while samples are taken.
    pub const ON: usize = 3;
    /// When it was switched on, in nanoseconds of CLOCK_MONOTONIC.
    pub const BEGUN: usize = 4;
    /// Samples for which there was no memory.
    pub const LOST: usize = 5;
    /// The address of the first chunk, or 0.
    pub const CHUNKS: usize = 6;
    /// Where the functions of the allocator are, if they are an object of their own: from here.
    pub const OURS: usize = 7;
    /// To here.
    pub const OURS_END: usize = 8;
    /// Words of a head.
    pub const WORDS: usize = 9;
}

/// Words at the beginning of a chunk.
pub mod chunk {
    /// The address of the next one, or 0.
    pub const NEXT: usize = 0;
    /// How many of its words are used, these included.
    pub const USED: usize = 1;
    /// Words before the first site.
    pub const WORDS: usize = 2;
}

/// Words of a site: objects of one size and cache that were allocated by one chain of callers.
pub mod site {
    /// Bytes that were asked for.
    pub const REQUESTED: usize = 0;
    /// Bytes that an object takes up: with the rate they say how likely it was to be sampled.
    pub const USABLE: usize = 1;
    /// Samples so far.
    pub const SAMPLED: usize = 2;
    /// Of these, freed.
    pub const FREED: usize = 3;
    /// The class, if it is a general cache's.
    pub const CLASS: usize = 4;
    /// How many callers there are.
    pub const DEPTH: usize = 5;
    /// The cache's name: so many words, filled with zeros.
    pub const NAME: usize = 6;
    /// Words of the name.
    pub const NAME_WORDS: usize = 8;
    /// The callers, as return addresses, the innermost first.
    pub const CALLERS: usize = NAME + NAME_WORDS;
}
