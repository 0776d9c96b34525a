//! Limits in bytes over caches: what a program calls. [`kmem_core::account`] has the theory.

use core::fmt;

use kmem_core::account::{self, AccountSpec, AccountStats, Beyond, OverLimit};
use kmem_core::{AccountError, Engine};

use crate::instance::existing;
use crate::platform::Linux;
use crate::start::engine;

/// A limit in bytes over one cache, or over several.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let account = kmem::Account::new("doc_images", 1 << 20)?;
/// let tiles = kmem::Cache::<[u8; 4096]>::builder("doc_tiles").charged_to(&account).build()?;
/// let mut held = Vec::new();
/// let error = loop {
///     match tiles.alloc([0; 4096]) {
///         Ok(tile) => held.push(tile),
///         Err(error) => break error,
///     }
/// };
/// assert_eq!((held.len(), error), (256, kmem::Shortage::OverLimit));
/// account.set_limit(2 << 20);
/// held.push(tiles.alloc([0; 4096])?);
/// # Ok(())
/// # }
/// ```
///
/// What is charged are objects that the program holds, and those that CPUs and depots cache; the latter are called back
/// before an allocation fails. A hit costs nothing.
///
/// The account lives as long as there is a handle to it, a cache that is charged to it, or an account within it.
/// Objects of a [checked heap](crate::checks) are not charged.
#[derive(Clone)]
pub struct Account {
    engine: &'static Engine<Linux>,
    account: account::Account<'static>,
}

/// What a new account shall be: begun by [`Account::builder`], made by [`build`](Self::build).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct AccountBuilder<'a> {
    name: &'a str,
    limit: usize,
    parent: Option<&'a Account>,
    over: Option<OverLimit>,
}

/// # Safety
/// The context begins with the address of a closure of this type.
unsafe fn call<F: Fn(&Beyond<'_>) -> bool>([closure, _]: [*mut (); 2], beyond: &Beyond<'_>) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*closure.cast::<F>())(beyond) }
}

impl<'a> AccountBuilder<'a> {
    /// Bytes that may be charged to it. Without this there is no limit at first.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = kmem::Account::builder("doc_limit").limit(1 << 30).build()?;
    /// assert_eq!(account.limit(), 1 << 30);
    /// # Ok(())
    /// # }
    /// ```
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Whatever is charged to this account is charged to `parent` too, or to neither.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let house = kmem::Account::new("doc_house", 1 << 20)?;
    /// let room = kmem::Account::builder("doc_room").within(&house).build()?;
    /// let cache = kmem::Cache::<u64>::builder("doc_within").charged_to(&room).build()?;
    /// let number = cache.alloc(1)?;
    /// assert!(house.used() >= 8 && house.used() == room.used());
    /// # drop(number);
    /// # Ok(())
    /// # }
    /// ```
    pub fn within(mut self, parent: &'a Account) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Calls `make_room` before an allocation fails because this account is full. It may free objects, raise the limit,
    /// and allocate; it returns whether another attempt is worth it. It runs on the thread that allocates, with no lock
    /// held, on several threads at a time. Where it reaches a limit itself it is not called again, and that allocation
    /// fails.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// fn raise(beyond: &kmem::Beyond<'_>) -> bool {
    ///     beyond.limit < 1 << 20 && kmem::Account::find(beyond.account).map(|own| own.set_limit(1 << 20)).is_some()
    /// }
    /// let account = kmem::Account::builder("doc_over").limit(8).over_limit(&raise).build()?;
    /// let cache = kmem::Cache::<[u8; 64]>::builder("doc_over").charged_to(&account).build()?;
    /// cache.alloc([0; 64])?;
    /// assert_eq!(account.limit(), 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn over_limit<F: Fn(&Beyond<'_>) -> bool + Sync>(mut self, make_room: &'static F) -> Self {
        // SAFETY: the closure lives for ever, and any thread may call it.
        self.over = Some(unsafe {
            OverLimit::new([core::ptr::from_ref(make_room).cast_mut().cast(), core::ptr::null_mut()], call::<F>)
        });
        self
    }

    /// The same of a function and a context, for the C interface.
    #[doc(hidden)]
    pub fn over_limit_by(mut self, over: Option<OverLimit>) -> Self {
        self.over = over;
        self
    }

    /// Makes the account.
    ///
    /// # Errors
    /// See [`AccountError`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = kmem::Account::builder("doc_account_build").build()?;
    /// let taken = kmem::Account::builder("doc_account_build").build().unwrap_err();
    /// assert_eq!(taken, kmem::AccountError::NameTaken);
    /// # Ok(())
    /// # }
    /// ```
    pub fn build(self) -> Result<Account, AccountError> {
        self.build_in(engine().ok_or(AccountError::NoMemory)?)
    }

    /// The same, out of line, so that what it needs of the stack is not below the making of the engine.
    ///
    /// # Errors
    /// See [`AccountError`].
    #[doc(hidden)]
    #[inline(never)]
    pub fn build_in(self, engine: &'static Engine<Linux>) -> Result<Account, AccountError> {
        let Self { name, limit, over, .. } = self;
        let parent = self.parent.map(|parent| &parent.account);
        Ok(Account { engine, account: engine.create_account(&AccountSpec { name, limit, parent, over })? })
    }
}

impl Account {
    /// An account with a limit of so many bytes. The name has 1 to 63 bytes and is no other account's.
    ///
    /// # Errors
    /// See [`AccountError`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = kmem::Account::new("doc_account_new", 512 << 20)?;
    /// assert_eq!(account.used(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(name: &str, limit: usize) -> Result<Self, AccountError> {
        Self::builder(name).limit(limit).build()
    }

    /// Begins an account that differs from the defaults.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = kmem::Account::builder("doc_account_begun").build()?;
    /// assert_eq!(account.limit(), usize::MAX);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(name: &str) -> AccountBuilder<'_> {
        AccountBuilder { name, limit: usize::MAX, parent: None, over: None }
    }

    /// The account of this name.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = kmem::Account::new("doc_account_find", 100)?;
    /// assert_eq!(kmem::Account::find("doc_account_find").map(|found| found.limit()), Some(100));
    /// drop(account);
    /// assert!(kmem::Account::find("doc_account_find").is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn find(name: &str) -> Option<Self> {
        let engine = existing()?;
        engine.find_account(name).map(|account| Self { engine, account })
    }

    /// Bytes that may be charged; `usize::MAX` is no limit.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(kmem::Account::new("doc_account_limit", 100)?.limit(), 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn limit(&self) -> usize {
        self.account.stats().limit
    }

    /// Bytes that are charged at this moment.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(kmem::Account::new("doc_account_used", 100)?.used(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn used(&self) -> usize {
        self.account.stats().used
    }

    /// Sets the limit, and returns how many bytes are charged.
    ///
    /// If these are more, what CPUs and depots cache of it returns to slabs at once. What the program holds stays its
    /// own, and allocations fail until enough of it is freed.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = kmem::Account::new("doc_set_limit", 1 << 20)?;
    /// let cache = kmem::Cache::<[u8; 1024]>::builder("doc_set_limit").charged_to(&account).build()?;
    /// let held = [cache.alloc([1; 1024])?, cache.alloc([2; 1024])?];
    /// assert_eq!(account.set_limit(1024), 2048);
    /// assert_eq!(cache.alloc([3; 1024]).unwrap_err(), kmem::Shortage::OverLimit);
    /// assert_eq!(held[1][0], 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_limit(&self, limit: usize) -> usize {
        self.engine.set_limit(&self.account, limit)
    }

    /// All figures at this moment.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = kmem::Account::new("doc_account_stats", 100)?;
    /// assert_eq!((account.stats().name, account.stats().refused), ("doc_account_stats", 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> AccountStats<'_> {
        self.account.stats()
    }

    pub(crate) fn of_engine(&self) -> &account::Account<'static> {
        &self.account
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.account.fmt(f)
    }
}

/// Calls `visit` with the figures of every account. No lock is held meanwhile.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let account = kmem::Account::new("doc_accounts", 100)?;
/// let mut found = false;
/// kmem::accounts(|stats| found |= stats.name == "doc_accounts");
/// assert!(found);
/// # Ok(())
/// # }
/// ```
pub fn accounts(visit: impl FnMut(&AccountStats<'_>)) {
    if let Some(engine) = existing() {
        engine.for_each_account(visit);
    }
}
