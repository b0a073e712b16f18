"""Mistakes in the penalty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from by_hand import (
    Array,
    Case,
    Edit,
    Pass,
    penalty_slope,
)
from planted.plant import Maker, Plant, Rng


def _penalties(kind: str, case: Case, rng: Rng, f: Callable[[Pass, str, str], Array]) -> Iterator[Plant]:
    """Replace the terms of all penalties, or of a single penalty, by f(pass, tensor, penalty)."""
    names, known = list(case.problem.network.shapes), list(case.problem.network.penalties)
    if not known:
        return
    chosen = known if rng.random() < 0.5 else [str(rng.choice(known))]

    def term(p: Pass, name: str, rng: Rng) -> Array | float | None:
        terms = p.penalties(name)
        return sum((f(p, name, each) if each in chosen else terms[each] for each in terms), 0.0)

    penalised = [name for name in names if case.problem.network.penalties_on(name)]
    variant = " and ".join(chosen)
    yield Plant(kind, variant, tuple(Edit("penalty", name, term) for name in penalised), whole=True)
    yield Plant(kind, variant, (Edit("penalty", str(rng.choice(penalised)), term),))


def penalty_times(f: Callable[[Case], float]) -> Maker:
    def make(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
        return _penalties(kind, case, rng, lambda p, name, each: f(case) * p.penalties(name)[each])

    return make


def of_the_other_kind(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    strengths, how = case.problem.network.penalties, int(rng.integers(3))

    def term(p: Pass, name: str, each: str) -> Array:
        w, strength = p.parameters[name], strengths[each]
        if each == "l1" and how:
            return strength * (np.abs(w) if how == 1 else (w > 0).astype(w.dtype))
        return penalty_slope({"l1": "l2", "l2": "l1"}[each], w, strength)

    swapped = len(strengths) > 1 and not how  # each takes the place of the other, which swaps the strengths
    for plant in _penalties(kind, case, rng, term):
        both = swapped and plant.variant.count(" and ")
        yield replace(plant, also=frozenset(["elastic net mixed up"] if both else []))


def of_any_strength(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    multiple = float(rng.uniform(2.5, 6.0))
    return _penalties(kind, case, rng, lambda p, name, each: multiple * p.penalties(name)[each])


def mixed_up(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    """Mix up the strengths of an elastic net: swap them, use one for both, or change the share."""
    strengths = case.problem.network.penalties
    if len(strengths) < 2 or strengths["l1"] == strengths["l2"]:
        return
    l1, l2, share = strengths["l1"], strengths["l2"], float(rng.uniform(0.05, 0.95))
    variants = {
        "swapped": (l2, l1),
        "l1's for both": (l1, l1),
        "l2's for both": (l2, l2),
        "another share": (share * (l1 + l2), (1.0 - share) * (l1 + l2)),
    }
    for variant, (of_l1, of_l2) in variants.items():
        yield _penalised(kind, variant, case, {"l1": of_l1, "l2": of_l2})


def lacked(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    strengths, strength = case.problem.network.penalties, float(10 ** rng.uniform(-4, -1))
    for penalty in ("l1", "l2"):
        if penalty not in strengths:
            yield _penalised(kind, penalty, case, {**strengths, penalty: strength})


def _penalised(kind: str, variant: str, case: Case, strengths: Mapping[str, float]) -> Plant:
    """Apply these penalties to every weight."""

    def term(p: Pass, name: str, rng: Rng) -> Array:
        w = p.parameters[name]
        return sum((penalty_slope(each, w, strength) for each, strength in strengths.items()), 0.0)

    names = (layer.weight for layer in case.layers)
    return Plant(kind, variant, tuple(Edit("penalty", name, term) for name in names), whole=True)


def on_the_biases(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    network = case.problem.network
    if not network.penalties or network.penalize_biases:
        return

    def term(p: Pass, name: str, rng: Rng) -> Array:
        w = p.parameters[name]
        return sum((penalty_slope(each, w, strength) for each, strength in network.penalties.items()), 0.0)

    for variant, ends in (("biases", (".bias",)), ("γ and β too", (".bias", ".gamma", ".beta"))):
        names = [name for name in network.shapes if name.endswith(ends)]
        yield Plant(kind, variant, tuple(Edit("penalty", name, term) for name in names), whole=True)
