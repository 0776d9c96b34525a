//! The order of locks is asserted on the Linux platform too, thread by thread, in every debug test (I29).
#![cfg(debug_assertions)]

use kmem_core::internals::Mutex;
use kmem_core::platform::Park;
use kmem_core::sync::Rank;
use kmem_linux::Linux;

/// What this process can have.
fn discover() -> Linux {
    // SAFETY: no section runs in this test.
    unsafe { Linux::discover() }
}

fn wrong_order(linux: &Linux) {
    let (node, registry) = (Mutex::new(Rank::Node, ()), Mutex::new(Rank::Registry, ()));
    let _node = node.lock(linux);
    let _registry = registry.lock(linux);
}

#[test]
#[should_panic(expected = "lock order")]
fn a_wrong_order_is_an_assertion() {
    wrong_order(&discover());
}

#[test]
fn each_thread_has_ranks_of_its_own() {
    let linux = discover();
    let node = Mutex::new(Rank::Node, ());
    let _node = node.lock(&linux);
    std::thread::scope(|scope| {
        let right_order = || {
            let registry = Mutex::new(Rank::Registry, ());
            drop(registry.lock(&linux));
        };
        assert!(scope.spawn(right_order).join().is_ok(), "what another thread holds is no matter");
        assert!(scope.spawn(|| wrong_order(&linux)).join().is_err(), "but its own order is");
    });
    assert!(!linux.held_ranks().expect("kept on Linux").is_empty());
}
