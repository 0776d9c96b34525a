//! Where what is: indexes of words.

/// The name of the file, as `/proc/PID/maps` and `/proc/PID/fd` show it.
pub const NAME: &str = "memfd:kmem-page";
/// Word 0.
pub const MAGIC: u64 = u64::from_le_bytes(*b"kmempage");
/// Of the layout.
pub const VERSION: u64 = 1;
/// Bytes that no page is longer than: a reader looks at no more.
pub const LONGEST: usize = 8 << 20;

/// Words of the header.
pub mod header {
    /// [`MAGIC`](super::MAGIC).
    pub const MAGIC: usize = 0;
    /// [`VERSION`](super::VERSION).
    pub const VERSION: usize = 1;
    /// Odd while the page is being written.
    pub const SEQUENCE: usize = 2;
    /// Of the process that writes it.
    pub const PID: usize = 3;
    /// How sections are kept apart: `Mode::code`.
    pub const MODE: usize = 4;
    /// How upkeep is taken care of: 0 not at all, 1 by the thread, 2 on slow paths.
    pub const UPKEEP: usize = 5;
    /// 0 CPUs are followed, 1 they are not.
    pub const POLICY: usize = 6;
    /// What is unavailable: the bits of `UnavailableSet`.
    pub const UNAVAILABLE: usize = 7;
    /// CPU ids are below this.
    pub const POSSIBLE: usize = 8;
    /// CPUs that the process may run on; 0: not known.
    pub const ALLOWED: usize = 9;
    /// CPUs that it is worth to cache for.
    pub const CPU_BUDGET: usize = 10;
    /// When it was written: nanoseconds of CLOCK_MONOTONIC.
    pub const UPDATED: usize = 11;
    /// Turns of upkeep so far.
    pub const TURNS: usize = 12;
    /// The word at which the first row of the table of CPUs is, how many rows it has, and words of a row.
    pub const CPUS: usize = 13;
    /// See [`CPUS`].
    pub const CPU_COUNT: usize = 14;
    /// See [`CPUS`].
    pub const CPU_WORDS: usize = 15;
    /// Bytes of all slabs.
    pub const SLABS: usize = 16;
    /// Bytes of what is handed out: slabs and large objects.
    pub const USED: usize = 17;
    /// Bytes of free pages that still hold memory.
    pub const IDLE: usize = 18;
    /// The table of caches: the word of its first row, how many rows it has, and words of a row. A cache has the row of
    /// its index; rows of no cache are zero.
    pub const CACHES: usize = 19;
    /// See [`CACHES`].
    pub const CACHE_COUNT: usize = 20;
    /// See [`CACHES`].
    pub const CACHE_WORDS: usize = 21;
    /// The table of large objects by length: as for caches. Row `i` is of those from 2^i granules up to twice as many.
    pub const LARGE: usize = 22;
    /// See [`LARGE`].
    pub const LARGE_COUNT: usize = 23;
    /// See [`LARGE`].
    pub const LARGE_WORDS: usize = 24;
    /// Bytes of address space for objects that is usable, whether it holds memory or not.
    pub const COMMITTED: usize = 25;
    /// Bytes of free pages whose memory was released.
    pub const PURGED: usize = 26;
    /// Bytes mapped for the allocator's own descriptors and magazines.
    pub const METADATA: usize = 27;
    /// The range of address space that objects are in: its address, and its bytes.
    pub const WINDOW: usize = 28;
    /// See [`WINDOW`].
    pub const WINDOW_BYTES: usize = 29;
    /// How many caches there are: more than rows that are not zero if there was no memory for a longer table.
    pub const CACHES_ALIVE: usize = 30;
    /// Words that the header has, with room.
    pub const WORDS: usize = 64;
}

/// Words of a row of the table of CPUs. The row's number is the CPU's, or in mode `Mode::Cid` the id's.
pub mod cpu {
    /// 0 never used here; else as in `CpuState`.
    pub const STATE: usize = 0;
    /// Bytes of the objects in its slots.
    pub const BYTES: usize = 1;
    /// Objects in its slots.
    pub const OBJECTS: usize = 2;
    /// Objects that were taken out of its slots from outside, so far.
    pub const DRAINED: usize = 3;
    /// Words that a row has at least.
    pub const LEAST: usize = 4;
    /// Words that a row has, with room.
    pub const WORDS: usize = 8;
}

/// Words of a row of the table of caches: what `CacheStats` has, by the same names.
pub mod cache {
    /// 0 no cache; 1 there is one.
    pub const STATE: usize = 0;
    /// Tells it from destroyed caches of the same row.
    pub const GENERATION: usize = 1;
    /// Bytes of the name.
    pub const NAME_LEN: usize = 2;
    /// The name's bytes, in eight words.
    pub const NAME: usize = 3;
    /// Words of the name.
    pub const NAME_WORDS: usize = 8;
    /// The first of the figures, in the order of [`figures`](super::super::figures).
    pub const FIGURES: usize = 11;
    /// Words that a row has at least.
    pub const LEAST: usize = 30;
    /// Words that a row has, with room.
    pub const WORDS: usize = 32;
}

/// Words of a row of the table of large objects.
pub mod large {
    /// How many.
    pub const OBJECTS: usize = 0;
    /// Their bytes.
    pub const BYTES: usize = 1;
    /// Words that a row has at least.
    pub const WORDS: usize = 2;
}
