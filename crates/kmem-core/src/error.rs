//! What can go wrong, as small enums that name the value and the remedy.

use core::fmt;

/// Why a cache could not be created. Nothing of it is left (I12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// The name is empty.
    NameEmpty,
    /// The name is longer than the limit, in bytes.
    NameTooLong {
        /// Bytes of the name given.
        len: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// Another cache has this name.
    NameTaken,
    /// Objects of zero bytes have no address of their own.
    ZeroSize,
    /// Objects are larger than a cache can hold.
    SizeTooLarge {
        /// Bytes asked for.
        size: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// The alignment is not a power of two.
    AlignNotPowerOfTwo {
        /// The alignment given.
        align: usize,
    },
    /// The alignment is beyond the limit.
    AlignTooLarge {
        /// The alignment given.
        align: usize,
        /// Largest alignment allowed.
        max: usize,
    },
    /// There are as many caches as there can be.
    TooManyCaches {
        /// Most caches at one time.
        max: usize,
    },
    /// The page source has no memory.
    NoMemory,
    /// Called from inside a hotplug callback (I33).
    InsideCallback,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NameEmpty => f.write_str("the cache's name is empty: give it one, it is how statistics show it"),
            Self::NameTooLong { len, max } => {
                write!(f, "the cache's name has {len} bytes: at most {max} are kept, shorten it")
            }
            Self::NameTaken => {
                f.write_str("a cache of this name exists already: choose another name, or destroy that cache first")
            }
            Self::ZeroSize => f.write_str("an object size of 0 bytes: objects need at least 1 byte"),
            Self::SizeTooLarge { size, max } => {
                write!(
                    f,
                    "an object size of {size} bytes: a cache holds objects of up to {max}, use malloc for larger ones"
                )
            }
            Self::AlignNotPowerOfTwo { align } => write!(f, "an alignment of {align}: it must be a power of two"),
            Self::AlignTooLarge { align, max } => write!(f, "an alignment of {align}: a cache aligns up to {max}"),
            Self::TooManyCaches { max } => write!(f, "{max} caches exist, which is the limit: destroy one first"),
            Self::NoMemory => f.write_str("no memory for a new cache: the page source is exhausted"),
            Self::InsideCallback => {
                f.write_str("a cache cannot be created inside a hotplug callback: do it before or after")
            }
        }
    }
}

impl core::error::Error for CreateError {}

/// There is no object: the page source has no memory, or an account has no room ([`Shortage`] tells them apart, and
/// costs a word that this error does not).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllocError;

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory: the page source is exhausted, free objects or raise the limit")
    }
}

/// Why a cache has no object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Shortage {
    /// The page source has no memory.
    NoMemory,
    /// An account that the cache is charged to has no room for it.
    OverLimit,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => fmt::Display::fmt(&AllocError, f),
            Self::OverLimit => f.write_str(
                "the account of this cache has reached its limit: free objects that are charged to it, or raise the limit",
            ),
        }
    }
}

impl core::error::Error for Shortage {}

impl From<Shortage> for AllocError {
    fn from(_: Shortage) -> Self {
        Self
    }
}

impl core::error::Error for AllocError {}

/// Why an account was not made. Nothing of it is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AccountError {
    /// The name is empty.
    NameEmpty,
    /// The name is longer than the limit, in bytes.
    NameTooLong {
        /// Bytes of the name given.
        len: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// Another account has this name.
    NameTaken,
    /// The page source has no memory.
    NoMemory,
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NameEmpty => f.write_str("the account's name is empty: give it one, it is how it is shown and tuned"),
            Self::NameTooLong { len, max } => {
                write!(f, "the account's name has {len} bytes: at most {max} are kept, shorten it")
            }
            Self::NameTaken => f.write_str("an account of this name exists already: choose another name"),
            Self::NoMemory => f.write_str("no memory for a new account: the page source is exhausted"),
        }
    }
}

impl core::error::Error for AccountError {}

/// Why a cache was not destroyed. It is as usable as before (I17).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DestroyError {
    /// Users still hold objects.
    Busy {
        /// How many.
        live: usize,
    },
    /// The id names no cache: it was destroyed before, or is being destroyed (I20).
    NoSuchCache,
    /// Called from inside a hotplug callback (I33).
    InsideCallback,
    /// The cache is a general one: these live as long as the allocator.
    General,
    /// Called by a destructor of the cache's own objects, or by code that was called to look at the cache.
    InsideItself,
}

impl fmt::Display for DestroyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Busy { live } => {
                write!(f, "{live} objects of the cache are still in use: free them, then destroy it again")
            }
            Self::NoSuchCache => f.write_str("no such cache: it was destroyed already, or is being destroyed"),
            Self::InsideCallback => {
                f.write_str("a cache cannot be destroyed or shrunk inside a hotplug callback: do it before or after")
            }
            Self::InsideItself => f.write_str(
                "a cache cannot be destroyed by one of its own destructors, nor by code that looks at it: do it afterwards",
            ),
            Self::General => f.write_str("general caches live as long as the allocator: shrink it instead"),
        }
    }
}

impl core::error::Error for DestroyError {}

/// Why a cache was not tuned. Its magazines are as they were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TuneError {
    /// A magazine of this cache cannot hold so many objects, or none.
    CapacityOutOfRange {
        /// Objects asked for.
        capacity: usize,
        /// Most objects that a magazine of this cache holds.
        max: usize,
    },
    /// A batch of this cache cannot have so many objects, or none.
    BatchOutOfRange {
        /// Objects asked for.
        batch: usize,
        /// Most objects that a batch of this cache has, with the limit that it has or was to get.
        max: usize,
    },
    /// A depot cannot hold so many magazines.
    DepotOutOfRange {
        /// Magazines asked for.
        depot: usize,
        /// Most magazines of a depot.
        max: usize,
    },
    /// The id names no cache: it was destroyed before, or is being destroyed (I20).
    NoSuchCache,
    /// Called from inside a hotplug callback (I33).
    InsideCallback,
}

impl fmt::Display for TuneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::CapacityOutOfRange { capacity, max } => {
                write!(f, "a magazine of {capacity} objects: one of this cache holds 1 to {max}")
            }
            Self::BatchOutOfRange { batch, max } => {
                write!(f, "a batch of {batch} objects: with this limit one of this cache has 1 to {max}")
            }
            Self::DepotOutOfRange { depot, max } => write!(f, "a depot of {depot} magazines: one holds 0 to {max}"),
            Self::NoSuchCache => f.write_str("no such cache: it was destroyed already, or is being destroyed"),
            Self::InsideCallback => {
                f.write_str("a cache cannot be tuned inside a hotplug callback: do it before or after")
            }
        }
    }
}

impl core::error::Error for TuneError {}

/// Why a CPU did not change its state. It is in the state that it was in (I22, I25).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HotplugError {
    /// The id is not below the number of possible CPUs (I5).
    OutOfRange {
        /// The id given.
        cpu: usize,
        /// Ids are below this.
        possible: usize,
    },
    /// The last CPU cannot go down (I43).
    LastCpu {
        /// The CPU.
        cpu: usize,
    },
    /// The CPU is up already.
    AlreadyOnline {
        /// The CPU.
        cpu: usize,
    },
    /// The CPU is down already.
    AlreadyOffline {
        /// The CPU.
        cpu: usize,
    },
    /// A listener refused.
    Refused {
        /// The CPU.
        cpu: usize,
    },
    /// The CPU was taken down by name, and comes up by name only.
    HeldDown {
        /// The CPU.
        cpu: usize,
    },
    /// No memory for the CPU's area.
    NoMemory {
        /// The CPU.
        cpu: usize,
    },
    /// There are listeners, and the calling thread must not run the program's code.
    HasListeners {
        /// The CPU.
        cpu: usize,
    },
    /// Called from inside a hotplug callback (I30).
    InsideCallback,
}

impl fmt::Display for HotplugError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OutOfRange { cpu, possible } => write!(f, "CPU {cpu} does not exist: ids are 0 to {}", possible - 1),
            Self::LastCpu { cpu } => {
                write!(f, "CPU {cpu} is the last one online and must stay: bring another CPU up first")
            }
            Self::AlreadyOnline { cpu } => write!(f, "CPU {cpu} is online already"),
            Self::AlreadyOffline { cpu } => write!(f, "CPU {cpu} is offline already"),
            Self::Refused { cpu } => {
                write!(f, "a listener refused the transition of CPU {cpu}: it is as it was before")
            }
            Self::HeldDown { cpu } => write!(f, "CPU {cpu} was taken down by name: bring it up by name"),
            Self::NoMemory { cpu } => {
                write!(f, "no memory to prepare CPU {cpu}: it stays offline, its threads are served by the depot")
            }
            Self::HasListeners { cpu } => {
                write!(f, "CPU {cpu} has listeners, which this thread may not call: let a thread of the program do it")
            }
            Self::InsideCallback => {
                f.write_str("a CPU transition cannot be started inside a hotplug callback: the gate is not recursive")
            }
        }
    }
}

impl core::error::Error for HotplugError {}

/// Why a listener was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SubscribeError {
    /// As many listeners exist as there can be.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// There is no memory for the allocator.
    NoMemory,
    /// Called from inside a hotplug callback (I30).
    InsideCallback,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooMany { max } => {
                write!(f, "{max} listeners are subscribed, which is the limit: forward events from one of them")
            }
            Self::NoMemory => f.write_str("no memory for the allocator: the page source is exhausted"),
            Self::InsideCallback => {
                f.write_str("a listener cannot subscribe inside a hotplug callback: do it before or after")
            }
        }
    }
}

impl core::error::Error for SubscribeError {}
