"""The least and greatest values of single entries of a gradient, over choices of one side at each kink.

Backprop takes one side of each kink. An entry's extreme is found greedily: each kink in turn goes to the side
that raises (or lowers) the entry. Random choices hardly ever reach the extreme if there are many kinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck_cli.network.graph import run
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.steps.max_pooling import Maxima
from gradcheck_cli.problem.problem import Problem

Sides = dict[int, np.ndarray]
"""For each node with kinks, by its index, the side of every element.

An activation's side is 0 to the left of the kink and 1 to the right. A maximum's side is the place of the
chosen number in its window.
"""

_ON_KINK = 100.0
"""A number is on a kink if it is this many roundings of the largest number away from it, or fewer."""

_PASSES = 2
"""How often each kink is put on its best side. The effect of one kink may depend on the sides of others."""


@dataclass(frozen=True)
class Sided:
    """A step whose backward pass takes the given side of each kink.

    reach: the distance from the kink within which an element counts as being on it.
    """

    step: Any
    sides: np.ndarray
    reach: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)

    def vjp(self, p: Any, inputs: Any, output: Any, upstream: Any) -> Any:
        (x,) = inputs
        if isinstance(self.step, Maxima):
            return (self.step._handed(self.sides, upstream, x.shape),), {}
        (left,), own = self.step.vjp(p, (x - self.reach,), output, upstream)
        (right,), _ = self.step.vjp(p, (x + self.reach,), output, upstream)
        return (np.where(self.sides, right, left),), own


@dataclass(frozen=True)
class AtKinks:
    """The kinks of a network at its parameters and data.

    options: for each element on a kink, as the index of its node and its place, the sides to choose from.
    first: a side for every element.
    """

    problem: Problem
    reach: Mapping[int, float]
    options: Mapping[tuple[int, tuple[int, ...]], tuple[int, ...]]
    first: Sides

    @classmethod
    def of(cls, problem: Problem) -> AtKinks:
        values = run(problem.network.graph, problem.parameters, problem.x)
        reach, options, first = {}, {}, {}
        eps = float(np.finfo(problem.dtype).eps)
        for i, node in enumerate(problem.network.graph.nodes):
            if node.step.has_pieces:
                x = values[node.inputs[0]]
                reach[i] = _ON_KINK * eps * float(np.abs(x).max()) + float(np.finfo(np.float64).tiny)
                marks = _marks(node.step, x, reach[i])
                first[i] = marks.argmax(axis=-1)
                for place in np.argwhere(marks.sum(axis=-1) > 1):
                    at = tuple(map(int, place))
                    options[i, at] = tuple(map(int, np.flatnonzero(marks[at])))
        return cls(problem, reach, options, first)

    def extreme(self, name: str, entry: int, sign: float) -> float:
        """Return the greatest value of an entry that was found, or the least value if `sign` is −1.

        entry: the flat index of the entry in the tensor `name`.
        """
        sides = {i: array.copy() for i, array in self.first.items()}
        best = self._value(sides, name, entry)
        for (i, at), options in [*self.options.items()] * _PASSES:
            for side in options:
                before, sides[i][at] = sides[i][at], side
                found = self._value(sides, name, entry)
                if sign * found > sign * best:
                    best = found
                else:
                    sides[i][at] = before
        return best

    def _value(self, sides: Sides, name: str, entry: int) -> float:
        problem, graph = self.problem, self.problem.network.graph
        nodes = tuple(
            replace(node, step=Sided(node.step, sides[i], self.reach[i])) if i in sides else node
            for i, node in enumerate(graph.nodes)
        )
        network = replace(problem.network, graph=replace(graph, nodes=nodes))
        return float(gradients(network, problem.parameters, problem.x, problem.target)[name].flat[entry])


def _marks(step: Any, x: np.ndarray, reach: float) -> np.ndarray:
    """Return a mask of the sides that each element may take, (*shape, sides)."""
    if isinstance(step, Maxima):
        windows = step._views(x)
        return np.asarray(windows >= windows.max(axis=-1, keepdims=True) - reach)
    on_kink = step.pieces(x - reach) != step.pieces(x + reach)
    is_right = step.pieces(x) == step.pieces(x + reach)
    return np.stack([on_kink | ~is_right, on_kink | is_right], axis=-1)


def some_sides_give(
    problem: Problem,
    wrong: Mapping[str, np.ndarray],
    right: Mapping[str, np.ndarray],
    low: Mapping[str, np.ndarray],
    high: Mapping[str, np.ndarray],
) -> bool:
    """Return whether choices of sides give values at least as far out as every wrong entry.

    low, high: bounds between which an entry may lie, found in another way.
    """
    at = AtKinks.of(problem)
    return all(
        at.options and sign * at.extreme(name, entry, sign) >= sign * value - slack
        for name, entry, sign, value, slack in _outside(wrong, right, low, high)
    )


def _outside(
    wrong: Mapping[str, np.ndarray],
    right: Mapping[str, np.ndarray],
    low: Mapping[str, np.ndarray],
    high: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, int, float, float, float]]:
    """Yield the wrong entries that lie outside their bounds, with the direction in which they do."""
    for name, value in wrong.items():
        slack = 1e-5 * float(np.abs(right[name]).max(initial=0.0))
        differs = ~(np.abs(value - right[name]) <= slack)
        for sign, bound in ((-1.0, low), (1.0, high)):
            beyond = differs & ~(sign * value <= sign * bound.get(name, right[name]) + slack)
            for entry in np.flatnonzero(beyond):
                yield name, int(entry), sign, float(value.flat[entry]), slack
