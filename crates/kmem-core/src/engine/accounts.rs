//! Accounts of an engine: making them, charging caches to them, and what an allocation does that has reached a limit.
//!
//! ```text
//! the depots of all nodes      what is there is charged already
//! recall                       what slots and depots of the account's caches hold returns to its slabs
//! the account's callback       the program frees something, or raises the limit
//! AllocError                   of which CacheDesc::shortage says that it is the limit
//! ```
//! So an allocation fails only where users hold what is charged, but for a batch in the hands of another thread, and
//! for what slots hold while a CPU comes or goes: an allocation waits for no transition.
//!
//! The callback is the program's code: it runs in a call that the program made, with no lock held (I31). It may
//! allocate and free; where it reaches a limit itself, it is not called again, and that allocation fails. It may not
//! destroy the cache from which its thread allocates ([`cache::inside`](crate::cache)).

use crate::account::{Account, AccountDesc, AccountSpec, AccountStats, Beyond};
use crate::cache::CacheDesc;
use crate::cpu::CpuSet;
use crate::engine::Engine;
use crate::error::AccountError;
use crate::platform::Platform;
use crate::slab::Reclaim;

/// How often an allocation looks for room, and finds that other threads have used it.
const ATTEMPTS: u32 = 4;

/// How far a thread goes that calls back what caches hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recall {
    /// It waits for a transition that runs.
    Waiting,
    /// It waits for none: during one, slots keep what they have.
    AtOnce,
    /// It fences nobody either: slots keep what they have.
    DepotsOnly,
}

/// What an allocation has tried.
#[derive(Default)]
pub(super) struct Attempts {
    at_limit: u32,
    reclaimed: bool,
}

impl<P: Platform> Engine<P> {
    /// Makes an account, to which nothing is charged yet.
    ///
    /// # Errors
    /// The name is empty, too long or taken (where two threads make accounts of one name at the same time, both may be
    /// refused); there is no memory.
    pub fn create_account(&self, spec: &AccountSpec<'_>) -> Result<Account<'_>, AccountError> {
        let desc = self.accounts.create(spec, &self.meta, &self.platform)?;
        // SAFETY: the reference is this function's, and the handle borrows the engine.
        Ok(unsafe { Account::adopt(desc) })
    }

    /// The account of this name.
    pub fn find_account(&self, name: &str) -> Option<Account<'_>> {
        // SAFETY: as above.
        self.accounts.find(name).map(|desc| unsafe { Account::adopt(desc) })
    }

    /// Calls `visit` with the figures of every account, with no lock held.
    pub fn for_each_account(&self, mut visit: impl FnMut(&AccountStats<'_>)) {
        self.accounts.visit(|account| {
            visit(&account.stats());
            true
        });
    }

    /// Charges a new cache to an account, until the cache is destroyed.
    ///
    /// # Safety
    /// The cache lives and is not a general one, it is charged to no account yet, and no object was taken of it so far.
    /// The account is of this engine.
    pub unsafe fn charge_to(&self, cache: &CacheDesc, account: &Account<'_>) {
        cache.set_account(account.desc());
    }

    /// Sets the limit of an account, and returns how many bytes are charged to it.
    ///
    /// If these are more, what its caches hold for later use returns to their slabs at once. What users hold stays
    /// theirs, and allocations fail until enough of it is freed. Nothing is lost. Waits for a transition that runs, but
    /// not inside of a hotplug callback.
    pub fn set_limit(&self, account: &Account<'_>, limit: usize) -> usize {
        let desc = account.desc();
        desc.set_limit(limit);
        if desc.is_over() {
            self.recall(desc, Recall::Waiting);
        }
        desc.used()
    }

    /// The same of the account of this name, for a caller that may wait for no other thread: on a slow path of the
    /// program's, because another process asks. Without `may_call` it makes no system call, and slots keep what they
    /// have until an allocation looks for room. `None`: there is no such account.
    #[cold]
    #[inline(never)]
    pub fn try_set_limit(&self, name: &str, limit: usize, may_call: bool) -> Option<usize> {
        let account = self.find_account(name)?;
        let desc = account.desc();
        desc.set_limit(limit);
        if desc.is_over() {
            let fences = may_call && self.platform.can_fence();
            self.recall(desc, if fences { Recall::AtOnce } else { Recall::DepotsOnly });
        }
        Some(desc.used())
    }

    /// What an allocation does that failed: returns whether another attempt is worth it, after what was done for one. A
    /// caller's attempts are one count. It holds no batch meanwhile, because this goes deep.
    #[cold]
    #[inline(never)]
    pub(super) fn is_worth_another(&self, cache: &CacheDesc, attempts: &mut Attempts) -> bool {
        let is_worth_it = match cache.account().and_then(|account| account.full(cache.layout().size)) {
            Some(full) => self.makes_room_in(full, cache, attempts),
            None if attempts.reclaimed => false,
            None => {
                attempts.reclaimed = true;
                self.reclaim_everything();
                true
            }
        };
        if !is_worth_it {
            cache.note_failure();
        }
        is_worth_it
    }

    /// The same where an account is full.
    #[inline(never)]
    fn makes_room_in(&self, full: &AccountDesc, cache: &CacheDesc, attempts: &mut Attempts) -> bool {
        let is_first = attempts.at_limit == 0;
        attempts.at_limit += 1;
        if attempts.at_limit > ATTEMPTS || !(is_first || self.ask_for_room(full, cache)) {
            full.note_refused();
            return false;
        }
        // What the program freed lies in slots.
        self.recall(full, Recall::AtOnce);
        true
    }

    /// Lets the program make room in an account that is full. Returns whether it says that it did.
    #[inline(never)]
    fn ask_for_room(&self, full: &AccountDesc, cache: &CacheDesc) -> bool {
        let Some(over) = full.over() else { return false };
        if self.inside.is_in_any(&self.platform) {
            return false;
        }
        let AccountStats { name, limit, used, .. } = full.stats();
        let beyond = Beyond { account: name, wanted: cache.layout().size, used, limit };
        self.inside.run(&self.platform, cache, || over.call(&beyond))
    }

    /// Returns to their slabs what slots and depots hold of the caches that are charged to an account. The caller holds
    /// no lock.
    #[inline(never)]
    fn recall(&self, account: &AccountDesc, how: Recall) {
        // Beneath a lowered limit no slot stays enabled, whether something is in it or not.
        let is_over = account.is_over();
        self.registry.for_each(&self.platform, |cache| {
            if cache.account().is_some_and(|own| own.is_within(account)) && (is_over || self.holds_some(cache)) {
                self.recall_from(cache, how);
            }
        });
    }

    /// The same of one cache, which is pinned.
    #[inline(never)]
    fn recall_from(&self, cache: &CacheDesc, how: Recall) {
        // A destructor is the program's code, which may not expect to run here: such slabs stay with the cache.
        let mut reclaim = if cache.has_destructor() { Reclaim::closed() } else { Reclaim::new() };
        let gate = match how {
            Recall::Waiting => self.gate.read(&self.platform).ok(),
            Recall::AtOnce => self.gate.try_read(&self.platform),
            Recall::DepotsOnly => None,
        };
        match gate {
            Some(gate) => self.drain_and_reap(cache, &gate.online(&self.cpus), CpuSet::NONE, &mut reclaim),
            None => self.reap(cache, &mut reclaim),
        }
        self.reclaim(reclaim);
    }

    /// Whether slots or depots hold objects of the cache.
    fn holds_some(&self, cache: &CacheDesc) -> bool {
        cache.nodes().any(|node| node.depot.count() > 0)
            || cache.each_holder().any(|cpu| self.count_slot(cache, cpu) > 0)
    }
}
