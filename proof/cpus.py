"""CPUs that come and go: the transitions (`engine/hotplug.rs`).

The walk over the list is a set: all listed caches at its beginning, less what is unlisted meanwhile. Its order does not
matter, nor which other thread empties a slot before it.
"""

from state import *


def actions(corner):
    def begin_transition(s, k: Cpu):
        alone = every(Cpu)(lambda j: Not(s.transition(j)))
        return And(alone, gate_empty(corner, s)), s.but(transition=put(s.transition, k, to=T))

    def end_transition(s, k: Cpu):
        return And(s.transition(k), is_in(s.state(k), OFFLINE, ONLINE)), s.but(transition=put(s.transition, k, to=F))

    # --- up
    def prepare(s, k: Cpu):
        """With an area, or without one, if there is no memory; in the order of 2004 the list is walked too."""
        visits = (lambda j, c: s.to_visit(j, c)) if corner.listed else (
            lambda j, c: If(j == k, s.listed(c), s.to_visit(j, c)))
        return And(s.transition(k), s.state(k) == OFFLINE, control_free(s, k)), s.but(
            state=put(s.state, k, to=PREPARED), area=put(s.area, k, to=T), to_visit=visits)

    def come_online(s, k: Cpu):
        all_seen = T if corner.listed else every(Cache)(lambda c: Not(s.to_visit(k, c)))
        at = And(s.state(k) == PREPARED, Not(s.walking(k)))
        return And(s.transition(k), at, control_free(s, k), all_seen), s.but(
            state=put(s.state, k, to=ONLINE), online=put(s.online, k, to=T),
            published=put(s.published, k, to=s.area(k)), fenced=put(s.fenced, k, to=Not(s.area(k))))

    def cancel(s, k: Cpu):
        """The CPU is offline before it is emptied."""
        return And(s.transition(k), s.state(k) == PREPARED, Not(s.walking(k)), control_free(s, k)), s.but(
            state=put(s.state, k, to=CANCELED))

    # --- down
    def go_down(s, k: Cpu):
        return And(s.transition(k), s.state(k) == ONLINE, control_free(s, k)), s.but(state=put(s.state, k, to=DRAINING))

    def down_failed(s, k: Cpu):
        return And(s.transition(k), s.state(k) == DRAINING, s.online(k), control_free(s, k)), s.but(
            state=put(s.state, k, to=ONLINE))

    def go_offline(s, k: Cpu):
        return And(s.transition(k), s.state(k) == DRAINING), s.but(online=put(s.online, k, to=F))

    # --- the walk that empties it
    def begin_walk(s, k: Cpu):
        canceled = PREPARED if corner.without == "offline before it is emptied" else CANCELED
        at = Or(And(s.state(k) == DRAINING, Not(s.online(k))), s.state(k) == canceled)
        listed = (lambda c: And(s.listed(c), s.life(c) == LIVE)) if corner.without == "the walk visits dying caches" \
            else s.listed
        return And(s.transition(k), at, Not(s.walking(k)), Not(s.published(k)), control_free(s, k)), s.but(
            walking=put(s.walking, k, to=T), to_visit=lambda j, c: If(j == k, listed(c), s.to_visit(j, c)))

    def visit(s, t: Thread, k: Cpu, c: Cache):
        race_1 = F if corner.listed else And(s.state(k) == DRAINING, s.listed(c), s.life(c) == LIVE)
        return And(s.walking(k), s.control(k, t), s.to_visit(k, c), Not(s.enabled(k, c))), s.but(
            to_visit=put(s.to_visit, k, c, to=F), oops=lambda: Or(s.oops(), race_1))

    def end_walk(s, k: Cpu, any_one: Obj, keeps: AnySet):
        """The area is kept, or goes."""
        through = corner.needs("the walk visits all", every(Cache)(lambda c: Not(s.to_visit(k, c))))
        return And(s.walking(k), through, control_free(s, k)), s.but(
            walking=put(s.walking, k, to=F), state=put(s.state, k, to=OFFLINE),
            area=put(s.area, k, to=And(s.area(k), keeps(any_one))))

    def unmap_kept_area(s, k: Cpu):
        at = corner.needs("only offline CPUs lose areas", s.state(k) == OFFLINE)
        return And(at, control_free(s, k)), s.but(area=put(s.area, k, to=F))

    return public(locals())
