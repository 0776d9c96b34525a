use std::rc::Rc;

fn on_another_thread(_: impl FnOnce() + Send) {}

fn main() {
    let cache = kmem::Cache::<Rc<u64>>::new("sent").unwrap();
    let object = cache.alloc(Rc::new(1)).unwrap();
    on_another_thread(move || drop(object));
}
