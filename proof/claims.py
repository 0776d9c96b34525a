"""What is claimed, by the numbers of docs/invariants.md, and the lemmas that make the claims inductive.

The lemmas that carry the proof: *fenced: no section has the area*; *what a section saw is still so*; *withdrawn and
control free: fenced*; *a slot that holds is enabled*; *a walk has still to visit what is enabled*; *dying caches get no
slot*.
"""

from state import *


def places(s, o):
    return [s.user(o), some(Thread)(lambda t: s.hand(t, o)), some(Cpu)(lambda k: s.slot(k, o)),
            some(Cpu)(lambda k: s.drained(k, o)), s.depot(o), s.slab(o)]


def one_place(s):
    def apart(o):
        return And(*[Not(And(one, other)) for n, one in enumerate(places(s, o)) for other in places(s, o)[:n]])
    return And(
        every(Obj, Thread, Thread)(lambda o, t, u: Implies(And(s.hand(t, o), s.hand(u, o)), t == u)),
        every(Obj, Cpu, Cpu)(lambda o, k, j: Implies(And(s.slot(k, o), s.slot(j, o)), k == j)),
        every(Obj, Cpu, Cpu)(lambda o, k, j: Implies(And(s.drained(k, o), s.drained(j, o)), k == j)),
        every(Obj)(apart))


def holds(s, k, o):
    return Or(s.slot(k, o), s.drained(k, o))


def claims(corner):
    """Name -> formula over a state."""
    claim = {
        "I6 an object is somewhere if and only if there is one":
            lambda s: every(Obj)(lambda o: s.born(o) == Or(*places(s, o))),
        "I7 no object is in two places": one_place,
        "I8 a CPU that is offline holds nothing":
            lambda s: every(Cpu, Obj)(lambda k, o: Implies(s.state(k) == OFFLINE, Not(holds(s, k, o)))),
        "I14 a drained slot of a dying cache stays empty":
            lambda s: every(Cpu, Obj)(lambda k, o: Implies(
                Or(And(s.life(cache_of(o)) == DRAINING_SLOTS, Not(s.to_drain(cache_of(o), k))),
                   is_in(s.life(cache_of(o)), DRAINING_DEPOTS, DRAINED, UNLISTED, FREEING)),
                Not(holds(s, k, o)))),
        "nobody counts on a slot that is not there": lambda s: Not(s.oops()),
    }
    if corner.contract:
        claim["I16 once drained, an object is with a user or on a slab"] = lambda s: every(Obj)(lambda o: Implies(
            And(is_in(s.life(cache_of(o)), DRAINED, FREEING), s.born(o)), Or(s.slab(o), s.user(o))))
        claim["I10 a cache that is gone has no object"] = lambda s: every(Obj)(lambda o: And(
            Implies(is_in(s.life(cache_of(o)), ABSENT, UNLISTED), Not(s.born(o))),
            Implies(And(s.life(cache_of(o)) == FREEING, s.born(o)), s.slab(o))))
    if corner.listed:
        claim["I19 what is pinned is not freed"] = lambda s: every(Thread, Cache)(
            lambda t, c: Implies(s.pinned(t, c), s.life(c) != ABSENT))
    return claim


def lemmas(corner):
    lemma = {**of_sections(), **of_stopped_cpus(corner)}
    if corner.contract:
        lemma["the users' contract"] = lambda s: every(Thread, Cache)(
            lambda t, c: Implies(s.inside(t, c), And(s.life(c) == LIVE, s.listed(c))))
        lemma["depots stay drained"] = lambda s: every(Obj)(
            lambda o: Implies(is_in(s.life(cache_of(o)), DRAINED, UNLISTED, FREEING), Not(s.depot(o))))
    return {**lemma, **(of_listing() if corner.listed else of_the_gate())}


def of_sections():
    return {
        "a thread runs on one CPU, a CPU runs one thread": lambda s: And(
            every(Thread, Cpu, Cpu)(lambda t, k, j: Implies(And(s.running(t, k), s.running(t, j)), k == j)),
            every(Thread, Thread, Cpu)(lambda t, u, k: Implies(And(s.running(t, k), s.running(u, k)), t == u))),
        "a section is inside alloc or free of one cache": lambda s: every(Thread, Cache, Cache)(
            lambda t, c, d: And(Implies(s.section(t, c), s.inside(t, c)),
                                Implies(And(s.inside(t, c), s.inside(t, d)), c == d))),
        "whoever read the table is in a section": lambda s: every(Thread)(
            lambda t: Implies(s.loaded(t), some(Cache)(lambda c: s.section(t, c)))),
        "hands are inside alloc or free": lambda s: every(Thread, Obj)(
            lambda t, o: Implies(s.hand(t, o), s.inside(t, cache_of(o)))),
        "fenced: no section has the area": lambda s: every(Thread, Cpu)(
            lambda t, k: Implies(And(s.fenced(k), s.running(t, k)), Not(s.loaded(t)))),
        "what a section saw is still so": lambda s: every(Thread, Cpu, Cache)(lambda t, k, c: Implies(
            And(s.running(t, k), s.section(t, c), s.loaded(t), s.seen(t)),
            And(Implies(s.saw_enabled(t), s.enabled(k, c)),
                every(Obj)(lambda o: s.snapshot(t, o) == And(s.slot(k, o), cache_of(o) == c))))),
        "a section's area is mapped": lambda s: every(Thread, Cpu)(
            lambda t, k: Implies(And(s.loaded(t), s.running(t, k)), s.area(k))),
    }


def of_stopped_cpus(corner):
    canceled = PREPARED if corner.without == "offline before it is emptied" else CANCELED
    return {
        "one thread holds a control": lambda s: every(Cpu, Thread, Thread)(
            lambda k, t, u: Implies(And(s.control(k, t), s.control(k, u)), t == u)),
        "withdrawn and control free: fenced": lambda s: every(Cpu)(lambda k: Or(
            s.published(k) != s.fenced(k), And(Not(s.published(k)), some(Thread)(lambda t: s.control(k, t))))),
        "asked: withdrawn, under the control": lambda s: every(Cpu)(
            lambda k: Implies(s.asked(k), And(Not(s.published(k)), some(Thread)(lambda t: s.control(k, t))))),
        "a proxy read the request that is open": lambda s: every(Thread, Cpu)(
            lambda t, k: And(Implies(s.read_request(t, k), s.asked(k)), Implies(s.fenced_here(t, k), s.asked(k)))),
        "a proxy was there: no section has the area": lambda s: every(Thread, Thread, Cpu)(
            lambda t, u, k: Implies(And(s.fenced_here(t, k), s.running(u, k)), Not(s.loaded(u)))),
        "in a drain's hands only under the control, fenced": lambda s: every(Cpu, Obj)(
            lambda k, o: Implies(s.drained(k, o), And(s.fenced(k), some(Thread)(lambda t: s.control(k, t))))),
        "published: an area, online or draining": lambda s: every(Cpu)(lambda k: Implies(
            s.published(k), And(s.area(k), is_in(s.state(k), ONLINE, DRAINING), Not(s.walking(k))))),
        "a slot that holds is enabled": lambda s: every(Cpu, Obj)(
            lambda k, o: Implies(holds(s, k, o), s.enabled(k, cache_of(o)))),
        "enabled: an area, a cache, not offline": lambda s: every(Cpu, Cache)(lambda k, c: Implies(
            s.enabled(k, c), And(s.area(k), s.state(k) != OFFLINE, Not(is_in(s.life(c), ABSENT, UNLISTED))))),
        "a walk has still to visit what is enabled": lambda s: every(Cpu, Cache)(
            lambda k, c: Implies(And(s.walking(k), s.enabled(k, c)), s.to_visit(k, c))),
        "states of CPUs": lambda s: every(Cpu)(lambda k: And(
            Implies(Not(is_in(s.state(k), OFFLINE, ONLINE)), s.transition(k)),
            Implies(s.walking(k), And(is_in(s.state(k), DRAINING, canceled), Not(s.online(k)))),
            Implies(s.online(k), is_in(s.state(k), ONLINE, DRAINING)),
            Implies(s.state(k) == ONLINE, s.online(k)))),
    }


def of_listing():
    return {
        "listed while it may have slots": lambda s: every(Cache)(
            lambda c: s.listed(c) == Not(is_in(s.life(c), ABSENT, UNLISTED))),
        "life lock held: live": lambda s: every(Thread, Cache)(
            lambda t, c: Implies(s.life_locked(t, c), s.life(c) == LIVE)),
        "dying caches get no slot": lambda s: every(Cpu, Cache)(lambda k, c: Implies(
            s.enabled(k, c), Or(is_in(s.life(c), LIVE, DYING), And(s.life(c) == DRAINING_SLOTS, s.to_drain(c, k))))),
    }


def of_the_gate():
    has_slots = lambda s, c: is_in(s.life(c), LIVE, DYING, DRAINING_SLOTS, DRAINING_DEPOTS, DRAINED)
    return {
        "a transition runs: no cache is half made or half gone": lambda s: every(Cpu, Cpu, Cache)(lambda k, j, c: And(
            Implies(s.transition(k), is_in(s.life(c), ABSENT, LIVE, UNLISTED)),
            Implies(And(s.transition(k), s.transition(j)), k == j))),
        "listed if and only if live": lambda s: every(Cache)(lambda c: s.listed(c) == (s.life(c) == LIVE)),
        "every CPU that counts has a slot": lambda s: every(Cpu, Cache)(lambda k, c: And(
            Implies(And(has_slots(s, c), Or(s.state(k) == ONLINE, And(s.state(k) == DRAINING, Not(s.walking(k))))),
                    s.enabled(k, c)),
            Implies(And(s.life(c) == LIVE, s.state(k) == DRAINING, s.walking(k), s.to_visit(k, c)), s.enabled(k, c)),
            Implies(And(s.life(c) == LIVE, s.state(k) == PREPARED, Not(s.walking(k))),
                    Or(s.to_visit(k, c), s.enabled(k, c))),
            Implies(And(s.life(c) == NEW, s.online(k)), Or(s.to_make(c, k), s.enabled(k, c))),
            Implies(s.online(k), Or(s.state(k) == ONLINE, s.transition(k))))),
        "drained or to be drained": lambda s: every(Cpu, Obj)(lambda k, o: Implies(
            And(s.life(cache_of(o)) == DRAINING_SLOTS, holds(s, k, o)), s.to_drain(cache_of(o), k))),
    }
