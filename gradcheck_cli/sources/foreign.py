"""Code of the user's that computes a loss and its gradients, as something that can be differenced.

Nothing is known of such a function but what it returns: so it is moved literally, entry by entry, and how
exact its losses are is measured (`numerical.noise`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from gradcheck_cli.errors import bad_input
from gradcheck_cli.model.data import read_arrays
from gradcheck_cli.model.named_arrays import read_named
from gradcheck_cli.model.problem import Problem, build_problem
from gradcheck_cli.model.special import Array
from gradcheck_cli.numerical.objective import Movable, Moved, Shape
from gradcheck_cli.spec import ParameterFile, Spec

_EPS = float(np.finfo(np.float64).eps)


class Function(Protocol):
    """A loss L of named parameters, and the gradients that its author computes for it."""

    @property
    def origin(self) -> str:
        """Where it comes from, in a few words."""

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The point at which the gradients are checked, in float64, and the shape of each parameter."""

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        """What adds up to L, in float64: (S,), one term per sample where the function tells them apart."""

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        """∂L/∂ every parameter, each in its parameter's shape and in the type it was computed in."""

    def wide_gradients(self) -> Mapping[str, Array] | None:
        """The same at the parameters in wider floats, for what rounding changes; None if there is no such."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """One short line for each thing that is allowed, and seldom meant."""


@dataclass(frozen=True)
class Inputs:
    """What the spec gives to the user's code.

    parameters: None where the code brings its own.  x, y: None where the spec names no data.
    problem: the network, where the spec describes one.
    """

    parameters: Mapping[str, Array] | None
    x: Array | None
    y: Array | None
    problem: Problem | None = None


def read_inputs(spec: Spec) -> Inputs:
    """The network's parameters and batch; without a network section, the arrays of the files as they are."""
    if spec.network is not None:
        problem = build_problem(spec)
        return Inputs(problem.parameters, problem.x, _labels_whole(problem), problem)
    parameters = None
    if isinstance(spec.parameters, ParameterFile):
        parameters = read_named(spec.parameters, "parameters")
    elif spec.parameters is not None:
        raise bad_input(
            "without a network section, parameters come from a file or from the code", "parameters"
        )
    return Inputs(parameters, *(read_arrays(spec.data) if spec.data else (None, None)))


def _labels_whole(problem: Problem) -> Array:
    """y as the data give it; labels, in a spec numbers like any other, as the indices they are."""
    values = problem.network.loss.target == "values" and problem.network.output.units == 1
    return problem.y if values or problem.y.ndim > 1 else problem.y.astype(np.int64)


@dataclass(frozen=True)
class ForeignObjective:
    """The function as the numerical side sees it: its losses, never its gradients.

    noise: how exact each of its losses is, (S,).
    """

    function: Function
    noise: Array
    tells_kinks: bool = False
    widest: None = None

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        return {name: array.shape for name, array in self.function.parameters.items()}

    @cached_property
    def losses(self) -> Array:
        """At the parameters, (S,)."""
        return self.function.losses({n: array.copy() for n, array in self.function.parameters.items()})

    def entries(self, name: str) -> Movable:
        return _ForeignMoves(self, name)

    def penalty(self, name: str) -> None:
        """None that is known of: it is part of the losses."""

    @property
    def conventions(self) -> tuple[ForeignObjective, ...]:
        """None that are known of: where the kinks are is not told."""
        return ()


@dataclass(frozen=True)
class _ForeignMoves:
    objective: ForeignObjective
    name: str
    batch: int = 16

    @cached_property
    def position(self) -> Array:
        return self.objective.function.parameters[self.name].ravel()

    @cached_property
    def unit(self) -> Array:
        return length(self.position)

    @property
    def rest(self) -> Array:
        return self.objective.losses

    def move(self, which: Array, to: Array) -> Moved:
        function = self.objective.function
        losses = np.stack([function.losses(self._with(i, value)) for i, value in zip(which, to, strict=True)])
        rounding = np.maximum(self.objective.noise / _EPS, np.abs(losses))
        return Moved(losses, rounding, np.zeros(len(which), dtype=bool))

    def _with(self, i: int, value: float) -> Mapping[str, Array]:
        """The parameters with entry i of this one set, in fresh arrays that the function may change."""
        parameters = {name: array.copy() for name, array in self.objective.function.parameters.items()}
        parameters[self.name].flat[i] = value
        return parameters


def length(position: Array) -> Array:
    """The length of a step of 1 for every number of a tensor: its size, or the tensor's if that is larger."""
    largest = np.abs(position).max(initial=0.0)
    if not largest > np.finfo(np.float64).tiny:
        return np.ones(position.shape)
    whole = largest * np.sqrt(np.mean(np.square(position / largest)))
    size = np.maximum(np.abs(position), whole)
    return np.where(size > np.finfo(np.float64).tiny, size, 1.0)
