//! Accounts: limits in bytes over caches. A handle is a number that is looked up, as that of a cache is (`handles`).

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::MaybeUninit;

use kmem_core::account::{Beyond, OverLimit};
use kmem_core::sync::{AtomicUsize, Ordering};
use kmem_core::{AccountError, Engine};
use kmem_linux::{Account, Linux, engine};

use super::caches::{self, kmem_cache};
use super::{EBUSY, EEXIST, EINVAL, ENAMETOOLONG, ENOMEM, ENOSPC, copy_out, outcome};
use crate::c::fail;

/// An account: a limit in bytes over one cache, or over several. It is known by its handle alone, which is not the
/// address of anything.
#[allow(non_camel_case_types)]
pub struct kmem_account {
    _opaque: [u8; 0],
}

/// Makes room in an account that is full: frees objects, or raises the limit. It may allocate; where it reaches a limit
/// itself it is not called again, and that allocation fails. It runs on the thread that allocates, with no lock of
/// kmem's held, on several threads at a time. It is called with the bytes that the allocation needs, those that are
/// charged, the limit, and the context that kmem_account_create was given. It returns whether another attempt is worth
/// it: 0 if not. It must return: no exception and no longjmp may leave it.
#[allow(non_camel_case_types)]
pub type kmem_over_limit_function =
    Option<unsafe extern "C" fn(wanted: usize, used: usize, limit: usize, context: *mut c_void) -> c_int>;

/// What an account holds, in bytes unless it says otherwise.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kmem_account_figures {
    /// What may be charged; SIZE_MAX is no limit.
    pub limit: usize,
    /// What is charged.
    pub used: usize,
    /// The most that ever was.
    pub high: usize,
    /// Allocations that failed because of it.
    pub refused: usize,
}

/// Most handles at a time.
const ENTRIES: usize = 1024;
const FREE: usize = 0;
const BUSY: usize = 1;
const LIVE: usize = 2;
const STATE: usize = 3;
/// What handles of accounts begin with.
const MARK: usize = 0x6b61;
const MARK_AT: u32 = 48;
const GENERATION_AT: u32 = 16;
const GENERATIONS: usize = u32::MAX as usize;

/// The generation and the state in one word, and the account.
struct Entry {
    word: AtomicUsize,
    account: UnsafeCell<MaybeUninit<Account>>,
}

// SAFETY: the account is written and taken by the thread that has made the entry busy, and read while it is live.
unsafe impl Sync for Entry {}

// Large: see `os/bootstrap.rs` of kmem-linux.
#[unsafe(link_section = ".sbss")]
static TABLE: [Entry; ENTRIES] =
    [const { Entry { word: AtomicUsize::new(0), account: UnsafeCell::new(MaybeUninit::uninit()) } }; ENTRIES];

/// The entry that a handle names, and the word that it has if the account is there.
fn named(handle: usize) -> Option<(&'static Entry, usize)> {
    let entry = TABLE.get(handle & ((1 << GENERATION_AT) - 1))?;
    let generation = handle >> GENERATION_AT & GENERATIONS;
    (handle >> MARK_AT == MARK).then_some((entry, generation << 2 | LIVE))
}

/// What a handle names.
///
/// # Safety
/// No thread destroys the handle as long as the result is used.
unsafe fn find<'a>(account: *const kmem_account) -> Result<&'a Account, c_int> {
    let (entry, live) = named(account as usize).ok_or(EINVAL)?;
    if entry.word.load(Ordering::Acquire) != live {
        return Err(EINVAL);
    }
    // SAFETY: the account was written before the word; only a destroy takes it.
    Ok(unsafe { (*entry.account.get()).assume_init_ref() })
}

/// A handle for an account.
fn handle_of(account: Account) -> Result<usize, c_int> {
    for (index, entry) in TABLE.iter().enumerate() {
        let word = entry.word.load(Ordering::Relaxed);
        let busy = word & !STATE | BUSY;
        if word & STATE == FREE && entry.word.compare_exchange(word, busy, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            // SAFETY: the entry is this thread's.
            unsafe { entry.account.get().write(MaybeUninit::new(account)) };
            entry.word.store(word & !STATE | LIVE, Ordering::Release);
            return Ok(MARK << MARK_AT | (word >> 2 & GENERATIONS) << GENERATION_AT | index);
        }
    }
    Err(ENOSPC)
}

/// # Safety
/// The context is the program's, and then its function, which may be called as [`kmem_over_limit_function`] says.
unsafe fn make_room([context, function]: [*mut (); 2], beyond: &Beyond<'_>) -> bool {
    // SAFETY: the caller's promise; null is none, and any other pointer to a function is that function.
    unsafe {
        let function = core::mem::transmute::<*mut (), kmem_over_limit_function>(function);
        function.is_some_and(|function| function(beyond.wanted, beyond.used, beyond.limit, context.cast()) != 0)
    }
}

/// Makes an account with a limit of so many bytes (SIZE_MAX: without). The name is UTF-8, has 1 to 63 bytes, and is no
/// other account's; it is copied. Whatever is charged to it is charged to `parent` too, unless that is NULL.
///
/// `over_limit`, unless it is NULL, is called with `context` before an allocation fails because this account is full.
/// Both are needed as long as there is the account: see kmem_account_destroy.
///
/// Returns NULL with errno: EINVAL for a name that is none or a parent that does not exist; ENAMETOOLONG; EEXIST;
/// ENOSPC if there are 1,024 handles; ENOMEM.
///
/// # Safety
/// The name is NULL or a string. The function is as said. No other thread destroys the parent meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_account_create(
    name: *const c_char,
    limit: usize,
    parent: *mut kmem_account,
    over_limit: kmem_over_limit_function,
    context: *mut c_void,
) -> *mut kmem_account {
    let Some(engine) = engine() else { return fail(ENOMEM).cast() };
    // SAFETY: the function may be called with the context, by the caller's promise.
    let over = over_limit.map(|function| unsafe { OverLimit::new([context.cast(), function as *mut ()], make_room) });
    // SAFETY: passed on.
    match unsafe { create(engine, name, limit, parent, over) } {
        Ok(handle) => handle as *mut kmem_account,
        Err(error) => fail(error).cast(),
    }
}

/// Out of line, so that what it needs of the stack is not below the making of the engine.
///
/// # Safety
/// As for [`kmem_account_create`].
#[inline(never)]
unsafe fn create(
    engine: &'static Engine<Linux>,
    name: *const c_char,
    limit: usize,
    parent: *mut kmem_account,
    over: Option<OverLimit>,
) -> Result<usize, c_int> {
    if name.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: the caller's promise.
    let (name, parent) = unsafe {
        let parent = if parent.is_null() { None } else { Some(find(parent)?) };
        (CStr::from_ptr(name).to_str().map_err(|_| EINVAL)?, parent)
    };
    let mut builder = Account::builder(name).limit(limit).over_limit_by(over);
    if let Some(parent) = parent {
        builder = builder.within(parent);
    }
    let account = builder.build_in(engine).map_err(|error| match error {
        AccountError::NameTooLong { .. } => ENAMETOOLONG,
        AccountError::NameTaken => EEXIST,
        AccountError::NoMemory => ENOMEM,
        _ => EINVAL,
    })?;
    handle_of(account)
}

/// Gives up a handle. The account itself lives as long as a cache is charged to it, or an account is within it.
///
/// Returns 0, or -1 with errno: EINVAL if there is no such account.
///
/// # Safety
/// No other thread uses the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_account_destroy(account: *mut kmem_account) -> c_int {
    let gone = named(account as usize).and_then(|(entry, live)| {
        let busy = live & !STATE | BUSY;
        entry.word.compare_exchange(live, busy, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: the entry is this thread's, and the account was there.
        drop(unsafe { (*entry.account.get()).assume_init_read() });
        let generation = (live >> 2).wrapping_add(1) & GENERATIONS;
        entry.word.store(generation << 2 | FREE, Ordering::Release);
        Some(())
    });
    outcome(gone.ok_or(EINVAL))
}

/// Sets the limit of an account; SIZE_MAX is none. If more is charged, what CPUs and depots cache returns to slabs at
/// once; what the program holds stays its own, and allocations fail until enough of it is freed.
///
/// Returns 0, or -1 with errno: EINVAL if there is no such account.
///
/// # Safety
/// No other thread destroys the handle meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_account_set_limit(account: *mut kmem_account, limit: usize) -> c_int {
    // SAFETY: passed on.
    outcome(unsafe { find(account) }.map(|account| _ = account.set_limit(limit)))
}

/// Stores what an account holds at this moment. `size` is sizeof(struct kmem_account_figures), as for kmem_cache_stats.
///
/// Returns 0, or -1 with errno: EINVAL if there is no such account, or no struct.
///
/// # Safety
/// `figures` is NULL or has `size` bytes. No other thread destroys the handle meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_account_stats(
    account: *mut kmem_account,
    figures: *mut kmem_account_figures,
    size: usize,
) -> c_int {
    // SAFETY: passed on.
    outcome(unsafe { find(account) }.and_then(|account| {
        let stats = account.stats();
        let known =
            kmem_account_figures { limit: stats.limit, used: stats.used, high: stats.high, refused: stats.refused };
        // SAFETY: the caller's promise.
        unsafe { copy_out(&known, figures, size) }
    }))
}

/// Charges a new cache, of which no object was taken so far, to an account, until the cache is destroyed: the objects
/// that the program holds, and those that CPUs and depots cache.
///
/// Returns 0, or -1 with errno: EINVAL if there is no such cache or account; EBUSY if an object was taken already, or
/// the cache is charged to an account.
///
/// # Safety
/// No other thread uses the cache, nor destroys the handle of the account meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmem_cache_charge(cache: *mut kmem_cache, account: *mut kmem_account) -> c_int {
    // SAFETY: passed on; only the calling thread uses the cache.
    outcome(unsafe {
        find(account).and_then(|account| caches::found(cache)?.try_charge(account).then_some(()).ok_or(EBUSY))
    })
}
