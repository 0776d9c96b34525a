//! The Linux platform by itself: which mode is found, sections before and after the table is published, fences that are
//! refused, fork, and the page source with and without a limit of address space. Each case runs in a process of its
//! own, since the hot words exist once.

use std::process::{Command, Output};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kmem::linux::fault::{self, Call};
use kmem::linux::{Linux, Mode, Why, hot, rseq, sys};
use kmem_core::cpu::CpuSet;
use kmem_core::percpu::{Area, CpuTable, READABLE, SlotIndex};
use kmem_core::platform::{Clock, CommitError, MoveError, PageSource, Park, Sections, Topology};

const SLOT: SlotIndex = SlotIndex(1);
const SLOTS: usize = 2;
const CAPACITY: usize = 16;
const WORD: usize = size_of::<usize>();
const OFF: (&str, &str) = ("KMEM_RSEQ", "off");
const CID: (&str, &str) = ("KMEM_RSEQ", "cid");
const OWN: [(&str, &str); 2] = [("GLIBC_TUNABLES", "glibc.pthread.rseq=0"), ("KMEM_RSEQ", "own")];

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
    fn setrlimit(resource: i32, limits: *const [u64; 2]) -> i32;
}

/// Runs `case` in a child process.
fn run(case: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.args(["--ignored", "--exact", "child", "--nocapture"]).env_remove("KMEM_RSEQ").env_remove("GLIBC_TUNABLES");
    command.env("KMEM_CASE", case).envs(variables.iter().copied()).output().expect("a child process")
}

fn passes(case: &str, variables: &[(&str, &str)]) -> String {
    let output = run(case, variables);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{case} {variables:?}: {}\n{text}", output.status);
    text
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    match std::env::var("KMEM_CASE").as_deref() {
        Ok("mode") => println!("mode: {:?}", Linux::discover().mode()),
        Ok("mode-no-fences") => {
            fault::fail_after(Call::Register, 0);
            println!("mode: {:?}", Linux::discover().mode());
        }
        Ok("mode-no-cpus") => {
            fault::fail_after(Call::Affinity, 0);
            println!("mode: {:?}", Linux::discover().mode());
        }
        Ok("mode-no-ids") => {
            fault::fail_after(Call::Ids, 0);
            let linux = Linux::discover();
            println!("mode: {:?}, without ids: {}", linux.mode(), linux.lacks_ids());
        }
        Ok("unregistered") => unregistered(),
        Ok("sections") => sections_before_and_after(),
        Ok("descriptors") => descriptors_cover(),
        Ok("fence") => refused_fence(),
        Ok("fork") => forked(),
        Ok("window") => window(Linux::discover(), 1 << 40),
        Ok("limited") => limited(),
        other => panic!("no such case: {other:?}"),
    }
}

/// A platform whose every CPU has an area with one enabled slot.
fn world() -> (&'static Linux, &'static CpuTable) {
    let linux: &Linux = Box::leak(Box::new(Linux::discover()));
    let table: &CpuTable = Box::leak(Box::new(CpuTable::map(linux, linux.possible_cpus(), SLOTS).expect("a table")));
    for cpu in 0..linux.possible_cpus() {
        let area = Area::map(linux, SLOTS).expect("an area");
        let storage = linux.map(4096).expect("a magazine");
        // SAFETY: the area is private, the storage a page of ours.
        unsafe {
            // The mark has words before it that a section may read.
            storage.cast::<usize>().add(READABLE - 1).write(1);
            let first = storage.as_ptr() as usize + READABLE * WORD;
            let slot = area.slot(SLOT);
            slot.cursor.store(first.wrapping_sub(area.address()), Ordering::Release);
            slot.end.store((first + CAPACITY * WORD).wrapping_sub(area.address()), Ordering::Release);
        }
        table.publish(cpu, area);
    }
    (linux, table)
}

/// What [`entry_alloc`] answers where it cannot serve.
const SLOW: usize = 48;
/// Frees that [`entry_free`] could not do.
static SLOW_FREES: AtomicUsize = AtomicUsize::new(0);

extern "C" fn slow_alloc(_size: usize) -> *mut u8 {
    SLOW as *mut u8
}

extern "C" fn slow_free(_address: *mut u8) {
    SLOW_FREES.fetch_add(1, Ordering::Relaxed);
}

#[unsafe(naked)]
unsafe extern "C" fn entry_alloc(_size: usize) -> *mut u8 {
    kmem::__entry_alloc!(entry_alloc_by_id)
}

#[unsafe(naked)]
unsafe extern "C" fn entry_alloc_by_id(_size: usize) -> *mut u8 {
    kmem::__entry_alloc_by_id!(slow_alloc)
}

#[unsafe(naked)]
unsafe extern "C" fn entry_free(_address: *mut u8) {
    kmem::__entry_free!(entry_free_by_id)
}

#[unsafe(naked)]
unsafe extern "C" fn entry_free_by_id(_address: *mut u8) {
    kmem::__entry_free_by_id!(slow_free)
}

/// Whether a pair of put and take in line works on this thread; tried a few times, since the thread may move between
/// the two.
fn hits() -> bool {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    // SAFETY: the slot is in the table, and the objects are numbers that nobody dereferences.
    (0..100).any(|_| unsafe { rseq::push(SLOT, object) && rseq::pop(SLOT).is_some() })
}

/// Whether sections in line can hit.
fn inline(linux: &Linux) -> bool {
    matches!(linux.mode(), Mode::Rseq | Mode::OwnRseq)
}

/// The same through the platform, which knows the mode.
fn hits_through(linux: &Linux, table: &CpuTable) -> bool {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    // SAFETY: as in `hits`.
    (0..100).any(|_| unsafe { linux.push(table, SLOT, object) && linux.pop(table, SLOT).is_some() })
}

/// Whether what the platform puts is what [`entry_alloc`] takes. (1 byte has the class of the slot.)
fn entry_hits(linux: &Linux, table: &CpuTable) -> bool {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    // SAFETY: as in `hits`.
    (0..100).any(|_| unsafe {
        let hit = linux.push(table, SLOT, object) && entry_alloc(1) == object.as_ptr();
        if !hit {
            linux.pop(table, SLOT);
        }
        hit
    })
}

fn sections_before_and_after() {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    // SAFETY: whoever comes too early is sent to the slow path, which does nothing with the address.
    unsafe {
        assert_eq!(entry_alloc(1) as usize + entry_alloc(64) as usize + entry_alloc(2000) as usize, 3 * SLOW);
        entry_free(object.as_ptr());
        assert_eq!(SLOW_FREES.swap(0, Ordering::Relaxed), 1);
    }
    let (linux, table) = world();
    linux.slow_path_enter();
    assert!(!hot::is_published());
    // SAFETY: leaked, and once.
    unsafe { linux.publish(table) };
    linux.slow_path_enter();
    // By concurrency id the sections in line miss, and the entries do not.
    let (restartable, inline) = (!matches!(linux.mode(), Mode::Fallback(_)), inline(linux));
    assert_eq!(hits(), inline);
    assert!(hits_through(linux, table));
    assert_eq!(entry_hits(linux, table), restartable);
    assert!(linux.current_cpu() < linux.possible_cpus());
    let others = std::thread::spawn(move || {
        linux.slow_path_enter();
        hits()
    });
    assert_eq!(others.join().expect("a thread"), inline);
    // SAFETY: as in `hits`. In one slot or another, batches come back in the order last in, first out.
    let order = (0..100).any(|_| unsafe {
        let mut out = [0; 5];
        linux.push_batch(table, SLOT, &[16, 32, 48]) == 3
            && linux.pop_batch(table, SLOT, &mut out) >= 3
            && out[..3] == [48, 32, 16]
    });
    assert!(order);
    // SAFETY: as above. What does not fit stays out, nothing is taken into no room, and nothing is put from nothing.
    unsafe {
        assert!((0..100).any(|_| linux.push_batch(table, SLOT, &[16; CAPACITY + 5]) == CAPACITY));
        assert_eq!(linux.push_batch(table, SLOT, &[]) + linux.pop_batch(table, SLOT, &mut []), 0);
    }
}

#[test]
fn sections_miss_before_publish_and_hit_after() {
    passes("sections", &[]);
    passes("sections", &OWN);
    passes("sections", &[CID]);
    passes("sections", &[OFF]);
}

/// The kernel is told to forget this thread's area, whose concurrency id reads 0 from then on: another thread's.
fn unregistered() {
    let (linux, table) = world();
    // SAFETY: leaked, and once.
    unsafe { linux.publish(table) };
    if linux.mode() != Mode::Cid {
        return println!("no concurrency ids here");
    }
    assert!(hits_through(linux, table) && entry_hits(linux, table));
    std::thread::spawn(move || {
        let area = hot::libc_area().expect("libc's area");
        // SAFETY: the area is libc's, of this thread, and nobody else here counts on its registration.
        let id = unsafe {
            let area = hot::area_at(area.offset);
            sys::rseq_unregister(std::ptr::from_ref(area).cast_mut().cast()).expect("it was registered");
            area.mm_cid.load(Ordering::Relaxed)
        };
        assert_eq!(id, 0, "the id of a thread that is not registered looks like any other");
        assert!(linux.current_cpu() >= linux.possible_cpus());
        assert!(!hits_through(linux, table) && !entry_hits(linux, table));
    })
    .join()
    .expect("a thread");
    assert!(hits_through(linux, table));
}

#[test]
fn by_concurrency_id_a_thread_that_is_not_registered_misses() {
    passes("unregistered", &[CID]);
}

#[test]
fn the_mode_follows_the_environment() {
    let first = passes("mode", &[]);
    assert!(passes("mode", &[OFF]).contains("Fallback(DisabledByEnvironment)"));
    if first.contains("mode: Rseq") {
        assert!(passes("mode", &OWN).contains("mode: OwnRseq"));
        assert!(passes("mode", &OWN[..1]).contains("Fallback(DisabledByLibc)"));
        assert!(passes("mode", &OWN[1..]).contains("Fallback(AreaTaken)"));
        assert!(passes("mode-no-fences", &[]).contains("Fallback(NoMembarrier)"));
        assert!(passes("mode-no-cpus", &[]).contains("Fallback(CpusUnknown)"));
        assert!(passes("mode-no-ids", &[CID]).contains("mode: Rseq, without ids: true"));
        assert!(passes("mode-no-ids", &[]).contains("mode: Rseq, without ids: false"), "nobody asked for them");
        assert!(passes("mode-no-fences", &[CID]).contains("Fallback(NoMembarrier)"));
        println!("with {CID:?}: {}", passes("mode", &[CID]));
    }
}

#[test]
fn modes_say_what_to_do() {
    assert_eq!(Mode::Rseq.to_string(), "rseq");
    let text = Mode::Fallback(Why::DisabledByLibc).to_string();
    assert!(text.starts_with("fallback: ") && text.contains("KMEM_RSEQ=own"), "{text}");
}

/// What the kernel reads of a section.
#[repr(C)]
struct Descriptor {
    version: u32,
    flags: u32,
    start: *const u8,
    length: usize,
    abort: *const u8,
}

const SECTIONS: [&str; 9] = [
    "push",
    "pop",
    "push_batch",
    "pop_batch",
    "given push",
    "given pop",
    "given push_batch",
    "given pop_batch",
    "entry_alloc",
];

/// Runs a section, and answers its descriptor, which stays bound until the thread is next preempted (in an area that is
/// not registered, for ever).
fn descriptor(section: usize, linux: &Linux, table: &CpuTable) -> &'static Descriptor {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    let mut out = [0; 2];
    loop {
        // SAFETY: as in `hits`; the areas are this thread's, libc's being registered, or else our own; sections bind
        // descriptors that stay mapped.
        unsafe {
            // By concurrency id the first four bind to our own, and miss.
            let area = hot::libc_area().filter(|libc| libc.size > 0 && (section > 3 || inline(linux)));
            let area = area.map_or_else(|| &(*hot::thread_block()).rseq, |libc| hot::area_at(libc.offset));
            match section {
                0 => _ = rseq::push(SLOT, object),
                1 => _ = rseq::pop(SLOT),
                2 => _ = rseq::push_batch(SLOT, &[16, 32]),
                3 => _ = rseq::pop_batch(SLOT, &mut out),
                4 => _ = linux.push(table, SLOT, object),
                5 => _ = linux.pop(table, SLOT),
                6 => _ = linux.push_batch(table, SLOT, &[16, 32]),
                7 => _ = linux.pop_batch(table, SLOT, &mut out),
                _ => _ = entry_alloc(1),
            }
            let bound = area.rseq_cs.load(Ordering::Relaxed) as *const Descriptor;
            if let Some(descriptor) = bound.as_ref() {
                return descriptor;
            }
        }
    }
}

/// A range that began an instruction too late, or ended one too early, would be wrong only once in very many
/// preemptions: no stress finds that.
fn descriptors_cover() {
    let (linux, table) = world();
    // SAFETY: leaked, and once.
    unsafe { linux.publish(table) };
    linux.slow_path_enter();
    if matches!(linux.mode(), Mode::Fallback(_)) {
        return;
    }
    for (section, name) in SECTIONS.iter().enumerate() {
        let Descriptor { version, flags, start, length, abort } = *descriptor(section, linux, table);
        assert_eq!((version, flags), (0, 0), "{name}");
        assert!((20..200).contains(&length), "{name}: {length} bytes");
        // SAFETY: the code of the section and of its abort handler is mapped; instructions have at least as many bytes
        // before and after.
        let (before, first, last, signature, jump) = unsafe {
            let end = start.add(length);
            (
                bytes::<6>(start.sub(6)),
                bytes::<6>(start),
                bytes::<5>(end.sub(5)),
                bytes::<4>(abort.sub(4)),
                bytes::<5>(abort),
            )
        };
        // mov fs:[r + 8], r: five bytes, or six where r is r12.
        let store = if before[5] == 8 && before[1] == 0x64 { &before[1..] } else { &before[..] };
        assert!(store[0] == 0x64 && store[2] == 0x89, "{name}: the range begins behind the bind: {before:x?}");
        assert!(first[0] == 0x64 && first[2] == 0x63, "{name}: and with the load of the CPU number: {first:x?}");
        let commits = (3..=5).any(|bytes| store_of_a_word(&last[5 - bytes..]) == Some(bytes));
        assert!(commits, "{name}: its last instruction is the commit: {last:x?}");
        assert_eq!(signature, 0x5305_3053u32.to_le_bytes(), "{name}");
        let target = match jump[0] {
            0xEB => abort.wrapping_add(2).wrapping_offset(isize::from(jump[1] as i8)),
            0xE9 => {
                abort.wrapping_add(5).wrapping_offset(i32::from_le_bytes([jump[1], jump[2], jump[3], jump[4]]) as isize)
            }
            other => panic!("{name}: an abort handler that begins with {other:x}"),
        };
        let back = start as usize - target as usize;
        assert!((15..40).contains(&back), "{name}: an aborted section binds anew: {back}");
    }
}

/// Bytes of the instruction at the beginning of `code`, if it is `mov [r], r` of a word: three, one more with an index or
/// where the base is r12, one more with a displacement of a byte.
fn store_of_a_word(code: &[u8]) -> Option<usize> {
    let &[rex, 0x89, operands, ..] = code else { return None };
    let displaced = match operands >> 6 {
        0 => 0,
        1 => 1,
        _ => return None,
    };
    (rex & 0xF8 == 0x48).then_some(3 + usize::from(operands & 7 == 4) + displaced)
}

/// # Safety
/// The bytes are mapped.
unsafe fn bytes<const N: usize>(at: *const u8) -> [u8; N] {
    // SAFETY: the caller's promise.
    unsafe { at.cast::<[u8; N]>().read_unaligned() }
}

#[test]
fn descriptors_cover_sections_from_bind_to_commit() {
    passes("descriptors", &[]);
    passes("descriptors", &[CID]);
}

fn refused_fence() {
    let (linux, _) = world();
    fault::fail_after(Call::Fence, 1);
    linux.fence(&CpuSet::of(0));
    println!("the first fence was granted");
    linux.fence(&CpuSet::of(0));
    println!("and a refused one was passed over");
}

#[test]
fn a_refused_fence_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    if passes("mode", &[]).contains("Fallback") {
        return;
    }
    let output = run("fence", &[]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("granted") && !out.contains("passed over"), "{out}");
    assert!(err.contains("membarrier is refused"), "{err}");
    assert_eq!(output.status.signal(), Some(6));
}

/// Forks while other threads are in sections; the child must be able to take, put and fence.
fn forked() {
    let (linux, table) = world();
    // SAFETY: leaked, and once.
    unsafe { linux.publish(table) };
    linux.slow_path_enter();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                linux.slow_path_enter();
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: as in `hits`.
                    unsafe {
                        linux.push(table, SLOT, NonNull::new(64 as *mut u8).expect("not null"));
                        linux.pop(table, SLOT);
                    }
                }
            });
        }
        for _ in 0..50 {
            linux.before_fork();
            // SAFETY: the child calls the platform and _exit only.
            let pid = unsafe { fork() };
            linux.after_fork();
            if pid == 0 {
                let set: CpuSet = (0..linux.possible_cpus()).collect();
                set.iter().take(2).for_each(|cpu| linux.fence(&CpuSet::of(cpu)));
                linux.fence(&set);
                linux.slow_path_enter();
                // Its ids are its own: one that was left over from the parent would be another thread's some day.
                let first_id = linux.mode() != Mode::Cid || linux.current_cpu() == 0;
                let fine = first_id && hits_through(linux, table) && hits() == inline(linux);
                // SAFETY: ends the child.
                unsafe { _exit(i32::from(!fine)) };
            }
            let mut status = 0;
            // SAFETY: the status is a word.
            assert_eq!(unsafe { waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0, "the child's status");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn fork_leaves_a_working_platform() {
    passes("fork", &[]);
    passes("fork", &OWN);
    passes("fork", &[CID]);
    passes("fork", &[OFF]);
}

fn window(linux: Linux, len: usize) {
    let window = linux.reserve().expect("a window");
    assert_eq!((window.len, window.base % (2 << 20)), (len, 0), "{window:?}");
    let piece = 2 << 20;
    for start in [window.base, window.base + piece, window.base + window.len - piece] {
        // SAFETY: pieces of the window, each once.
        unsafe {
            assert_eq!(linux.commit(start, piece), Ok(()), "{start:x}");
            let last = (start + piece - 1) as *mut u8;
            assert_eq!(last.read(), 0);
            last.write(7);
            linux.purge(start, piece);
            assert_eq!(last.read(), 0);
            last.write(8);
        }
    }
    moving(&linux, window.base + (8 << 20), window.base + (16 << 20));
    let mapping = linux.map(10_000).expect("a mapping");
    // SAFETY: ours, and given back once.
    unsafe {
        mapping.add(9_999).write(1);
        linux.unmap(mapping, 10_000);
    }
    fault::fail_after(Call::Map, 0);
    assert!(linux.map(1).is_none());
    fault::heal(Call::Map);
    fault::fail_after(Call::Commit, 0);
    // SAFETY: refused.
    assert_eq!(unsafe { linux.commit(window.base + 8 * piece, piece) }, Err(CommitError::NoMemory));
}

/// Pages go from one committed piece of the window to another, and leave a place where others may be.
fn moving(linux: &Linux, from: usize, to: usize) {
    let (piece, longer) = (2 << 20, 3 << 20);
    // SAFETY: pieces of the window that nobody else uses.
    unsafe {
        assert_eq!((linux.commit(from, piece), linux.commit(to, longer)), (Ok(()), Ok(())));
        let words = |at: usize| [at, at + 4096, at + piece - 8].map(|at| at as *mut usize);
        words(from).into_iter().for_each(|word| word.write(word as usize));
        words(to).into_iter().chain(words(to + (1 << 20))).for_each(|word| word.write(1));
        fault::fail_after(Call::Move, 0);
        assert_eq!(linux.move_pages(from, piece, to, longer), Err(MoveError::Refused));
        fault::heal(Call::Move);
        // A range that is not all there is refused by the kernel, and both are as they were.
        assert_eq!(linux.move_pages(from + piece, piece, to, longer), Err(MoveError::Refused));
        to_is_committed(to);
        assert_eq!(linux.move_pages(from, piece, to, longer), Ok(()));
        let came = |to: usize| words(to).into_iter().zip(words(from)).all(|(new, old)| new.read() == old as usize);
        assert!(came(to));
        assert_eq!(((to + longer - 8) as *const usize).read(), 0, "the rest is fresh");
        // What was left can be committed again, and is zero.
        assert_eq!(linux.commit(from, piece), Ok(()));
        assert!(words(from).into_iter().all(|word| word.read() == 0));
        // What was moved and what is behind it are two mappings: such a range stays where it is, all of it.
        let (next, end) = (to + longer, to + 2 * longer);
        assert_eq!((linux.commit(next, longer), linux.commit(end, 3 * longer)), (Ok(()), Ok(())));
        (next as *mut usize).write(7);
        assert_eq!(linux.move_pages(to, 2 * longer, end, 3 * longer), Err(MoveError::Refused));
        assert!(came(to) && (next as *const usize).read() == 7);
        linux.uncommit(from, piece);
        linux.uncommit(to, 5 * longer);
    }
}

fn to_is_committed(at: usize) {
    // SAFETY: the test's own piece of the window.
    unsafe {
        (at as *mut usize).write(1);
        assert_eq!((at as *mut usize).read(), 1);
    }
}

fn limited() {
    let limit = 1u64 << 30;
    // SAFETY: the limits are two words.
    assert_eq!(unsafe { setrlimit(9, &[limit, limit]) }, 0);
    let linux = Linux::discover();
    let claimed = linux.reserve().expect("a place");
    // SAFETY: pieces of the window, each once.
    unsafe {
        assert_eq!(linux.commit(claimed.base + (64 << 20), 1 << 20), Ok(()));
        assert_eq!(linux.commit(claimed.base + (63 << 20), 2 << 20), Err(CommitError::Taken));
        let mapping = linux.map(512 << 20).expect("half of the limit");
        assert_eq!(linux.commit(claimed.base + (128 << 20), 768 << 20), Err(CommitError::NoMemory));
        linux.unmap(mapping, 512 << 20);
    }
    window(Linux::discover(), 1 << 30);
}

#[test]
fn windows_are_claimed() {
    passes("window", &[]);
    passes("limited", &[]);
}

#[test]
fn cpus_nodes_threads_and_time_are_plausible() {
    let linux = Linux::discover();
    assert!(linux.initial_cpus().iter().all(|cpu| cpu < linux.possible_cpus()));
    assert!(linux.nodes() >= 1 && linux.node_of(0) < linux.nodes() && linux.node_of(usize::MAX) == 0);
    let here = linux.thread_token();
    let there = std::thread::scope(|scope| scope.spawn(|| linux.thread_token()).join().expect("a thread"));
    assert!(here != 0 && there != 0 && here != there);
    let stack = hot::initial_stack();
    // SAFETY: the stack begins with the count of arguments.
    assert!(stack.is_null() || unsafe { stack.read() } == std::env::args().count());
    assert!(linux.held_ranks().expect("known").is_empty());
    let before = linux.now();
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert!(linux.now() - before >= 2_000_000);
}
