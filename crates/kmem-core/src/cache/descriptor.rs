//! The descriptor of a cache: what its objects are like, its state, and where its objects are.

use core::fmt;
use core::ptr::NonNull;

use super::rest::Rest;
use super::{CacheStep, Observer, Step};
use crate::account::AccountDesc;
use crate::batch::BATCH_MAX;
use crate::depot::Depot;
use crate::error::Shortage;
use crate::host::{AtomicCpuSet, CpuSet, Host};
use crate::meta::Meta;
use crate::percpu::SlotIndex;
use crate::slab::{Layout, Node};
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Mutex, Ordering, Rank, Word};

/// The most bytes of a cache's name.
pub const NAME_MAX: usize = 63;
/// The most bytes of objects that one slot holds, however much its capacity grows.
const SLOT_BYTES_MAX: usize = 256 << 10;
/// The most nodes with a depot and slabs of their own; others share theirs. A slab notes its node in 16 bits.
const NODES_MAX: usize = 1 << 16;
/// The most objects that one slot holds: with its mark, such a magazine is a piece of metadata, not a mapping of its
/// own.
const CAPACITY_MAX: usize = 2047;
const _: () = assert!(crate::sync::MODEL || (CAPACITY_MAX + 1) * size_of::<usize>() <= crate::meta::PIECE_MAX);

/// The state of a cache, guarded by its life lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheState {
    /// Not listed yet.
    Creating,
    /// In use: slots may be enabled.
    Live,
    /// Being destroyed: listed, and no slot can be enabled.
    Dying,
    /// Nothing of it is held, cached or listed.
    Drained,
}

/// Makes or ends the object at an address; the first argument is the cache's context.
pub type ObjectFn = unsafe fn(context: *mut (), object: *mut u8);

/// Constructor and destructor of a cache whose objects stay constructed between uses. Both run without a lock (I31).
///
/// The constructor runs on a thread that takes an object. The destructor runs on a thread that frees, allocates (and
/// finds slabs that were left to it), shrinks, trims or destroys, or that takes a CPU down and may run the program's
/// code. What an embedder calls for upkeep ([`age`](crate::Engine::age), [`decay`](crate::Engine::decay),
/// [`relieve`](crate::Engine::relieve), [`drain_cpus`](crate::Engine::drain_cpus),
/// [`reap_depots`](crate::Engine::reap_depots), [`cpu_left_quietly`](crate::Engine::cpu_left_quietly)) runs neither.
///
/// Upkeep treats a cache with only a constructor like one without: an object whose memory was purged is constructed
/// again when it is handed out.
#[derive(Clone, Copy, Debug)]
pub struct ObjectOps {
    context: *mut (),
    construct: ObjectFn,
    destruct: Option<ObjectFn>,
}

impl ObjectOps {
    /// A constructor, and a destructor if objects have something to end.
    ///
    /// # Safety
    /// As long as there is a cache with these: any thread may call both with this context, several at a time;
    /// `construct` may be called with unused, aligned memory of an object of the cache, and makes an object there
    /// unless it unwinds; `destruct` may be called with an object that was constructed and that no user holds.
    pub const unsafe fn new(context: *mut (), construct: ObjectFn, destruct: Option<ObjectFn>) -> Self {
        Self { context, construct, destruct }
    }

    /// Makes an object.
    ///
    /// # Safety
    /// The address is that of an object's memory, unused and aligned.
    pub(crate) unsafe fn construct(&self, object: usize) {
        // SAFETY: the caller's promise is what the caller of `new` asks for.
        unsafe { (self.construct)(self.context, object as *mut u8) }
    }

    /// The destructor, if there is one. It may be called with the address of a constructed object that no user holds.
    pub(crate) fn destructor(&self) -> Option<impl Fn(usize)> {
        let Self { context, destruct, .. } = *self;
        // SAFETY: it is called only with such an object.
        destruct.map(|destruct| move |object| unsafe { destruct(context, object as *mut u8) })
    }
}

/// Names a cache. Ids are not used twice: the id of a destroyed cache names no cache (I20).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl CacheId {
    /// Which row of a table by cache is this cache's: above 0, and that of no other cache at the same time.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Tells it from destroyed caches of the same index.
    pub fn generation(self) -> u32 {
        self.generation
    }
}

/// A cache's depot and slabs on one node.
#[repr(align(64))]
pub(crate) struct NodeCache {
    pub(crate) depot: Depot,
    pub(crate) slabs: Node,
}

/// A cache.
#[repr(C, align(64))]
pub struct CacheDesc {
    id: CacheId,
    class: u8,
    name_len: u8,
    layout: Layout,
    object_size: usize,
    ops: Option<ObjectOps>,
    nodes: NonNull<NodeCache>,
    node_count: usize,
    name: [u8; NAME_MAX + 1],
    pub(crate) life: Mutex<CacheState>,
    /// Objects that a new magazine holds. Changed under the life lock, by a tune.
    capacity: AtomicU32,
    /// Objects that a magazine may grow to hold: what a tune asked for, or more. Changed with `capacity`.
    capacity_max: AtomicU32,
    /// Objects that a batch moves, where a tune said so; else 0. Changed with `capacity`.
    batch_tuned: AtomicU32,
    /// CPUs whose slot of this cache is enabled. Changed under the CPU's control; a hint for other threads.
    pub(crate) enabled_on: AtomicCpuSet,
    /// Readers that keep the descriptor from being freed. Changed under the registry's lock.
    pub(crate) pins: AtomicUsize,
    /// How often threads are [inside](super::inside) of it.
    pub(crate) insides: AtomicU32,
    /// What the last miss was, and how often overflow and underflow took turns: see `note_miss`.
    misses: AtomicU32,
    /// 1 if superfluous empty slabs wait for a thread that may run their destructors.
    overdue: AtomicU32,
    /// Whether upkeep passes it over.
    pub(crate) rest: Rest,
    /// Allocations that failed.
    failures: AtomicU32,
    /// What its objects are charged to, or null. Set before the first of them is taken.
    account: AtomicPtr<AccountDesc>,
}

impl fmt::Debug for CacheDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheDesc")
            .field("id", &self.id)
            .field("name", &self.name())
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

// SAFETY: what changes is guarded by locks or atomic; the caller of `ObjectOps::new` allows any thread to use the
// context.
unsafe impl Send for CacheDesc {}
// SAFETY: as above.
unsafe impl Sync for CacheDesc {}

/// Which kind of miss it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    Underflow,
    Overflow,
}

/// Objects that a new magazine holds, by object size: what the 2004 code chose up to half a granule, so that a CPU
/// caches between 16 and 256 KiB of a cache. Of larger objects it holds what a program needs that uses one at a time:
/// there are many sizes of them, and a batch saves little compared with the use of such an object.
const fn start_capacity(size: usize) -> usize {
    match size {
        0..=256 => 120,
        257..=1024 => 54,
        1025..=4096 => 24,
        4097..=32_768 => 8,
        32_769..=65_536 => 2,
        _ => 1,
    }
}

/// Objects that a batch moves if a magazine holds `capacity`.
fn batch_of(capacity: usize) -> usize {
    capacity.div_ceil(2).min(BATCH_MAX)
}

/// Objects of `size` bytes that a magazine may hold at most.
fn most_capacity(size: usize) -> usize {
    (SLOT_BYTES_MAX / size).clamp(start_capacity(size), CAPACITY_MAX)
}

/// Turns from one kind of miss to the other after which a magazine grows.
const TURNS_TO_GROW: u32 = 8;

impl CacheDesc {
    fn bytes(nodes: usize) -> usize {
        size_of::<Self>() + nodes * size_of::<NodeCache>()
    }

    /// A descriptor in state Creating, with nothing in it.
    pub(crate) fn new<P: Host>(
        name: &str,
        object_size: usize,
        layout: Layout,
        class: u8,
        ops: Option<ObjectOps>,
        meta: &Meta,
        platform: &P,
    ) -> Option<NonNull<Self>> {
        let node_count = platform.nodes().clamp(1, NODES_MAX);
        let cpus = platform.initial_cpus().len().div_ceil(node_count);
        let memory = meta.alloc(platform, Self::bytes(node_count))?;
        let desc = memory.cast::<Self>();
        let capacity = start_capacity(layout.size);
        let capacity_max = most_capacity(layout.size);
        // SAFETY: the piece has room for the descriptor and the nodes after it, and is aligned to 64.
        unsafe {
            let nodes = desc.add(1).cast::<NodeCache>();
            for node in 0..node_count {
                nodes
                    .add(node)
                    .write(NodeCache { depot: Depot::new(layout.size, batch_of(capacity), cpus), slabs: Node::new() });
            }
            desc.write(Self {
                id: CacheId { index: 0, generation: 0 },
                class,
                name_len: name.len() as u8,
                layout,
                object_size,
                ops,
                nodes,
                node_count,
                name: [0; NAME_MAX + 1],
                life: Mutex::new(Rank::Life, CacheState::Creating),
                capacity: AtomicU32::new(capacity as u32),
                capacity_max: AtomicU32::new(capacity_max as u32),
                batch_tuned: AtomicU32::new(0),
                enabled_on: AtomicCpuSet::new(),
                pins: AtomicUsize::new(0),
                insides: AtomicU32::new(0),
                misses: AtomicU32::new(0),
                overdue: AtomicU32::new(0),
                rest: Rest::new(),
                failures: AtomicU32::new(0),
                account: AtomicPtr::new(core::ptr::null_mut()),
            });
            (&raw mut (*desc.as_ptr()).name).cast::<u8>().copy_from_nonoverlapping(name.as_ptr(), name.len());
        }
        Some(desc)
    }

    /// Frees the descriptor.
    ///
    /// # Safety
    /// The cache is drained, unlisted, without slabs, magazines and pins (I19).
    pub(crate) unsafe fn free<P: Host>(desc: NonNull<Self>, meta: &Meta, platform: &P) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(account) = desc.as_ref().account() {
                account.release();
            }
            let bytes = Self::bytes(desc.as_ref().node_count);
            meta.free(platform, desc.cast(), bytes);
        }
    }

    /// Bytes of the descriptor and of the nodes after it.
    pub(crate) fn bytes_of_all(&self) -> usize {
        Self::bytes(self.node_count)
    }

    /// Creating -> Live.
    pub(crate) fn begin_to_live<P: Host>(&self, platform: &P) {
        *self.life.lock(platform) = CacheState::Live;
    }

    /// Live -> Dying. Returns `false` if the cache is not live.
    pub(crate) fn begin_to_die<P: Host + Observer>(&self, platform: &P) -> bool {
        let mut life = self.life.lock(platform);
        let live = *life == CacheState::Live;
        if live {
            *life = CacheState::Dying;
            platform.step(Step::Cache { cache: self, did: CacheStep::Dying });
        }
        live
    }

    /// # Safety
    /// The descriptor is not listed, and no other thread reads its id meanwhile.
    pub(crate) unsafe fn set_id(desc: NonNull<Self>, id: CacheId) {
        // SAFETY: the caller's promise.
        unsafe { (&raw mut (*desc.as_ptr()).id).write(id) };
    }

    /// The cache's id.
    pub fn id(&self) -> CacheId {
        self.id
    }

    /// The slot of this cache in every area.
    pub fn slot(&self) -> SlotIndex {
        SlotIndex(self.id.index)
    }

    /// The class of a general cache; 0 for others.
    pub(crate) fn class(&self) -> u8 {
        self.class
    }

    /// The name.
    pub fn name(&self) -> &str {
        // SAFETY: these bytes were copied from a str, and are not changed.
        unsafe { core::str::from_utf8_unchecked(&self.name[..self.name_len as usize]) }
    }

    /// Bytes of an object as the cache's creator asked for it.
    pub fn object_size(&self) -> usize {
        self.object_size
    }

    /// How slabs are carved.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Constructor and destructor.
    pub(crate) fn ops(&self) -> Option<&ObjectOps> {
        self.ops.as_ref()
    }

    /// Whether reclaiming slabs runs the program's code.
    pub(crate) fn has_destructor(&self) -> bool {
        self.ops.is_some_and(|ops| ops.destruct.is_some())
    }

    /// Notes that a slab became superfluous on a thread that may run no destructor.
    pub(crate) fn note_overdue(&self) {
        if self.has_destructor() {
            self.overdue.store(1, Ordering::Relaxed);
        }
    }

    /// Whether there is such a slab. If so, the caller reclaims it.
    #[inline]
    pub(crate) fn take_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed) != 0 && self.overdue.swap(0, Ordering::Relaxed) != 0
    }

    /// Notes that an allocation failed.
    #[cold]
    pub(crate) fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The account that its objects are charged to.
    #[inline]
    pub(crate) fn account(&self) -> Option<&AccountDesc> {
        // SAFETY: the cache has a reference to it until it is freed itself.
        unsafe { self.account.load(Ordering::Acquire).as_ref() }
    }

    /// Whether its objects are charged to an account.
    pub fn is_charged(&self) -> bool {
        self.account().is_some()
    }

    /// Whether more is charged to its account than may be.
    #[inline]
    pub(crate) fn is_over_limit(&self) -> bool {
        self.account().is_some_and(AccountDesc::is_over)
    }

    /// Charges objects to an account from here on. The caller keeps it meanwhile.
    pub(crate) fn set_account(&self, account: &AccountDesc) {
        account.hold();
        self.account.store(core::ptr::from_ref(account).cast_mut(), Ordering::Release);
    }

    /// Why an allocation failed a moment ago.
    pub fn shortage(&self) -> Shortage {
        match self.account().and_then(|account| account.full(self.layout.size)) {
            Some(_) => Shortage::OverLimit,
            None => Shortage::NoMemory,
        }
    }

    /// Allocations that failed so far.
    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed) as usize
    }

    /// Objects that a batch moves: half a new magazine, and no more than a magazine of the depot holds.
    pub(crate) fn batch(&self) -> usize {
        match self.batch_tuned.load(Ordering::Relaxed) as usize {
            0 => batch_of(self.capacity().min(start_capacity(self.layout.size))),
            tuned => tuned.min(self.capacity()),
        }
    }

    /// The most objects that a batch may be tuned to, if magazines hold `capacity`.
    pub(crate) fn batch_max(&self, capacity: usize) -> usize {
        self.node(0).depot.batch().min(capacity)
    }

    /// From here on a batch moves so many objects. The caller holds the life lock.
    pub(crate) fn set_batch(&self, batch: usize) {
        self.batch_tuned.store(batch as u32, Ordering::Relaxed);
    }

    /// Objects that a new magazine holds.
    pub fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed) as usize
    }

    /// Objects that a magazine may grow to hold.
    pub(crate) fn capacity_max(&self) -> usize {
        self.capacity_max.load(Ordering::Relaxed) as usize
    }

    /// Objects that a magazine may be tuned to hold.
    pub(crate) fn tunable_to(&self) -> usize {
        most_capacity(self.layout.size)
    }

    /// From here on new magazines hold `capacity` objects and do not grow by themselves. The caller holds the life
    /// lock.
    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.capacity.store(capacity as u32, Ordering::Relaxed);
        self.capacity_max.store(capacity as u32, Ordering::Relaxed);
    }

    /// The depot and slabs of a node; any number is mapped into range.
    pub(crate) fn node(&self, node: usize) -> &NodeCache {
        // SAFETY: there are `node_count` nodes, at least one.
        unsafe { self.nodes.add(node % self.node_count).as_ref() }
    }

    pub(crate) fn node_count(&self) -> usize {
        self.node_count
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeCache> {
        (0..self.node_count).map(|node| self.node(node))
    }

    /// CPUs whose slot of this cache is enabled, at this moment.
    pub(crate) fn holders(&self) -> CpuSet {
        self.enabled_on.snapshot()
    }

    /// The same one by one, without a copy of the set.
    pub(crate) fn each_holder(&self) -> impl Iterator<Item = usize> + '_ {
        self.enabled_on.iter()
    }

    /// The word of the life lock, for fork.
    pub(crate) fn life_word(&self) -> &Word {
        self.life.word()
    }

    /// Notes a miss and returns whether magazines are too small: overflow and underflow kept taking turns, which a
    /// larger magazine would have absorbed. A quiet cache, or one that only allocates or only frees, never grows.
    pub(crate) fn note_miss(&self, miss: Miss) -> bool {
        // Bit 0 is the kind of the last miss, the rest counts turns. Lost updates only delay growth.
        let seen = self.misses.load(Ordering::Relaxed);
        let kind = (miss == Miss::Overflow) as u32;
        if seen & 1 == kind {
            return false;
        }
        let turns = (seen >> 1) + 1;
        let grow = turns >= TURNS_TO_GROW;
        self.misses.store((if grow { 0 } else { turns }) << 1 | kind, Ordering::Relaxed);
        grow
    }
}

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const ID: usize = offset_of!(CacheDesc, id.index);
    pub(crate) const NAME_LEN: usize = offset_of!(CacheDesc, name_len);
    pub(crate) const NAME: usize = offset_of!(CacheDesc, name);
    pub(crate) const OBJECT_SIZE: usize = offset_of!(CacheDesc, object_size);
    pub(crate) const STRIDE: usize = offset_of!(CacheDesc, layout.size);
    pub(crate) const SLAB_GRANULES: usize = offset_of!(CacheDesc, layout.granules);
    pub(crate) const SLAB_OBJECTS: usize = offset_of!(CacheDesc, layout.objects);
    pub(crate) const NODES: usize = offset_of!(CacheDesc, nodes);
    pub(crate) const NODE_COUNT: usize = offset_of!(CacheDesc, node_count);
    pub(crate) const CAPACITY: usize = offset_of!(CacheDesc, capacity);
    pub(crate) const FAILURES: usize = offset_of!(CacheDesc, failures);
    pub(crate) const NODE_SIZE: usize = size_of::<NodeCache>();
    pub(crate) const DEPOT: usize = offset_of!(NodeCache, depot);
    pub(crate) const SLABS: usize = offset_of!(NodeCache, slabs);
}
