//! libumem's interface, `umem.h`, as its manual pages umem_alloc(3MALLOC) and umem_cache_create(3MALLOC) describe it:
//! a program that was written for it compiles and links unchanged.
//!
//! # Constructors that fail
//! A constructor of libumem is called when an object is handed out that is not constructed, is told whether the
//! allocation may fail, and may fail itself. kmem constructs a batch at a time, ahead of need, and has no way back. So
//! a cache with callbacks keeps a word after each object that says whether it is constructed. What kmem runs as the
//! constructor clears the word, and the program's own runs in the allocation, once the object is the caller's:
//! ```text
//! slab -> slot            the word is 0
//! umem_cache_alloc        0: constructor(object, data, flags); 0 from it: the word is 1. Else the object is freed as
//!                         it is, and the allocation fails
//! umem_cache_free         the word stays
//! slot -> slab -> pages   1: destructor(object, data)
//! ```
//!
//! # Failure
//! An allocation of a cache that fails calls the cache's reclaim callback and tries once more. With `UMEM_NOFAIL` it
//! then asks the callback of `umem_nofail_callback`, again and again; without one, or where that one says so, the
//! program exits. Nothing is held meanwhile, and nothing has to be undone, so that callback may leave by longjmp.
//!
//! What has no counterpart: names need not differ in libumem, and are made different here by a number.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::{NonNull, null_mut};

use kmem_core::cache::{ObjectFn, ObjectOps};
use kmem_core::sync::{AtomicPtr, AtomicU32, Ordering};
use kmem_core::{AllocError, CreateError};
use kmem_linux::os::sys;
use kmem_linux::{RawCache, checks, existing, general};

use super::handles::{self, Kept, Kind, NoHandle, Record};
use super::{EAGAIN, EBUSY, EDEADLK, EINVAL, ENOMEM};
use crate::api::caches::layout;
use crate::c::{fail, set_errno};
use crate::table::decimal;

const UMEM_NOFAIL: c_int = 0x100;
/// What umem_cache_create knows of: hints for libumem's own debugging and layout, without a meaning here.
const FLAGS: c_int = 0x000f_0000;
/// What a callback returns for exit has this bit, and the status below it.
const EXIT: c_int = 0x100;
/// The status where there is no callback.
const NO_CALLBACK: c_int = EXIT | 255;

type Constructor = Option<unsafe extern "C" fn(*mut c_void, *mut c_void, c_int) -> c_int>;
type Destructor = Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>;
type Reclaim = Option<unsafe extern "C" fn(*mut c_void)>;
type Callback = unsafe extern "C" fn() -> c_int;

#[link(name = "c")]
unsafe extern "C" {
    fn exit(status: c_int) -> !;
}

/// What a cache calls, and where the word of an object is: 0 in a cache without callbacks, whose objects have none.
#[derive(Clone, Copy)]
struct Hooks {
    constructor: Constructor,
    destructor: Destructor,
    reclaim: Reclaim,
    data: *mut c_void,
    word_at: usize,
}

impl Hooks {
    /// The word after an object.
    ///
    /// # Safety
    /// The object is one of a cache with callbacks.
    unsafe fn word(&self, object: *mut u8) -> *mut usize {
        // SAFETY: the caller's promise; the objects of such a cache are so long.
        unsafe { object.add(self.word_at).cast() }
    }

    /// Constructs an object that was taken, if it is not; `false`: its constructor failed.
    ///
    /// # Safety
    /// The object is the caller's, one of a cache with callbacks.
    unsafe fn complete(&self, object: *mut u8, flags: c_int) -> bool {
        // SAFETY: the constructor's author promised to take any object; the word is there.
        unsafe {
            let word = self.word(object);
            if word.read() == 0 {
                if self.constructor.is_some_and(|constructor| constructor(object.cast(), self.data, flags) != 0) {
                    return false;
                }
                word.write(1);
            }
            true
        }
    }
}

/// # Safety
/// The context is the address of hooks with callbacks, the object one of their cache.
unsafe fn clear(hooks: *mut (), object: *mut u8) {
    // SAFETY: the hooks live as long as the cache.
    unsafe { (*hooks.cast::<Hooks>()).word(object).write(0) };
}

/// # Safety
/// As for [`clear`].
unsafe fn destruct(hooks: *mut (), object: *mut u8) {
    // SAFETY: the hooks live as long as the cache; the destructor's author promised to take any constructed object.
    unsafe {
        let hooks = *hooks.cast::<Hooks>();
        if let Some(destructor) = hooks.destructor
            && hooks.word(object).read() == 1
        {
            destructor(object.cast(), hooks.data);
        }
    }
}

static CALLBACK: AtomicPtr<()> = AtomicPtr::new(null_mut());
/// 1 from the moment at which a thread ends the program.
static EXITING: AtomicU32 = AtomicU32::new(0);

/// Sets what is called when an allocation with UMEM_NOFAIL fails.
///
/// # Safety
/// The callback may be called by any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn umem_nofail_callback(callback: Option<unsafe extern "C" fn() -> c_int>) {
    CALLBACK.store(callback.map_or(null_mut(), |callback| callback as *mut ()), Ordering::Release);
}

/// After a failure: returns where another try is wanted.
fn ask_callback() {
    // SAFETY: what is stored there is a callback, or null.
    let callback = unsafe { core::mem::transmute::<*mut (), Option<Callback>>(CALLBACK.load(Ordering::Acquire)) };
    // SAFETY: its author said that any thread may call it.
    let wish = callback.map_or(NO_CALLBACK, |callback| unsafe { callback() });
    if wish & EXIT == 0 {
        return;
    }
    if EXITING.swap(1, Ordering::AcqRel) == 0 {
        // SAFETY: a program may end at any time.
        unsafe { exit(wish & 0xff) }
    }
    // Another thread does that, and ends this one too.
    let word = 0u32;
    loop {
        let _ = sys::futex_wait(&raw const word, 0, None);
    }
}

/// Tries until it succeeds, or may fail.
fn persist(flags: c_int, mut alloc: impl FnMut() -> Result<NonNull<u8>, AllocError>) -> *mut c_void {
    loop {
        match alloc() {
            Ok(address) => return address.as_ptr().cast(),
            Err(_) if flags & UMEM_NOFAIL != 0 => ask_callback(),
            Err(_) => return fail(ENOMEM),
        }
    }
}

fn alloc(size: usize, align: usize, flags: c_int, zeroed: bool) -> *mut c_void {
    if size == 0 {
        return null_mut();
    }
    persist(flags, || match (size > isize::MAX as usize, zeroed) {
        (true, _) => Err(AllocError),
        (false, true) => general::alloc_zeroed(size, align),
        (false, false) => general::alloc_aligned(size, align),
    })
}

/// Memory of `size` bytes, for any type; NULL if these are 0.
#[unsafe(no_mangle)]
pub extern "C" fn umem_alloc(size: usize, flags: c_int) -> *mut c_void {
    alloc(size, general::MIN_ALIGN, flags, false)
}

/// The same, cleared.
#[unsafe(no_mangle)]
pub extern "C" fn umem_zalloc(size: usize, flags: c_int) -> *mut c_void {
    alloc(size, general::MIN_ALIGN, flags, true)
}

/// The same, aligned to a power of two (0 is 16); NULL and EINVAL for another number.
#[unsafe(no_mangle)]
pub extern "C" fn umem_alloc_align(size: usize, align: usize, flags: c_int) -> *mut c_void {
    if align != 0 && !align.is_power_of_two() {
        return fail(EINVAL);
    }
    alloc(size, align.max(general::MIN_ALIGN), flags, false)
}

/// Frees memory of umem_alloc or umem_zalloc, which has this size. NULL is none.
///
/// # Safety
/// As for free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn umem_free(buffer: *mut c_void, size: usize) {
    let Some(address) = NonNull::new(buffer.cast::<u8>()) else { return };
    checks::check_size(address.as_ptr(), size);
    // SAFETY: passed on. The size is not relied on: a wrong one would free into another class.
    unsafe { general::free(address) }
}

/// Frees memory of umem_alloc_align, which has this size. NULL is none.
///
/// # Safety
/// As for free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn umem_free_align(buffer: *mut c_void, size: usize) {
    // SAFETY: passed on.
    unsafe { umem_free(buffer, size) }
}

/// Bytes of the program's name for a cache that are kept.
const NAME_KEPT: usize = 28;

/// A name that no other cache has: the program's, and a number if it must be.
struct Name {
    bytes: [u8; NAME_KEPT + 11],
    len: u8,
}

impl Name {
    /// The beginning of `wanted`, with `_` for what is not printable ASCII.
    #[inline(never)]
    fn new(wanted: &[u8]) -> Self {
        let mut name = Self { bytes: [0; NAME_KEPT + 11], len: 0 };
        wanted.iter().take(NAME_KEPT).for_each(|byte| name.push(if byte.is_ascii_graphic() { *byte } else { b'_' }));
        name
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
            self.len += 1;
        }
    }

    /// The name with a number in the place of the one that it has.
    #[inline(never)]
    fn number(&mut self, wanted: usize, number: u32) {
        self.len = wanted.min(NAME_KEPT) as u8;
        self.push(b'.');
        let mut digits = [0; 20];
        decimal(number as usize, &mut digits).bytes().for_each(|digit| self.push(digit));
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(self.bytes.get(..usize::from(self.len)).unwrap_or_default()).unwrap_or("umem")
    }
}

/// The engine's cache for such hooks, under this name or one with a number. Out of line, so that the name needs no
/// stack while what was made for a cache that is refused is freed.
#[inline(never)]
fn make(wanted: &[u8], layout: core::alloc::Layout, ops: Option<ObjectOps>) -> Result<RawCache, CreateError> {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    // The record was allocated, so the engine exists.
    let engine = existing().ok_or(CreateError::NoMemory)?;
    let mut name = Name::new(wanted);
    let mut made = RawCache::with_ops(engine, name.as_str(), layout, ops);
    while matches!(made, Err(CreateError::NameTaken)) {
        name.number(wanted.len(), NUMBER.fetch_add(1, Ordering::Relaxed));
        made = RawCache::with_ops(engine, name.as_str(), layout, ops);
    }
    made
}

fn create(wanted: &[u8], size: usize, align: usize, mut hooks: Hooks) -> Result<usize, c_int> {
    let has_word = hooks.constructor.is_some() || hooks.destructor.is_some();
    hooks.word_at = if has_word { size.checked_next_multiple_of(size_of::<usize>()).ok_or(EINVAL)? } else { 0 };
    let whole = if has_word { hooks.word_at.checked_add(size_of::<usize>()).ok_or(EINVAL)? } else { size };
    let align = match align {
        0 => 0,
        _ if !align.is_power_of_two() => return Err(EINVAL),
        _ if has_word => align.max(size_of::<usize>()),
        _ => align,
    };
    let layout = layout(whole, align)?;
    let destruct = hooks.destructor.map(|_| destruct as ObjectFn);
    let make = |address: *mut Hooks| {
        // SAFETY: the hooks stay at the address as long as the cache; the program's callbacks may be called by any
        // thread.
        let ops = has_word.then(|| unsafe { ObjectOps::new(address.cast(), clear, destruct) });
        make(wanted, layout, ops)
    };
    // SAFETY: handles of this kind have these hooks.
    unsafe { handles::create(Kind::Umem, hooks, make) }.map_err(|error| match error {
        NoHandle::Memory | NoHandle::Refused(CreateError::NoMemory) => ENOMEM,
        NoHandle::TooMany | NoHandle::Refused(CreateError::TooManyCaches { .. }) => EAGAIN,
        NoHandle::Refused(CreateError::InsideCallback) => EDEADLK,
        NoHandle::Refused(_) => EINVAL,
    })
}

/// Creates a cache of objects of `size` bytes, at most 4 MiB, at multiples of `align` bytes, at most 64 KiB. NULL and
/// errno: EINVAL, EAGAIN (there are 16,384 caches), ENOMEM.
///
/// # Safety
/// The name is NULL or a string. The callbacks may be called by any thread.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C" fn umem_cache_create(
    name: *const c_char,
    size: usize,
    align: usize,
    constructor: Constructor,
    destructor: Destructor,
    reclaim: Reclaim,
    data: *mut c_void,
    source: *mut c_void,
    flags: c_int,
) -> *mut c_void {
    if size == 0 || !source.is_null() || flags & !FLAGS != 0 {
        return fail(EINVAL);
    }
    // SAFETY: the caller's promise.
    let name = if name.is_null() { c"umem" } else { unsafe { CStr::from_ptr(name) } };
    let wanted = if name.is_empty() { b"umem" } else { name.to_bytes() };
    match create(wanted, size, align, Hooks { constructor, destructor, reclaim, data, word_at: 0 }) {
        Ok(handle) => handle as *mut c_void,
        Err(error) => fail(error),
    }
}

/// Destroys a cache of which no object is in use. Otherwise it stays, and errno says why: EBUSY, EINVAL, EDEADLK.
///
/// # Safety
/// No other thread uses the cache.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn umem_cache_destroy(cache: *mut c_void) {
    // SAFETY: passed on; handles of this kind have these hooks.
    if let Err(kept) = unsafe { handles::destroy::<Hooks>(Kind::Umem, cache as usize) } {
        set_errno(match kept {
            Kept::NoSuchCache => EINVAL,
            Kept::InUse => EBUSY,
            Kept::InsideCallback => EDEADLK,
        });
    }
}

/// An object, constructed.
///
/// # Safety
/// No thread destroys the cache meanwhile.
unsafe fn take(record: &Record<Hooks>, flags: c_int) -> Result<NonNull<u8>, AllocError> {
    let object = record.cache().alloc()?;
    // SAFETY: the object was just taken.
    unsafe {
        if record.hooks.word_at == 0 || record.hooks.complete(object.as_ptr(), flags) {
            return Ok(object);
        }
        record.cache().free(object);
    }
    Err(AllocError)
}

/// Takes an object; NULL if there is no memory or the constructor fails, and with UMEM_NOFAIL never. EINVAL if there is
/// no such cache.
///
/// # Safety
/// No other thread destroys the cache meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn umem_cache_alloc(cache: *mut c_void, flags: c_int) -> *mut c_void {
    // SAFETY: handles of this kind have these hooks; the rest is passed on.
    let Some(record) = (unsafe { handles::find::<Hooks>(Kind::Umem, cache as usize) }) else { return fail(EINVAL) };
    // SAFETY: passed on.
    persist(flags, || unsafe {
        take(record, flags).or_else(|error| match record.hooks.reclaim {
            Some(reclaim) => {
                reclaim(record.hooks.data);
                take(record, flags)
            }
            None => Err(error),
        })
    })
}

/// Frees an object. NULL is none. EINVAL, and nothing is freed, if there is no such cache or the address is not that of
/// an object of it.
///
/// # Safety
/// As for free; no other thread destroys the cache meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn umem_cache_free(cache: *mut c_void, object: *mut c_void) {
    let Some(object) = NonNull::new(object.cast::<u8>()) else { return };
    // SAFETY: as in `umem_cache_alloc`; the object is the cache's.
    unsafe {
        match handles::find::<Hooks>(Kind::Umem, cache as usize).map(|record| record.cache().handle()) {
            Some(handle) if handle.owns(object) => handle.free(object),
            _ => set_errno(EINVAL),
        }
    }
}
