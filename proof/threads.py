"""What threads do: they run on CPUs, allocate and free, in sections and on slow paths.

A section takes a *snapshot* of its slot and commits 'the snapshot less these' or 'the snapshot and these', which is what
storing a cursor does: so a lost update is possible here, and I7 can fail. Preemption ends the section of whoever ran
there before and of who comes (`rseq.md`); what the model assumes of the kernel is this, and what a fence does.
Slow paths move objects one by one in any order, which covers every batch.
"""

from state import *


def actions(corner):
    over = lambda s, t: end_sections(s, lambda u: u == t)
    ready = lambda s, t, k, c: And(s.running(t, k), s.section(t, c), s.loaded(t), s.seen(t), s.saw_enabled(t))

    def schedule(s, t: Thread, k: Cpu):
        """The thread runs on the CPU from now on, and whoever ran there runs nowhere."""
        moved = T if corner.without == "preemption ends sections" else F
        return T, s.but(
            running=lambda u, j: Or(And(u == t, j == k), And(s.running(u, j), u != t, j != k)),
            **end_sections(s, lambda u: And(Not(moved), Or(u == t, s.running(u, k)))))

    def begin(s, t: Thread, c: Cache):
        lives = s.life(c) == LIVE if corner.contract else is_in(s.life(c), LIVE, DYING, DRAINING_SLOTS, DRAINING_DEPOTS)
        return And(lives, s.listed(c), every(Cache)(lambda d: Not(s.inside(t, d)))), s.but(
            inside=put(s.inside, t, c, to=T))

    def end(s, t: Thread, c: Cache):
        empty_handed = every(Obj)(lambda o: Not(s.hand(t, o)))
        return And(s.inside(t, c), no_section(s, t), empty_handed), s.but(inside=put(s.inside, t, c, to=F))

    # --- a section
    def enter_section(s, t: Thread, k: Cpu, c: Cache):
        return And(s.running(t, k), s.inside(t, c), no_section(s, t)), s.but(
            section=put(s.section, t, c, to=T), loaded=put(s.loaded, t, to=F), seen=put(s.seen, t, to=F))

    def read_table(s, t: Thread, k: Cpu, c: Cache):
        return And(s.running(t, k), s.section(t, c), s.published(k)), s.but(
            loaded=put(s.loaded, t, to=T), seen=put(s.seen, t, to=F))

    def read_slot(s, t: Thread, k: Cpu, c: Cache):
        held = lambda u, o: If(u == t, And(s.slot(k, o), cache_of(o) == c), s.snapshot(u, o))
        return And(s.running(t, k), s.section(t, c), s.loaded(t)), s.but(
            seen=put(s.seen, t, to=T), saw_enabled=put(s.saw_enabled, t, to=s.enabled(k, c)), snapshot=held)

    def miss(s, t: Thread):
        return T, s.but(**over(s, t))

    def pop(s, t: Thread, k: Cpu, c: Cache, those: AnySet):
        some_of_it = every(Obj)(lambda o: Implies(those(o), s.snapshot(t, o)))
        return And(ready(s, t, k, c), some_of_it), s.but(
            slot=lambda j, o: If(And(j == k, cache_of(o) == c), And(s.snapshot(t, o), Not(those(o))), s.slot(j, o)),
            hand=lambda u, o: Or(s.hand(u, o), And(u == t, those(o))), **over(s, t))

    def push(s, t: Thread, k: Cpu, c: Cache, those: AnySet):
        its_own = every(Obj)(lambda o: Implies(those(o), And(s.hand(t, o), cache_of(o) == c)))
        return And(ready(s, t, k, c), its_own), s.but(
            slot=lambda j, o: If(And(j == k, cache_of(o) == c), Or(s.snapshot(t, o), those(o)), s.slot(j, o)),
            hand=lambda u, o: And(s.hand(u, o), Not(And(u == t, those(o)))), **over(s, t))

    # --- slow paths
    def hand_out(s, t: Thread, o: Obj):
        return And(s.hand(t, o), no_section(s, t)), s.but(hand=put(s.hand, t, o, to=F), user=put(s.user, o, to=T))

    def take_back(s, t: Thread, o: Obj):
        return And(s.user(o), s.inside(t, cache_of(o)), no_section(s, t)), s.but(
            hand=put(s.hand, t, o, to=T), user=put(s.user, o, to=F))

    def refill(s, t: Thread, o: Obj):
        return And(Or(s.depot(o), s.slab(o)), s.inside(t, cache_of(o)), no_section(s, t)), s.but(
            hand=put(s.hand, t, o, to=T), depot=put(s.depot, o, to=F), slab=put(s.slab, o, to=F))

    def flush(s, t: Thread, o: Obj, to_depot: AnySet):
        return And(s.hand(t, o), no_section(s, t)), s.but(
            hand=put(s.hand, t, o, to=F), depot=put(s.depot, o, to=to_depot(o)), slab=put(s.slab, o, to=Not(to_depot(o))))

    def carve(s, t: Thread, o: Obj):
        """A new slab's object."""
        return And(Not(s.born(o)), s.inside(t, cache_of(o))), s.but(
            born=put(s.born, o, to=T), slab=put(s.slab, o, to=T))

    def reap(s, o: Obj):
        """A slab goes back to the page heap."""
        return s.slab(o), s.but(born=put(s.born, o, to=F), slab=put(s.slab, o, to=F))

    def empty_depot(s, o: Obj):
        return s.depot(o), s.but(depot=put(s.depot, o, to=F), slab=put(s.slab, o, to=T))

    # --- proxies: a thread on a stopped CPU reports that it is there
    def read_request(s, t: Thread, k: Cpu):
        return And(s.asked(k), no_section(s, t)), s.but(read_request=put(s.read_request, t, k, to=T))

    def fence_here(s, t: Thread, k: Cpu):
        there = corner.needs("the proxy is there", s.running(t, k))
        outside = corner.needs("the proxy is in no section", no_section(s, t))
        return And(s.read_request(t, k), there, outside), s.but(fenced_here=put(s.fenced_here, t, k, to=T))

    def report(s, t: Thread, k: Cpu):
        return And(s.fenced_here(t, k), s.asked(k)), s.but(fenced=put(s.fenced, k, to=T), **new_number(s, k, F))

    return public(locals())
