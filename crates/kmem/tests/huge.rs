//! Huge pages: where the heap has grown, and not where it gave memory back. Each case runs in a process of its own.

mod case;

use case::{case, passes};

#[global_allocator]
static ALLOCATOR: kmem::Kmalloc = kmem::Kmalloc;

/// A field of this process's mappings added up, in KiB.
fn all_mappings(field: &str) -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
    smaps.lines().filter_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<usize>().ok()).sum()
}

fn huge() -> usize {
    all_mappings("AnonHugePages:")
}

/// Whether the kernel makes huge pages of what is advised, and of nothing else.
fn kernel_takes_advice() -> bool {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let setting = std::fs::read_to_string(path).unwrap_or_default();
    let takes = setting.contains("[madvise]");
    if !takes {
        println!("skipped: {path} is {:?}, and this needs [madvise]", setting.trim());
    }
    takes
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    match std::env::var("KMEM_CASE").as_deref() {
        Ok("small") => small(),
        Ok("grown") => grown(),
        Ok("untouched") => untouched(),
        Ok("off") => off(),
        other => panic!("no such case: {other:?}"),
    }
}

#[test]
fn a_heap_that_has_grown_has_huge_pages_until_it_gives_them_back() {
    if kernel_takes_advice() {
        passes(case("small", &[]).env("KMEM_HUGE", ""));
        passes(case("grown", &[]).env("KMEM_HUGE", ""));
        passes(case("untouched", &[]).env("KMEM_HUGE", ""));
    }
}

#[test]
fn there_are_none_where_they_are_not_wanted() {
    if kernel_takes_advice() {
        passes(case("off", &[]).env("KMEM_HUGE", "off"));
    }
}

/// So many MiB in objects of 128 bytes, all written.
#[expect(clippy::vec_box, reason = "single objects are what this is about")]
fn objects(mib: usize) -> Vec<Box<[u8; 128]>> {
    (0..mib << 13).map(|n| Box::new([n as u8; 128])).collect()
}

fn small() {
    let held = objects(5);
    assert_eq!(huge(), 0, "KiB in huge pages of a program of {} objects", held.len());
    // Nor where the kernel makes huge pages of whatever is not excepted.
    assert!(flags_at(&raw const *held[0] as usize).contains(" nh"), "the first objects are not excepted");
}

/// The kernel's flags of the mapping at an address.
fn flags_at(address: usize) -> String {
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
    let is_there = |line: &&str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let parse = |number| usize::from_str_radix(number, 16).ok();
        range.and_then(|(from, to)| Some(parse(from)?..parse(to)?)).is_some_and(|range| range.contains(&address))
    };
    let mut rest = smaps.lines().skip_while(|line| !is_there(line));
    rest.find(|line| line.starts_with("VmFlags:")).expect("a mapping at the address, with flags").to_string()
}

fn off() {
    let held = objects(32);
    assert!(!flags_at(&raw const *held[0] as usize).contains(" nh"), "advice although it is off");
    assert_eq!(huge(), 0, "KiB in huge pages of a program of {} objects", held.len());
}

fn grown() {
    let mut held = objects(64);
    let (full, full_huge) = (all_mappings("Rss:"), huge());
    assert!(full_huge > 48 << 10, "{full_huge} of {full} KiB are huge");
    let mut n = 0;
    held.retain(|_| {
        n += 1;
        n % 1000 == 0
    });
    kmem::trim().expect("no callback");
    let (sparse, sparse_huge) = (all_mappings("Rss:"), huge());
    println!("case grown: {full} KiB, {full_huge} huge; then {sparse} and {sparse_huge}, {} objects", held.len());
    assert!(sparse < full / 5, "{full} KiB became {sparse}");
    // Whatever has been given back in part is out of reach of the kernel's collector of huge pages.
    assert!(sparse_huge <= 4 << 10, "{sparse_huge} KiB are still huge");
    assert!(held.iter().all(|object| object.iter().all(|byte| *byte == object[0])), "objects changed in use");
}

/// Large objects of which little is used have small pages, also after small ones: but for two steps of 2 MiB at most,
/// in which the small ones still are a quarter of what was handed out lately.
fn untouched() {
    let held = objects(32);
    let before = all_mappings("Rss:");
    let large: Vec<Vec<u8>> = (0..64).map(|_| Vec::with_capacity(1 << 20)).collect();
    // SAFETY: the capacity is there.
    large.iter().for_each(|one| unsafe { one.as_ptr().cast_mut().write_volatile(1) });
    let more = all_mappings("Rss:") - before;
    assert!(more < 5 << 10, "{more} KiB for a page of each of 64 MiB, beside {} objects", held.len());
}
