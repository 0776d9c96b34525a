//! A whole program on kmem: the global allocator, and three typed caches that several threads share.
//!
//! A toy of a file system: inodes and directory entries in caches of their own, buffers that stay constructed between
//! uses, names in ordinary `String`s.

use std::collections::HashMap;
use std::error::Error;

use kmem::{Cache, CacheBox, Kmalloc, ObjectCache};

#[global_allocator]
static ALLOCATOR: Kmalloc = Kmalloc;

struct Inode {
    number: u64,
    size: u64,
}

struct Entry<'i> {
    name: String,
    inode: CacheBox<'i, Inode>,
}

const THREADS: u64 = 4;
const FILES: u64 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let inodes: Cache<Inode> = Cache::builder("example_inode").align(64).build()?;
    let entries: Cache<Entry<'_>> = Cache::new("example_entry")?;
    let buffers: ObjectCache<Vec<u8>> =
        Cache::builder("example_buffer").constructed_by(|| Vec::with_capacity(4096)).build()?;

    let total: u64 = std::thread::scope(|scope| {
        let (inodes, entries, buffers) = (&inodes, &entries, &buffers);
        let workers: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || work(thread, inodes, entries, buffers))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no worker panics").expect("there is memory")).sum()
    });
    let expected = THREADS * (0..FILES).map(|file| file % 4096).sum::<u64>();
    assert_eq!(total, expected);
    println!("{} files, {total} bytes, {:?}", THREADS * FILES, kmem::info().mode);

    // Nothing is in use any more: all three can go.
    drop(entries);
    buffers.destroy()?;
    inodes.destroy()?;
    Ok(())
}

/// Makes files, fills them through a buffer, and unlinks every other one on the way.
fn work<'i>(
    thread: u64,
    inodes: &'i Cache<Inode>,
    entries: &Cache<Entry<'i>>,
    buffers: &ObjectCache<Vec<u8>>,
) -> Result<u64, kmem::AllocError> {
    let mut directory: HashMap<String, CacheBox<'_, Entry<'i>>> = HashMap::new();
    let mut unlinked = 0;
    for file in 0..FILES {
        let mut buffer = buffers.alloc()?;
        buffer.resize((file % 4096) as usize, thread as u8);
        let inode = inodes.alloc(Inode { number: thread * FILES + file, size: buffer.len() as u64 })?;
        buffer.clear();
        let name = format!("file-{}", inode.number);
        let entry = entries.alloc_with(|| Entry { name: name.clone(), inode })?;
        directory.insert(name, entry);
        if file % 2 == 1 {
            let gone = directory.remove(&format!("file-{}", thread * FILES + file - 1)).expect("it was made");
            assert!(gone.name.starts_with("file-"));
            unlinked += gone.inode.size;
        }
    }
    Ok(unlinked + directory.values().map(|entry| entry.inode.size).sum::<u64>())
}
