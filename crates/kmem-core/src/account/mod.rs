//! Accounts: limits in bytes over one cache, or over several.
//!
//! A cache may be *charged to* an account. What is charged are the objects that are off their slabs, in the hands of
//! users, in slots and in depots, each with the bytes from one object to the next:
//! ```text
//! used(account) = sum over the caches charged to it: objects off their slabs * stride                (I45)
//! ```
//! Objects are charged when a batch leaves its slabs, and uncharged when it returns to them, both under the lock of the
//! node. So nothing is counted while objects move between users, slots and depots: a hit costs nothing, and neither
//! does a CPU that comes or goes. And whenever no thread holds the lock of a node, the books are exact, also in the
//! child of a fork, which takes all of them.
//!
//! # Nesting
//! An account may have a parent, and is charged together with all that it is within. Each account in turn grants as
//! many objects of a batch as it has room for, and what one of them does not grant is taken from the others again. So a
//! batch near the limit is smaller, and none at all means that one account of the chain is full.
//!
//! # A limit that is lowered
//! It may be lowered beneath what is charged already. From then on the account is *over*: what slots and depots hold
//! of its caches returns to the slabs, no slot of these is enabled, and no depot takes anything. So each free is
//! uncharged at once, and each allocation fails, until as much is charged as may be.
//!
//! # Their life
//! A descriptor is counted: by the handles of the program, the caches that are charged to it, and the accounts within
//! it. At zero it is free, and the next account that is made uses it again. It never returns to the arena, so that any
//! thread may walk the list of all accounts at any time, without a lock, and a fork has nothing to take.

use core::cell::UnsafeCell;
use core::ptr::NonNull;

use crate::error::AccountError;
use crate::host::Host;
use crate::meta::Meta;
use crate::sync::{AtomicPtr, AtomicUsize, Ordering, fence};

mod handle;

pub use handle::{Account, AccountSpec, AccountStats, Beyond, OverLimit, OverLimitFn};

/// The most bytes of an account's name.
pub const NAME_MAX: usize = 63;
/// The references to a descriptor that is being made.
const MAKING: usize = usize::MAX;

/// What an account is, from when it is made until it is free.
#[derive(Clone, Copy)]
struct Made {
    name_len: u8,
    name: [u8; NAME_MAX],
    parent: Option<NonNull<AccountDesc>>,
    over: Option<OverLimit>,
}

impl Made {
    fn of(spec: &AccountSpec<'_>) -> Result<Self, AccountError> {
        let bytes = spec.name.as_bytes();
        match bytes.len() {
            0 => return Err(AccountError::NameEmpty),
            len if len > NAME_MAX => return Err(AccountError::NameTooLong { len, max: NAME_MAX }),
            _ => {}
        }
        let mut name = [0; NAME_MAX];
        name[..bytes.len()].copy_from_slice(bytes);
        let parent = spec.parent.map(|parent| NonNull::from(parent.desc()));
        Ok(Self { name_len: bytes.len() as u8, name, parent, over: spec.over })
    }

    fn name(&self) -> &str {
        // SAFETY: these bytes were copied from a str.
        unsafe { core::str::from_utf8_unchecked(&self.name[..self.name_len as usize]) }
    }
}

/// An account.
pub(crate) struct AccountDesc {
    /// Handles, caches and accounts within it; 0 if it is free, and [`MAKING`] while it is being made.
    refs: AtomicUsize,
    /// The descriptor that was made before this one.
    next: Option<NonNull<AccountDesc>>,
    made: UnsafeCell<Made>,
    limit: AtomicUsize,
    used: AtomicUsize,
    high: AtomicUsize,
    refused: AtomicUsize,
}

// SAFETY: `made` is written by the one thread that makes the account, before there is a reference to it; what is
// behind `over` may be called by any thread.
unsafe impl Send for AccountDesc {}
// SAFETY: as above.
unsafe impl Sync for AccountDesc {}

impl AccountDesc {
    fn made(&self) -> &Made {
        // SAFETY: the caller has a reference, so nothing is written.
        unsafe { &*self.made.get() }
    }

    pub(crate) fn over(&self) -> Option<&OverLimit> {
        self.made().over.as_ref()
    }

    /// This account, and those that it is within.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        // SAFETY: an account holds a reference to its parent.
        core::iter::successors(Some(self), |account| account.made().parent.map(|parent| unsafe { parent.as_ref() }))
    }

    /// Whether it is `other`, or within it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.chain().any(|account| core::ptr::eq(account, other))
    }

    /// Charges as many of `want` objects of `size` bytes as there is room for, to all accounts of the chain, and
    /// returns how many these are.
    #[inline(never)]
    pub(crate) fn charge(&self, want: usize, size: usize) -> usize {
        let mut granted = want;
        for account in self.chain() {
            let here = account.grant(granted, size);
            if here < granted {
                for below in self.chain().take_while(|below| !core::ptr::eq(*below, account)) {
                    below.used.fetch_sub((granted - here) * size, Ordering::Relaxed);
                }
                granted = here;
            }
            if granted == 0 {
                break;
            }
        }
        granted
    }

    /// Charges as many of `want` objects as this account has room for.
    fn grant(&self, want: usize, size: usize) -> usize {
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let granted = want.min(self.room(used) / size);
            if granted == 0 {
                return 0;
            }
            let now = used + granted * size;
            match self.used.compare_exchange(used, now, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.high.fetch_max(now, Ordering::Relaxed);
                    return granted;
                }
                Err(other) => used = other,
            }
        }
    }

    fn room(&self, used: usize) -> usize {
        self.limit.load(Ordering::Relaxed).saturating_sub(used)
    }

    /// Takes back what was charged for `count` objects.
    #[inline(never)]
    pub(crate) fn uncharge(&self, count: usize, size: usize) {
        self.chain().for_each(|account| _ = account.used.fetch_sub(count * size, Ordering::Relaxed));
    }

    /// The first account of the chain that has no room for `bytes`.
    #[inline(never)]
    pub(crate) fn full(&self, bytes: usize) -> Option<&Self> {
        self.chain().find(|account| account.room(account.used.load(Ordering::Relaxed)) < bytes)
    }

    /// Notes that an allocation failed because of this account.
    pub(crate) fn note_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether more is charged than the limit, to it or to one that it is within: a limit was lowered.
    #[inline(never)]
    pub(crate) fn is_over(&self) -> bool {
        self.chain().any(|account| account.used() > account.limit.load(Ordering::Relaxed))
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> AccountStats<'_> {
        AccountStats {
            name: self.made().name(),
            // SAFETY: an account holds a reference to its parent.
            parent: self.made().parent.map(|parent| unsafe { parent.as_ref() }.made().name()),
            limit: self.limit.load(Ordering::Relaxed),
            used: self.used(),
            high: self.high.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// One more reference, by a holder of one.
    pub(crate) fn hold(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// A reference for a thread that has none, unless the descriptor is free or being made.
    fn try_hold(&self) -> bool {
        let mut refs = self.refs.load(Ordering::Relaxed);
        while !matches!(refs, 0 | MAKING) {
            match self.refs.compare_exchange(refs, refs + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => refs = other,
            }
        }
        false
    }

    /// Gives a reference up; with the last one the account is free, and gives up its parent.
    #[inline(never)]
    pub(crate) fn release(&self) {
        let mut at = Some(NonNull::from(self));
        while let Some(account) = at.take() {
            // SAFETY: descriptors stay in place; the reference is the caller's, or the one of the account before.
            let account = unsafe { account.as_ref() };
            let parent = account.made().parent;
            if account.refs.fetch_sub(1, Ordering::AcqRel) == 1 {
                at = parent;
            }
        }
    }
}

/// Where things are, for a reader outside of the process.
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    const MADE: usize = offset_of!(AccountDesc, made);
    pub(crate) const HEAD: usize = offset_of!(Accounts, head);
    pub(crate) const SIZE: usize = size_of::<AccountDesc>();
    pub(crate) const REFS: usize = offset_of!(AccountDesc, refs);
    pub(crate) const NEXT: usize = offset_of!(AccountDesc, next);
    pub(crate) const NAME_LEN: usize = MADE + offset_of!(Made, name_len);
    pub(crate) const NAME: usize = MADE + offset_of!(Made, name);
    pub(crate) const PARENT: usize = MADE + offset_of!(Made, parent);
    pub(crate) const LIMIT: usize = offset_of!(AccountDesc, limit);
    pub(crate) const USED: usize = offset_of!(AccountDesc, used);
    pub(crate) const HIGH: usize = offset_of!(AccountDesc, high);
    pub(crate) const REFUSED: usize = offset_of!(AccountDesc, refused);
}

/// All accounts of an engine.
pub(crate) struct Accounts {
    head: AtomicPtr<AccountDesc>,
}

impl Accounts {
    pub(crate) fn new() -> Self {
        Self { head: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Every descriptor, also those that are free.
    fn all(&self) -> impl Iterator<Item = &AccountDesc> {
        // SAFETY: a descriptor is listed when it is made, and stays where it is as long as the engine.
        let first = unsafe { self.head.load(Ordering::Acquire).as_ref() };
        // SAFETY: as above.
        core::iter::successors(first, |account| account.next.map(|next| unsafe { next.as_ref() }))
    }

    /// Calls `visit` with each account, which cannot go meanwhile, until it returns `false`.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&AccountDesc) -> bool) {
        for account in self.all() {
            if account.try_hold() {
                let more = visit(account);
                account.release();
                if !more {
                    break;
                }
            }
        }
    }

    /// The account of this name, with a reference that is the caller's.
    pub(crate) fn find(&self, name: &str) -> Option<NonNull<AccountDesc>> {
        let mut found = None;
        self.visit(|account| {
            if account.made().name() == name {
                account.hold();
                found = Some(NonNull::from(account));
            }
            found.is_none()
        });
        found
    }

    /// Makes an account, with a reference that is the caller's.
    pub(crate) fn create<P: Host>(
        &self,
        spec: &AccountSpec<'_>,
        meta: &Meta,
        platform: &P,
    ) -> Result<NonNull<AccountDesc>, AccountError> {
        let made = Made::of(spec)?;
        let desc = self.unused().or_else(|| self.one_more(made, meta, platform)).ok_or(AccountError::NoMemory)?;
        // SAFETY: descriptors stay in place.
        let account = unsafe { desc.as_ref() };
        account.limit.store(spec.limit, Ordering::Relaxed);
        for figure in [&account.used, &account.high, &account.refused] {
            figure.store(0, Ordering::Relaxed);
        }
        // SAFETY: this thread makes the account, and no other has a reference.
        unsafe { *account.made.get() = made };
        if let Some(parent) = spec.parent {
            parent.desc().hold();
        }
        account.refs.store(1, Ordering::Release);
        // Of two threads that make accounts of one name at once, at least one sees the other's.
        fence(Ordering::SeqCst);
        let mut of_this_name = 0;
        self.visit(|account| {
            of_this_name += usize::from(account.made().name() == spec.name);
            true
        });
        if of_this_name > 1 {
            account.release();
            return Err(AccountError::NameTaken);
        }
        Ok(desc)
    }

    /// A descriptor that was free, to be made by the caller.
    fn unused(&self) -> Option<NonNull<AccountDesc>> {
        let take = |account: &&AccountDesc| {
            account.refs.compare_exchange(0, MAKING, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        self.all().find(take).map(NonNull::from)
    }

    /// A new descriptor, to be made by the caller.
    fn one_more<P: Host>(&self, made: Made, meta: &Meta, platform: &P) -> Option<NonNull<AccountDesc>> {
        let desc = meta.alloc(platform, size_of::<AccountDesc>())?.cast::<AccountDesc>();
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let new = AccountDesc {
                refs: AtomicUsize::new(MAKING),
                next: NonNull::new(head),
                made: UnsafeCell::new(made),
                limit: AtomicUsize::new(0),
                used: AtomicUsize::new(0),
                high: AtomicUsize::new(0),
                refused: AtomicUsize::new(0),
            };
            // SAFETY: the piece has room for it, is aligned to 64, and is this thread's until it is listed.
            unsafe { desc.write(new) };
            match self.head.compare_exchange(head, desc.as_ptr(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(desc),
                Err(other) => head = other,
            }
        }
    }
}
