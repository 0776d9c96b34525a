//! A schedule in words: what each thread did, in the order in which it happened and on the CPU where it happened. Under
//! the order of 2004 it speaks in the terms of that kernel, and otherwise in those of this engine.
//!
//! Besides the events, the story tracks which slots exist (`array[cpu]` of a cache; one that does not exist is NULL)
//! and which caches are on the list. So it can say what a step did *not* find, which is what both races are about.

use kmem_core::platform::{CpuStep, Place, SlotStep};

use crate::Protocol;
use crate::explore::event::{CacheEvent, Cpus, Event, Name, What};
use crate::scenario::{Actor, NAMES, Op, Scenario};

/// A step, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The CPU on which it happened.
    pub cpu: usize,
    /// The thread that did it.
    pub thread: &'static str,
    /// What happened.
    pub text: String,
    /// Whether it is the step that kills: what a mistake does, or a slot that is needed and does not exist.
    pub fatal: bool,
    /// Each CPU after it.
    pub standing: Vec<Standing>,
    /// The caches after it: whether they are on the list, and which slots they have.
    pub caches: String,
}

/// How a CPU is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Online.
    Online,
    /// On its way up.
    Coming,
    /// On its way down.
    Draining,
    /// Offline.
    Gone,
}

/// In which terms a story is told.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// In those of the kernel of 2004.
    pub old: bool,
    /// What the mistake of the protocol is, in words: the step that kills.
    pub slip: Option<&'static str>,
}

impl Voice {
    /// The terms of a protocol without a mistake.
    pub fn of(protocol: Protocol) -> Self {
        Self { old: !protocol.keep_listed, slip: None }
    }

    /// A slot, as it is called.
    fn slot(self, cpu: usize, cache: Name) -> String {
        if self.old { format!("array[{cpu}] of {cache}") } else { format!("the slot of CPU {cpu} in {cache}") }
    }
}

/// A cache as the story knows it.
struct Cache {
    name: Name,
    listed: bool,
    slots: u64,
}

struct Teller<'a> {
    scenario: &'a Scenario,
    voice: Voice,
    lines: Vec<Line>,
    caches: Vec<Cache>,
    standing: Vec<Standing>,
    /// The CPU of each thread, and the operation that it is at.
    at: Vec<(usize, Option<Op>)>,
}

/// The state before the threads began.
pub fn opening(scenario: &Scenario, voice: &Voice) -> String {
    let offline: Vec<usize> = (0..scenario.possible).filter(|cpu| !scenario.online.contains(cpu)).collect();
    let mut text = match offline.as_slice() {
        [] => format!("CPUs {} are online", list(&[0, 1, 2][..scenario.possible])),
        cpus => format!("CPU {} is offline", list(cpus)),
    };
    for cache in at_first(scenario) {
        if !voice.old {
            text += &format!("; {} exists", cache.name);
            continue;
        }
        let arrays = |made: bool| -> Vec<String> {
            (0..scenario.possible)
                .filter(|cpu| (cache.slots >> cpu & 1 != 0) == made)
                .map(|cpu| format!("array[{cpu}]"))
                .collect()
        };
        text += &format!("; {} exists, with {}", cache.name, arrays(true).join(", "));
        if !arrays(false).is_empty() {
            text += &format!("; its {} is NULL", arrays(false).join(", "));
        }
    }
    text
}

/// The story, up to the point where the kernel of 2004 crashed, or to the end.
pub fn tell(scenario: &Scenario, voice: &Voice, events: &[Event]) -> Vec<Line> {
    let standing = (0..scenario.possible)
        .map(|cpu| if scenario.online.contains(&cpu) { Standing::Online } else { Standing::Gone })
        .collect();
    let at = scenario.actors.iter().map(|actor| (actor.cpu, None)).collect();
    let mut teller = Teller { scenario, voice: *voice, lines: Vec::new(), caches: at_first(scenario), standing, at };
    for (index, event) in events.iter().enumerate() {
        let goes_on = events.get(index + 1).is_none_or(|next| next.thread == event.thread);
        if event.what == What::InSection && !goes_on {
            let text = "is interrupted in a section: it has read the slot, and its commit is still to come";
            teller.say(event.thread, text.into());
        }
        teller.tell(event.thread, event.what);
        if matches!(event.what, What::NoSlot { .. }) {
            break;
        }
    }
    teller.lines
}

fn at_first(scenario: &Scenario) -> Vec<Cache> {
    let slots = scenario.online.iter().fold(0, |slots, cpu| slots | 1 << cpu);
    let created = |op: &Op| if let Op::Create(cache) = op { Some(Name::new(NAMES[*cache])) } else { None };
    scenario.before.ops.iter().filter_map(created).map(|name| Cache { name, listed: true, slots }).collect()
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn cpus(cpus: Cpus) -> String {
    list(&cpus.iter().collect::<Vec<_>>())
}

/// The operation as a person would write it; `None` if it need not be mentioned.
fn call(op: Op) -> Option<String> {
    Some(match op {
        Op::Create(cache) => format!("kmem_cache_create(\"{}\")", NAMES[cache]),
        Op::Destroy(cache) => format!("kmem_cache_destroy(\"{}\")", NAMES[cache]),
        Op::Shrink(cache) => format!("kmem_cache_shrink(\"{}\")", NAMES[cache]),
        Op::Tune(cache, capacity) => format!("echo \"{} {capacity}\" > /proc/slabinfo", NAMES[cache]),
        Op::Alloc(cache) => format!("kmem_cache_alloc(\"{}\")", NAMES[cache]),
        Op::Free(cache) => format!("kmem_cache_free(\"{}\")", NAMES[cache]),
        Op::Up(cpu) => format!("cpu_up({cpu})"),
        Op::Down(cpu) => format!("cpu_down({cpu})"),
        Op::UpRefused(cpu) => format!("cpu_up({cpu}), which a listener refuses"),
        Op::DownRefused(cpu) => format!("cpu_down({cpu}), which a listener refuses"),
        Op::UpStarved(cpu) => format!("cpu_up({cpu}), for which there is no memory"),
        Op::CreateStarved(cache) => {
            format!("kmem_cache_create(\"{}\"), for whose slots there is no memory", NAMES[cache])
        }
        Op::Left(cpu) => format!("may no longer use CPU {cpu}"),
        Op::Came(cpu) => format!("may use CPU {cpu} again"),
        Op::Age => "upkeep: drains what was not used".into(),
        Op::Trim => "releases all unused memory".into(),
        Op::Look => "reads the figures of all caches".into(),
        Op::RunOn(_) => return None,
    })
}

impl Teller<'_> {
    fn actor(&self, thread: usize) -> &Actor {
        &self.scenario.actors[thread]
    }

    fn say(&mut self, thread: usize, text: String) {
        self.say_on(self.at[thread].0, thread, text);
    }

    fn say_on(&mut self, cpu: usize, thread: usize, text: String) {
        let (standing, caches) = (self.standing.clone(), self.caches_now());
        let line = Line { cpu, thread: self.actor(thread).name, text, fatal: false, standing, caches };
        self.lines.push(line);
    }

    fn caches_now(&self) -> String {
        let told = |cache: &Cache| {
            let slots: Vec<usize> = (0..self.scenario.possible).filter(|cpu| cache.slots >> cpu & 1 != 0).collect();
            let listed = if cache.listed { "on the list" } else { "off the list" };
            let slots = if slots.is_empty() { "no slot".into() } else { format!("slots {}", list(&slots)) };
            format!("{}: {listed}, {slots}", cache.name)
        };
        self.caches.iter().map(told).collect::<Vec<_>>().join("; ")
    }

    /// The last line is the step that kills.
    fn dies(&mut self) {
        if let Some(line) = self.lines.last_mut() {
            line.fatal = true;
        }
    }

    fn cache(&mut self, name: Name) -> &mut Cache {
        let place = self.caches.iter().position(|cache| cache.name == name).unwrap_or_else(|| {
            self.caches.push(Cache { name, listed: false, slots: 0 });
            self.caches.len() - 1
        });
        &mut self.caches[place]
    }

    /// The slots that a cache lacks: `; array[1] is NULL`.
    fn missing(&mut self, cache: Name) -> String {
        let (slots, possible) = (self.cache(cache).slots, self.scenario.possible);
        if !self.voice.old {
            return String::new();
        }
        let null: Vec<String> =
            (0..possible).filter(|cpu| slots >> cpu & 1 == 0).map(|cpu| format!("array[{cpu}]")).collect();
        if null.is_empty() { String::new() } else { format!("; {} is NULL", null.join(", ")) }
    }

    fn tell(&mut self, thread: usize, what: What) {
        match what {
            What::Begins(index) => {
                let op = self.actor(thread).ops[index];
                self.at[thread].1 = Some(op);
                if let Some(text) = call(op) {
                    self.say(thread, text);
                }
            }
            What::Ends(_) => {
                if let Some(Op::RunOn(cpu)) = self.at[thread].1.take() {
                    self.at[thread].0 = cpu;
                }
            }
            What::Cache { cache, did } => self.tell_cache(thread, cache, did),
            What::Cpu { cpu, did } => self.tell_cpu(thread, cpu, did),
            What::Slot { cache, cpu, did } => self.tell_slot(thread, cache, cpu, did),
            What::InSection => {}
            What::Stuck { asleep } => {
                let text =
                    if asleep { "sleeps, and no thread wakes it" } else { "waits for a lock that is never released" };
                self.say(thread, text.into());
                self.dies();
            }
            What::Mistaken => {
                if let Some(slip) = self.voice.slip {
                    self.say(thread, slip.into());
                    self.dies();
                }
            }
            What::NoSlot { cache, cpu, place } => {
                self.tell_no_slot(thread, cache, cpu, place);
                self.dies();
            }
        }
    }

    fn tell_no_slot(&mut self, thread: usize, cache: Name, cpu: usize, place: Place) {
        let null = format!("array[{cpu}] of {cache} is NULL: the kernel dies here");
        match place {
            Place::Dead => self.say(thread, format!("CPU_DEAD of CPU {cpu} finds {cache} on the list; {null}")),
            Place::Drain => self.say_on(cpu, thread, format!("takes the interrupt, do_drain; {null}")),
            Place::Miss => self.say(thread, null),
            Place::Canceled => self.say(thread, format!("CPU_UP_CANCELED of CPU {cpu} frees its slots; {null}")),
            Place::Node => {
                self.say(thread, format!("the node of CPU {cpu} has no part in {cache}: the kernel dies here"))
            }
        }
    }

    fn tell_cache(&mut self, thread: usize, cache: Name, did: CacheEvent) {
        let old = self.voice.old;
        let text = match did {
            CacheEvent::Described => {
                (self.cache(cache).slots, self.cache(cache).listed) = (0, false);
                return;
            }
            CacheEvent::SlotsMade(made) if old => {
                format!("enable_cpucache, for the CPUs that are online ({}){}", cpus(made), self.missing(cache))
            }
            CacheEvent::SlotsMade(made) => format!("slots were made for the CPUs that were online ({})", cpus(made)),
            CacheEvent::Listed => {
                self.cache(cache).listed = true;
                format!("{cache} is on the list of caches")
            }
            CacheEvent::Dying if old => return,
            CacheEvent::Dying => format!("{cache} is dying: no slot of it can be made from here on"),
            CacheEvent::Unlisted => {
                self.cache(cache).listed = false;
                format!("{cache} is off the list of caches")
            }
            CacheEvent::Draining(interrupted) if old => {
                format!("drain_cpu_caches interrupts the CPUs that are online ({})", cpus(interrupted))
            }
            CacheEvent::Draining(Cpus(0)) => format!("no CPU is to be drained of {cache}"),
            CacheEvent::Draining(stopped) => format!("drains {cache} on CPUs {}", cpus(stopped)),
            CacheEvent::Drained => return,
            CacheEvent::Checked(0) => format!("no object of {cache} is in use"),
            CacheEvent::Checked(live) => format!("{live} objects of {cache} are not on their slabs: Busy"),
            CacheEvent::Revived => {
                self.cache(cache).listed = true;
                if old { format!("{cache} is on the list again") } else { format!("{cache} lives again") }
            }
            CacheEvent::Freed => format!("{cache} is freed"),
        };
        self.say(thread, text);
    }

    fn tell_cpu(&mut self, thread: usize, cpu: usize, did: CpuStep) {
        if let Some(standing) = self.standing.get_mut(cpu) {
            *standing = match did {
                CpuStep::Preparing | CpuStep::Prepared => Standing::Coming,
                CpuStep::Online => Standing::Online,
                CpuStep::Draining | CpuStep::Offline => Standing::Draining,
                CpuStep::Canceled | CpuStep::Dead => Standing::Gone,
            };
        }
        match did {
            CpuStep::Preparing => self.say(thread, format!("CPU_UP_PREPARE of CPU {cpu} walks the list of caches")),
            CpuStep::Prepared => {
                let unseen: Vec<Name> = self
                    .caches
                    .iter()
                    .filter(|cache| self.voice.old && !cache.listed && cache.slots >> cpu & 1 == 0)
                    .map(|cache| cache.name)
                    .collect();
                let end = match unseen.as_slice() {
                    [] => String::new(),
                    names => format!("; {} is not on it, so its array[{cpu}] stays NULL", list(names)),
                };
                self.say(thread, format!("CPU_UP_PREPARE of CPU {cpu} is over{end}"));
            }
            CpuStep::Online => self.say_on(cpu, thread, "is online".into()),
            CpuStep::Canceled => self.say(thread, format!("CPU_UP_CANCELED of CPU {cpu}")),
            CpuStep::Draining => self.say(thread, format!("CPU_DOWN_PREPARE of CPU {cpu}")),
            CpuStep::Offline => self.say_on(cpu, thread, "is offline; its CPU_DEAD is still to come".into()),
            CpuStep::Dead => self.say(thread, format!("CPU_DEAD of CPU {cpu} is over")),
        }
    }

    fn tell_slot(&mut self, thread: usize, cache: Name, cpu: usize, did: SlotStep) {
        let transition = matches!(
            self.at[thread].1,
            Some(Op::Up(_) | Op::Down(_) | Op::UpRefused(_) | Op::DownRefused(_) | Op::UpStarved(_) | Op::Came(_))
        );
        let slots = &mut self.cache(cache).slots;
        let had = *slots >> cpu & 1 != 0;
        match did {
            SlotStep::Enabled => *slots |= 1 << cpu,
            SlotStep::Disabled => *slots &= !(1 << cpu),
            SlotStep::Emptied => {}
        }
        let (old, slot) = (self.voice.old, self.voice.slot(cpu, cache));
        match did {
            // A create of 2004 mentions all of them at once.
            SlotStep::Enabled if transition || !old && !had => self.say(thread, format!("{slot} is made")),
            SlotStep::Enabled => {}
            SlotStep::Emptied => self.say_on(cpu, thread, format!("takes the interrupt, do_drain: {slot} is emptied")),
            // What was not there need not be told, except in 2004, whose every step counts.
            SlotStep::Disabled if old || had => self.say(thread, format!("{slot} is emptied and freed")),
            SlotStep::Disabled => {}
        }
    }
}
