//! Forms: which function allocated memory, and whether its counterpart frees it.
//!
//! malloc goes with free, `operator new` with `operator delete`, and `new[]` with `delete[]`. A program that mixes them
//! runs on most allocators, until one of the functions is replaced, or counts what it allocates. The form is kept with
//! what is known of the object, not in its memory:
//!
//! | function | form of the object |
//! |---|---|
//! | malloc and its kin | `Malloc` |
//! | `operator new` | `Malloc` becomes `New` |
//! | `operator new[]` | `New` becomes `Array` |
//! | `operator delete[]` | `Array` becomes `New`; `New` is a mismatch |
//! | `operator delete` | `New` becomes `Malloc`; another is a mismatch |
//! | free, realloc | a mismatch unless it is `Malloc` |
//!
//! An array operator calls the plain one, and a program may have replaced that by functions which call malloc and free.
//! So each function looks at what the one below it left: an array of a program's own `operator new` stays `Malloc`, and
//! its own `operator delete` frees it as such.
//!
//! `KMEM_DEBUG` asks for it with any letter, unless `M` is among them. Hardened memory has no forms: a mismatch harms
//! nothing there, and finding one takes the lock of the object's region twice more.

use super::heap::heap_if_on;
use super::options::Options;
use super::region::Fault;
use super::{are_on, large, pool, report, zone};

/// Which function allocated an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Form {
    /// malloc, calloc, realloc and the like; also what is of no other form.
    Malloc,
    /// `operator new`.
    New,
    /// `operator new[]`.
    Array,
}

impl Form {
    /// What a report calls the function.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            Self::New => "operator new",
            Self::Array => "operator new[]",
        }
    }

    /// The form with this number.
    pub(super) fn of(number: u8) -> Self {
        match number {
            1 => Self::New,
            2 => Self::Array,
            _ => Self::Malloc,
        }
    }
}

/// Notes that `operator new` or `operator new[]` allocated an object, where memory is checked.
#[inline]
pub fn allocated_as(address: *mut u8, form: Form) {
    if are_on() {
        allocated(address as usize, form);
    }
}

#[cold]
#[inline(never)]
fn allocated(at: usize, form: Form) {
    match form {
        Form::New => _ = turn(at, Form::Malloc, Form::New),
        Form::Array => _ = turn(at, Form::New, Form::Array),
        Form::Malloc => {}
    }
}

/// Where memory is checked, ends the program if `operator delete` or `operator delete[]`, which is about to free an
/// object, is not the counterpart of what allocated it.
#[inline]
pub fn freed_as(address: *mut u8, form: Form) {
    if are_on() {
        freed(address as usize, form);
    }
}

#[cold]
#[inline(never)]
fn freed(at: usize, form: Form) {
    match form {
        Form::Array => {
            if turn(at, Form::Array, Form::New) == Some(Form::New) {
                report::fault("delete[]", at, Fault::Form(Form::New));
            }
        }
        _ => {
            if let Some(found) = turn(at, Form::New, Form::Malloc).filter(|found| *found != Form::New) {
                report::fault("delete", at, Fault::Form(found));
            }
        }
    }
}

/// Ends the program if a live object is not of malloc's form.
pub(super) fn refuse_others(what: &str, at: usize) {
    if let Some(found) = turn(at, Form::Malloc, Form::Malloc).filter(|found| *found != Form::Malloc) {
        report::fault(what, at, Fault::Form(found));
    }
}

/// Which form the live object at an address has; one that has `from` has `to` afterwards. `None`: no object of the
/// checked heap begins there, or no forms are kept.
fn turn(at: usize, from: Form, to: Form) -> Option<Form> {
    if !Options::chosen().tells_forms() {
        return None;
    }
    if pool::slot_near(at).is_some() {
        return pool::turn(at, from, to);
    }
    match zone::region_of(at) {
        Some(index) => heap_if_on()?.region(index)?.turn(at, from, to),
        None => large::turn(at, from, to),
    }
}
