"""Writes the actions of the model as Rust, for the test that holds traces of the engine against them.

Usage: python3 proof/export.py [--check]

So formulas and checker come from one table. What is written is for a small world (CPUS, THREADS, CACHES, with one object
for each cache), where a relation is an array and 'every' is a loop: `crates/kmem-sim/tests/conformance/actions.rs`. With
--check, fails if that file is not what would be written.
"""

import argparse
import sys
from pathlib import Path

from z3 import (Z3_OP_AND, Z3_OP_EQ, Z3_OP_FALSE, Z3_OP_IMPLIES, Z3_OP_ITE, Z3_OP_NOT, Z3_OP_OR, Z3_OP_TRUE, Bool,
                get_var_index, is_quantifier, is_var, simplify)

from prove import actions
from state import *

FILE = Path(__file__).resolve().parents[1] / "crates/kmem-sim/tests/conformance/actions.rs"
SIZE = {"Cpu": "CPUS", "Thread": "THREADS", "Cache": "CACHES", "Obj": "OBJECTS"}
HEAD = """// What proof/export.py writes: the actions of the model in proof/, for a small world. Not to be changed by hand.

#![allow(clippy::all, dead_code, unused_parens, unused_variables)]

pub const CPUS: usize = 3;
pub const THREADS: usize = 5;
pub const CACHES: usize = 3;
/// One for each cache.
pub const OBJECTS: usize = CACHES;
"""


def camel(name):
    return "".join(word.capitalize() for word in name.split("_"))


def rust_type(sort):
    return "bool" if str(sort) == "Bool" else str(sort)


def rust(formula, names, bound=()):
    """A formula as an expression over `s`. `names` are those of parameters, `bound` those of variables, outermost first."""
    if is_quantifier(formula):
        inner, text = list(bound), ""
        for n in range(formula.num_vars()):
            name = f"q{len(inner)}"
            over = f"(0..{SIZE[str(formula.var_sort(n))]})"
            text += f"{over}.{'all' if formula.is_forall() else 'any'}(|{name}| "
            inner.append(name)
        return text + rust(formula.body(), names, inner) + ")" * formula.num_vars()
    if is_var(formula):
        return bound[len(bound) - 1 - get_var_index(formula)]
    kind, of = formula.decl().kind(), [rust(part, names, bound) for part in formula.children()]
    name = formula.decl().name()
    if kind in (Z3_OP_TRUE, Z3_OP_FALSE):
        return name
    if kind in (Z3_OP_AND, Z3_OP_OR):
        return "(" + (" && " if kind == Z3_OP_AND else " || ").join(of) + ")"
    if kind == Z3_OP_NOT:
        return f"!{of[0]}"
    if kind == Z3_OP_IMPLIES:
        return f"(!{of[0]} || {of[1]})"
    if kind == Z3_OP_EQ:
        return f"({of[0]} == {of[1]})"
    if kind == Z3_OP_ITE:
        return f"(if {of[0]} {{ {of[1]} }} else {{ {of[2]} }})"
    at = "".join(f"[{part}]" for part in of)
    if name in SIGNATURE:
        return f"s.{name}{at}"
    if name == "cache_of":
        return of[0]
    if name in names:
        return names[name] + at
    if str(formula.sort()) in ("CpuState", "Life"):
        return f"{formula.sort()}::{camel(name)}"
    raise ValueError(f"no Rust for {formula}")


def state_in_rust():
    text = ""
    for sort in (CpuState, Life):
        values = [camel(sort.constructor(n).name()) for n in range(sort.num_constructors())]
        text += f"\n#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]\npub enum {sort} {{\n    #[default]\n"
        text += "".join(f"    {value},\n" for value in values) + "}\n"
    text += "\n#[derive(Clone, Default)]\npub struct State {\n    /// Whether creates and destroys exclude transitions.\n    pub gate: bool,\n"
    for name, sorts in SIGNATURE.items():
        kind = rust_type(sorts[-1])
        for sort in reversed(sorts[:-1]):
            kind = f"[{kind}; {SIZE[str(sort)]}]"
        text += f"    pub {name}: {kind},\n"
    return text + "}\n"


def action_in_rust(name, action):
    s, given = fresh(SIGNATURE), parameters(action)
    guard, after = action(s, **given)
    kinds = {n: "&[bool; OBJECTS]" if sort is AnySet else "usize" for n, sort in inspect.get_annotations(action).items()}
    names = {"gate": "s.gate"} | {(value.name() if callable(getattr(value, "name", None)) else str(value)): n for n, value in given.items()}
    head = ", ".join(["s: &State", *(f"{n}: {kind}" for n, kind in kinds.items())])
    text = f"\npub fn {name}({head}) -> Option<State> {{\n    if !{rust(simplify(guard), names)} {{\n        return None;\n    }}\n"
    text += "    let mut n = s.clone();\n"
    for relation, sorts in SIGNATURE.items():
        if after.__dict__[relation] is s.__dict__[relation]:
            continue
        points = [Const(f"x{n}", sort) for n, sort in enumerate(sorts[:-1])]
        value = rust(simplify(after.__dict__[relation](*points)), {**names, **{str(x): str(x) for x in points}})
        loops = "".join(f"for {x} in 0..{SIZE[str(sort)]} {{ " for x, sort in zip(points, sorts))
        at = "".join(f"[{x}]" for x in points)
        text += f"    {loops}n.{relation}{at} = {value};{' }' * len(points)}\n"
    return text + "    Some(n)\n}\n"


def main():
    options = argparse.ArgumentParser(description="Writes the actions of the model as Rust.")
    options.add_argument("--check", action="store_true", help="fail if the file is not what would be written")
    text = HEAD + state_in_rust() + "".join(action_in_rust(*one) for one in actions(Corner(gate=Bool("gate"))).items())
    if not options.parse_args().check:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit(f"proof: {FILE.name} is not what the model says: run proof/export.py")


if __name__ == "__main__":
    main()
