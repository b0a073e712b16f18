"""Mistakes in whole tensors, after backpropagation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from by_hand import (
    Array,
    Case,
    Edit,
    Pass,
    by_hand,
)
from planted import activations, products
from planted.plant import Formula, Maker, Plant, Rng, drawn_seed


def _result(kind: str, variant: str, changed: Mapping[str, Formula], rng: Rng, whole: bool = False) -> Plant:
    """Replace the final gradients of these tensors by f(pass, name, rng)."""
    seed = drawn_seed(rng)
    edits = tuple(Edit("result", at, do, seed) for at, do in changed.items())
    return Plant(kind, variant, edits, whole=whole)


def _drawn(names: Iterable[str], rng: Rng) -> list[str]:
    """Return a list with one random name, or an empty list if there are no names."""
    names = list(names)
    return [str(rng.choice(names))] if names else []


def transposed_gradient(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    shapes = case.problem.network.shapes
    square = [name for name, shape in shapes.items() if len(shape) == 2 and shape[0] == shape[1] > 1]
    also = [] if case.problem.network.penalties else ["transposed product"]
    for names in sorted({tuple(square), tuple(_drawn(square, rng))} - {()}):
        plant = _result(kind, "as it is handed out", dict.fromkeys(names, _turned), rng)
        yield replace(plant, also=frozenset(also))
    variants = {"the product": {"weight": products.square_transposed_product}}
    yield from activations.in_layers(kind, case, rng, variants, ["transposed product"])


def _turned(p: Pass, at: str, rng: Rng) -> Array:
    return p.gradient(at).T


def swapped(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    shapes = case.problem.network.shapes
    pairs = [(a, b) for a in shapes for b in shapes if a < b and shapes[a] == shapes[b]]
    for k in rng.permutation(len(pairs))[:3]:
        a, b = pairs[k]
        swap = {a: lambda p, at, rng, b=b: p.gradient(b), b: lambda p, at, rng, a=a: p.gradient(a)}
        yield _result(kind, f"{a} and {b}", swap, rng)


def to_decimals(g: Array, largest: float, count: int) -> Array:
    """Round as numpy prints: the largest number has this many digits, and all have equally many decimals."""
    return np.round(g, max(1, count - 1 - int(np.floor(np.log10(largest)))))


def to_digits(g: Array, largest: float, count: int) -> Array:
    return np.array([float(f"{entry:.{count}g}") for entry in g.flat]).reshape(g.shape)


def printed(to: Callable[[Array, float, int], Array]) -> Maker:
    """Round every gradient, or a single one, as numpy prints it."""

    def make(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
        names, count = list(case.problem.network.shapes), int(rng.integers(2, 5))

        def do(p: Pass, at: str, rng: Rng) -> Array:
            largest = max(float(np.abs(p.gradient(name)).max()) for name in names)
            return to(p.gradient(at), largest, count) if largest > 0 else p.gradient(at)

        yield _result(kind, "all", dict.fromkeys(names, do), rng, whole=True)
        yield from (_result(kind, "one", {name: do}, rng) for name in _drawn(names, rng))

    return make


def lost(counted: Callable[[int, Rng], Array | None]) -> Maker:
    def make(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
        edit = Edit("samples", None, lambda p, at, rng: counted(len(p.x), rng), drawn_seed(rng))
        yield Plant(kind, "in the loss", (edit,), whole=True)
        yield from activations.in_layers(
            kind, case, rng, {"in the product": {"weight": products.of_samples(counted)}}
        )

    return make


def subset(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for text, counted in (("the first few", products.first_few), ("any", products.any_few)):
        for plant in lost(counted)(kind, case, rng):
            yield replace(plant, variant=f"{text}, {plant.variant}")

        def averaged(p: Pass, at: None, rng: Rng, counted: Any = counted) -> Array | None:
            mask = counted(len(p.x), rng)
            return None if mask is None else mask * len(mask) / mask.sum()

        edit = Edit("samples", None, averaged, drawn_seed(rng))
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


def single_entries(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    large = [name for name, shape in case.problem.network.shapes.items() if np.prod(shape) >= 5]
    for name in _drawn(large, rng):
        yield _result(kind, "", {name: _some_entries}, rng)


def _unit(p: Pass, at: str, rng: Rng) -> Array:
    g = p.gradient(at).copy()
    g[int(rng.integers(len(g)))] = 0.0
    return g


def unit_zeroed(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    for layer in case.layers:
        if layer.units > 1:
            yield _result(kind, "", {layer.weight: _unit, layer.bias: _unit}, rng)


def line(axis: int) -> Maker:
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


def zero(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
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


def rows_permuted(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
    ways = {"two swapped": _two_swapped, "rolled": lambda n, rng: np.roll(np.arange(n), 1)}
    ways["any order"] = lambda n, rng: rng.permutation(n)
    for layer in case.layers:
        if layer.units > 1:
            for text, how in ways.items():
                yield _result(kind, text, {layer.weight: _permuted(how)}, rng)
                both = {layer.weight: _permuted(how), layer.bias: _permuted(how)}
                yield _result(kind, f"{text}, bias too", both, rng)


def clipped(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
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


def clipped_by_norm(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
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


def overflow(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
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


def precision(dtype: type) -> Maker:
    def make(kind: str, case: Case, rng: Rng) -> Iterator[Plant]:
        yield Plant(kind, "computed", (Edit("precision", None, lambda p, at, rng: dtype),), whole=True)
        names = case.problem.network.shapes
        yield _result(
            kind, "stored", dict.fromkeys(names, lambda p, at, rng: p.gradient(at).astype(dtype)), rng, True
        )

    return make
