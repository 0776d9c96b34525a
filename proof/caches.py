"""Caches that are created and destroyed, in today's order and in that of 2004.

Today (`engine/create.rs`, `engine/enable.rs`, `engine/destroy.rs`): a cache is listed before it has slots; a slot is
enabled only under the life lock of a live cache and the control of a CPU that is online or prepared; a dying cache stays
listed until it is drained. In 2004 slots were made for the CPUs that were online, and a dying cache left the list first.
"""

from state import *


def enable_slot(s, k, c):
    """The slot has a magazine, and the CPU an area, published if the CPU is online."""
    first_area = And(s.state(k) == ONLINE, Not(s.area(k)))
    return dict(
        enabled=put(s.enabled, k, c, to=T), area=put(s.area, k, to=T),
        published=put(s.published, k, to=Or(s.published(k), first_area)),
        fenced=put(s.fenced, k, to=And(s.fenced(k), Not(first_area))))


def objects_of_it_go(s, c):
    return dict(born=lambda o: And(s.born(o), cache_of(o) != c), slab=lambda o: And(s.slab(o), cache_of(o) != c))


def nobody_inside(corner, s, c):
    return every(Thread)(lambda t: Not(s.inside(t, c))) if corner.contract else T


def actions(corner):
    return {**common(corner), **(today(corner) if corner.listed else of_2004(corner))}


def common(corner):
    def slots_drained(s, c: Cache):
        all_drained = every(Cpu)(lambda k: Not(s.to_drain(c, k)))
        return And(s.life(c) == DRAINING_SLOTS, all_drained), s.but(life=put(s.life, c, to=DRAINING_DEPOTS))

    def depots_drained(s, c: Cache):
        empty = every(Obj)(lambda o: Implies(cache_of(o) == c, Not(s.depot(o))))
        return And(s.life(c) == DRAINING_DEPOTS, empty), s.but(life=put(s.life, c, to=DRAINED))

    def revive(s, c: Cache):
        """Busy."""
        in_use = some(Obj)(lambda o: And(cache_of(o) == c, s.born(o), Not(s.slab(o))))
        return And(s.life(c) == DRAINED, in_use), s.but(life=put(s.life, c, to=LIVE), listed=put(s.listed, c, to=T))

    return public(locals())


def today(corner):
    def list_cache(s, c: Cache):
        return And(s.life(c) == ABSENT, gate_open(corner, s)), s.but(
            life=put(s.life, c, to=LIVE), listed=put(s.listed, c, to=T))

    def count_cpus(s, c: Cache):
        """Create looks which CPUs are online."""
        return s.life(c) == LIVE, s.but(to_make=lambda d, k: If(d == c, s.online(k), s.to_make(d, k)))

    # --- slots
    def lock_life(s, t: Thread, c: Cache):
        lives = s.listed(c) if corner.without == "dying caches get no slot" else s.life(c) == LIVE
        return lives, s.but(life_locked=put(s.life_locked, t, c, to=T))

    def unlock_life(s, t: Thread, c: Cache):
        return s.life_locked(t, c), s.but(life_locked=put(s.life_locked, t, c, to=F))

    def may_enable(s, t, k, c):
        return And(s.life_locked(t, c), corner.needs("enabling takes the control", control_free(s, k)))

    def enable_missed(s, t: Thread, k: Cpu, c: Cache):
        """After a miss."""
        return And(may_enable(s, t, k, c), s.state(k) == ONLINE), s.but(**enable_slot(s, k, c))

    def enable_prepared(s, t: Thread, k: Cpu, c: Cache):
        """By the transition itself."""
        return And(may_enable(s, t, k, c), s.state(k) == PREPARED, Not(s.walking(k))), s.but(**enable_slot(s, k, c))

    def enable_created(s, t: Thread, k: Cpu, c: Cache):
        """By create, on the CPUs that were online when it looked."""
        return And(may_enable(s, t, k, c), s.to_make(c, k), is_in(s.state(k), ONLINE, PREPARED),
                   gate_open(corner, s)), s.but(**enable_slot(s, k, c))

    # --- destroy
    def die(s, c: Cache):
        unlocked = corner.needs("dying takes the life lock", every(Thread)(lambda t: Not(s.life_locked(t, c))))
        return And(s.life(c) == LIVE, unlocked, nobody_inside(corner, s, c), gate_open(corner, s)), s.but(
            life=put(s.life, c, to=DYING))

    def choose_holders(s, c: Cache):
        """Every CPU whose slot is enabled, online or not."""
        holds = (lambda k: And(s.enabled(k, c), s.online(k))) if corner.without == "offline holders count" \
            else (lambda k: s.enabled(k, c))
        return s.life(c) == DYING, s.but(
            life=put(s.life, c, to=DRAINING_SLOTS), to_drain=lambda d, k: If(d == c, holds(k), s.to_drain(d, k)))

    def slot_drained(s, t: Thread, k: Cpu, c: Cache):
        return And(s.life(c) == DRAINING_SLOTS, s.control(k, t), Not(s.enabled(k, c))), s.but(
            to_drain=put(s.to_drain, c, k, to=F))

    def unlist(s, c: Cache):
        unused = every(Obj)(lambda o: Implies(And(cache_of(o) == c, s.born(o)), s.slab(o)))
        return And(s.life(c) == DRAINED, unused), s.but(
            life=put(s.life, c, to=UNLISTED), listed=put(s.listed, c, to=F),
            to_visit=lambda j, d: And(s.to_visit(j, d), d != c), **objects_of_it_go(s, c))

    # --- pins
    def pin(s, t: Thread, c: Cache):
        return s.listed(c), s.but(pinned=put(s.pinned, t, c, to=T))

    def unpin(s, t: Thread, c: Cache):
        return T, s.but(pinned=put(s.pinned, t, c, to=F))

    def free_descriptor(s, c: Cache):
        """Its index and its slots may be used again, by another cache."""
        unpinned = corner.needs("freeing waits for pins", every(Thread)(lambda t: Not(s.pinned(t, c))))
        return And(s.life(c) == UNLISTED, unpinned), s.but(life=put(s.life, c, to=ABSENT))

    return public({name: f for name, f in locals().items() if name != "may_enable"})


def of_2004(corner):
    def create(s, c: Cache):
        return And(s.life(c) == ABSENT, gate_open(corner, s)), s.but(
            life=put(s.life, c, to=NEW), to_make=lambda d, k: If(d == c, s.online(k), s.to_make(d, k)))

    def make_slot(s, k: Cpu, c: Cache):
        """Made where the CPU is still online."""
        made = enable_slot(s, k, c)
        if_online = lambda name: lambda *x: If(s.online(k), made[name](*x), s.__dict__[name](*x))
        return And(s.life(c) == NEW, s.to_make(c, k), control_free(s, k)), s.but(
            to_make=put(s.to_make, c, k, to=F), **{name: if_online(name) for name in made})

    def list_cache(s, c: Cache):
        all_made = every(Cpu)(lambda k: Not(s.to_make(c, k)))
        return And(s.life(c) == NEW, all_made), s.but(life=put(s.life, c, to=LIVE), listed=put(s.listed, c, to=T))

    def prepare_slot(s, k: Cpu, c: Cache):
        at = And(s.state(k) == PREPARED, Not(s.walking(k)), control_free(s, k))
        return And(at, s.to_visit(k, c), s.listed(c)), s.but(
            to_visit=put(s.to_visit, k, c, to=F), **enable_slot(s, k, c))

    def die(s, c: Cache):
        """Off the list at once."""
        return And(s.life(c) == LIVE, nobody_inside(corner, s, c), gate_open(corner, s)), s.but(
            life=put(s.life, c, to=DYING), listed=put(s.listed, c, to=F),
            to_visit=lambda j, d: And(s.to_visit(j, d), d != c))

    def choose_online(s, c: Cache):
        return s.life(c) == DYING, s.but(
            life=put(s.life, c, to=DRAINING_SLOTS),
            to_drain=lambda d, k: If(d == c, s.online(k), s.to_drain(d, k)))

    def slot_drained(s, t: Thread, k: Cpu, c: Cache):
        race_2 = And(Not(s.enabled(k, c)), s.online(k))
        private = And(s.control(k, t), Not(s.published(k)), s.fenced(k))
        return And(s.life(c) == DRAINING_SLOTS, s.to_drain(c, k), private, bare(s, k, c)), s.but(
            to_drain=put(s.to_drain, c, k, to=F), oops=lambda: Or(s.oops(), race_2))

    def unlist(s, c: Cache):
        unused = every(Obj)(lambda o: Implies(And(cache_of(o) == c, s.born(o)), s.slab(o)))
        return And(s.life(c) == DRAINED, unused), s.but(life=put(s.life, c, to=FREEING))

    def slots_freed(s, c: Cache):
        return And(s.life(c) == FREEING, every(Cpu)(lambda k: Not(s.enabled(k, c)))), s.but(
            life=put(s.life, c, to=ABSENT), **objects_of_it_go(s, c))

    return public(locals())
