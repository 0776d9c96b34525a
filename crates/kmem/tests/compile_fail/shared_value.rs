use std::cell::Cell;

fn on_another_thread(_: impl FnOnce() + Send) {}

fn main() {
    let cache = kmem::Cache::<Cell<u64>>::new("shared").unwrap();
    let object = cache.alloc(Cell::new(1)).unwrap();
    on_another_thread(|| object.set(2));
    object.set(3);
}
