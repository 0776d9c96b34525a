//! CPUs that go and come under an ordinary program, through the public face. One test at a time: the CPUs are the
//! process's.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kmem::hotplug::{self, Event, HotplugError, Listener, Refused};
use kmem::{Cache, CreateError, InsideCallback};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for cpu in 0..hotplug::possible() {
        // CPUs of other tests' doing, and CPUs that do not exist: an engine may use their slots all the same.
        let _ = hotplug::cpu_up(cpu);
    }
    guard
}

#[test]
fn what_cannot_be_done_is_said() {
    let _alone = alone();
    let possible = hotplug::possible();
    assert_eq!(hotplug::cpu_down(possible), Err(HotplugError::OutOfRange { cpu: possible, possible }));
    assert_eq!(hotplug::cpu_up(usize::MAX), Err(HotplugError::OutOfRange { cpu: usize::MAX, possible }));
    assert_eq!(hotplug::cpu_up(0), Err(HotplugError::AlreadyOnline { cpu: 0 }));
    hotplug::cpu_down(possible - 1).unwrap();
    assert_eq!(hotplug::cpu_down(possible - 1), Err(HotplugError::AlreadyOffline { cpu: possible - 1 }));
}

#[test]
fn the_last_cpu_stays_and_serves() {
    let _alone = alone();
    let online: Vec<_> = hotplug::online().iter().collect();
    let (last, others) = online.split_last().unwrap();
    others.iter().for_each(|cpu| hotplug::cpu_down(*cpu).unwrap());
    assert_eq!(hotplug::cpu_down(*last), Err(HotplugError::LastCpu { cpu: *last }));
    let cache: Cache<[u64; 9]> = Cache::new("hotplug_last").unwrap();
    let held: Vec<_> = (0..10_000).map(|n| cache.alloc([n; 9]).unwrap()).collect();
    assert!(held.iter().enumerate().all(|(n, object)| **object == [n as u64; 9]));
    drop(held);
    cache.destroy().unwrap();
}

#[test]
fn what_a_cpu_cached_is_not_lost_when_it_goes() {
    let _alone = alone();
    let cache: Cache<[u8; 40]> = Cache::new("hotplug_moves").unwrap();
    let held: Vec<_> = (0..1000).map(|_| cache.alloc([0; 40]).unwrap()).collect();
    drop(held);
    let online: Vec<_> = hotplug::online().iter().collect();
    for cpu in &online[1..] {
        hotplug::cpu_down(*cpu).unwrap();
    }
    let stats = cache.stats();
    assert_eq!(stats.total, stats.free + stats.in_slots + stats.in_depot);
    assert!(stats.cpus <= 1, "slots of CPUs that went are disabled");
    // Objects in the slot of a CPU that went never make a destroy busy (I16).
    cache.destroy().unwrap();
}

struct Curious {
    armed: AtomicBool,
    refuse: AtomicBool,
    heard: AtomicUsize,
}

impl Listener for Curious {
    fn event(&self, event: Event, cpu: usize) -> Result<(), Refused> {
        if !self.armed.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.heard.fetch_add(1, Ordering::Relaxed);
        // Ordinary memory is served in here.
        let text = format!("{event:?} {cpu}");
        assert!(!text.is_empty());
        // All that would wait for the gate is refused (I33).
        assert_eq!(Cache::<u8>::new("hotplug_inside").unwrap_err(), CreateError::InsideCallback);
        assert_eq!(hotplug::cpu_up(cpu), Err(HotplugError::InsideCallback));
        assert!(hotplug::subscribe(&CURIOUS).is_err() && kmem::trim() == Err(InsideCallback));
        // SAFETY: refused before it looks at anything.
        assert!(unsafe { kmem::validate() }.is_err());
        let refuse = self.refuse.load(Ordering::Relaxed) && matches!(event, Event::UpPrepare | Event::DownPrepare);
        if refuse { Err(Refused) } else { Ok(()) }
    }
}

static CURIOUS: Curious =
    Curious { armed: AtomicBool::new(false), refuse: AtomicBool::new(false), heard: AtomicUsize::new(0) };

#[test]
fn listeners_hear_and_may_refuse() {
    let _alone = alone();
    let cpu = hotplug::possible() - 1;
    hotplug::subscribe(&CURIOUS).unwrap();
    CURIOUS.armed.store(true, Ordering::Relaxed);
    CURIOUS.refuse.store(true, Ordering::Relaxed);
    assert_eq!(hotplug::cpu_down(cpu), Err(HotplugError::Refused { cpu }));
    assert!(hotplug::online().contains(cpu));
    CURIOUS.refuse.store(false, Ordering::Relaxed);
    hotplug::cpu_down(cpu).unwrap();
    CURIOUS.refuse.store(true, Ordering::Relaxed);
    assert_eq!(hotplug::cpu_up(cpu), Err(HotplugError::Refused { cpu }));
    assert!(!hotplug::online().contains(cpu));
    CURIOUS.refuse.store(false, Ordering::Relaxed);
    hotplug::cpu_up(cpu).unwrap();
    CURIOUS.armed.store(false, Ordering::Relaxed);
    // Asked and refused; asked, dead; asked and refused; asked, online.
    assert_eq!(CURIOUS.heard.load(Ordering::Relaxed), 6);
}

#[test]
fn caches_live_and_die_while_cpus_come_and_go() {
    let _alone = alone();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            let online: Vec<_> = hotplug::online().iter().collect();
            let mut turn = 0;
            // Workers may be through before this thread has had a turn.
            while !stop.load(Ordering::Relaxed) || turn <= 10 {
                let cpu = online[turn % online.len()];
                if hotplug::cpu_down(cpu).is_ok() {
                    hotplug::cpu_up(cpu).unwrap();
                }
                turn += 1;
            }
        });
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                scope.spawn(move || {
                    for round in 0..300 {
                        let cache: Cache<[usize; 12]> = Cache::new(&format!("hotplug_storm_{worker}")).unwrap();
                        let held: Vec<_> = (0..200).map(|n| cache.alloc([n ^ round; 12]).unwrap()).collect();
                        assert!(held.iter().enumerate().all(|(n, object)| **object == [n ^ round; 12]));
                        drop(held);
                        cache.destroy().unwrap();
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        stop.store(true, Ordering::Relaxed);
    });
    // SAFETY: the workers are joined; what the test harness does is between two of its tests, which take turns.
    let report = unsafe { kmem::validate() }.unwrap();
    assert_eq!(report.stranded, 0);
}
