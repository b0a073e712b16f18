"""The user's code as a function that can be differenced.

Only what the function returns is known. So its parameters are perturbed one by one or along directions, and
the noise of its losses is measured (`numerical.noise`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from gradcheck_cli.errors import InputError, bad_input
from gradcheck_cli.model.data import read_arrays
from gradcheck_cli.model.named_arrays import OwnParameters, read_named
from gradcheck_cli.model.problem import Problem, build_problem
from gradcheck_cli.numerical.objective import ALONE, Direction, Movable, Moved, Spread
from gradcheck_cli.spec import ParameterFile, Spec
from gradcheck_cli.types import Array, Shape

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Finding:
    """A sentence about the gradients of these tensors, found by running the code in another way."""

    tensors: tuple[str, ...]
    sentence: str


class Function(Protocol):
    """A loss L of named parameters, with its author's gradients."""

    @property
    def origin(self) -> str:
        """Where the function comes from, in a few words."""

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The point at which the gradients are checked, in float64, and the shape of each parameter."""

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        """Return the terms that add up to L, (S,), in float64: one per sample if the function has them."""

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        """Return the losses at K points, (K, S), in one call if the function takes a stack of parameters."""

    @property
    def terms(self) -> int:
        """The number of loss terms, S."""

    @property
    def vectorized(self) -> bool:
        """Whether the function takes a stack of parameters."""

    @property
    def is_wide(self) -> bool:
        """Whether the losses are known to be computed in float64 throughout."""

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return each parameter's gradient, in the parameter's shape and the type it was computed in."""

    def wide_gradients(self) -> Mapping[str, Array] | None:
        """Return the gradients computed in wider floats, which shows rounding; None if that is impossible."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """A short line for each thing that is allowed but rarely intended."""

    @property
    def loss(self) -> float:
        """The author's loss at the parameters."""

    @property
    def weighted(self) -> str:
        """How L differs from its author's loss; empty if it does not."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Why the gradients may be wrong, found by running the code in other ways."""

    @property
    def others(self) -> Sequence[Function]:
        """The same function with L weighted in other ways; its gradients must be right as well."""


@dataclass(frozen=True)
class Inputs:
    """What the spec gives to the user's code.

    parameters: None if the code brings its own.  x, y: None if the spec names no data.
    problem: the network, if the spec describes one.
    """

    parameters: Mapping[str, Array] | None
    x: Array | None
    y: Array | None
    problem: Problem | None = None


def read_inputs(spec: Spec, own: OwnParameters | None = None) -> Inputs:
    """Return the network's parameters and batch, or without a network section the arrays of the files.

    own: parameters that the code defines, if the spec has none.
    """
    if spec.network is not None:
        problem = build_problem(spec, own)
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
    """Return y as in the data, with labels as integers: a spec has them as plain numbers."""
    values = problem.network.loss.target == "values" and problem.network.output.units == 1
    return problem.y if values or problem.y.ndim > 1 else problem.y.astype(np.int64)


class Change(NamedTuple):
    """A point that differs from the parameters in some entries of one tensor; entries: flat indices."""

    name: str
    entries: Array
    values: Array


class Evaluator(Protocol):
    """Evaluates a function at many points, in this process or in several others."""

    @property
    def batch(self) -> int:
        """The number of points to pass at once."""

    def losses_at(self, changes: Sequence[Change]) -> Array:
        """Return the losses at K points, (K, S)."""


@dataclass(frozen=True)
class InProcess:
    """Evaluates in this process, one stack at a time."""

    function: Function

    @property
    def batch(self) -> int:
        return STACK

    def losses_at(self, changes: Sequence[Change]) -> Array:
        return np.concatenate(
            [
                evaluate(self.function, self.function.parameters, part)
                for part in stacks(self.function, changes)
            ]
        )


STACK = 16
"""The most points per call."""
_STACKED_NUMBERS = 2**24
"""The most numbers per call: 128 MiB."""


def stacks(function: Function, changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """Split points into stacks whose size depends only on the function, so that rounding does too."""
    numbers = sum(array.size for array in function.parameters.values())
    size = max(1, min(STACK, _STACKED_NUMBERS // max(1, numbers)))
    for start in range(0, len(changes), size):
        yield changes[start : start + size]


def evaluate(function: Function, parameters: Mapping[str, Array], changes: Sequence[Change]) -> Array:
    """Return the losses (K, S) at K points near the parameters, passing arrays that the function may change.

    The losses are NaN at a point that the function refuses, such as one outside its domain.
    """
    points = [_point(parameters, change) for change in changes]
    if function.vectorized:  # compilers compile for every size, so use few sizes
        points += points[-1:] * (2 ** (len(points) - 1).bit_length() - len(points))
    try:
        return function.losses_at(points)[: len(changes)]
    except Exception as error:
        if not is_refusal(error):
            raise
    if len(changes) == 1:
        return np.full((1, function.terms), np.nan)
    return np.concatenate([evaluate(function, parameters, [change]) for change in changes])


def is_refusal(error: Exception) -> bool:
    """Whether the code may have raised this because of the point that it was given."""
    raised = error.__context__ if isinstance(error, InputError) else error  # the code's own error
    return isinstance(raised, _REFUSALS) and not isinstance(raised, _FAILURES)


_REFUSALS = (ValueError, ArithmeticError, AssertionError, RuntimeError)
_FAILURES = (NotImplementedError, RecursionError, UnicodeError)


def _point(parameters: Mapping[str, Array], change: Change) -> Mapping[str, Array]:
    point = {name: array.copy() for name, array in parameters.items()}
    point[change.name].flat[change.entries] = change.values
    return point


@dataclass(frozen=True)
class ForeignObjective:
    """The function as the numerical side sees it: its losses, never its gradients.

    noise: for each parameter, the noise of the losses when it is perturbed, (S,).
    evaluator: what evaluates the function, by default this process.
    """

    function: Function
    noise: Mapping[str, Array]
    evaluator: Evaluator | None = None
    tells_kinks: bool = False
    widest: None = None

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        return {name: array.shape for name, array in self.function.parameters.items()}

    @cached_property
    def losses(self) -> Array:
        """The losses at the parameters, (S,)."""
        return self.function.losses({n: array.copy() for n, array in self.function.parameters.items()})

    @cached_property
    def evaluated_by(self) -> Evaluator:
        return self.evaluator or InProcess(self.function)

    def entries(self, name: str) -> Movable:
        return _Entries(self, name)

    def span(self, name: str) -> float:
        """Return the root mean square of its entries, or 1 if that is 0."""
        return _whole(self.function.parameters[name]) or 1.0

    def along(self, name: str, directions: Sequence[Direction], unit: Array) -> Movable:
        return _Along(self, name, tuple(directions), unit)

    def penalty(self, name: str) -> None:
        """No penalty is known: it is part of the losses."""

    @property
    def conventions(self) -> tuple[ForeignObjective, ...]:
        """No kinks are known."""
        return ()

    def moved(self, name: str, changes: Sequence[Change]) -> Moved:
        losses = self.evaluated_by.losses_at(changes)
        rounding = np.maximum(self.noise[name] / _EPS, np.abs(losses))
        return Moved(losses, rounding, np.zeros(len(changes), dtype=bool))


@dataclass(frozen=True)
class _Moves:
    objective: ForeignObjective
    name: str

    spread: ClassVar[Spread] = ALONE

    @property
    def batch(self) -> int:
        return self.objective.evaluated_by.batch

    @cached_property
    def tensor(self) -> Array:
        """The parameter, flat."""
        return self.objective.function.parameters[self.name].ravel()

    @property
    def rest(self) -> Array:
        return self.objective.losses


@dataclass(frozen=True)
class _Entries(_Moves):
    @property
    def position(self) -> Array:
        return self.tensor

    @cached_property
    def unit(self) -> Array:
        return length(self.tensor)

    def move(self, which: Array, to: Array) -> Moved:
        changes = [Change(self.name, np.array([i]), np.array([v])) for i, v in zip(which, to, strict=True)]
        return self.objective.moved(self.name, changes)


@dataclass(frozen=True)
class _Along(_Moves):
    directions: tuple[Direction, ...]
    unit: Array

    @cached_property
    def position(self) -> Array:
        return np.zeros(len(self.directions))

    def move(self, which: Array, to: Array) -> Moved:
        span = self.objective.span(self.name)
        changes = []
        for i, t in zip(which, to, strict=True):
            entries, weights = self.directions[i]
            changes.append(Change(self.name, entries, self.tensor[entries] + (t * span) * weights))
        return self.objective.moved(self.name, changes)


def length(position: Array) -> Array:
    """Return the length of a step of 1 for every number of a tensor: its size, or the tensor's if larger."""
    size = np.maximum(np.abs(position), _whole(position))
    return np.where(size > np.finfo(np.float64).tiny, size, 1.0)


def _whole(tensor: Array) -> float:
    """Return the root mean square of the tensor, or 0 if that underflows."""
    largest = float(np.abs(tensor).max(initial=0.0))
    if not largest > np.finfo(np.float64).tiny:
        return 0.0
    return largest * float(np.sqrt(np.mean(np.square(tensor / largest))))
