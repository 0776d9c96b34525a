// What proof/export.py writes: the actions of the model in proof/, for a small world. Not to be changed by hand.

#![allow(clippy::all, dead_code, unused_parens, unused_variables)]

pub const CPUS: usize = 3;
pub const THREADS: usize = 5;
pub const CACHES: usize = 3;
/// One for each cache.
pub const OBJECTS: usize = CACHES;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CpuState {
    #[default]
    Offline,
    Prepared,
    Online,
    Draining,
    Canceled,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Life {
    #[default]
    Absent,
    New,
    Live,
    Dying,
    DrainingSlots,
    DrainingDepots,
    Drained,
    Unlisted,
    Freeing,
}

#[derive(Clone, Default)]
pub struct State {
    /// Whether creates and destroys exclude transitions.
    pub gate: bool,
    pub running: [[bool; CPUS]; THREADS],
    pub inside: [[bool; CACHES]; THREADS],
    pub section: [[bool; CACHES]; THREADS],
    pub loaded: [bool; THREADS],
    pub seen: [bool; THREADS],
    pub saw_enabled: [bool; THREADS],
    pub snapshot: [[bool; OBJECTS]; THREADS],
    pub life_locked: [[bool; CACHES]; THREADS],
    pub pinned: [[bool; CACHES]; THREADS],
    pub hand: [[bool; OBJECTS]; THREADS],
    pub user: [bool; OBJECTS],
    pub slot: [[bool; OBJECTS]; CPUS],
    pub depot: [bool; OBJECTS],
    pub slab: [bool; OBJECTS],
    pub drained: [[bool; OBJECTS]; CPUS],
    pub born: [bool; OBJECTS],
    pub published: [bool; CPUS],
    pub area: [bool; CPUS],
    pub fenced: [bool; CPUS],
    pub control: [[bool; THREADS]; CPUS],
    pub state: [CpuState; CPUS],
    pub online: [bool; CPUS],
    pub transition: [bool; CPUS],
    pub walking: [bool; CPUS],
    pub to_visit: [[bool; CACHES]; CPUS],
    pub asked: [bool; CPUS],
    pub read_request: [[bool; CPUS]; THREADS],
    pub fenced_here: [[bool; CPUS]; THREADS],
    pub enabled: [[bool; CACHES]; CPUS],
    pub life: [Life; CACHES],
    pub listed: [bool; CACHES],
    pub to_drain: [[bool; CPUS]; CACHES],
    pub to_make: [[bool; CPUS]; CACHES],
    pub oops: bool,
}

pub fn schedule(s: &State, t: usize, k: usize) -> Option<State> {
    if !true {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CPUS { n.running[x0][x1] = (((x0 == t) && (x1 == k)) || (s.running[x0][x1] && !(x0 == t) && !(x1 == k))); } }
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.section[x0][x1] = (s.section[x0][x1] && !((x0 == t) || s.running[x0][k])); } }
    for x0 in 0..THREADS { n.loaded[x0] = (s.loaded[x0] && !((x0 == t) || s.running[x0][k])); }
    for x0 in 0..THREADS { n.seen[x0] = (s.seen[x0] && !((x0 == t) || s.running[x0][k])); }
    Some(n)
}

pub fn begin(s: &State, t: usize, c: usize) -> Option<State> {
    if !((s.life[c] == Life::Live) && s.listed[c] && (0..CACHES).all(|q0| !s.inside[t][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.inside[x0][x1] = (((x0 == t) && (x1 == c)) || s.inside[x0][x1]); } }
    Some(n)
}

pub fn end(s: &State, t: usize, c: usize) -> Option<State> {
    if !(s.inside[t][c] && (0..CACHES).all(|q0| !s.section[t][q0]) && (0..OBJECTS).all(|q0| !s.hand[t][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.inside[x0][x1] = (!((x0 == t) && (x1 == c)) && s.inside[x0][x1]); } }
    Some(n)
}

pub fn enter_section(s: &State, t: usize, k: usize, c: usize) -> Option<State> {
    if !(s.running[t][k] && s.inside[t][c] && (0..CACHES).all(|q0| !s.section[t][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.section[x0][x1] = (((x0 == t) && (x1 == c)) || s.section[x0][x1]); } }
    for x0 in 0..THREADS { n.loaded[x0] = (!(x0 == t) && s.loaded[x0]); }
    for x0 in 0..THREADS { n.seen[x0] = (!(x0 == t) && s.seen[x0]); }
    Some(n)
}

pub fn read_table(s: &State, t: usize, k: usize, c: usize) -> Option<State> {
    if !(s.running[t][k] && s.section[t][c] && s.published[k]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { n.loaded[x0] = ((x0 == t) || s.loaded[x0]); }
    for x0 in 0..THREADS { n.seen[x0] = (!(x0 == t) && s.seen[x0]); }
    Some(n)
}

pub fn read_slot(s: &State, t: usize, k: usize, c: usize) -> Option<State> {
    if !(s.running[t][k] && s.section[t][c] && s.loaded[t]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { n.seen[x0] = ((x0 == t) || s.seen[x0]); }
    for x0 in 0..THREADS { n.saw_enabled[x0] = (if (x0 == t) { s.enabled[k][c] } else { s.saw_enabled[x0] }); }
    for x0 in 0..THREADS { for x1 in 0..OBJECTS { n.snapshot[x0][x1] = (if (x0 == t) { (s.slot[k][x1] && (x1 == c)) } else { s.snapshot[x0][x1] }); } }
    Some(n)
}

pub fn miss(s: &State, t: usize) -> Option<State> {
    if !true {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.section[x0][x1] = (s.section[x0][x1] && !(x0 == t)); } }
    for x0 in 0..THREADS { n.loaded[x0] = (s.loaded[x0] && !(x0 == t)); }
    for x0 in 0..THREADS { n.seen[x0] = (s.seen[x0] && !(x0 == t)); }
    Some(n)
}

pub fn pop(s: &State, t: usize, k: usize, c: usize, those: &[bool; OBJECTS]) -> Option<State> {
    if !(s.running[t][k] && s.section[t][c] && s.loaded[t] && s.seen[t] && s.saw_enabled[t] && (0..OBJECTS).all(|q0| (!those[q0] || s.snapshot[t][q0]))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.section[x0][x1] = (s.section[x0][x1] && !(x0 == t)); } }
    for x0 in 0..THREADS { n.loaded[x0] = (s.loaded[x0] && !(x0 == t)); }
    for x0 in 0..THREADS { n.seen[x0] = (s.seen[x0] && !(x0 == t)); }
    for x0 in 0..THREADS { for x1 in 0..OBJECTS { n.hand[x0][x1] = (s.hand[x0][x1] || ((x0 == t) && those[x1])); } }
    for x0 in 0..CPUS { for x1 in 0..OBJECTS { n.slot[x0][x1] = (if ((x0 == k) && (x1 == c)) { (s.snapshot[t][x1] && !those[x1]) } else { s.slot[x0][x1] }); } }
    Some(n)
}

pub fn push(s: &State, t: usize, k: usize, c: usize, those: &[bool; OBJECTS]) -> Option<State> {
    if !(s.running[t][k] && s.section[t][c] && s.loaded[t] && s.seen[t] && s.saw_enabled[t] && (0..OBJECTS).all(|q0| (!those[q0] || (s.hand[t][q0] && (q0 == c))))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.section[x0][x1] = (s.section[x0][x1] && !(x0 == t)); } }
    for x0 in 0..THREADS { n.loaded[x0] = (s.loaded[x0] && !(x0 == t)); }
    for x0 in 0..THREADS { n.seen[x0] = (s.seen[x0] && !(x0 == t)); }
    for x0 in 0..THREADS { for x1 in 0..OBJECTS { n.hand[x0][x1] = (s.hand[x0][x1] && !((x0 == t) && those[x1])); } }
    for x0 in 0..CPUS { for x1 in 0..OBJECTS { n.slot[x0][x1] = (if ((x0 == k) && (x1 == c)) { (s.snapshot[t][x1] || those[x1]) } else { s.slot[x0][x1] }); } }
    Some(n)
}

pub fn hand_out(s: &State, t: usize, o: usize) -> Option<State> {
    if !(s.hand[t][o] && (0..CACHES).all(|q0| !s.section[t][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..OBJECTS { n.hand[x0][x1] = (!((x0 == t) && (x1 == o)) && s.hand[x0][x1]); } }
    for x0 in 0..OBJECTS { n.user[x0] = (s.user[x0] || (x0 == o)); }
    Some(n)
}

pub fn take_back(s: &State, t: usize, o: usize) -> Option<State> {
    if !(s.user[o] && s.inside[t][o] && (0..CACHES).all(|q0| !s.section[t][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..OBJECTS { n.hand[x0][x1] = (((x0 == t) && (x1 == o)) || s.hand[x0][x1]); } }
    for x0 in 0..OBJECTS { n.user[x0] = (!(x0 == o) && s.user[x0]); }
    Some(n)
}

pub fn refill(s: &State, t: usize, o: usize) -> Option<State> {
    if !((s.depot[o] || s.slab[o]) && s.inside[t][o] && (0..CACHES).all(|q0| !s.section[t][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..OBJECTS { n.hand[x0][x1] = (s.hand[x0][x1] || ((x0 == t) && (x1 == o))); } }
    for x0 in 0..OBJECTS { n.depot[x0] = (!(x0 == o) && s.depot[x0]); }
    for x0 in 0..OBJECTS { n.slab[x0] = (!(x0 == o) && s.slab[x0]); }
    Some(n)
}

pub fn flush(s: &State, t: usize, o: usize, to_depot: &[bool; OBJECTS]) -> Option<State> {
    if !(s.hand[t][o] && (0..CACHES).all(|q0| !s.section[t][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..OBJECTS { n.hand[x0][x1] = (!((x0 == t) && (x1 == o)) && s.hand[x0][x1]); } }
    for x0 in 0..OBJECTS { n.depot[x0] = (if (x0 == o) { to_depot[o] } else { s.depot[x0] }); }
    for x0 in 0..OBJECTS { n.slab[x0] = (if (x0 == o) { !to_depot[o] } else { s.slab[x0] }); }
    Some(n)
}

pub fn carve(s: &State, t: usize, o: usize) -> Option<State> {
    if !(!s.born[o] && s.inside[t][o]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..OBJECTS { n.slab[x0] = ((x0 == o) || s.slab[x0]); }
    for x0 in 0..OBJECTS { n.born[x0] = ((x0 == o) || s.born[x0]); }
    Some(n)
}

pub fn reap(s: &State, o: usize) -> Option<State> {
    if !s.slab[o] {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..OBJECTS { n.slab[x0] = (!(x0 == o) && s.slab[x0]); }
    for x0 in 0..OBJECTS { n.born[x0] = (!(x0 == o) && s.born[x0]); }
    Some(n)
}

pub fn empty_depot(s: &State, o: usize) -> Option<State> {
    if !s.depot[o] {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..OBJECTS { n.depot[x0] = (!(x0 == o) && s.depot[x0]); }
    for x0 in 0..OBJECTS { n.slab[x0] = ((x0 == o) || s.slab[x0]); }
    Some(n)
}

pub fn read_request(s: &State, t: usize, k: usize) -> Option<State> {
    if !(s.asked[k] && (0..CACHES).all(|q0| !s.section[t][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CPUS { n.read_request[x0][x1] = (s.read_request[x0][x1] || ((x0 == t) && (x1 == k))); } }
    Some(n)
}

pub fn fence_here(s: &State, t: usize, k: usize) -> Option<State> {
    if !(s.read_request[t][k] && s.running[t][k] && (0..CACHES).all(|q0| !s.section[t][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CPUS { n.fenced_here[x0][x1] = (s.fenced_here[x0][x1] || ((x0 == t) && (x1 == k))); } }
    Some(n)
}

pub fn report(s: &State, t: usize, k: usize) -> Option<State> {
    if !(s.fenced_here[t][k] && s.asked[k]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.fenced[x0] = ((x0 == k) || s.fenced[x0]); }
    for x0 in 0..CPUS { n.asked[x0] = (!(x0 == k) && s.asked[x0]); }
    for x0 in 0..THREADS { for x1 in 0..CPUS { n.read_request[x0][x1] = (s.read_request[x0][x1] && !(x1 == k)); } }
    for x0 in 0..THREADS { for x1 in 0..CPUS { n.fenced_here[x0][x1] = (s.fenced_here[x0][x1] && !(x1 == k)); } }
    Some(n)
}

pub fn lock(s: &State, t: usize, k: usize) -> Option<State> {
    if !(0..THREADS).all(|q0| !s.control[k][q0]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { for x1 in 0..THREADS { n.control[x0][x1] = (((x0 == k) && (x1 == t)) || s.control[x0][x1]); } }
    Some(n)
}

pub fn withdraw(s: &State, t: usize, k: usize) -> Option<State> {
    if !(s.control[k][t] && s.published[k]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.published[x0] = (!(x0 == k) && s.published[x0]); }
    for x0 in 0..CPUS { n.fenced[x0] = (!(x0 == k) && s.fenced[x0]); }
    Some(n)
}

pub fn fence_afar(s: &State, t: usize, k: usize) -> Option<State> {
    if !(s.control[k][t] && !s.published[k]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.section[x0][x1] = (s.section[x0][x1] && !s.running[x0][k]); } }
    for x0 in 0..THREADS { n.loaded[x0] = (s.loaded[x0] && !s.running[x0][k]); }
    for x0 in 0..THREADS { n.seen[x0] = (s.seen[x0] && !s.running[x0][k]); }
    for x0 in 0..CPUS { n.fenced[x0] = ((x0 == k) || s.fenced[x0]); }
    Some(n)
}

pub fn ask_proxy(s: &State, t: usize, k: usize) -> Option<State> {
    if !(s.control[k][t] && !s.published[k] && !s.fenced[k] && !s.asked[k]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.asked[x0] = (s.asked[x0] || (x0 == k)); }
    for x0 in 0..THREADS { for x1 in 0..CPUS { n.read_request[x0][x1] = (s.read_request[x0][x1] && !(x1 == k)); } }
    for x0 in 0..THREADS { for x1 in 0..CPUS { n.fenced_here[x0][x1] = (s.fenced_here[x0][x1] && !(x1 == k)); } }
    Some(n)
}

pub fn settle(s: &State, t: usize, k: usize) -> Option<State> {
    if !(s.control[k][t] && s.fenced[k]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.asked[x0] = (!(x0 == k) && s.asked[x0]); }
    for x0 in 0..THREADS { for x1 in 0..CPUS { n.read_request[x0][x1] = (s.read_request[x0][x1] && !(x1 == k)); } }
    for x0 in 0..THREADS { for x1 in 0..CPUS { n.fenced_here[x0][x1] = (s.fenced_here[x0][x1] && !(x1 == k)); } }
    Some(n)
}

pub fn take_out(s: &State, t: usize, k: usize, o: usize) -> Option<State> {
    if !(s.control[k][t] && s.fenced[k] && s.slot[k][o]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { for x1 in 0..OBJECTS { n.slot[x0][x1] = (!((x0 == k) && (x1 == o)) && s.slot[x0][x1]); } }
    for x0 in 0..CPUS { for x1 in 0..OBJECTS { n.drained[x0][x1] = (((x0 == k) && (x1 == o)) || s.drained[x0][x1]); } }
    Some(n)
}

pub fn bring(s: &State, t: usize, k: usize, o: usize, to_depot: &[bool; OBJECTS]) -> Option<State> {
    if !(s.control[k][t] && s.drained[k][o]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..OBJECTS { n.depot[x0] = (if (x0 == o) { to_depot[o] } else { s.depot[x0] }); }
    for x0 in 0..OBJECTS { n.slab[x0] = (if (x0 == o) { !to_depot[o] } else { s.slab[x0] }); }
    for x0 in 0..CPUS { for x1 in 0..OBJECTS { n.drained[x0][x1] = (!((x0 == k) && (x1 == o)) && s.drained[x0][x1]); } }
    Some(n)
}

pub fn put_in(s: &State, t: usize, k: usize, o: usize) -> Option<State> {
    if !(s.control[k][t] && s.fenced[k] && s.drained[k][o] && s.enabled[k][o]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { for x1 in 0..OBJECTS { n.slot[x0][x1] = (s.slot[x0][x1] || ((x0 == k) && (x1 == o))); } }
    for x0 in 0..CPUS { for x1 in 0..OBJECTS { n.drained[x0][x1] = (!((x0 == k) && (x1 == o)) && s.drained[x0][x1]); } }
    Some(n)
}

pub fn disable(s: &State, t: usize, k: usize, c: usize) -> Option<State> {
    if !(s.control[k][t] && s.fenced[k] && (0..OBJECTS).all(|q0| (!(q0 == c) || !(s.drained[k][q0] || s.slot[k][q0]))) && s.enabled[k][c]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { for x1 in 0..CACHES { n.to_visit[x0][x1] = (!((x0 == k) && (x1 == c)) && s.to_visit[x0][x1]); } }
    for x0 in 0..CPUS { for x1 in 0..CACHES { n.enabled[x0][x1] = (!((x0 == k) && (x1 == c)) && s.enabled[x0][x1]); } }
    Some(n)
}

pub fn resume(s: &State, t: usize, k: usize) -> Option<State> {
    if !(s.control[k][t] && (0..OBJECTS).all(|q0| !s.drained[k][q0]) && !s.asked[k] && (s.fenced[k] || s.published[k] || ((s.state[k] == CpuState::Online) && s.area[k]))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.published[x0] = (if (x0 == k) { (s.published[k] || ((s.state[k] == CpuState::Online) && s.area[k])) } else { s.published[x0] }); }
    for x0 in 0..CPUS { n.fenced[x0] = (if (x0 == k) { (s.fenced[k] && !((s.state[k] == CpuState::Online) && s.area[k])) } else { s.fenced[x0] }); }
    for x0 in 0..CPUS { for x1 in 0..THREADS { n.control[x0][x1] = (!((x0 == k) && (x1 == t)) && s.control[x0][x1]); } }
    Some(n)
}

pub fn begin_transition(s: &State, k: usize) -> Option<State> {
    if !((0..CPUS).all(|q0| !s.transition[q0]) && (!s.gate || (0..CACHES).all(|q0| ((s.life[q0] == Life::Absent) || (s.life[q0] == Life::Live) || (s.life[q0] == Life::Unlisted))))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.transition[x0] = ((x0 == k) || s.transition[x0]); }
    Some(n)
}

pub fn end_transition(s: &State, k: usize) -> Option<State> {
    if !(s.transition[k] && ((s.state[k] == CpuState::Offline) || (s.state[k] == CpuState::Online))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.transition[x0] = (!(x0 == k) && s.transition[x0]); }
    Some(n)
}

pub fn prepare(s: &State, k: usize) -> Option<State> {
    if !(s.transition[k] && (s.state[k] == CpuState::Offline) && (0..THREADS).all(|q0| !s.control[k][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.area[x0] = ((x0 == k) || s.area[x0]); }
    for x0 in 0..CPUS { n.state[x0] = (if (x0 == k) { CpuState::Prepared } else { s.state[x0] }); }
    for x0 in 0..CPUS { for x1 in 0..CACHES { n.to_visit[x0][x1] = s.to_visit[x0][x1]; } }
    Some(n)
}

pub fn come_online(s: &State, k: usize) -> Option<State> {
    if !(s.transition[k] && (s.state[k] == CpuState::Prepared) && !s.walking[k] && (0..THREADS).all(|q0| !s.control[k][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.published[x0] = (if (x0 == k) { s.area[k] } else { s.published[x0] }); }
    for x0 in 0..CPUS { n.fenced[x0] = (if (x0 == k) { !s.area[k] } else { s.fenced[x0] }); }
    for x0 in 0..CPUS { n.state[x0] = (if (x0 == k) { CpuState::Online } else { s.state[x0] }); }
    for x0 in 0..CPUS { n.online[x0] = (s.online[x0] || (x0 == k)); }
    Some(n)
}

pub fn cancel(s: &State, k: usize) -> Option<State> {
    if !(s.transition[k] && (s.state[k] == CpuState::Prepared) && !s.walking[k] && (0..THREADS).all(|q0| !s.control[k][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.state[x0] = (if (x0 == k) { CpuState::Canceled } else { s.state[x0] }); }
    Some(n)
}

pub fn go_down(s: &State, k: usize) -> Option<State> {
    if !(s.transition[k] && (s.state[k] == CpuState::Online) && (0..THREADS).all(|q0| !s.control[k][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.state[x0] = (if (x0 == k) { CpuState::Draining } else { s.state[x0] }); }
    Some(n)
}

pub fn down_failed(s: &State, k: usize) -> Option<State> {
    if !(s.transition[k] && (s.state[k] == CpuState::Draining) && s.online[k] && (0..THREADS).all(|q0| !s.control[k][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.state[x0] = (if (x0 == k) { CpuState::Online } else { s.state[x0] }); }
    Some(n)
}

pub fn go_offline(s: &State, k: usize) -> Option<State> {
    if !(s.transition[k] && (s.state[k] == CpuState::Draining)) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.online[x0] = (!(x0 == k) && s.online[x0]); }
    Some(n)
}

pub fn begin_walk(s: &State, k: usize) -> Option<State> {
    if !(s.transition[k] && (((s.state[k] == CpuState::Draining) && !s.online[k]) || (s.state[k] == CpuState::Canceled)) && !s.walking[k] && !s.published[k] && (0..THREADS).all(|q0| !s.control[k][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.walking[x0] = (s.walking[x0] || (x0 == k)); }
    for x0 in 0..CPUS { for x1 in 0..CACHES { n.to_visit[x0][x1] = (if (x0 == k) { s.listed[x1] } else { s.to_visit[x0][x1] }); } }
    Some(n)
}

pub fn visit(s: &State, t: usize, k: usize, c: usize) -> Option<State> {
    if !(s.walking[k] && s.control[k][t] && s.to_visit[k][c] && !s.enabled[k][c]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { for x1 in 0..CACHES { n.to_visit[x0][x1] = (!((x0 == k) && (x1 == c)) && s.to_visit[x0][x1]); } }
    n.oops = s.oops;
    Some(n)
}

pub fn end_walk(s: &State, k: usize, any_one: usize, keeps: &[bool; OBJECTS]) -> Option<State> {
    if !(s.walking[k] && (0..CACHES).all(|q0| !s.to_visit[k][q0]) && (0..THREADS).all(|q0| !s.control[k][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.area[x0] = (if (x0 == k) { (s.area[k] && keeps[any_one]) } else { s.area[x0] }); }
    for x0 in 0..CPUS { n.state[x0] = (if (x0 == k) { CpuState::Offline } else { s.state[x0] }); }
    for x0 in 0..CPUS { n.walking[x0] = (!(x0 == k) && s.walking[x0]); }
    Some(n)
}

pub fn unmap_kept_area(s: &State, k: usize) -> Option<State> {
    if !((s.state[k] == CpuState::Offline) && (0..THREADS).all(|q0| !s.control[k][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.area[x0] = (!(x0 == k) && s.area[x0]); }
    Some(n)
}

pub fn slots_drained(s: &State, c: usize) -> Option<State> {
    if !((s.life[c] == Life::DrainingSlots) && (0..CPUS).all(|q0| !s.to_drain[c][q0])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CACHES { n.life[x0] = (if (x0 == c) { Life::DrainingDepots } else { s.life[x0] }); }
    Some(n)
}

pub fn depots_drained(s: &State, c: usize) -> Option<State> {
    if !((s.life[c] == Life::DrainingDepots) && (0..OBJECTS).all(|q0| (!s.depot[q0] || !(q0 == c)))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CACHES { n.life[x0] = (if (x0 == c) { Life::Drained } else { s.life[x0] }); }
    Some(n)
}

pub fn revive(s: &State, c: usize) -> Option<State> {
    if !((s.life[c] == Life::Drained) && (0..OBJECTS).any(|q0| ((q0 == c) && s.born[q0] && !s.slab[q0]))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CACHES { n.life[x0] = (if (x0 == c) { Life::Live } else { s.life[x0] }); }
    for x0 in 0..CACHES { n.listed[x0] = ((x0 == c) || s.listed[x0]); }
    Some(n)
}

pub fn list_cache(s: &State, c: usize) -> Option<State> {
    if !((s.life[c] == Life::Absent) && (!s.gate || (0..CPUS).all(|q0| !s.transition[q0]))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CACHES { n.life[x0] = (if (x0 == c) { Life::Live } else { s.life[x0] }); }
    for x0 in 0..CACHES { n.listed[x0] = (s.listed[x0] || (x0 == c)); }
    Some(n)
}

pub fn count_cpus(s: &State, c: usize) -> Option<State> {
    if !(s.life[c] == Life::Live) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CACHES { for x1 in 0..CPUS { n.to_make[x0][x1] = (if (x0 == c) { s.online[x1] } else { s.to_make[x0][x1] }); } }
    Some(n)
}

pub fn lock_life(s: &State, t: usize, c: usize) -> Option<State> {
    if !(s.life[c] == Life::Live) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.life_locked[x0][x1] = (s.life_locked[x0][x1] || ((x0 == t) && (x1 == c))); } }
    Some(n)
}

pub fn unlock_life(s: &State, t: usize, c: usize) -> Option<State> {
    if !s.life_locked[t][c] {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.life_locked[x0][x1] = (!((x0 == t) && (x1 == c)) && s.life_locked[x0][x1]); } }
    Some(n)
}

pub fn enable_missed(s: &State, t: usize, k: usize, c: usize) -> Option<State> {
    if !(s.life_locked[t][c] && (0..THREADS).all(|q0| !s.control[k][q0]) && (s.state[k] == CpuState::Online)) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.published[x0] = (if (x0 == k) { (s.published[k] || ((s.state[k] == CpuState::Online) && !s.area[k])) } else { s.published[x0] }); }
    for x0 in 0..CPUS { n.area[x0] = ((x0 == k) || s.area[x0]); }
    for x0 in 0..CPUS { n.fenced[x0] = (if (x0 == k) { (s.fenced[k] && !((s.state[k] == CpuState::Online) && !s.area[k])) } else { s.fenced[x0] }); }
    for x0 in 0..CPUS { for x1 in 0..CACHES { n.enabled[x0][x1] = (s.enabled[x0][x1] || ((x0 == k) && (x1 == c))); } }
    Some(n)
}

pub fn enable_prepared(s: &State, t: usize, k: usize, c: usize) -> Option<State> {
    if !(s.life_locked[t][c] && (0..THREADS).all(|q0| !s.control[k][q0]) && (s.state[k] == CpuState::Prepared) && !s.walking[k]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.published[x0] = (if (x0 == k) { (s.published[k] || ((s.state[k] == CpuState::Online) && !s.area[k])) } else { s.published[x0] }); }
    for x0 in 0..CPUS { n.area[x0] = (s.area[x0] || (x0 == k)); }
    for x0 in 0..CPUS { n.fenced[x0] = (if (x0 == k) { (s.fenced[k] && !((s.state[k] == CpuState::Online) && !s.area[k])) } else { s.fenced[x0] }); }
    for x0 in 0..CPUS { for x1 in 0..CACHES { n.enabled[x0][x1] = (s.enabled[x0][x1] || ((x0 == k) && (x1 == c))); } }
    Some(n)
}

pub fn enable_created(s: &State, t: usize, k: usize, c: usize) -> Option<State> {
    if !(s.life_locked[t][c] && (0..THREADS).all(|q0| !s.control[k][q0]) && s.to_make[c][k] && ((s.state[k] == CpuState::Online) || (s.state[k] == CpuState::Prepared)) && (!s.gate || (0..CPUS).all(|q0| !s.transition[q0]))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CPUS { n.published[x0] = (if (x0 == k) { (s.published[k] || ((s.state[k] == CpuState::Online) && !s.area[k])) } else { s.published[x0] }); }
    for x0 in 0..CPUS { n.area[x0] = ((x0 == k) || s.area[x0]); }
    for x0 in 0..CPUS { n.fenced[x0] = (if (x0 == k) { (s.fenced[k] && !((s.state[k] == CpuState::Online) && !s.area[k])) } else { s.fenced[x0] }); }
    for x0 in 0..CPUS { for x1 in 0..CACHES { n.enabled[x0][x1] = (s.enabled[x0][x1] || ((x0 == k) && (x1 == c))); } }
    Some(n)
}

pub fn die(s: &State, c: usize) -> Option<State> {
    if !((s.life[c] == Life::Live) && (0..THREADS).all(|q0| !s.life_locked[q0][c]) && (0..THREADS).all(|q0| !s.inside[q0][c]) && (!s.gate || (0..CPUS).all(|q0| !s.transition[q0]))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CACHES { n.life[x0] = (if (x0 == c) { Life::Dying } else { s.life[x0] }); }
    Some(n)
}

pub fn choose_holders(s: &State, c: usize) -> Option<State> {
    if !(s.life[c] == Life::Dying) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CACHES { n.life[x0] = (if (x0 == c) { Life::DrainingSlots } else { s.life[x0] }); }
    for x0 in 0..CACHES { for x1 in 0..CPUS { n.to_drain[x0][x1] = (if (x0 == c) { s.enabled[x1][c] } else { s.to_drain[x0][x1] }); } }
    Some(n)
}

pub fn slot_drained(s: &State, t: usize, k: usize, c: usize) -> Option<State> {
    if !((s.life[c] == Life::DrainingSlots) && s.control[k][t] && !s.enabled[k][c]) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CACHES { for x1 in 0..CPUS { n.to_drain[x0][x1] = (!((x0 == c) && (x1 == k)) && s.to_drain[x0][x1]); } }
    Some(n)
}

pub fn unlist(s: &State, c: usize) -> Option<State> {
    if !((s.life[c] == Life::Drained) && (0..OBJECTS).all(|q0| (!((q0 == c) && s.born[q0]) || s.slab[q0]))) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..OBJECTS { n.slab[x0] = (s.slab[x0] && !(x0 == c)); }
    for x0 in 0..OBJECTS { n.born[x0] = (s.born[x0] && !(x0 == c)); }
    for x0 in 0..CPUS { for x1 in 0..CACHES { n.to_visit[x0][x1] = (s.to_visit[x0][x1] && !(x1 == c)); } }
    for x0 in 0..CACHES { n.life[x0] = (if (x0 == c) { Life::Unlisted } else { s.life[x0] }); }
    for x0 in 0..CACHES { n.listed[x0] = (!(x0 == c) && s.listed[x0]); }
    Some(n)
}

pub fn pin(s: &State, t: usize, c: usize) -> Option<State> {
    if !s.listed[c] {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.pinned[x0][x1] = (s.pinned[x0][x1] || ((x0 == t) && (x1 == c))); } }
    Some(n)
}

pub fn unpin(s: &State, t: usize, c: usize) -> Option<State> {
    if !true {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..THREADS { for x1 in 0..CACHES { n.pinned[x0][x1] = (!((x0 == t) && (x1 == c)) && s.pinned[x0][x1]); } }
    Some(n)
}

pub fn free_descriptor(s: &State, c: usize) -> Option<State> {
    if !((s.life[c] == Life::Unlisted) && (0..THREADS).all(|q0| !s.pinned[q0][c])) {
        return None;
    }
    let mut n = s.clone();
    for x0 in 0..CACHES { n.life[x0] = (if (x0 == c) { Life::Absent } else { s.life[x0] }); }
    Some(n)
}
