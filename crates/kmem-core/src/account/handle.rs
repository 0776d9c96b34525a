//! What a program has of an account: its handle, what it asks of a new one, and its figures.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use super::AccountDesc;

/// What a new account is like.
#[derive(Clone, Copy, Debug)]
pub struct AccountSpec<'a> {
    /// Its name, 1 to [`NAME_MAX`](super::NAME_MAX) bytes, different from that of any other account.
    pub name: &'a str,
    /// Bytes that may be charged to it; `usize::MAX` is no limit.
    pub limit: usize,
    /// The account that it is within: whatever is charged to this one is charged to that one too.
    pub parent: Option<&'a Account<'a>>,
    /// What is called before an allocation fails because this account is full.
    pub over: Option<OverLimit>,
}

/// An allocation that an account has no room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Beyond<'a> {
    /// The name of the account that is full.
    pub account: &'a str,
    /// Bytes that the allocation needs.
    pub wanted: usize,
    /// Bytes that are charged to the account.
    pub used: usize,
    /// Its limit.
    pub limit: usize,
}

/// What is called with what an [`OverLimit`] was made with.
pub type OverLimitFn = unsafe fn(context: [*mut (); 2], beyond: &Beyond<'_>) -> bool;

/// Code of the program's that makes room in an account, and the context that it is called with: two words, room for a
/// function of another language and its own context.
#[derive(Clone, Copy, Debug)]
pub struct OverLimit {
    context: [*mut (); 2],
    call: OverLimitFn,
}

impl OverLimit {
    /// `call` is to free objects that are charged to the account, or to raise its limit, and returns whether it is
    /// worth another attempt.
    ///
    /// # Safety
    /// As long as there is a handle to the account, a cache that is charged to it or an account within it, any thread
    /// that allocates may call it with this context, several at a time.
    pub const unsafe fn new(context: [*mut (); 2], call: OverLimitFn) -> Self {
        Self { context, call }
    }

    pub(crate) fn call(&self, beyond: &Beyond<'_>) -> bool {
        // SAFETY: this is what the caller of `new` allows.
        unsafe { (self.call)(self.context, beyond) }
    }
}

/// An account at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AccountStats<'a> {
    /// Its name.
    pub name: &'a str,
    /// The name of the account that it is within.
    pub parent: Option<&'a str>,
    /// Bytes that may be charged; `usize::MAX` is no limit.
    pub limit: usize,
    /// Bytes that are charged.
    pub used: usize,
    /// The most bytes that ever were.
    pub high: usize,
    /// Allocations that failed because of it.
    pub refused: usize,
}

/// A handle to an account of an engine. The account lives as long as there is a handle to it, a cache that is charged
/// to it, or an account within it.
pub struct Account<'e> {
    desc: NonNull<AccountDesc>,
    _engine: PhantomData<&'e ()>,
}

// SAFETY: a descriptor may be used by any thread at any time.
unsafe impl Send for Account<'_> {}
// SAFETY: as above.
unsafe impl Sync for Account<'_> {}

impl Account<'_> {
    /// Takes over a reference.
    ///
    /// # Safety
    /// The descriptor is of an engine that lives as long as the handle, and the reference is the caller's.
    pub(crate) unsafe fn adopt(desc: NonNull<AccountDesc>) -> Self {
        Self { desc, _engine: PhantomData }
    }

    pub(crate) fn desc(&self) -> &AccountDesc {
        // SAFETY: the handle has a reference, and its engine lives.
        unsafe { self.desc.as_ref() }
    }

    /// Its figures at this moment.
    pub fn stats(&self) -> AccountStats<'_> {
        self.desc().stats()
    }
}

impl Clone for Account<'_> {
    fn clone(&self) -> Self {
        self.desc().hold();
        Self { desc: self.desc, _engine: PhantomData }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.desc().release();
    }
}

impl fmt::Debug for Account<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.stats()).finish()
    }
}
