"""Proves 'withdraw, fence, drain' for any number of CPUs, threads, caches and objects, and shows what falls without it.

Usage: python3 proof/prove.py [--smt2 FOLDER]

For each corner of the defences: every claim and lemma holds at first, and every action keeps it. Every action must be
possible in some state in which all hold, so nothing is proved of what never happens. Then the controls: whatever is left
out of the protocol must break a claim or a lemma, and for the mistakes of 2004 and a missing fence there must be an
execution from the first state to the fault, which z3 fills in (which thread, CPU, object), and none with the defence.

`docs/proof.md` says what is proved, of what, and what is not. With --smt2 all questions of the proofs are written out,
for another solver to answer (cvc5 --lang smt2 FILE): each must be unsat.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from z3 import FuncDeclRef, sat, unsat

import caches
import cpus
import stopping
import threads
from claims import claims, lemmas
from state import *

BOTH, LISTED, GATE, OF_2004 = Corner(), Corner(gate=False), Corner(listed=False), Corner(listed=False, gate=False)
PROOFS = {
    "both defences": BOTH,
    "both, users inside alloc and free while their cache dies": Corner(contract=False),
    "listing alone": LISTED,
    "the gate alone, in the order of 2004": GATE,
}
# What may not be left out, and where that shows.
NEEDED = {
    "fence": BOTH, "withdraw": BOTH, "preemption ends sections": BOTH,
    "the proxy is there": BOTH, "the proxy is in no section": BOTH, "the request is settled": BOTH,
    "only an online CPU resumes": BOTH, "a slot is empty when it goes": BOTH,
    "enabling takes the control": BOTH, "dying takes the life lock": BOTH, "dying caches get no slot": BOTH,
    "offline holders count": LISTED, "the walk visits dying caches": LISTED, "the walk visits all": BOTH,
    "offline before it is emptied": LISTED, "only offline CPUs lose areas": BOTH, "freeing waits for pins": BOTH,
}


def actions(corner):
    return {name: f for part in (threads, stopping, cpus, caches) for name, f in part.actions(corner).items()}


def formulas_of(corner):
    return {**claims(corner), **lemmas(corner)}


def questions(corner):
    """(action, claim or lemma, formulas that must not hold together)."""
    hold, s = formulas_of(corner), fresh(SIGNATURE)
    before = [formula(s) for formula in hold.values()]
    for name, formula in hold.items():
        yield "at first", name, [at_first(s), Not(formula(s))]
    for action, f in actions(corner).items():
        given = parameters(f)
        guard, after = f(s, **given)
        for (name, formula), was in zip(hold.items(), before):
            kept = formula(after)
            # What an action does not touch it keeps.
            if not kept.eq(was):
                yield action, name, [*before, guard, Not(kept)]
        if corner.contract and action in ("revive", "unlist"):
            # I16 as it is worded: Busy if and only if a user holds an object.
            held = some(Obj)(lambda o: And(cache_of(o) == given["c"], s.user(o)))
            yield action, "I16 Busy if and only if a user holds one", [
                *before, guard, Not(held) if action == "revive" else held]


def never_happen(corner):
    """The actions that are possible in no state in which all claims and lemmas hold."""
    s = fresh(SIGNATURE)
    before = [formula(s) for formula in formulas_of(corner).values()]
    return [name for name, f in actions(corner).items() if ask(*before, f(s, **parameters(f))[0])[0] != sat]


def prove(title, corner):
    begun = time.monotonic()
    asked = list(questions(corner))
    failed = [f"{action} breaks '{name}'" for action, name, formulas in asked if ask(*formulas)[0] != unsat]
    failed += [f"{action} never happens" for action in never_happen(corner)]
    size = f"{len(actions(corner))} actions, {len(claims(corner))} claims, {len(lemmas(corner))} lemmas"
    verdict = "proved" if not failed else "NOT PROVED: " + "; ".join(failed)
    return not failed, f"{title}: {size}, {len(asked)} questions, {time.monotonic() - begun:.0f} s: {verdict}"


def needs(name, corner):
    """Without it something falls; the first fault is enough."""
    for action, claim, formulas in questions(Corner(corner.listed, corner.gate, corner.contract, without=name)):
        if ask(*formulas)[0] == sat:
            return True, f"without '{name}': {action} breaks '{claim}'"
    return False, f"without '{name}': NOTHING FALLS"


def execution(title, corner, steps, bad, possible):
    """Whether these actions in this order, with whatever parameters, lead from a first state to a bad one."""
    s, told = fresh(SIGNATURE), []
    formulas, all_actions = [at_first(s)], actions(corner)
    for n, step in enumerate(steps.split()):
        given = parameters(all_actions[step], f"#{n}")
        guard, s = all_actions[step](s, **given)
        formulas.append(guard)
        told.append((step, given))
    found, solver = ask(*formulas, bad(s))
    line = f"{title}: " + (f"in {len(told)} steps" if found == sat else "impossible" if found == unsat else "unknown")
    if found == sat:
        model = solver.model()
        value = lambda constant: str(model.eval(constant, True)).replace("!val!", "")
        for step, given in told:
            said = [value(constant) for constant in given.values() if not isinstance(constant, FuncDeclRef)]
            line += f"\n    {step} {' '.join(said)}"
    return found == (sat if possible else unsat), line


def executions():
    in_two_places = lambda s: some(Obj)(lambda o: And(s.depot(o), some(Thread)(lambda t: s.hand(t, o))))
    left_behind = lambda s: some(Cpu, Cache)(lambda k, c: And(s.state(k) == OFFLINE, s.enabled(k, c)))
    section = "enter_section read_table read_slot "
    drain = ("list_cache lock_life enable_missed schedule begin carve refill " + section + "push " + section
             + "lock withdraw {} take_out bring pop")
    race_1 = "begin_transition go_down go_offline create list_cache begin_walk lock visit"
    race_2 = "create list_cache begin_transition die prepare come_online choose_online lock withdraw fence_afar slot_drained"
    refused = ("list_cache count_cpus begin_transition go_down go_offline begin_walk lock visit resume end_walk end_transition "
               "begin_transition prepare {} begin_walk lock visit resume lock_life enable_created end_walk")
    unfenced, emptied_first = Corner(without="fence"), Corner(gate=False, without="offline before it is emptied")
    yield "no fence: an object in a depot and in a hand", unfenced, drain.format(""), in_two_places, True
    yield "the same with a fence", BOTH, drain.format("fence_afar"), in_two_places, False
    for name, steps in (("race 1 of 2004", race_1), ("race 2 of 2004", race_2)):
        yield name, OF_2004, steps, lambda s: s.oops(), True
        yield f"{name}, under the gate", GATE, steps, lambda s: s.oops(), False
    yield ("a CPU that is emptied before it is offline, beside a create", emptied_first, refused.format(""),
           left_behind, True)
    yield "the same, offline before it is emptied", LISTED, refused.format("cancel"), left_behind, False


def one_job(job):
    kind, *arguments = job
    return {"prove": prove, "needs": needs, "execution": lambda n: execution(*list(executions())[n])}[kind](*arguments)


def write_questions(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for title, corner in PROOFS.items():
        text = []
        for action, name, formulas in questions(corner):
            solver = Solver()
            solver.add(*formulas)
            text.append(f"; {action}: {name}\n(set-logic ALL)\n{solver.to_smt2()}(reset)\n")
        (folder / f"{title.replace(',', '').replace(' ', '-')}.smt2").write_text("".join(text))


def main():
    options = argparse.ArgumentParser(description="Proves the protocol between caches and CPUs.")
    options.add_argument("--smt2", type=Path, metavar="FOLDER", help="write the questions out, for another solver")
    folder = options.parse_args().smt2
    if folder:
        return write_questions(folder)
    jobs = [("prove", title, corner) for title, corner in PROOFS.items()]
    jobs += [("needs", name, corner) for name, corner in NEEDED.items()]
    jobs += [("execution", n) for n, _ in enumerate(executions())]
    good = True
    with ProcessPoolExecutor() as pool:
        for fine, line in pool.map(one_job, jobs):
            print(line if fine else f"{line}  <-- not as it must be", flush=True)
            good = good and fine
    sys.exit(0 if good else "proof: what must hold does not, or what must fall stands; see above")


if __name__ == "__main__":
    main()
