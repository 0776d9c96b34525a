"""Transition systems in first-order logic: states, actions, and what z3 is asked.

A state is a set of relations over sorts that may be of any size. An action is a Python function of a state and its
parameters; it returns a guard and the state after it, whose relations are functions over the old ones. So a step needs
no frame axioms and no primed symbols, and the question 'does the action keep the invariant?' is: can all invariants
hold before, the guard hold, and this one not hold after? Everything stays in a decidable fragment: relations, universal
formulas, one fixed function (the cache of an object), and a few 'some' whose sorts have an order (object, CPU, thread,
cache).
"""

import inspect
from dataclasses import dataclass

from z3 import (And, BoolSort, BoolVal, Const, DeclareSort, EnumSort, Exists, ForAll, Function, If,
                Implies, Not, Or, Solver)

Cpu, Thread, Cache, Obj = (DeclareSort(name) for name in ("Cpu", "Thread", "Cache", "Obj"))
BOOL = BoolSort()
T, F = BoolVal(True), BoolVal(False)

# States of a CPU. CANCELED is the engine's Offline inside the transition that undoes a preparation.
CpuState, (OFFLINE, PREPARED, ONLINE, DRAINING, CANCELED) = EnumSort(
    "CpuState", ["OFFLINE", "PREPARED", "ONLINE", "DRAINING", "CANCELED"])
# Lives of a cache. NEW and FREEING occur in the order of 2004 only, UNLISTED in today's.
LIVES = ["ABSENT", "NEW", "LIVE", "DYING", "DRAINING_SLOTS", "DRAINING_DEPOTS", "DRAINED", "UNLISTED", "FREEING"]
Life, (ABSENT, NEW, LIVE, DYING, DRAINING_SLOTS, DRAINING_DEPOTS, DRAINED, UNLISTED, FREEING) = EnumSort("Life", LIVES)

# The cache of an object, for ever.
cache_of = Function("cache_of", Obj, Cache)


class AnySet:
    """As the sort of an action's parameter: any set of objects. One pop of any number of objects is one action."""


@dataclass(frozen=True)
class Corner:
    """Which defences there are, and what is broken on purpose."""

    # A dying cache stays listed until it is drained, and gets no slot.
    listed: bool = True
    # Creates and destroys exclude transitions. A formula, where that is to be said later.
    gate: bool = True
    # Users keep the contract: nobody is inside alloc or free of a cache while it is destroyed.
    contract: bool = True
    # The name of what is left out.
    without: str = ""

    def needs(self, name, formula):
        """The formula, or nothing at all if it is what is left out."""
        return T if self.without == name else formula


class State:
    """Relations by name, each a function of its arguments."""

    def __init__(self, **relations):
        self.__dict__.update(relations)

    def but(self, **new):
        return State(**{**self.__dict__, **new})


def fresh(signature):
    """A state of which nothing is known."""
    def relation(name, sorts):
        if len(sorts) > 1:
            return Function(name, *sorts)
        constant = Const(name, *sorts)
        return lambda: constant
    return State(**{name: relation(name, sorts) for name, sorts in signature.items()})


def quantifier(kind):
    """Variables are named by how deep they are, so that a formula made twice is the same formula."""
    def over(*sorts):
        def of(body):
            variables = [Const(f"{sort}.{quantifier.deep + n}", sort) for n, sort in enumerate(sorts)]
            quantifier.deep += len(sorts)
            formula = kind(variables, body(*variables))
            quantifier.deep -= len(sorts)
            return formula
        return of
    return over


quantifier.deep = 0


# every(Cpu, Obj)(lambda k, o: formula)
every, some = quantifier(ForAll), quantifier(Exists)


def put(relation, *at, to):
    """The relation, but `to` at one place."""
    return lambda *xs: If(And(*[x == a for x, a in zip(xs, at)]), to, relation(*xs))


def is_in(value, *values):
    return Or(*[value == one for one in values])


def parameters(action, tag=""):
    """A new constant for each parameter of an action."""
    def new(name, sort):
        name = f"{action.__name__}.{name}{tag}"
        return Function(name, Obj, BOOL) if sort is AnySet else Const(name, sort)
    return {name: new(name, sort) for name, sort in inspect.get_annotations(action).items()}


def public(functions):
    """The actions among a function's local names: those whose parameters say their sorts."""
    return {name: f for name, f in functions.items() if inspect.isfunction(f) and inspect.get_annotations(f)}


def ask(*formulas):
    """What z3 says of all of these together: its answer, and the solver, for a model."""
    solver = Solver()
    solver.set("timeout", 120_000)
    solver.add(*formulas)
    return solver.check(), solver
