"""Mistakes in the derivative of an activation, in every layer or some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from by_hand import (
    BY_HAND,
    Array,
    Case,
    Edit,
    Pass,
    cdf,
    sigmoid,
)
from planted.plant import Formula, Parts, Plant, Rng, drawn_seed


def _scopes(case: Case, rng: Rng) -> list[tuple[int, ...]]:
    """Return the scopes to plant in: every layer, the output, the first hidden layer, and a random one."""
    count = len(case.layers)
    return sorted({tuple(range(count)), (count - 1,), (0,), (int(rng.integers(count)),)})


def in_layers(
    kind: str, case: Case, rng: Rng, variants: Mapping[str, Parts], also: Iterable[str] = ()
) -> Iterator[Plant]:
    """Yield each variant in each scope. A variant is a set of parts with their formulas."""
    for variant, parts in variants.items():
        for scope in _scopes(case, rng):
            seed = drawn_seed(rng)
            edits = (Edit(part, i, do, seed) for i in scope for part, do in parts.items())
            yield Plant(kind, variant, tuple(edits), frozenset(also))


def _slope(f: Callable[[Pass, int], Array | None], only: str = "") -> Parts:
    """Replace an activation's derivative elementwise."""

    def do(p: Pass, i: int, rng: Rng) -> Array | None:
        slope = f(p, i) if only in ("", p.names[i]) else None
        return None if slope is None else p.dL_da[i] * slope

    return {"activation": do}


def at_a(p: Pass, i: int, rng: Rng) -> Array:
    """Return δ with the derivative taken at a, φ'(φ(z))."""
    return p.through(i, p.a[i], p.dL_da[i])


def z_for_a(p: Pass, i: int, rng: Rng) -> Array | None:
    """Return δ with z in place of a in the textbook's formula for φ' in terms of a."""
    g, y = p.dL_da[i], p.y[i]
    if p.names[i] == "softmax":
        return y * (g - (g * y).sum(axis=1, keepdims=True))
    of_a = BY_HAND[p.names[i]].of_a
    return None if of_a is None else g * of_a(y, y, p.options[i])


def at_the_input(p: Pass, i: int, rng: Rng) -> Array | None:
    fits = p.a_h[i].shape == p.y[i].shape
    return p.through(i, p.a_h[i], p.dL_da[i]) if fits else None


def without_the_bias(p: Pass, i: int, rng: Rng) -> Array | None:
    normalised = p.layers[i].batch_norm is not None
    return None if normalised else p.through(i, p.a_h[i] @ p.w(i).T, p.dL_da[i])


def twice(p: Pass, i: int, rng: Rng) -> Array:
    return p.through(i, p.y[i], p.through(i, p.y[i], p.dL_da[i]))


def mask_of_the_gradient(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.dL_da[i] * (p.dL_da[i] > 0) if p.names[i] == "relu" else None


def softmax_diagonal(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.dL_da[i] * p.a[i] * (1.0 - p.a[i]) if p.names[i] == "softmax" else None


SLIPS: Mapping[str, Mapping[str, Callable[..., Array]]] = {
    "tanh": {
        "1 - a": lambda z, a, o: 1.0 - a,
        "1 + a²": lambda z, a, o: 1.0 + a**2,
        "-a²": lambda z, a, o: -(a**2),
    },
    "sigmoid": {
        "a": lambda z, a, o: a,
        "1 - a": lambda z, a, o: 1.0 - a,
        "a (1 + a)": lambda z, a, o: a * (1.0 + a),
    },
    "gelu": {"Φ(z)": lambda z, a, o: cdf(z)},
    "silu": {
        "σ(z)": lambda z, a, o: sigmoid(z),
        "σ(z) (1 - σ(z))": lambda z, a, o: sigmoid(z) * (1.0 - sigmoid(z)),
    },
    "softplus": {"σ(-z)": lambda z, a, o: sigmoid(-z)},
    "elu": {"a for z < 0": lambda z, a, o: np.where(z > 0, 1.0, a)},
    "relu": {"inverted mask": lambda z, a, o: (z <= 0).astype(z.dtype)},
}
SLIPS_THAT_ARE_ANOTHERS = {("sigmoid", "a"), ("silu", "σ(z)"), ("silu", "σ(z) (1 - σ(z))")}
"""Slips that also are another activation's derivative, since softplus' = σ and σ' = σ (1 − σ)."""


def slips(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for own in sorted(set(case.names)):
        for text, f in SLIPS.get(own, {}).items():
            parts = _slope(lambda p, i, f=f: f(p.y[i], p.a[i], p.options[i]), own)
            also = ["another activation's derivative"] if (own, text) in SLIPS_THAT_ARE_ANOTHERS else []
            yield from in_layers(kind, case, rng, {f"{own}: {text}": parts}, also)


WRITTEN_BY_A: Mapping[str, tuple[str, ...]] = {
    "sigmoid": (),
    "tanh": (),
    "softplus": (),
    "elu": ("sigmoid", "relu", "softplus", "softmax"),
}
"""Activations whose derivative is written in terms of a.

The formulas of elu's entry give 1, which is the same as a missing derivative.
"""


def _anothers_by_a(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for own in sorted(set(case.names)):
        for other, but in WRITTEN_BY_A.items():
            if own not in (other, *but):

                def slope(p: Pass, i: int, other: str = other) -> Array:
                    of_a = BY_HAND[other].of_a
                    assert of_a is not None
                    return of_a(p.a[i], p.y[i], {})

                also = ["softmax diagonal only"] if (own, other) == ("softmax", "sigmoid") else []
                yield from in_layers(kind, case, rng, {f"{other}, of a, for {own}": _slope(slope, own)}, also)
    for other in WRITTEN_BY_A:  # hard-coded, whatever the layer's own activation is

        def same(p: Pass, i: int, rng: Rng, other: str = other) -> Array | None:
            of_a = BY_HAND[other].of_a
            assert of_a is not None
            if p.names[i] in ("softmax", *WRITTEN_BY_A[other]):
                return None
            return p.dL_da[i] * of_a(p.a[i], p.y[i], p.options[i] if p.names[i] == other else {})

        everywhere = tuple(Edit("activation", i, same) for i in range(len(case.layers)))
        yield Plant(kind, f"{other}, of a, everywhere", everywhere)


def _the_same_said_otherwise(own: str, other: str) -> list[str]:
    if (own, other) in {("sigmoid", "softplus"), ("silu", "softplus"), ("silu", "sigmoid")}:
        return ["slip in the activation's formula"]
    if other == "relu" and own in ("leaky_relu", "elu"):
        return ["activation option"]  # a slope or an alpha of 0
    return []


def anothers(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for own in sorted(set(case.names)):
        for other in BY_HAND:
            if other not in ("identity", own):  # identity is the same as a missing derivative

                def slope(p: Pass, i: int, other: str = other) -> Array:
                    y, row = p.y[i], BY_HAND[other]
                    return row.slope(y, row.value(y, {}), {})

                also = _the_same_said_otherwise(own, other)
                yield from in_layers(kind, case, rng, {f"{other} for {own}": _slope(slope, own)}, also)
    yield from _anothers_by_a(kind, case, rng)


def _phi(p: Pass, i: int) -> Array | None:
    """Return φ'(z), or None for softmax, which has no elementwise derivative."""
    name = p.names[i]
    return None if name == "softmax" else BY_HAND[name].slope(p.y[i], p.a[i], p.options[i])


def upstream_dropped(averaged: bool) -> Formula:
    def do(p: Pass, i: int, rng: Rng) -> Array | None:
        phi, c = _phi(p, i), float(p.case.problem.network.coefficient)
        return None if phi is None else phi * (c if averaged else 1.0)

    return do


def flat_spot(p: Pass, i: int, rng: Rng) -> Array | None:
    phi, offset = _phi(p, i), float(rng.choice([0.1, rng.uniform(0.01, 0.5)]))
    return None if phi is None or p.names[i] == "identity" else p.dL_da[i] * (phi + offset)


def other_leaky_slope(p: Pass, i: int, rng: Rng) -> Array | None:
    return (
        None if p.names[i] != "leaky_relu" else p.dL_da[i] * np.where(p.y[i] > 0, 1.0, rng.uniform(0.02, 1))
    )


def other_elu_alpha(p: Pass, i: int, rng: Rng) -> Array | None:
    alpha = rng.uniform(0.2, 3.0)
    return _elu(p, i, lambda y, a: alpha * np.exp(np.minimum(y, 0.0)))


def other_alpha_next_to_a(p: Pass, i: int, rng: Rng) -> Array | None:
    alpha = rng.uniform(0.2, 3.0)
    return _elu(p, i, lambda y, a: a + alpha)


def _elu(p: Pass, i: int, left: Callable[[Array, Array], Array]) -> Array | None:
    if p.names[i] != "elu":
        return None
    return p.dL_da[i] * np.where(p.y[i] > 0, 1.0, left(p.y[i], p.a[i]))


def default_option(p: Pass, i: int, rng: Rng) -> Array | None:
    if p.names[i] not in ("leaky_relu", "elu"):
        return None
    return p.dL_da[i] * BY_HAND[p.names[i]].slope(p.y[i], p.a[i], {})
