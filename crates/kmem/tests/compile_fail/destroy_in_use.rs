fn boxed() {
    let cache = kmem::Cache::<u64>::new("boxed").unwrap();
    let object = cache.alloc(1).unwrap();
    cache.destroy().unwrap();
    drop(object);
}

fn bulk() {
    let cache = kmem::Cache::<u64>::new("bulk").unwrap();
    let mut out = kmem::Bulk::<u64, 8>::new();
    cache.alloc_bulk(8, &mut out).unwrap();
    cache.destroy().unwrap();
    drop(out);
}

fn constructed() {
    let cache = kmem::Cache::builder("constructed").constructed_by(|| 1u64).build().unwrap();
    let object = cache.alloc().unwrap();
    cache.destroy().unwrap();
    drop(object);
}

fn main() {}
