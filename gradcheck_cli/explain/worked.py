"""One entry of a gradient in numbers: the largest products ∂L/∂out · ∂out/∂entry, and their sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gradcheck_cli.explain.derivation import Factor, Worked
from gradcheck_cli.explain.numbers import Numbers
from gradcheck_cli.explain.symbols import Writer
from gradcheck_cli.network.penalties import PENALTIES
from gradcheck_cli.types import Array

TERMS = 3
"""The number of products to show."""

_STEP = 1e-6
"""The finite-difference step for finding the nonzero products. The products shown come from the vjp."""


def worked_parameter(numbers: Numbers, writer: Writer, name: str, factor: Factor) -> Worked:
    """Work out the entry of a parameter's gradient whose finite difference is largest."""
    entry = int(np.argmax(np.abs(np.nan_to_num(factor.comparison.numerical))))
    products = [product for i, own in numbers.graph.uses[name] for product in _of_use(numbers, i, own, entry)]
    i, own = writer.use(name)
    sums = [
        _sum(each, *_use(each, name)) for each in _writers(writer, (k for k, _ in numbers.graph.uses[name]))
    ]
    symbol, penalty = f"∂L/∂{writer.parameter(i, own)}", _penalty(numbers, name, entry)
    return _worked(symbol, sums, entry, products, factor, penalty)


def _use(writer: Writer, name: str) -> tuple[int, str]:
    i, own = writer.use(name)
    return i, writer.parameter(i, own)


def worked_input(numbers: Numbers, writer: Writer, value: int, factor: Factor) -> Worked:
    """Work out the entry of an input's gradient whose finite difference is largest."""
    entry = int(np.argmax(np.abs(np.nan_to_num(factor.comparison.numerical))))
    products = [
        product
        for i in numbers.graph.readers[value]
        for number, k in enumerate(numbers.graph.nodes[i].inputs)
        if k == value
        for product in _of_input(numbers, i, number, entry)
    ]
    sums = [
        _sum(each, i, each.value(value))
        for each in _writers(writer, numbers.graph.readers[value])
        for i in each.readers(value)
    ]
    return _worked(writer.gradient(value), sums, entry, products, factor, 0.0)


def _writers(writer: Writer, nodes: Iterable[int]) -> list[Writer]:
    """Return a `Writer` for the layer of each of these nodes, starting with the layer of `writer` itself."""
    layers = dict.fromkeys([writer.layer, *(writer.graph.nodes[i].layer for i in nodes)])
    return [writer.of(layer) for layer in layers]


def _sum(writer: Writer, i: int, symbol: str) -> str:
    """Return the formula Σ ∂L/∂out · ∂out/∂argument for node i."""
    return f"Σ {writer.gradient_above(i)} · {writer.through(i, symbol)[-1]}"


def _worked(
    symbol: str,
    sums: Sequence[str],
    at: int,
    products: list[tuple[float, float]],
    factor: Factor,
    penalty: float,
) -> Worked:
    index = tuple(int(i) for i in np.unravel_index(at, factor.comparison.shape))
    largest = sorted(products, key=lambda term: -abs(term[0] * term[1]))[:TERMS]
    total = sum(g * slope for g, slope in products) + penalty
    entry = factor.comparison.entry(index)
    terms, known = (tuple(largest), len(products), penalty), (entry.numerical, entry.analytic)
    return Worked(symbol, index, " + ".join(sums), *terms, total, *known, factor.origin, factor.given)


def _penalty(numbers: Numbers, name: str, entry: int) -> float:
    penalties = numbers.problem.network.penalties_on(name).items()
    value = numbers.problem.parameters[name]
    return float(sum(PENALTIES[kind].derivative(value, strength).flat[entry] for kind, strength in penalties))


def _of_use(numbers: Numbers, i: int, own: str, entry: int) -> Iterator[tuple[float, float]]:
    """Yield the two factors, (∂L/∂out, ∂out/∂entry), of each product in a step that uses the parameter."""
    node = numbers.graph.nodes[i]
    p, inputs = node.own(numbers.problem.parameters), tuple(numbers.values[k] for k in node.inputs)
    at = p[own].flat[entry]
    step = _STEP * max(1.0, abs(at))
    moved = node.step.with_entries(
        p, own, np.array([entry, entry]), np.array([at + step, at - step]), inputs, numbers.values[i + 1]
    )
    for k, g, slope in _products(numbers, i, (moved[0] - moved[1]) / (2.0 * step)):
        if k is None:
            yield g, slope
        else:
            yield g, float(_swept(numbers, i, k)[1][own].flat[entry])


def _of_input(numbers: Numbers, i: int, number: int, entry: int) -> Iterator[tuple[float, float]]:
    """Yield the two factors, (∂L/∂out, ∂out/∂entry), of each product in a step that reads the value."""
    node = numbers.graph.nodes[i]
    p, inputs = node.own(numbers.problem.parameters), [numbers.values[k] for k in node.inputs]
    at = inputs[number].flat[entry]
    step = _STEP * max(1.0, abs(at))
    sides = []
    for to in (at + step, at - step):
        moved = inputs[number].copy()
        moved.flat[entry] = to
        sides.append(node.step.forward(p, *inputs[:number], moved, *inputs[number + 1 :]))
    for k, g, slope in _products(numbers, i, (sides[0] - sides[1]) / (2.0 * step)):
        if k is None:
            yield g, slope
        else:
            yield g, float(_swept(numbers, i, k)[0][number].flat[entry])


def _products(numbers: Numbers, i: int, slopes: Array) -> Iterator[tuple[int | None, float, float]]:
    """Yield (output, ∂L/∂out, slope) for every nonzero product.

    The item `output` is the index of an entry of the node's output. It is None for products that are too
    small to be shown.
    """
    upstream = numbers.upstream[i + 1]
    sizes = np.abs(upstream * slopes).ravel()
    counting = np.flatnonzero(sizes > 0)
    shown = set(counting[np.argsort(-sizes[counting], kind="stable")[:TERMS]].tolist())
    for k in counting.tolist():
        yield k if k in shown else None, float(upstream.flat[k]), float(slopes.flat[k])


def _swept(numbers: Numbers, i: int, output: int) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Return the result of the step's vjp for ∂L/∂out = 1 at one output and 0 at all others."""
    node = numbers.graph.nodes[i]
    one = np.zeros_like(numbers.values[i + 1])
    one.flat[output] = 1.0
    inputs = tuple(numbers.values[k] for k in node.inputs)
    return node.step.vjp(node.own(numbers.problem.parameters), inputs, numbers.values[i + 1], one)
