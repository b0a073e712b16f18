"""Right gradients as other people compute them: by other conventions at kinks, and by textbook formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.max_pooling import Maxima
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.problem.problem import Problem

Gradients = dict[str, np.ndarray]

USUAL = "a usual convention"
OWN = "a convention of its own"


@dataclass(frozen=True)
class Choice:
    """How backprop chooses at kinks.

    right: the weight of the slope on the right of a kink, such as relu'(0).
    tie: how the gradient of a maximum is divided among tied values: all of it to the `first`, the `last` or
        `one` drawn at random, `equal` shares, or `random` ones.
    """

    right: float
    tie: str
    rng: np.random.Generator

    def weights(self, tied: np.ndarray) -> np.ndarray:
        """Return the weight of every value in each window, (…, kernel), where `tied` marks the largest."""
        place = np.arange(tied.shape[-1])
        if self.tie == "first":
            return np.where(place == tied.argmax(axis=-1)[..., None], 1.0, 0.0)
        if self.tie == "last":
            return np.where(place == len(place) - 1 - tied[..., ::-1].argmax(axis=-1)[..., None], 1.0, 0.0)
        drawn = np.where(tied, 1.0 if self.tie == "equal" else self.rng.random(tied.shape), 0.0)
        if self.tie == "one":
            drawn = np.where(drawn == drawn.max(axis=-1, keepdims=True), 1.0, 0.0)
        return drawn / drawn.sum(axis=-1, keepdims=True)


def choices(rng: np.random.Generator) -> Iterator[tuple[str, Choice]]:
    """Yield each usual choice, and some that no library makes but that are right too."""
    for tie in ("first", "equal", "last"):
        for right in (0.0, 0.5, 1.0):
            yield USUAL, Choice(right, tie, rng)
    for tie in ("one", "one", "random"):
        yield OWN, Choice(float(rng.random()), tie, rng)


@dataclass(frozen=True)
class Chosen:
    """A step whose backward pass makes this choice at its kinks, and is otherwise that of `step`."""

    step: Step
    choice: Choice

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)

    def vjp(self, p: Any, inputs: Any, output: Any, upstream: Any) -> Any:
        if isinstance(self.step, Maxima):
            windows = self.step._views(inputs[0])
            weights = self.choice.weights(windows == windows.max(axis=-1, keepdims=True))
            weights = weights.astype(upstream.dtype)
            return (self.step._spread(lambda k: upstream * weights[..., k], inputs[0].shape),), {}
        (x,), (handed, own) = inputs, self.step.vjp(p, inputs, output, upstream)
        near = np.spacing(np.abs(x)) + np.finfo(x.dtype).tiny
        (left,), _ = self.step.vjp(p, (x - near,), output, upstream)
        (right,), _ = self.step.vjp(p, (x + near,), output, upstream)
        mixed = (1.0 - self.choice.right) * left + self.choice.right * right
        on = self.step.pieces(x - near) != self.step.pieces(x + near)
        return (np.where(on, mixed.astype(upstream.dtype), handed[0]),), own


TEXTBOOK: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": lambda a: 1.0 - a * a,
    "sigmoid": lambda a: a * (1.0 - a),
}
"""Derivatives that code takes from the output of an activation, which lose digits where it saturates."""


@dataclass(frozen=True)
class Textbook:
    """An activation whose backward pass uses a textbook's formula."""

    step: Pointwise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)

    def vjp(self, p: Any, inputs: Any, output: Any, upstream: Any) -> Any:
        return (upstream * TEXTBOOK[self.step.row.name](output),), {}


def gradients_under(choice: Choice, problem: Problem, dtype: Any) -> Gradients:
    """Return backprop in this type under a choice at kinks; kinks of the loss stay as they are."""

    def chosen(step: Any) -> Any:
        return Chosen(step, choice) if step.has_pieces else step

    return _backprop(problem, problem.parameters, dtype, chosen)


def by_textbook(problem: Problem, parameters: Mapping[str, np.ndarray], dtype: Any) -> Gradients:
    """Return backprop in this type by the formulas of a textbook."""

    def written(step: Any) -> Any:
        return Textbook(step) if isinstance(step, Pointwise) and step.row.name in TEXTBOOK else step

    return _backprop(problem, parameters, dtype, written)


def _backprop(
    problem: Problem, parameters: Mapping[str, np.ndarray], dtype: Any, of: Callable[[Any], Any]
) -> Gradients:
    """Return backprop in this type, with each step replaced by what `of` returns for it."""
    network, graph = problem.network, problem.network.graph
    nodes = tuple(replace(node, step=of(node.step)) for node in graph.nodes)
    at = {name: value.astype(dtype) for name, value in parameters.items()}
    other = replace(network, graph=replace(graph, nodes=nodes))
    return gradients(other, at, problem.x.astype(dtype), problem.target.astype(dtype))


_HULL = 48
"""The number of points near the parameters at which the gradients span a hull."""
_NEARBY = 1e-7
"""The change of the parameters, relative to their size, that reveals both sides of every kink."""


@dataclass(frozen=True)
class Hull:
    """The least and the greatest gradient of every entry, over choices of sides at kinks and next to them.

    The hull is empty if no number lies on a kink.
    """

    low: Gradients
    high: Gradients

    @classmethod
    def of(cls, problem: Problem) -> Hull:
        network = problem.network
        rng, each = np.random.default_rng(0), []
        for _ in range(_HULL):
            near = {
                name: value + _NEARBY * (np.abs(value) + 1e-3) * rng.normal(size=value.shape)
                for name, value in problem.parameters.items()
            }
            x = problem.x if network.tokens else problem.x + _NEARBY * rng.normal(size=problem.x.shape)
            each.append(gradients(network, near, x, problem.target))
            # Next to a kink, the slopes may be others, as below a tiny vector that is divided by its length.
            each.append(gradients_under(Choice(float(rng.random()), "one", rng), problem, np.float64))
        each.append(gradients(network, problem.parameters, problem.x, problem.target))
        return cls(
            {name: np.min([one[name] for one in each], axis=0) for name in each[0]},
            {name: np.max([one[name] for one in each], axis=0) for name in each[0]},
        )

    @property
    def wide(self) -> Hull:
        """Bounds on the gradient under any mixture of sides, even if one kink acts through another."""
        width = {name: high - self.low[name] for name, high in self.high.items()}
        return Hull(
            {name: low - width[name] for name, low in self.low.items()},
            {name: high + width[name] for name, high in self.high.items()},
        )

    def holds(self, wrong: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> bool:
        """Return whether every entry that differs from the right one lies between the two bounds."""
        if not self.low:
            return False
        for name, value in wrong.items():
            slack = 1e-5 * np.abs(right[name]).max(initial=0.0)
            differs = ~(np.abs(value - right[name]) <= slack)
            if differs.any() and name not in self.low:
                return False
            if differs.any():
                within = (self.low[name] - slack <= value) & (value <= self.high[name] + slack)
                if not within[differs].all():
                    return False
        return True
