fn main() {
    let object;
    {
        let cache = kmem::Cache::<u64>::new("short").unwrap();
        object = cache.alloc(1).unwrap();
    }
    println!("{object}");
}
