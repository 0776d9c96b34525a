//! Accounts as a Rust program uses them. `kmem-core/tests/accounts.rs` has what they do.

use std::sync::atomic::{AtomicUsize, Ordering};

use kmem::{Account, Beyond, Bulk, Cache, Shortage};

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
}

#[test]
fn objects_that_stay_constructed_are_charged_too() {
    let account = Account::new("constructed", 100 * 64).expect("an account");
    let cache = Cache::<[u64; 8]>::builder("constructed").charged_to(&account).constructed_by(|| [7; 8]).build();
    let cache = cache.expect("a cache");
    let held: Vec<_> = (0..100).map(|_| cache.alloc().expect("room")).collect();
    assert_eq!(cache.alloc().map(drop), Err(Shortage::OverLimit));
    assert_eq!((account.used(), account.stats().refused), (6400, 1));
    drop(held);
    cache.destroy().expect("nobody uses it");
    assert_eq!(account.used(), 0);
}

#[test]
fn a_bulk_says_why_it_is_not_filled_and_frees_what_it_took() {
    let account = Account::new("bulk", 10 * 64).expect("an account");
    let cache = Cache::<[u64; 8]>::builder("bulk").charged_to(&account).build().expect("a cache");
    let mut out = Bulk::<_, 32>::new();
    assert_eq!(cache.alloc_bulk(11, &mut out), Err(Shortage::OverLimit));
    assert_eq!((out.len(), cache.stats().live), (0, 0));
    assert_eq!(cache.alloc_bulk(10, &mut out), Ok(()));
    assert!(Shortage::OverLimit.to_string().contains("limit"));
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn threads_at_a_limit_are_served_after_the_callback_raised_it() {
    fn raise(beyond: &Beyond<'_>) -> bool {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let account = Account::find(beyond.account).expect("a cache is charged to it");
        account.set_limit(beyond.limit.max(account.limit()) + 64 * 64);
        true
    }
    let account = Account::builder("raised").limit(64).over_limit(&raise).build().expect("an account");
    let cache = Cache::<[u64; 8]>::builder("raised").charged_to(&account).build().expect("a cache");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let held: Vec<_> = (0..1000).map(|n| cache.alloc([n; 8]).expect("room")).collect();
                assert!((0..).zip(&held).all(|(n, object)| **object == [n; 8]));
            });
        }
    });
    assert!(CALLS.load(Ordering::Relaxed) > 0 && account.used() <= account.limit());
}

#[test]
fn a_child_has_the_accounts_of_its_parent() {
    let account = Account::new("forked", 1000 * 64).expect("an account");
    let cache = Cache::<[u64; 8]>::builder("forked").charged_to(&account).build().expect("a cache");
    let held: Vec<_> = (0..600).map(|n| cache.alloc([n; 8]).expect("room")).collect();
    // SAFETY: the child does nothing but use kmem, and ends.
    let pid = unsafe { fork() };
    if pid == 0 {
        let (mut more, mut room) = (0, Vec::with_capacity(1000));
        while let Ok(object) = cache.alloc([0; 8]) {
            more += 1;
            room.push(object);
        }
        drop(held);
        drop(room);
        let good = more == 400 && cache.shrink().is_ok() && account.used() == 0;
        // SAFETY: it ends here.
        unsafe { _exit(if good { 0 } else { 1 }) }
    }
    let mut status = 0;
    // SAFETY: the status is a word.
    assert_eq!((unsafe { waitpid(pid, &raw mut status, 0) }, status), (pid, 0));
    drop(held);
}
