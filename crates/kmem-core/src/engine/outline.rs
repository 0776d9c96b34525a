//! The outline: where an engine keeps what it holds, for a reader outside of the process.
//!
//! A reader that may read the memory of a process (a debugger, `kmem info PID`) needs nothing of that process: no
//! thread that publishes, no counter on a path, no lock. It needs to know where the words are. The outline says so: the
//! offset of each part that such a reader follows, computed by the compiler, and the sizes of what stands in arrays. It
//! is a constant, and the home of an engine puts it where a reader finds it.
//!
//! Its own form is a list of words: first [`MAGIC`], then [`VERSION`], then how many words there are. A reader refuses
//! another version or another number of words; the offsets themselves may be any.
//!
//! What is read so is of no one moment, because nothing is locked: a reader bounds every walk, and believes an address
//! only as far as reading there succeeds. In a process that does not allocate meanwhile it is exact.

use core::mem::offset_of;

use crate::account;
use crate::cache::{descriptor, registry};
use crate::cpu::{CpuState, control};
use crate::depot;
use crate::engine::Engine;
use crate::pages::{GRANULE, state as heap, table};
use crate::percpu::area;
use crate::platform::Platform;
use crate::slab::descriptor as slab_descriptor;
use crate::slab::node;

/// The first word.
pub const MAGIC: u64 = u64::from_le_bytes(*b"kmemline");
/// The second word: of the list of words, and of what they mean.
pub const VERSION: u64 = 2;

/// Where the depot and the slabs are in a node's part of a cache.
const DEPOT: usize = descriptor::at::DEPOT;
const SLABS: usize = descriptor::at::SLABS;

macro_rules! outline {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        /// Where things are: see the [head](self). Addresses and counts are words of 64 bits unless said otherwise.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(C)]
        pub struct Outline {
            /// [`MAGIC`].
            pub magic: u64,
            /// [`VERSION`].
            pub version: u64,
            /// [`WORDS`](Self::WORDS).
            pub words: u64,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Outline {
            /// The outline in these words; `None` if they are not as many as it has.
            pub fn from_words(words: &[u64]) -> Option<Self> {
                let mut words = words.iter().copied();
                Some(Self {
                    magic: words.next()?,
                    version: words.next()?,
                    words: words.next()?,
                    $($name: words.next()?,)*
                })
            }
        }

        impl<P: Platform> Engine<P> {
            /// Where an engine of this platform keeps what it holds.
            pub const OUTLINE: Outline = Outline {
                magic: MAGIC,
                version: VERSION,
                words: Outline::WORDS as u64,
                $($name: ($value) as u64,)*
            };
        }
    };
}

impl Outline {
    /// How many words it has.
    pub const WORDS: usize = size_of::<Self>() / size_of::<u64>();
}

outline! {
    // Engine: from the engine.
    /// The address of the registry's entries.
    entries = offset_of!(Self, registry) + registry::at::ENTRIES;
    /// U32: entries from this one on were never used.
    fresh = offset_of!(Self, registry) + registry::at::FRESH;
    /// The address of the controls of CPUs.
    controls = offset_of!(Self, cpus) + control::at::CONTROLS;
    /// How many controls there are.
    cpus = offset_of!(Self, cpus) + control::at::COUNT;
    /// The address of granule 0.
    base = offset_of!(Self, heap) + heap::at::MAPS + table::at::BASE;
    /// Granules of the window.
    granules = offset_of!(Self, heap) + heap::at::MAPS + table::at::GRANULES;
    /// The address of the granules' entries.
    granule_entries = offset_of!(Self, heap) + heap::at::MAPS + table::at::ENTRIES;
    /// Granules that have an entry.
    reach = offset_of!(Self, heap) + heap::at::MAPS + table::at::REACH;
    /// Granules from this one on were never handed out.
    top = offset_of!(Self, heap) + heap::at::TOP;
    /// Granules committed.
    committed = offset_of!(Self, heap) + heap::at::COMMITTED;
    /// Free granules that hold memory.
    dirty = offset_of!(Self, heap) + heap::at::DIRTY;
    /// Free granules that were purged.
    clean = offset_of!(Self, heap) + heap::at::CLEAN;
    /// Bytes of metadata.
    metadata = offset_of!(Self, meta) + crate::meta::at::BYTES;
    /// The address of the first account, or 0.
    accounts = offset_of!(Self, accounts) + account::at::HEAD;
    // Entries of the registry: from an entry.
    /// Bytes of one.
    entry_size = registry::at::ENTRY_SIZE;
    /// The address of the cache, or 0.
    entry_cache = registry::at::ENTRY_DESC;
    // Caches: from a cache.
    /// U32: the index.
    id = descriptor::at::ID;
    /// U8: bytes of the name.
    name_len = descriptor::at::NAME_LEN;
    /// The name's bytes.
    name = descriptor::at::NAME;
    /// Bytes of an object as asked for.
    object_size = descriptor::at::OBJECT_SIZE;
    /// Bytes from one object to the next.
    stride = descriptor::at::STRIDE;
    /// Granules a slab.
    slab_granules = descriptor::at::SLAB_GRANULES;
    /// Objects a slab.
    slab_objects = descriptor::at::SLAB_OBJECTS;
    /// The address of the nodes' parts.
    nodes = descriptor::at::NODES;
    /// How many these are.
    node_count = descriptor::at::NODE_COUNT;
    /// U32: objects that a new magazine holds.
    capacity = descriptor::at::CAPACITY;
    /// U32: allocations that failed.
    failures = descriptor::at::FAILURES;
    // A node's part of a cache: from that part.
    /// Bytes of one.
    node_size = descriptor::at::NODE_SIZE;
    /// Objects in the depot.
    depot_objects = DEPOT + depot::at::OBJECTS;
    /// The bits of that word which are a number; what is above is none.
    depot_number_bits = depot::at::NUMBER_BITS;
    /// Objects that a magazine of the depot holds at most.
    depot_batch = DEPOT + depot::at::BATCH;
    /// The address of the first full magazine, or 0.
    depot_full = DEPOT + depot::at::FULL;
    /// The address of the loose magazine, or 0.
    depot_loose = DEPOT + depot::at::LOOSE;
    /// How often the depot handed objects out.
    depot_refills = DEPOT + depot::at::REFILLS;
    /// How often it took objects.
    depot_flushes = DEPOT + depot::at::FLUSHES;
    /// The address of the first partly used slab, or 0.
    list_partial = SLABS + node::at::PARTIAL;
    /// The address of the first full slab, or 0.
    list_full = SLABS + node::at::FULL;
    /// The address of the first empty slab, or 0.
    list_empty = SLABS + node::at::EMPTY;
    /// The address of the first set aside slab, or 0.
    list_aside = SLABS + node::at::ASIDE;
    /// Slabs.
    slabs = SLABS + node::at::SLABS;
    /// Of these, empty.
    empty_slabs = SLABS + node::at::EMPTY_SLABS;
    /// Objects that are off their slabs.
    in_use = SLABS + node::at::IN_USE;
    /// Objects in all.
    total = SLABS + node::at::TOTAL;
    /// The most that were ever off their slabs.
    high = SLABS + node::at::HIGH;
    /// Slabs released.
    reaped = SLABS + node::at::REAPED;
    /// How often slabs handed objects out.
    refills = SLABS + node::at::REFILLS;
    /// How often slabs took objects.
    flushes = SLABS + node::at::FLUSHES;
    // Magazines of a depot: from a magazine.
    /// The address of the next, or 0.
    magazine_next = depot::at::MAGAZINE_NEXT;
    /// How many objects are in it.
    magazine_len = depot::at::MAGAZINE_LEN;
    /// Their addresses.
    magazine_objects = depot::at::MAGAZINE_OBJECTS;
    // Slabs: from a slab's descriptor.
    /// Bytes of a descriptor.
    slab_size = slab_descriptor::at::SIZE;
    /// The address of the next on the list, or 0.
    slab_next = slab_descriptor::at::NEXT;
    /// The address of the first object.
    slab_first = slab_descriptor::at::FIRST;
    /// U32: how many objects.
    slab_count = slab_descriptor::at::OBJECTS;
    /// The address of the bits of free objects.
    slab_free = slab_descriptor::at::FREE;
    /// U32: when it was made, in seconds of the platform's clock.
    slab_born = slab_descriptor::at::BORN;
    // CPUs: from a control.
    /// Bytes of one.
    control_size = control::at::CONTROL_SIZE;
    /// U8: the state.
    cpu_state = control::at::STATE;
    /// The address of the area, or 0.
    cpu_area = control::at::AREA;
    /// U8: 1 if it was taken down by name.
    cpu_held_down = control::at::HELD_DOWN;
    /// Objects taken out of its slots from outside.
    cpu_drained = control::at::DRAINED;
    // Areas: from an area; the first is below it.
    /// This far below, how many slots there are.
    area_before = area::at::BEFORE;
    /// Bytes of a slot, the first of which is at the area's address.
    slot_size = area::at::SLOT_SIZE;
    /// Of a slot: just after its newest object, as bytes from the area.
    slot_cursor = area::at::CURSOR;
    /// Of a slot: not 0 if it is enabled.
    slot_end = area::at::END;
    /// Bytes of a keep; these are after the slots, as many.
    keep_size = area::at::RECORD_SIZE;
    /// Of a keep: the address of the word before the first object.
    keep_storage = area::at::STORAGE;
    /// Of a keep: how many objects fit.
    keep_capacity = area::at::CAPACITY;
    // Accounts: from an account.
    /// Bytes of one.
    account_size = account::at::SIZE;
    /// The address of the next, or 0.
    account_next = account::at::NEXT;
    /// References: 0 if it is free, all bits while it is being made.
    account_refs = account::at::REFS;
    /// U8: bytes of the name.
    account_name_len = account::at::NAME_LEN;
    /// The name's bytes.
    account_name = account::at::NAME;
    /// The address of the account that it is within, or 0.
    account_parent = account::at::PARENT;
    /// Bytes that may be charged; all bits: no limit.
    account_limit = account::at::LIMIT;
    /// Bytes that are charged.
    account_used = account::at::USED;
    /// The most bytes that ever were.
    account_high = account::at::HIGH;
    /// Allocations that failed because of it.
    account_refused = account::at::REFUSED;
    // Entries of granules: from an entry, whose word is a kind and a length.
    /// Bytes of a granule.
    granule_size = GRANULE;
    /// Bytes of an entry.
    granule_entry = table::at::ENTRY_SIZE;
    /// U32: kind and length.
    granule_word = table::at::ENTRY_KIND;
    /// The kind is above this bit.
    kind_shift = table::at::KIND_SHIFT_BITS;
    /// The length is these bits.
    length_mask = table::at::LEN_MASK;
    /// The kind of a large object's first granule.
    kind_large = table::at::LARGE;
    /// A bit for each kind that a first granule has, whose length is its run's.
    kinds_of_firsts = table::at::FIRSTS;
    // States of a CPU: codes.
    /// Offline.
    state_offline = CpuState::Offline as usize;
    /// Online.
    state_online = CpuState::Online as usize;
}
