"""Withdraw, fence, drain: by destroy, shrink, tune, growth, upkeep and transitions alike.

Anybody may lock any control and take anything out, so whatever stops a CPU is covered. A drain goes object by object;
between slot and destination an object is in the hands of whoever holds the control.
"""

from state import *


def private(corner, s, t, k):
    """The thread holds the control, and no section can have the area."""
    return And(s.control(k, t), corner.needs("fence", s.fenced(k)))


def actions(corner):
    def lock(s, t: Thread, k: Cpu):
        return control_free(s, k), s.but(control=put(s.control, k, t, to=T))

    def withdraw(s, t: Thread, k: Cpu):
        return And(s.control(k, t), s.published(k)), s.but(
            published=put(s.published, k, to=F), fenced=put(s.fenced, k, to=F))

    def fence_afar(s, t: Thread, k: Cpu):
        """An interrupt, or the thread's own presence."""
        ends = {} if corner.without == "fence" else end_sections(s, lambda u: s.running(u, k))
        withdrawn = corner.needs("withdraw", Not(s.published(k)))
        return And(s.control(k, t), withdrawn), s.but(fenced=put(s.fenced, k, to=T), **ends)

    def ask_proxy(s, t: Thread, k: Cpu):
        return And(s.control(k, t), Not(s.published(k)), Not(s.fenced(k)), Not(s.asked(k))), s.but(**new_number(s, k, T))

    def settle(s, t: Thread, k: Cpu):
        return And(s.control(k, t), s.fenced(k)), s.but(**new_number(s, k, F))

    def take_out(s, t: Thread, k: Cpu, o: Obj):
        return And(private(corner, s, t, k), s.slot(k, o)), s.but(
            slot=put(s.slot, k, o, to=F), drained=put(s.drained, k, o, to=T))

    def bring(s, t: Thread, k: Cpu, o: Obj, to_depot: AnySet):
        return And(s.control(k, t), s.drained(k, o)), s.but(
            drained=put(s.drained, k, o, to=F), depot=put(s.depot, o, to=to_depot(o)),
            slab=put(s.slab, o, to=Not(to_depot(o))))

    def put_in(s, t: Thread, k: Cpu, o: Obj):
        """Growth: what the old magazine held goes into the new one (I9)."""
        return And(private(corner, s, t, k), s.drained(k, o), s.enabled(k, cache_of(o))), s.but(
            drained=put(s.drained, k, o, to=F), slot=put(s.slot, k, o, to=T))

    def disable(s, t: Thread, k: Cpu, c: Cache):
        why = T if corner.listed else Or(And(s.walking(k), s.to_visit(k, c)), s.life(c) == FREEING)
        empty = corner.needs("a slot is empty when it goes", bare(s, k, c))
        return And(private(corner, s, t, k), empty, why, s.enabled(k, c)), s.but(
            enabled=put(s.enabled, k, c, to=F), to_visit=put(s.to_visit, k, c, to=F))

    def resume(s, t: Thread, k: Cpu):
        """Publishes the area where the CPU is online, and releases the control."""
        runs = And(corner.needs("only an online CPU resumes", s.state(k) == ONLINE), s.area(k))
        done = And(every(Obj)(lambda o: Not(s.drained(k, o))),
                   corner.needs("the request is settled", Not(s.asked(k))))
        settled = Or(s.published(k), s.fenced(k), runs, BoolVal(corner.without == "fence"))
        return And(s.control(k, t), done, settled), s.but(
            control=put(s.control, k, t, to=F), published=put(s.published, k, to=Or(s.published(k), runs)),
            fenced=put(s.fenced, k, to=And(s.fenced(k), Not(runs))))

    return public(locals())
