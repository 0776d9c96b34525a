//! Optional kernel facilities that this process was denied (by the kernel, a limit or a sandbox), and what is off for
//! it.

use core::fmt;

/// An optional kernel facility that this process was denied; the feature that needs it is disabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unavailable {
    /// A thread of upkeep.
    Thread,
    /// The affinity masks.
    Affinity,
    /// The list of the process's threads.
    ThreadList,
    /// A table of descriptors of the thread's own.
    Table,
    /// The kernel's events of CPUs that come and go.
    Events,
    /// The control groups of the process.
    Cgroup,
    /// Pressure of memory.
    Pressure,
    /// The status page that other processes read.
    StatusPage,
    /// Concurrency ids, which were asked for.
    Ids,
}

impl Unavailable {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Thread,
        Self::Affinity,
        Self::ThreadList,
        Self::Table,
        Self::Events,
        Self::Cgroup,
        Self::Pressure,
        Self::StatusPage,
        Self::Ids,
    ];

    /// What is off for it, in one word.
    ///
    /// ```
    /// assert_eq!(kmem::Unavailable::Cgroup.name(), "cgroup");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Affinity => "affinity",
            Self::ThreadList => "threads",
            Self::Table => "descriptors",
            Self::Events => "netlink",
            Self::Cgroup => "cgroup",
            Self::Pressure => "pressure",
            Self::StatusPage => "page",
            Self::Ids => "cid",
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thread => {
                "no thread could be started (a limit): memory is released all the same, CPUs that leave are not followed"
            }
            Self::Affinity => "sched_getaffinity is refused: CPUs that leave are not noticed, idle ones are",
            Self::ThreadList => "/proc/self/task cannot be read: CPUs of pinned threads may seem to have left",
            Self::Table => {
                "no table of descriptors for the thread (Linux before 5.9): no events, looked at four times a second"
            }
            Self::Events => "no netlink socket for the kernel's events: CPUs are looked at four times a second",
            Self::Cgroup => "no control group of CPUs can be read: no quota bounds what is cached",
            Self::Pressure => {
                "neither pressure nor events of memory can be read: what is cached stays until it is idle"
            }
            Self::StatusPage => "no memory file: other processes cannot see the CPUs of this one",
            Self::Ids => {
                "KMEM_RSEQ=cid needs Linux 6.3 or newer, and rseq registered by glibc: slots go by CPU number instead"
            }
        })
    }
}

/// A set of [`Unavailable`] facilities.
///
/// ```
/// use kmem::{Unavailable, UnavailableSet};
///
/// let set = UnavailableSet::of(Unavailable::Cgroup);
/// assert!(set.contains(Unavailable::Cgroup) && !set.contains(Unavailable::Pressure));
/// set.iter().for_each(|facility| println!("{}: {facility}", facility.name()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UnavailableSet(u32);

impl UnavailableSet {
    /// Nothing was denied.
    ///
    /// ```
    /// assert_eq!(kmem::UnavailableSet::none().iter().count(), 0);
    /// ```
    pub const fn none() -> Self {
        Self(0)
    }

    /// This one, and no other.
    ///
    /// ```
    /// use kmem::{Unavailable, UnavailableSet};
    ///
    /// assert!(UnavailableSet::of(Unavailable::Ids).iter().eq([Unavailable::Ids]));
    /// ```
    pub const fn of(facility: Unavailable) -> Self {
        Self(1 << facility as u32)
    }

    /// As other processes read it.
    ///
    /// ```
    /// use kmem::{Unavailable, UnavailableSet};
    ///
    /// let bits = UnavailableSet::of(Unavailable::Events).bits();
    /// assert!(UnavailableSet::from_bits(bits).contains(Unavailable::Events));
    /// ```
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// For other processes: see [`from_bits`](Self::from_bits).
    ///
    /// ```
    /// assert_eq!(kmem::UnavailableSet::none().bits(), 0);
    /// ```
    pub const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn set(&mut self, facility: Unavailable, is_denied: bool) {
        self.0 = self.0 & !(1 << facility as u32) | u32::from(is_denied) << facility as u32;
    }

    pub(crate) fn add(&mut self, facility: Unavailable) {
        self.set(facility, true);
    }

    pub(crate) fn remove(&mut self, facility: Unavailable) {
        self.set(facility, false);
    }

    /// Whether this facility was denied.
    ///
    /// ```
    /// use kmem::Unavailable;
    ///
    /// if kmem::info().unavailable.contains(Unavailable::Ids) {
    ///     println!("{}", Unavailable::Ids);
    /// }
    /// ```
    pub const fn contains(self, facility: Unavailable) -> bool {
        self.0 & 1 << facility as u32 != 0
    }

    /// The facilities that were denied, one by one.
    ///
    /// ```
    /// kmem::info().unavailable.iter().for_each(|facility| println!("{facility}"));
    /// ```
    pub fn iter(self) -> impl Iterator<Item = Unavailable> {
        Unavailable::ALL.into_iter().filter(move |facility| self.contains(*facility))
    }
}
