fn main() {
    let cache = kmem::Cache::<u64>::new("gone").unwrap();
    cache.destroy().unwrap();
    let _ = cache.alloc(1);
}
