//! A constructor and a destructor that keep the books: which objects are constructed, and that none is so twice.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmem_core::cache::ObjectOps;
use kmem_sim::tsan_lock::taken;

use super::{Cache, E};

/// What a constructed object begins with.
pub const MAGIC: usize = 0x600d_0b1e_c700_0001;

type Hook = Box<dyn FnMut(usize) + Send>;

#[derive(Default)]
pub struct Counted {
    objects: Mutex<HashSet<usize>>,
    pub constructed: AtomicUsize,
    pub destructed: AtomicUsize,
    /// Runs in the constructor and in the destructor, before the books change. It may panic.
    on_construct: Mutex<Option<Hook>>,
    on_destruct: Mutex<Option<Hook>>,
}

fn run(hook: &Mutex<Option<Hook>>, object: usize) {
    // Taken out, so that a hook may use the cache again.
    let code = taken(hook).take();
    if let Some(mut code) = code {
        code(object);
        taken(hook).get_or_insert(code);
    }
}

/// # Safety
/// The context is a [`Counted`], the object at least two words.
unsafe fn construct(context: *mut (), object: *mut u8) {
    // SAFETY: see above.
    let counted = unsafe { &*context.cast::<Counted>() };
    run(&counted.on_construct, object as usize);
    assert!(taken(&counted.objects).insert(object as usize), "constructed twice");
    counted.constructed.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the object is ours to make.
    unsafe { object.cast::<[usize; 2]>().write([MAGIC, 0]) };
}

/// # Safety
/// As above.
unsafe fn destruct(context: *mut (), object: *mut u8) {
    // SAFETY: see above.
    let counted = unsafe { &*context.cast::<Counted>() };
    assert!(taken(&counted.objects).remove(&(object as usize)), "destructed twice, or never constructed");
    counted.destructed.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the object is constructed.
    unsafe {
        assert_eq!(object.cast::<usize>().read(), MAGIC);
        object.cast::<usize>().write(0);
    }
    run(&counted.on_destruct, object as usize);
}

impl Counted {
    /// Books that live as long as the program.
    pub fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    pub fn ops(&'static self) -> ObjectOps {
        let context = std::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the context lives as long as the program, and any thread may use it.
        unsafe { ObjectOps::new(context, construct, Some(destruct)) }
    }

    pub fn cache(&'static self, engine: &E, name: &str, size: usize) -> Cache {
        Cache::with_ops(engine, name, size, self.ops())
    }

    /// Objects that are constructed now.
    pub fn now(&self) -> usize {
        taken(&self.objects).len()
    }

    pub fn on_construct(&self, hook: impl FnMut(usize) + Send + 'static) {
        *taken(&self.on_construct) = Some(Box::new(hook));
    }

    pub fn on_destruct(&self, hook: impl FnMut(usize) + Send + 'static) {
        *taken(&self.on_destruct) = Some(Box::new(hook));
    }

    /// Panics in the `n`-th call of the hook from now, counted from 0, and never again.
    pub fn panic_at(n: usize) -> impl FnMut(usize) + Send + 'static {
        let mut left = n;
        move |_| {
            // A hook that panics is gone.
            if left == 0 {
                super::panic_now();
            }
            left -= 1;
        }
    }
}

/// Uses a constructed object: checks it and counts in it.
pub fn touch(object: usize) -> usize {
    // SAFETY: the object is constructed and the test's.
    let words = unsafe { &mut *(object as *mut [usize; 2]) };
    assert_eq!(words[0], MAGIC, "an object is handed out constructed");
    words[1] += 1;
    words[1]
}
