"""The relations of a state, and the state at first."""

from logic import *

B = BOOL
SIGNATURE = dict(
    # --- threads
    running=(Thread, Cpu, B),        # the thread runs on the CPU: at most one each way
    inside=(Thread, Cache, B),       # it is inside alloc or free of the cache
    section=(Thread, Cache, B),      # it is inside a restartable section
    loaded=(Thread, B),              # ... and has read the table, and found an area there
    seen=(Thread, B),                # ... and has read cursor, end and words of the slot
    saw_enabled=(Thread, B),         # ... which was enabled
    snapshot=(Thread, Obj, B),       # ... and held these objects: the commit stores what follows from them
    life_locked=(Thread, Cache, B),  # it holds the cache's life lock, and found the cache live
    pinned=(Thread, Cache, B),       # it holds a pin on the cache's descriptor
    # --- where an object is: relations and not one function, so that two places at once are possible
    hand=(Thread, Obj, B),           # in the hands of a thread inside alloc or free
    user=(Obj, B), slot=(Cpu, Obj, B), depot=(Obj, B), slab=(Obj, B),
    drained=(Cpu, Obj, B),           # in the hands of whoever holds the CPU's control, between slot and destination
    born=(Obj, B),                   # there is such an object
    # --- CPUs
    published=(Cpu, B),              # the table leads to the CPU's area
    area=(Cpu, B),                   # there is an area
    fenced=(Cpu, B),                 # ghost: withdrawn, and every section that began before is over
    control=(Cpu, Thread, B),        # the thread holds the CPU's control
    state=(Cpu, CpuState), online=(Cpu, B),      # the state under the control; the set of online CPUs
    transition=(Cpu, B),             # a transition of it runs
    walking=(Cpu, B), to_visit=(Cpu, Cache, B),  # ... and walks the list to empty it; the caches still to be visited
    # --- proxies
    asked=(Cpu, B),                  # the CPU's request is odd
    read_request=(Thread, Cpu, B),   # the thread read the request as it is now
    fenced_here=(Thread, Cpu, B),    # ... and was on that CPU after it, outside of every section
    # --- caches
    enabled=(Cpu, Cache, B),         # the slot has a magazine
    life=(Cache, Life), listed=(Cache, B),
    to_drain=(Cache, Cpu, B),        # the destroy has still to drain this CPU's slot
    to_make=(Cache, Cpu, B),         # the CPU was online when create looked (in 2004: and has no slot yet)
    # --- the order of 2004
    oops=(B,),                       # somebody counted on a slot that is not there
)


def at_first(s):
    """Nothing is made; some CPUs are online."""
    none = lambda *relations: Not(Or(*relations))
    return And(
        every(Cpu)(lambda k: And(is_in(s.state(k), OFFLINE, ONLINE), s.online(k) == (s.state(k) == ONLINE), s.fenced(k))),
        every(Cpu)(lambda k: none(s.published(k), s.area(k), s.transition(k), s.walking(k), s.asked(k))),
        every(Cache)(lambda c: And(s.life(c) == ABSENT, Not(s.listed(c)))),
        every(Thread, Cache)(
            lambda t, c: none(s.inside(t, c), s.section(t, c), s.life_locked(t, c), s.pinned(t, c))),
        every(Thread)(lambda t: none(s.loaded(t), s.seen(t))),
        every(Thread, Obj)(lambda t, o: none(s.hand(t, o))),
        every(Cpu, Thread)(
            lambda k, t: none(s.control(k, t), s.running(t, k), s.read_request(t, k), s.fenced_here(t, k))),
        every(Cpu, Cache)(lambda k, c: none(s.enabled(k, c), s.to_visit(k, c))),
        every(Cpu, Obj)(lambda k, o: none(s.slot(k, o), s.drained(k, o))),
        every(Obj)(lambda o: none(s.user(o), s.depot(o), s.slab(o), s.born(o))),
        Not(s.oops()))


def control_free(s, k):
    return every(Thread)(lambda t: Not(s.control(k, t)))


def no_section(s, t):
    return every(Cache)(lambda c: Not(s.section(t, c)))


def gate_open(corner, s):
    """No writer, so readers get in: the writer is the transition."""
    return Implies(corner.gate, every(Cpu)(lambda k: Not(s.transition(k))))


def gate_empty(corner, s):
    """No reader, so a writer gets in: the readers are the caches that are being made or destroyed."""
    return Implies(corner.gate, every(Cache)(lambda c: is_in(s.life(c), ABSENT, LIVE, UNLISTED)))


def bare(s, k, c):
    """The slot of the cache on this CPU holds nothing, nor did what it held go half way."""
    return every(Obj)(lambda o: Implies(cache_of(o) == c, Not(Or(s.slot(k, o), s.drained(k, o)))))


def new_number(s, k, asked):
    """The CPU's request gets its next number, so what anybody read or did for an older one counts no longer."""
    elsewhere = lambda relation: lambda t, j: And(relation(t, j), j != k)
    return dict(asked=put(s.asked, k, to=asked), read_request=elsewhere(s.read_request),
                fenced_here=elsewhere(s.fenced_here))


def end_sections(s, of):
    """The sections of these threads begin anew: what the kernel does to one that is preempted or fenced."""
    out = lambda relation: lambda t, *x: And(relation(t, *x), Not(of(t)))
    return dict(section=out(s.section), loaded=out(s.loaded), seen=out(s.seen))
