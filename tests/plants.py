"""Mistakes of every kind that a diagnosis names, made in a backward pass written by hand.

`KINDS` yields every way to make each kind of mistake in a network. Each variant of a kind is made in all
layers, in one random layer, in the output layer, and in the first hidden layer, with random unknowns. A
`Plant` is a set of replaced parts of `by_hand.Pass`, so two plants can be combined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from by_hand import (
    BY_HAND,
    LOSS_GRADIENTS,
    Array,
    Case,
    Edit,
    Gradients,
    Pass,
    by_hand,
    cdf,
    huber,
    margins,
    penalty_slope,
    sigmoid,
    softmax,
)

Rng = np.random.Generator
Formula = Callable[[Pass, Any, Rng], Any]
Parts = Mapping[str, Formula]

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "activation derivative": (
        "activation derivative missing",
        "activation derivative at a",
        "activation derivative at z instead of a",
        "activation derivative at the input",
        "activation derivative without the bias",
        "activation derivative twice",
        "mask of the gradient",
        "upstream gradient dropped",
        "flat spot added",
    ),
    "activation formula": (
        "another activation's derivative",
        "activation option",
        "slip in the activation's formula",
        "softmax diagonal only",
    ),
    "loss": (
        "output activation twice",
        "output activation missing",
        "sign of the target",
        "target forgotten",
        "another loss",
        "huber threshold",
        "huber sign",
        "hinge not counted",
        "hinge margin",
        "label smoothing",
        "class weights",
        "class weights normalised by N",
        "target's entry alone",
        "positive targets alone",
        "negative targets alone",
    ),
    "scale or reduction": (
        "missing 1/N",
        "1/N twice",
        "missing 1/C",
        "1/C twice",
        "factor 2",
        "factor 1/2",
        "sign",
        "factor",
    ),
    "accumulated": ("accumulated",),
    "bias reduction": (
        "bias averaged",
        "bias not summed",
        "bias summed along the wrong axis",
        "bias summed over everything",
        "bias gradient summed over the inputs",
    ),
    "batch norm": (
        "batch norm: mean term missing",
        "batch norm: variance term missing",
        "batch norm: statistics held constant",
        "batch norm: unbiased variance",
        "batch norm: gamma forgotten",
        "batch norm: divided by the variance",
        "batch norm: left out",
        "batch norm: gamma gradient from z",
        "batch norm: gradient of gamma or beta averaged",
        "batch norm: mean subtracted twice",
        "batch norm: variance term twice",
        "batch norm: another eps",
        "batch norm: eps outside the root",
    ),
    "overflow": ("overflow",),
    "updated too early": ("weights updated first",),
    "transposed": ("transposed product", "transposed weights", "transposed gradient"),
    "penalty": (
        "penalty forgotten",
        "penalty doubled",
        "penalty halved",
        "penalty with the wrong sign",
        "penalty divided by N",
        "penalty on the biases too",
        "penalty of the other kind",
        "elastic net mixed up",
        "penalty strength",
        "penalty that the spec lacks",
    ),
    "wrong tensor": (
        "samples out of order",
        "pre-activation in place of the activation",
        "another layer's activation",
        "another layer's delta",
        "delta before the activation",
        "tensors swapped",
        "outer product of sums",
        "parameters in place of the gradient",
        "weights left out on the way down",
        "absolute weights on the way down",
        "another layer's weights",
    ),
    "samples": ("last sample lost", "first sample lost", "batch subset"),
    "entries": (
        "single entries",
        "unit zeroed",
        "row",
        "column",
        "gradient zero",
        "rows permuted",
        "clipped",
        "clipped by norm",
    ),
    "precision": ("few decimals", "few digits", "float16", "float32"),
}
FAMILY_OF: Mapping[str, str] = {kind: family for family, kinds in FAMILIES.items() for kind in kinds}


@dataclass(frozen=True)
class Plant:
    """One mistake in one network.

    also: other kinds that are equally right answers on every network of this type.
    whole: whether the mistake belongs to no particular layer.
    """

    kind: str
    variant: str
    edits: tuple[Edit, ...]
    also: frozenset[str] = frozenset()
    whole: bool = False

    @property
    def family(self) -> str:
        return FAMILY_OF[self.kind]

    @property
    def right_kinds(self) -> frozenset[str]:
        return self.also | {self.kind}

    @property
    def name(self) -> str:
        places = sorted({str(edit.at) for edit in self.edits if edit.at is not None})
        made = "everywhere" if self.whole else f"at {', '.join(places)}" if places else ""
        return f"{self.kind} ({'; '.join(filter(None, [self.variant, made]))})".removesuffix(" ()")

    def gradients(self, case: Case) -> Gradients:
        return by_hand(case, self.edits)

    def layers(self, case: Case) -> tuple[str, ...]:
        """Return the layers with the mistake, from the output down; none if it belongs to no layer."""
        if self.whole:
            return ()
        made = {_layer_of(case, edit) for edit in self.edits}
        return tuple(layer.name for i, layer in reversed(list(enumerate(case.layers))) if i in made)

    def trimmed(self, case: Case) -> Plant:
        """Return the plant without the layers in which it makes no difference."""
        if self.whole:
            return self
        kept, full = self.edits, self.gradients(case)
        for i in {_layer_of(case, edit) for edit in self.edits}:
            fewer = tuple(edit for edit in kept if _layer_of(case, edit) != i)
            if not differ(by_hand(case, fewer), full, 1e-9):
                kept = fewer
        return replace(self, edits=kept)


def differ(some: Gradients, others: Gradients, share: float) -> bool:
    """Return whether any entry differs by more than this share of its tensor's largest entry.

    Differences below 1e-13 of the largest entry of all tensors count as rounding, as in the gradient of a
    bias below batch normalisation.
    """

    def largest(g: Array) -> float:
        return float(np.abs(g[np.isfinite(g)]).max(initial=0.0))

    rounding = 1e-13 * max(largest(g) for g in others.values())
    with np.errstate(invalid="ignore"):
        return any(
            not np.isclose(some[name], g, 0.0, max(share * largest(g), rounding), equal_nan=True).all()
            for name, g in others.items()
        )


def _layer_of(case: Case, edit: Edit) -> int:
    """Return the layer of an edit. An edit without a place belongs to the output, where the chain begins."""
    if edit.at is None:
        return len(case.layers) - 1
    return edit.at if isinstance(edit.at, int) else _index(case, edit.at)


def _index(case: Case, tensor: str) -> int:
    return [layer.name for layer in case.layers].index(tensor.rsplit(".", 1)[0])


def _seed(rng: Rng) -> int:
    return int(rng.integers(2**31))


# --- in layers ---------------------------------------------------------------------------------------------


def _scopes(case: Case, rng: Rng) -> list[tuple[int, ...]]:
    """Return the scopes to plant in: every layer, the output, the first hidden layer, and a random one."""
    count = len(case.layers)
    return sorted({tuple(range(count)), (count - 1,), (0,), (int(rng.integers(count)),)})


def _in_layers(
    kind: str, case: Case, rng: Rng, variants: Mapping[str, Parts], also: Iterable[str] = ()
) -> Iterator[Plant]:
    """Yield each variant in each scope. A variant is a set of parts with their formulas."""
    for variant, parts in variants.items():
        for scope in _scopes(case, rng):
            seed = _seed(rng)
            edits = (Edit(part, i, do, seed) for i in scope for part, do in parts.items())
            yield Plant(kind, variant, tuple(edits), frozenset(also))


def _slope(f: Callable[[Pass, int], Array | None], only: str = "") -> Parts:
    """Replace an activation's derivative elementwise."""

    def do(p: Pass, i: int, rng: Rng) -> Array | None:
        slope = f(p, i) if only in ("", p.names[i]) else None
        return None if slope is None else p.dL_da[i] * slope

    return {"activation": do}


def _at_a(p: Pass, i: int, rng: Rng) -> Array:
    """Return δ with the derivative taken at a, φ'(φ(z))."""
    return p.through(i, p.a[i], p.dL_da[i])


def _z_for_a(p: Pass, i: int, rng: Rng) -> Array | None:
    """Return δ with z in place of a in the textbook's formula for φ' in terms of a."""
    g, y = p.dL_da[i], p.y[i]
    if p.names[i] == "softmax":
        return y * (g - (g * y).sum(axis=1, keepdims=True))
    of_a = BY_HAND[p.names[i]].of_a
    return None if of_a is None else g * of_a(y, y, p.options[i])


def _at_the_input(p: Pass, i: int, rng: Rng) -> Array | None:
    fits = p.a_h[i].shape == p.y[i].shape
    return p.through(i, p.a_h[i], p.dL_da[i]) if fits else None


def _without_the_bias(p: Pass, i: int, rng: Rng) -> Array | None:
    normalised = p.layers[i].batch_norm is not None
    return None if normalised else p.through(i, p.a_h[i] @ p.w(i).T, p.dL_da[i])


def _twice(p: Pass, i: int, rng: Rng) -> Array:
    return p.through(i, p.y[i], p.through(i, p.y[i], p.dL_da[i]))


def _mask_of_the_gradient(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.dL_da[i] * (p.dL_da[i] > 0) if p.names[i] == "relu" else None


def _softmax_diagonal(p: Pass, i: int, rng: Rng) -> Array | None:
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


def _slips(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for own in sorted(set(case.names)):
        for text, f in SLIPS.get(own, {}).items():
            parts = _slope(lambda p, i, f=f: f(p.y[i], p.a[i], p.options[i]), own)
            also = ["another activation's derivative"] if (own, text) in SLIPS_THAT_ARE_ANOTHERS else []
            yield from _in_layers(kind, case, rng, {f"{own}: {text}": parts}, also)


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
                yield from _in_layers(
                    kind, case, rng, {f"{other}, of a, for {own}": _slope(slope, own)}, also
                )
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


def _anothers(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for own in sorted(set(case.names)):
        for other in BY_HAND:
            if other not in ("identity", own):  # identity is the same as a missing derivative

                def slope(p: Pass, i: int, other: str = other) -> Array:
                    y, row = p.y[i], BY_HAND[other]
                    return row.slope(y, row.value(y, {}), {})

                also = _the_same_said_otherwise(own, other)
                yield from _in_layers(kind, case, rng, {f"{other} for {own}": _slope(slope, own)}, also)
    yield from _anothers_by_a(kind, case, rng)


def _phi(p: Pass, i: int) -> Array | None:
    """Return φ'(z), or None for softmax, which has no elementwise derivative."""
    name = p.names[i]
    return None if name == "softmax" else BY_HAND[name].slope(p.y[i], p.a[i], p.options[i])


def _upstream_dropped(averaged: bool) -> Formula:
    def do(p: Pass, i: int, rng: Rng) -> Array | None:
        phi, c = _phi(p, i), float(p.case.problem.network.coefficient)
        return None if phi is None else phi * (c if averaged else 1.0)

    return do


def _flat_spot(p: Pass, i: int, rng: Rng) -> Array | None:
    phi, offset = _phi(p, i), float(rng.choice([0.1, rng.uniform(0.01, 0.5)]))
    return None if phi is None or p.names[i] == "identity" else p.dL_da[i] * (phi + offset)


def _other_leaky_slope(p: Pass, i: int, rng: Rng) -> Array | None:
    return (
        None if p.names[i] != "leaky_relu" else p.dL_da[i] * np.where(p.y[i] > 0, 1.0, rng.uniform(0.02, 1))
    )


def _other_elu_alpha(p: Pass, i: int, rng: Rng) -> Array | None:
    alpha = rng.uniform(0.2, 3.0)
    return _elu(p, i, lambda y, a: alpha * np.exp(np.minimum(y, 0.0)))


def _other_alpha_beside_a(p: Pass, i: int, rng: Rng) -> Array | None:
    alpha = rng.uniform(0.2, 3.0)
    return _elu(p, i, lambda y, a: a + alpha)


def _elu(p: Pass, i: int, left: Callable[[Array, Array], Array]) -> Array | None:
    if p.names[i] != "elu":
        return None
    return p.dL_da[i] * np.where(p.y[i] > 0, 1.0, left(p.y[i], p.a[i]))


def _default_option(p: Pass, i: int, rng: Rng) -> Array | None:
    if p.names[i] not in ("leaky_relu", "elu"):
        return None
    return p.dL_da[i] * BY_HAND[p.names[i]].slope(p.y[i], p.a[i], {})


# --- batch normalisation -----------------------------------------------------------------------------------


def _normed(f: Callable[[Array, Array, Array], Array]) -> Parts:
    """Replace ∂L/∂z by f(g, ẑ, deviation), with g = γ ∂L/∂y."""

    def do(p: Pass, i: int, rng: Rng) -> Array | None:
        if p.z_hat[i] is None:
            return None
        return f(p.parameters[p.layers[i].gamma] * p.dL_dy[i], p.z_hat[i], p.deviation[i])

    return {"norm": do}


def _unnormed(g: Array, z_hat: Array, deviation: Array) -> Array:
    return (g - g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / deviation


def _other_eps(throughout: bool) -> Formula:
    def do(p: Pass, i: int, rng: Rng) -> Array | None:
        if p.z_hat[i] is None:
            return None
        own, usual = p.layers[i].batch_norm, [1e-3, 1e-4, 1e-5, 1e-6, 1e-8]
        eps = float(rng.choice([each for each in usual if not np.isclose(each, own)]))
        g, deviation = p.parameters[p.layers[i].gamma] * p.dL_dy[i], np.sqrt(p.z[i].var(axis=0) + eps)
        z_hat = (p.z[i] - p.z[i].mean(axis=0)) / deviation if throughout else p.z_hat[i]
        return _unnormed(g, z_hat, deviation)

    return do


def _eps_outside(p: Pass, i: int, rng: Rng) -> Array | None:
    if p.z_hat[i] is None:
        return None
    deviation = p.z[i].std(axis=0) + p.layers[i].batch_norm
    return _unnormed(p.parameters[p.layers[i].gamma] * p.dL_dy[i], p.z_hat[i], deviation)


def _gamma_forgotten(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if p.z_hat[i] is None else _unnormed(p.dL_dy[i], p.z_hat[i], p.deviation[i])


def _unbiased_deviation(p: Pass, i: int) -> Array:
    return np.sqrt(p.z[i].var(axis=0, ddof=1) + p.layers[i].batch_norm)


def _unbiased_divisor(p: Pass, i: int, rng: Rng) -> Array | None:
    """Keep ẑ from the forward pass, and recompute only the standard deviation, from the unbiased variance."""
    if p.z_hat[i] is None or len(p.x) < 2:
        return None
    return _unnormed(p.parameters[p.layers[i].gamma] * p.dL_dy[i], p.z_hat[i], _unbiased_deviation(p, i))


def _unbiased_throughout(p: Pass, i: int, rng: Rng) -> Array | None:
    """Return the derivative of a normalisation by the unbiased variance."""
    if p.z_hat[i] is None or len(p.x) < 2:
        return None
    g, deviation = p.parameters[p.layers[i].gamma] * p.dL_dy[i], _unbiased_deviation(p, i)
    z_hat = (p.z[i] - p.z[i].mean(axis=0)) / deviation
    return (g - g.mean(axis=0) - z_hat * (g * z_hat).sum(axis=0) / (len(g) - 1)) / deviation


def _gamma_of_z(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if p.z_hat[i] is None else (p.dL_dy[i] * p.z[i]).sum(axis=0)


def _gamma_averaged(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if p.z_hat[i] is None else (p.dL_dy[i] * p.z_hat[i]).mean(axis=0)


def _beta_averaged(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if p.z_hat[i] is None else p.dL_dy[i].mean(axis=0)


# --- products, sums and the wrong tensors ------------------------------------------------------------------


def _along_the_wrong_axis(p: Pass, i: int, rng: Rng) -> Array | None:
    """Sum δ over the wrong axis to shape (N,), which fits only if there are as many samples as units."""
    delta = p.delta[i]
    return delta.sum(axis=1) if delta.shape[0] == delta.shape[1] else None


def _updated_first(with_penalty: bool) -> Formula:
    def below(p: Pass, i: int, rng: Rng) -> Array | None:
        if i == 0:
            return None
        name, rate = p.layers[i].weight, float(10 ** rng.uniform(-3, 0))
        gradient = p.gradient(name) if with_penalty else p.data_gradient(name)
        return p.delta[i] @ (p.w(i) - rate * gradient)

    return below


def _square(p: Pass, i: int) -> bool:
    out, inputs = p.w(i).shape
    return out == inputs > 1


def _transposed_product(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if _square(p, i) else (p.a_h[i].T @ p.delta[i]).reshape(p.w(i).shape)


def _square_transposed_product(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.a_h[i].T @ p.delta[i] if _square(p, i) else None


def _transposed_weights(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.delta[i] @ p.w(i).T if _square(p, i) and i else None


def _rolled(shift: Callable[[Pass, Rng], int]) -> Formula:
    return lambda p, i, rng: p.delta[i].T @ np.roll(p.a_h[i], shift(p, rng), axis=0)


def _reversed(p: Pass, i: int, rng: Rng) -> Array:
    return p.delta[i][::-1].T @ p.a_h[i]


def _pre_activation(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.delta[i].T @ p.y[i - 1] if i else None


def _another_activation(p: Pass, i: int, rng: Rng) -> Array | None:
    """Use another layer's activation, or the layer's own output, in place of its input."""
    others = [*p.a_h, p.a[-1]]
    fitting = [a for j, a in enumerate(others) if j != i and a.shape == p.a_h[i].shape]
    return p.delta[i].T @ fitting[int(rng.integers(len(fitting)))] if fitting else None


def _other_delta(p: Pass, i: int, rng: Rng) -> Array | None:
    fitting = [p.delta[j] for j in p.delta if j != i and p.delta[j].shape == p.delta[i].shape]
    return fitting[int(rng.integers(len(fitting)))] if fitting else None


def _product_with_another_delta(p: Pass, i: int, rng: Rng) -> Array | None:
    delta = _other_delta(p, i, rng)
    return None if delta is None else delta.T @ p.a_h[i]


def _sum_of_another_delta(p: Pass, i: int, rng: Rng) -> Array | None:
    delta = _other_delta(p, i, rng)
    return None if delta is None else delta.sum(axis=0)


def _product_before_the_activation(p: Pass, i: int, rng: Rng) -> Array:
    return p.dL_da[i].T @ p.a_h[i]


def _sum_before_the_activation(p: Pass, i: int, rng: Rng) -> Array:
    return p.dL_da[i].sum(axis=0)


def _outer(delta: Callable[[Array], Array], inputs: Callable[[Array], Array]) -> Formula:
    """Sum or average over the batch before taking the outer product."""
    return lambda p, i, rng: np.outer(delta(p.delta[i]), inputs(p.a_h[i]))


def _total(values: Array) -> Array:
    return values.sum(axis=0)


def _mean(values: Array) -> Array:
    return values.mean(axis=0)


def _summed_with_its_input(p: Pass, i: int, rng: Rng) -> Array:
    return (p.delta[i].T @ p.a_h[i]).sum(axis=1)


def _the_bias_itself(p: Pass, i: int, rng: Rng) -> Array | None:
    """Return the bias in place of its gradient, unless it is 0."""
    bias = p.parameters[p.layers[i].bias]
    return bias if bias.any() else None


def _summed_over_units(p: Pass, i: int, rng: Rng) -> Array | None:
    """Return δ summed over the units, unless the sum is 0, as below a softmax."""
    total, size = p.delta[i].sum(axis=1), np.abs(p.delta[i]).sum(axis=1)
    cancels = (np.abs(total) <= 1e-12 * size).all()
    return None if cancels else np.tile(total[:, None], (1, p.w(i).shape[1]))


def _without_weights(p: Pass, i: int, rng: Rng) -> Array | None:
    return p.delta[i] if _square(p, i) else None


def _through_other_weights(p: Pass, i: int, rng: Rng) -> Array | None:
    others = [p.w(j) for j in range(len(p.layers)) if j != i and p.w(j).shape == p.w(i).shape]
    return p.delta[i] @ others[int(rng.integers(len(others)))] if others and i else None


def _of_samples(counted: Callable[[int, Rng], Array | None]) -> Formula:
    """Take the weight product over these samples only."""

    def weight(p: Pass, i: int, rng: Rng) -> Array | None:
        mask = counted(len(p.x), rng)
        return None if mask is None else (p.delta[i] * mask[:, None]).T @ p.a_h[i]

    return weight


def _all_but_last(n: int, rng: Rng) -> Array:
    return np.append(np.ones(n - 1), 0.0)


def _all_but_first(n: int, rng: Rng) -> Array:
    return np.append(0.0, np.ones(n - 1))


def _first_few(n: int, rng: Rng) -> Array | None:
    return None if n < 4 else (np.arange(n) < rng.integers(1, n - 1)).astype(float)


def _any_few(n: int, rng: Rng) -> Array | None:
    """Mask out at least two samples, and keep at least one."""
    if n < 4:
        return None
    mask = np.zeros(n)
    mask[rng.choice(n, size=int(rng.integers(1, n - 1)), replace=False)] = 1.0
    return mask


LAYERED: Mapping[str, Mapping[str, Parts]] = {
    "activation derivative missing": {"": {"activation": lambda p, i, rng: p.dL_da[i]}},
    "activation derivative at a": {"": {"activation": _at_a}},
    "activation derivative at z instead of a": {"": {"activation": _z_for_a}},
    "activation derivative at the input": {"": {"activation": _at_the_input}},
    "activation derivative without the bias": {"": {"activation": _without_the_bias}},
    "activation derivative twice": {"": {"activation": _twice}},
    "upstream gradient dropped": {
        "": {"activation": _upstream_dropped(averaged=False)},
        "but for c": {"activation": _upstream_dropped(averaged=True)},
    },
    "flat spot added": {"": {"activation": _flat_spot}},
    "mask of the gradient": {"": {"activation": _mask_of_the_gradient}},
    "activation option": {
        "another slope": {"activation": _other_leaky_slope},
        "another alpha": {"activation": _other_elu_alpha},
        "another alpha, beside a": {"activation": _other_alpha_beside_a},
        "the default": {"activation": _default_option},
    },
    "softmax diagonal only": {"": {"activation": _softmax_diagonal}},
    "bias averaged": {"": {"bias": lambda p, i, rng: p.delta[i].mean(axis=0)}},
    "bias not summed": {
        "first sample": {"bias": lambda p, i, rng: p.delta[i][0]},
        "last sample": {"bias": lambda p, i, rng: p.delta[i][-1]},
    },
    "bias summed along the wrong axis": {"": {"bias": _along_the_wrong_axis}},
    "bias summed over everything": {
        "": {"bias": lambda p, i, rng: np.full(p.delta[i].shape[1], p.delta[i].sum())}
    },
    "bias gradient summed over the inputs": {"": {"bias": _summed_with_its_input}},
    "outer product of sums": {
        "sum and mean": {"weight": _outer(_total, _mean)},
        "sums": {"weight": _outer(_total, _total)},
        "means": {"weight": _outer(_mean, _mean)},
    },
    "parameters in place of the gradient": {
        "bias": {"bias": _the_bias_itself},
        "weight": {"weight": lambda p, i, rng: p.w(i)},
    },
    "weights left out on the way down": {
        "summed over the units": {"below": _summed_over_units},
        "as they are": {"below": _without_weights},
    },
    "absolute weights on the way down": {"": {"below": lambda p, i, rng: p.delta[i] @ np.abs(p.w(i))}},
    "another layer's weights": {"": {"below": _through_other_weights}},
    "batch norm: mean subtracted twice": {
        "": _normed(
            lambda g, z_hat, deviation: (
                (g - 2.0 * g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / deviation
            )
        )
    },
    "batch norm: variance term twice": {
        "": _normed(
            lambda g, z_hat, deviation: (
                (g - g.mean(axis=0) - 2.0 * z_hat * (g * z_hat).mean(axis=0)) / deviation
            )
        )
    },
    "batch norm: another eps": {
        "the divisor": {"norm": _other_eps(throughout=False)},
        "throughout": {"norm": _other_eps(throughout=True)},
    },
    "batch norm: eps outside the root": {"": {"norm": _eps_outside}},
    "batch norm: mean term missing": {
        "": _normed(lambda g, z_hat, deviation: (g - z_hat * (g * z_hat).mean(axis=0)) / deviation)
    },
    "batch norm: variance term missing": {
        "": _normed(lambda g, z_hat, deviation: (g - g.mean(axis=0)) / deviation)
    },
    "batch norm: statistics held constant": {"": _normed(lambda g, z_hat, deviation: g / deviation)},
    "batch norm: unbiased variance": {
        "the divisor": {"norm": _unbiased_divisor},
        "throughout": {"norm": _unbiased_throughout},
    },
    "batch norm: gamma forgotten": {"": {"norm": _gamma_forgotten}},
    "batch norm: divided by the variance": {
        "": _normed(lambda g, z_hat, deviation: _unnormed(g, z_hat, deviation**2))
    },
    "batch norm: left out": {"": _normed(lambda g, z_hat, deviation: g)},
    "batch norm: gamma gradient from z": {"": {"gamma": _gamma_of_z}},
    "batch norm: gradient of gamma or beta averaged": {
        "gamma": {"gamma": _gamma_averaged},
        "beta": {"beta": _beta_averaged},
        "both": {"gamma": _gamma_averaged, "beta": _beta_averaged},
    },
    "weights updated first": {
        "by the loss's gradient": {"below": _updated_first(with_penalty=False)},
        "by the whole gradient": {"below": _updated_first(with_penalty=True)},
    },
    "transposed product": {"": {"weight": _transposed_product}},
    "transposed weights": {"": {"below": _transposed_weights}},
    "samples out of order": {
        "one on": {"weight": _rolled(lambda p, rng: 1)},
        "one back": {"weight": _rolled(lambda p, rng: -1)},
        "some on": {"weight": _rolled(lambda p, rng: int(rng.integers(1, max(2, len(p.x)))))},
        "reversed": {"weight": _reversed},
    },
    "pre-activation in place of the activation": {"": {"weight": _pre_activation}},
    "another layer's activation": {"": {"weight": _another_activation}},
    "another layer's delta": {
        "weight": {"weight": _product_with_another_delta},
        "bias": {"bias": _sum_of_another_delta},
        "both": {"weight": _product_with_another_delta, "bias": _sum_of_another_delta},
    },
    "delta before the activation": {
        "weight": {"weight": _product_before_the_activation},
        "bias": {"bias": _sum_before_the_activation},
    },
}
ONE_LAYER_ONLY = {"another layer's activation", "another layer's delta", "another layer's weights"}
"""Kinds that are planted in one layer only, because the same draw would pick another mistake elsewhere."""


def _layered(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for plant in _in_layers(kind, case, rng, LAYERED[kind]):
        if kind not in ONE_LAYER_ONLY or len({edit.at for edit in plant.edits}) == 1:
            yield plant


# --- the loss ----------------------------------------------------------------------------------------------


def _applied(loss: str) -> Callable[[Array], Array] | None:
    """Return the activation that the loss applies to its logits, if any."""
    return {"cross_entropy": softmax, "bce_with_logits": sigmoid}.get(loss)


def _p(p: Pass, twice: bool = False) -> Array:
    f = _applied(p.case.loss.name)
    return f(f(p.a[-1])) if twice else f(p.a[-1])


def _weight_of(target: Array, p: Pass) -> Array | float:
    """Return each sample's Σ target, which depends on class weights; 1 if every output has a target."""
    return target.sum(axis=1, keepdims=True) if p.case.loss.name == "cross_entropy" else 1.0


def _activation_twice(p: Pass, at: None, rng: Rng) -> Array:
    return _p(p, twice=True) * _weight_of(p.target, p) - p.target


def _derivative_again(p: Pass, at: None, rng: Rng) -> Array:
    """Return a − y, multiplied once more by the derivative of the loss's softmax or sigmoid."""
    g, a = p.loss_gradient(), _p(p)
    if p.case.loss.name == "cross_entropy":
        return a * (g - (g * a).sum(axis=1, keepdims=True))
    return g * a * (1.0 - a)


def _no_activation(p: Pass, at: None, rng: Rng) -> Array:
    return p.a[-1] * _weight_of(p.target, p) - p.target


def _with_target(f: Callable[[Array], Array]) -> Formula:
    """Return the right formula with another target in place of y, except in Σ y."""

    def loss(p: Pass, at: None, rng: Rng) -> Array | None:
        name, target = p.case.loss.name, f(p.target)
        if name == "cross_entropy":
            return _p(p) * _weight_of(p.target, p) - target
        return LOSS_GRADIENTS[name](p.a[-1], target, p.case.loss)

    return loss


CONFUSED: Mapping[str, tuple[str, ...]] = {
    "mse": ("l1", "huber"),
    "l1": ("mse", "huber"),
    "huber": ("mse", "l1"),
    "cross_entropy": ("bce_with_logits",),
    "bce_with_logits": ("cross_entropy",),
}


def _anothers_gradient(other: str) -> Formula:
    def loss(p: Pass, at: None, rng: Rng) -> Array | None:
        own = p.case.loss
        if other not in CONFUSED.get(own.name, ()):
            return None
        return LOSS_GRADIENTS[other](p.a[-1], p.target, own)  # delta is 1 unless the loss is huber

    return loss


def _other_threshold(p: Pass, at: None, rng: Rng) -> Array:
    off = float(rng.choice([0.2, 0.5, 2.0])) * rng.uniform(0.8, 1.2)
    return huber(p.a[-1], p.target, off * p.case.loss.delta)


def _huber_without_sign(p: Pass, at: None, rng: Rng) -> Array:
    d, delta = p.a[-1] - p.target, p.case.loss.delta
    return np.where(np.abs(d) <= delta, d, delta)


def _minus_one(p: Pass, at: None, rng: Rng) -> Array:
    return margins(p.a[-1], p.target) - p.target


def _minus_one_if_any(p: Pass, at: None, rng: Rng) -> Array:
    over = margins(p.a[-1], p.target)
    return over - p.target * (over.sum(axis=1, keepdims=True) > 0)


def _without_margin(p: Pass, at: None, rng: Rng) -> Array:
    over = margins(p.a[-1], p.target, 0.0)
    return over - p.target * over.sum(axis=1, keepdims=True)


def _label_counted(p: Pass, at: None, rng: Rng) -> Array:
    over = margins(p.a[-1], p.target)
    return over - p.target * (over.sum(axis=1, keepdims=True) + 1.0)


def _own_margin_kept(p: Pass, at: None, rng: Rng) -> Array:
    over = margins(p.a[-1], p.target)
    return over + p.target * (1.0 - over.sum(axis=1, keepdims=True))


def _at_the_label(p: Pass, at: None, rng: Rng) -> Array:
    labels = np.eye(p.a[-1].shape[1])[p.case.problem.y.astype(int)]
    return p.loss_gradient() * labels


def _of_positive(p: Pass, at: None, rng: Rng) -> Array:
    return p.target * (sigmoid(p.a[-1]) - 1.0)


def _of_negative(p: Pass, at: None, rng: Rng) -> Array:
    return (1.0 - p.target) * sigmoid(p.a[-1])


def _where_positive(p: Pass, at: None, rng: Rng) -> Array:
    return p.loss_gradient() * (p.target > 0)


def _worked_in(p: Pass, smoothing: bool, weights: bool) -> Array:
    """Return the gradient of cross-entropy for a target without label smoothing or without class weights."""
    loss, classes = p.case.loss, p.a[-1].shape[1]
    y = np.eye(classes)[p.case.problem.y.astype(int)]
    if smoothing:
        y = (1.0 - loss.label_smoothing) * y + loss.label_smoothing / classes
    if weights and loss.weight is not None:
        y = np.array(loss.weight) * y
    return softmax(p.a[-1]) * y.sum(axis=1, keepdims=True) - y


def _smoothing_forgotten(p: Pass, at: None, rng: Rng) -> Array | None:
    return _worked_in(p, smoothing=False, weights=True) if p.case.loss.label_smoothing else None


def _weights_forgotten(p: Pass, at: None, rng: Rng) -> Array | None:
    return _worked_in(p, smoothing=True, weights=False) if p.case.loss.weight else None


def _normalised_by_n(p: Pass, at: None, rng: Rng) -> float | None:
    loss = p.case.loss
    return loss.scale / len(p.x) if loss.weight and loss.reduction != "sum" else None


APPLYING = ("cross_entropy", "bce_with_logits")
COMPARED = ("mse", "l1", "huber", *APPLYING)
"""The losses that decrease as an output approaches its target."""

LOSS_PLANTS: Mapping[str, tuple[tuple[str, ...], Mapping[str, Parts]]] = {
    "output activation twice": (
        APPLYING,
        {"applied again": {"loss": _activation_twice}, "its derivative again": {"loss": _derivative_again}},
    ),
    "output activation missing": (APPLYING, {"": {"loss": _no_activation}}),
    "sign of the target": (COMPARED, {"": {"loss": _with_target(np.negative)}}),
    "target forgotten": (COMPARED, {"": {"loss": _with_target(np.zeros_like)}}),
    "another loss": (
        tuple(CONFUSED),
        {f"{other}'s": {"loss": _anothers_gradient(other)} for other in CONFUSED},
    ),
    "huber threshold": (("huber",), {"": {"loss": _other_threshold}}),
    "huber sign": (("huber",), {"": {"loss": _huber_without_sign}}),
    "hinge not counted": (
        ("hinge",),
        {
            "-1 always": {"loss": _minus_one},
            "-1 if any is over": {"loss": _minus_one_if_any},
            "the label counted too": {"loss": _label_counted},
            "the label's margin kept": {"loss": _own_margin_kept},
        },
    ),
    "hinge margin": (("hinge",), {"": {"loss": _without_margin}}),
    "label smoothing": (("cross_entropy",), {"": {"loss": _smoothing_forgotten}}),
    "class weights": (
        ("cross_entropy",),
        {
            "altogether": {"loss": _weights_forgotten, "coefficient": _normalised_by_n},
            "all but their sum": {"loss": _weights_forgotten},
        },
    ),
    "class weights normalised by N": (("cross_entropy",), {"": {"coefficient": _normalised_by_n}}),
    "target's entry alone": (("cross_entropy",), {"": {"loss": _at_the_label}}),
    "positive targets alone": (
        ("bce_with_logits",),
        {"half of the loss": {"loss": _of_positive}, "masked": {"loss": _where_positive}},
    ),
    "negative targets alone": (("bce_with_logits",), {"": {"loss": _of_negative}}),
}


def _of_the_loss(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    losses, variants = LOSS_PLANTS[kind]
    if case.loss.name in losses:
        for variant, parts in variants.items():
            seed = _seed(rng)
            yield Plant(kind, variant, tuple(Edit(part, None, do, seed) for part, do in parts.items()))


# --- scale -------------------------------------------------------------------------------------------------


def _times(kind: str, case: Case, f: float, also: Iterable[str] = ()) -> Plant:
    """Multiply the loss's part of every gradient by f."""
    coefficient = f * float(case.problem.network.coefficient)
    edit = Edit("coefficient", None, lambda p, at, rng: coefficient)
    return Plant(kind, "the loss", (edit,), frozenset(also), whole=True)


def _all_times(kind: str, case: Case, f: float) -> Plant:
    """Multiply every gradient by f, penalties included."""
    names = case.problem.network.shapes
    edits = (Edit("result", name, lambda p, at, rng: f * p.gradient(at)) for name in names)
    return Plant(kind, "penalty and all", tuple(edits), whole=True)


def _tensors_times(kind: str, case: Case, rng: Rng, f: float, of: Iterable[str] = ()) -> Iterator[Plant]:
    """Multiply one tensor's product or sum by f, but not its penalty."""
    parts = list(of) or ["weight", "bias"]
    variants = {
        f"{part} alone": {
            part: lambda p, i, rng, part=part: f * p.right_gradient(f"{p.layers[i].name}.{part}")
        }
        for part in parts
    }
    return _in_layers(kind, case, rng, variants)


def _delta_times(kind: str, case: Case, rng: Rng, f: float) -> Iterator[Plant]:
    """Multiply a hidden layer's δ by f, and therefore all gradients of the layers below."""
    if len(case.layers) > 1:
        i = int(rng.integers(len(case.layers) - 1))
        yield Plant(kind, "δ", (Edit("delta", i, lambda p, i, rng: f * p.delta[i]),))


def _everywhere_times(kind: str, case: Case, rng: Rng, f: float) -> Iterator[Plant]:
    yield _times(kind, case, f)
    yield from _delta_times(kind, case, rng, f)
    yield from _tensors_times(kind, case, rng, f)


def _per_output(case: Case) -> bool:
    return case.problem.network.loss.per_output


def _missing_n(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    if case.loss.reduction != "sum":
        weighted = case.loss.weight is not None
        outputs = case.layers[-1].units if case.loss.reduction == "mean" and _per_output(case) else 1
        total = case.loss.scale / outputs / float(case.problem.network.coefficient)
        yield _times(kind, case, total, ["factor"] if weighted else [])
        if not weighted:
            yield from _tensors_times(kind, case, rng, total)


def _n_twice(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    """Divide by N, even if the loss is a sum over the samples."""
    yield _times(kind, case, 1.0 / case.samples)
    yield from _tensors_times(kind, case, rng, 1.0 / case.samples, ["weight"])


def _missing_c(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    if case.loss.reduction == "mean" and _per_output(case):
        yield _times(kind, case, float(case.layers[-1].units))


def _c_twice(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    """Divide by C, even if the loss takes no mean over the outputs."""
    yield _times(kind, case, 1.0 / case.layers[-1].units)


def _sign(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    yield _all_times(kind, case, -1.0)
    yield from _everywhere_times(kind, case, rng, -1.0)


def _factor(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    f = float(10 ** rng.uniform(-1.5, 1.5))
    yield _all_times(kind, case, f)
    yield from _everywhere_times(kind, case, rng, f)


def _accumulated(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    times = float(rng.integers(3, 10))
    yield _all_times(kind, case, times)
    yield _times(kind, case, times)


# --- the penalty -------------------------------------------------------------------------------------------


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


def _penalty_times(f: Callable[[Case], float]) -> Maker:
    def make(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
        return _penalties(kind, case, rng, lambda p, name, each: f(case) * p.penalties(name)[each])

    return make


def _of_the_other_kind(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
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


def _of_any_strength(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    multiple = float(rng.uniform(2.5, 6.0))
    return _penalties(kind, case, rng, lambda p, name, each: multiple * p.penalties(name)[each])


def _mixed_up(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
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


def _lacked(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
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


def _on_the_biases(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    network = case.problem.network
    if not network.penalties or network.penalize_biases:
        return

    def term(p: Pass, name: str, rng: Rng) -> Array:
        w = p.parameters[name]
        return sum((penalty_slope(each, w, strength) for each, strength in network.penalties.items()), 0.0)

    for variant, ends in (("biases", (".bias",)), ("γ and β too", (".bias", ".gamma", ".beta"))):
        names = [name for name in network.shapes if name.endswith(ends)]
        yield Plant(kind, variant, tuple(Edit("penalty", name, term) for name in names), whole=True)


# --- whole tensors -----------------------------------------------------------------------------------------


def _result(kind: str, variant: str, changed: Mapping[str, Formula], rng: Rng, whole: bool = False) -> Plant:
    """Replace the final gradients of these tensors by f(pass, name, rng)."""
    seed = _seed(rng)
    edits = tuple(Edit("result", at, do, seed) for at, do in changed.items())
    return Plant(kind, variant, edits, whole=whole)


def _drawn(names: Iterable[str], rng: Rng) -> list[str]:
    """Return a list with one random name, or an empty list if there are no names."""
    names = list(names)
    return [str(rng.choice(names))] if names else []


def _transposed_gradient(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    shapes = case.problem.network.shapes
    square = [name for name, shape in shapes.items() if len(shape) == 2 and shape[0] == shape[1] > 1]
    also = [] if case.problem.network.penalties else ["transposed product"]
    for names in sorted({tuple(square), tuple(_drawn(square, rng))} - {()}):
        plant = _result(kind, "as it is handed out", dict.fromkeys(names, _turned), rng)
        yield replace(plant, also=frozenset(also))
    variants = {"the product": {"weight": _square_transposed_product}}
    yield from _in_layers(kind, case, rng, variants, ["transposed product"])


def _turned(p: Pass, at: str, rng: Rng) -> Array:
    return p.gradient(at).T


def _swapped(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    shapes = case.problem.network.shapes
    pairs = [(a, b) for a in shapes for b in shapes if a < b and shapes[a] == shapes[b]]
    for k in rng.permutation(len(pairs))[:3]:
        a, b = pairs[k]
        swap = {a: lambda p, at, rng, b=b: p.gradient(b), b: lambda p, at, rng, a=a: p.gradient(a)}
        yield _result(kind, f"{a} and {b}", swap, rng)


def _to_decimals(g: Array, largest: float, count: int) -> Array:
    """Round as numpy prints: the largest number has this many digits, and all have equally many decimals."""
    return np.round(g, max(1, count - 1 - int(np.floor(np.log10(largest)))))


def _to_digits(g: Array, largest: float, count: int) -> Array:
    return np.array([float(f"{entry:.{count}g}") for entry in g.flat]).reshape(g.shape)


def _printed(to: Callable[[Array, float, int], Array]) -> Maker:
    """Round every gradient, or a single one, as numpy prints it."""

    def make(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
        names, count = list(case.problem.network.shapes), int(rng.integers(2, 5))

        def do(p: Pass, at: str, rng: Rng) -> Array:
            largest = max(float(np.abs(p.gradient(name)).max()) for name in names)
            return to(p.gradient(at), largest, count) if largest > 0 else p.gradient(at)

        yield _result(kind, "all", dict.fromkeys(names, do), rng, whole=True)
        yield from (_result(kind, "one", {name: do}, rng) for name in _drawn(names, rng))

    return make


def _lost(counted: Callable[[int, Rng], Array | None]) -> Maker:
    def make(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
        edit = Edit("samples", None, lambda p, at, rng: counted(len(p.x), rng), _seed(rng))
        yield Plant(kind, "in the loss", (edit,), whole=True)
        yield from _in_layers(kind, case, rng, {"in the product": {"weight": _of_samples(counted)}})

    return make


def _subset(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for text, counted in (("the first few", _first_few), ("any", _any_few)):
        for plant in _lost(counted)(kind, case, rng):
            yield replace(plant, variant=f"{text}, {plant.variant}")

        def averaged(p: Pass, at: None, rng: Rng, counted: Any = counted) -> Array | None:
            mask = counted(len(p.x), rng)
            return None if mask is None else mask * len(mask) / mask.sum()

        edit = Edit("samples", None, averaged, _seed(rng))
        if case.loss.reduction != "sum":
            yield Plant(kind, f"{text}, and their own mean", (edit,), whole=True)


def _some_entries(p: Pass, at: str, rng: Rng) -> Array:
    g = p.gradient(at).copy()
    which = rng.choice(g.size, size=int(rng.integers(1, 4)), replace=False)
    how = int(rng.integers(4))
    for k in which:
        off = (1.0 + 10 ** rng.uniform(-3, 0.5), -1.0, 0.0)
        g.flat[k] = g.flat[k] * off[how] if how < 3 else g.flat[k] + rng.normal() * np.abs(g).max()
    return g


def _single_entries(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    large = [name for name, shape in case.problem.network.shapes.items() if np.prod(shape) >= 5]
    for name in _drawn(large, rng):
        yield _result(kind, "", {name: _some_entries}, rng)


def _unit(p: Pass, at: str, rng: Rng) -> Array:
    g = p.gradient(at).copy()
    g[int(rng.integers(len(g)))] = 0.0
    return g


def _unit_zeroed(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for layer in case.layers:
        if layer.units > 1:
            yield _result(kind, "", {layer.weight: _unit, layer.bias: _unit}, rng)


def _line(axis: int) -> Maker:
    """Scale one row or column of a weight's gradient, possibly to zero."""

    def off(p: Pass, at: str, rng: Rng) -> Array:
        g = np.moveaxis(p.gradient(at).copy(), axis, 0)
        g[int(rng.integers(len(g)))] *= float(rng.choice([0.0, -1.0, 0.5, 2.0, rng.uniform(0.1, 3.0)]))
        return np.moveaxis(g, 0, axis)

    def make(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
        for layer in case.layers:
            if min(layer.units, layer.inputs) > 1:
                yield _result(kind, "", {layer.weight: off}, rng)

    return make


def _zero(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for name in case.problem.network.shapes:
        yield _result(kind, "", {name: lambda p, at, rng: np.zeros_like(p.gradient(at))}, rng)


def _permuted(how: Callable[[int, Rng], Array]) -> Formula:
    def do(p: Pass, at: str, rng: Rng) -> Array:
        return p.gradient(at)[how(len(p.gradient(at)), rng)]

    return do


def _two_swapped(n: int, rng: Rng) -> Array:
    order, (i, j) = np.arange(n), rng.choice(n, size=2, replace=False)
    order[[i, j]] = order[[j, i]]
    return order


def _rows_permuted(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    ways = {"two swapped": _two_swapped, "rolled": lambda n, rng: np.roll(np.arange(n), 1)}
    ways["any order"] = lambda n, rng: rng.permutation(n)
    for layer in case.layers:
        if layer.units > 1:
            for text, how in ways.items():
                yield _result(kind, text, {layer.weight: _permuted(how)}, rng)
                both = {layer.weight: _permuted(how), layer.bias: _permuted(how)}
                yield _result(kind, f"{text}, bias too", both, rng)


def _clipped(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    """Clip by value. If only one entry is clipped, the mistake counts as a single wrong entry."""
    right = by_hand(case)
    sizes = np.abs(np.concatenate([g.ravel() for g in right.values()]))
    c = float(np.quantile(sizes, rng.uniform(0.4, 0.9)))
    clip: Formula = lambda p, at, rng: np.clip(p.gradient(at), -c, c)  # noqa: E731
    names = list(case.problem.network.shapes)
    yield _result(kind, "all", dict.fromkeys(names, clip), rng, whole=True)
    some = _drawn(names, rng)
    if sum(np.count_nonzero(np.abs(right[name]) > c) for name in some) > 1:
        yield _result(kind, "a tensor", dict.fromkeys(some, clip), rng)


USUAL_NORMS = (0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


def _clipped_by_norm(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    def norm(gradients: Iterable[Array]) -> float:
        return float(np.sqrt(sum((g**2).sum() for g in gradients)))

    def to_norm(names: list[str], c: float) -> Formula:
        def do(p: Pass, at: str, rng: Rng) -> Array:
            return p.gradient(at) * min(1.0, c / norm(p.gradient(name) for name in names))

        return do

    right = by_hand(case)
    for variant, names in (("all", list(right)), ("a tensor", _drawn(right, rng))):
        smaller = [c for c in USUAL_NORMS if c < norm(right[name] for name in names)]
        if smaller:
            do = to_norm(names, float(rng.choice(smaller)))
            yield _result(kind, variant, dict.fromkeys(names, do), rng, whole=variant == "all")


def _overflow(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    def some(value: float) -> Formula:
        def do(p: Pass, at: str, rng: Rng) -> Array:
            g = p.gradient(at).copy()
            g.flat[rng.choice(g.size, size=int(rng.integers(1, g.size + 1)), replace=False)] = value
            return g

        return do

    names = list(case.problem.network.shapes)
    for value in (np.nan, np.inf, -np.inf):
        yield _result(kind, f"{value}", {name: some(value) for name in _drawn(names, rng)}, rng)
    i = int(rng.integers(len(case.layers)))
    below = [name for layer in case.layers[: i + 1] for name in layer.shapes]
    yield _result(kind, "nan from a layer down", dict.fromkeys(below, _nothing), rng)


def _nothing(p: Pass, at: str, rng: Rng) -> Array:
    return np.full_like(p.gradient(at), np.nan)


def _precision(dtype: type) -> Maker:
    def make(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
        yield Plant(kind, "computed", (Edit("precision", None, lambda p, at, rng: dtype),), whole=True)
        names = case.problem.network.shapes
        yield _result(
            kind, "stored", dict.fromkeys(names, lambda p, at, rng: p.gradient(at).astype(dtype)), rng, True
        )

    return make


# --- the table ---------------------------------------------------------------------------------------------

Maker = Callable[[str, Case, Rng], Iterator[Plant]]
KINDS: Mapping[str, Maker] = {
    **dict.fromkeys(LAYERED, _layered),
    **dict.fromkeys(LOSS_PLANTS, _of_the_loss),
    "another activation's derivative": _anothers,
    "slip in the activation's formula": _slips,
    "missing 1/N": _missing_n,
    "1/N twice": _n_twice,
    "missing 1/C": _missing_c,
    "1/C twice": _c_twice,
    "factor 2": lambda kind, case, rng: _everywhere_times(kind, case, rng, 2.0),
    "factor 1/2": lambda kind, case, rng: _everywhere_times(kind, case, rng, 0.5),
    "sign": _sign,
    "factor": _factor,
    "accumulated": _accumulated,
    "transposed gradient": _transposed_gradient,
    "penalty forgotten": _penalty_times(lambda case: 0.0),
    "penalty doubled": _penalty_times(lambda case: 2.0),
    "penalty halved": _penalty_times(lambda case: 0.5),
    "penalty with the wrong sign": _penalty_times(lambda case: -1.0),
    "penalty divided by N": _penalty_times(lambda case: 1.0 / case.samples),
    "penalty on the biases too": _on_the_biases,
    "penalty of the other kind": _of_the_other_kind,
    "elastic net mixed up": _mixed_up,
    "penalty strength": _of_any_strength,
    "penalty that the spec lacks": _lacked,
    "tensors swapped": _swapped,
    "last sample lost": _lost(_all_but_last),
    "first sample lost": _lost(_all_but_first),
    "batch subset": _subset,
    "single entries": _single_entries,
    "unit zeroed": _unit_zeroed,
    "row": _line(0),
    "column": _line(1),
    "gradient zero": _zero,
    "rows permuted": _rows_permuted,
    "clipped": _clipped,
    "clipped by norm": _clipped_by_norm,
    "overflow": _overflow,
    "few decimals": _printed(_to_decimals),
    "few digits": _printed(_to_digits),
    "float16": _precision(np.float16),
    "float32": _precision(np.float32),
}


def draw(kind: str, case: Case, rng: Rng, seen: Callable[[Gradients], bool]) -> Plant | None:
    """Draw a mistake of this kind, in any variant and scope, that is visible according to `seen`.

    Return None if there is no such mistake.
    """
    variants: dict[str, list[Plant]] = {}
    for plant in KINDS[kind](kind, case, rng):
        variants.setdefault(plant.variant, []).append(plant)
    for variant in rng.permutation(
        list(variants)
    ):  # all variants are equally likely, however many scopes they have
        scopes = variants[str(variant)]
        for k in rng.permutation(len(scopes)):
            plant = scopes[k].trimmed(case)
            if plant.edits and seen(plant.gradients(case)):
                return plant
    return None


# --- two at once -------------------------------------------------------------------------------------------

SCALES = ("scale or reduction", "accumulated")
"""Families of plain factors. Two mistakes from these families cannot be separated."""
ALONE = ("overflow", "precision")
"""Families whose mistakes hide any other mistake. They are planted alone."""


def together(first: Plant, second: Plant) -> tuple[Edit, ...] | None:
    """Combine both mistakes in one pass, or return None if they interfere."""
    families = {first.family, second.family}
    touched = {(edit.part, edit.at) for edit in first.edits} & {(edit.part, edit.at) for edit in second.edits}
    if first.kind == second.kind or touched or families & set(ALONE):
        return None
    if all(plant.family in SCALES or plant.kind == "clipped by norm" for plant in (first, second)):
        return None
    return (*first.edits, *second.edits)
