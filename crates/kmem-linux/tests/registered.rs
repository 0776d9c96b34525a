//! The fork handlers are there before any code of the program, also where it has not used kmem yet: the constructor of
//! a library crate survives the linker. One test, for no other may make the engine meanwhile.

#[test]
fn fork_handlers_are_registered_before_main() {
    assert!(kmem_linux::existing().is_none(), "nothing was used yet");
    assert!(kmem_linux::fork_handlers_are_registered());
}
