"""Present the user's code as a function whose gradients finite differences can estimate.

Nothing is known about the function except what it returns. So its parameters are perturbed one entry at a
time or along directions, and the noise in its losses is measured (`numerical.noise`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.code.evaluation import WideGradients
from gradcheck_cli.code.findings import Attached, Finding
from gradcheck_cli.code.kernel import Kernel
from gradcheck_cli.code.refusals import Refusals, is_refusal
from gradcheck_cli.code.sites import Sites
from gradcheck_cli.code.together import Together
from gradcheck_cli.numerical.objective import Direction, Movable, Moved, Spread
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import EPS, Array, Shape


class Function(Protocol):
    """A loss L as a function of named parameters, with the gradients that its author computes."""

    @property
    def origin(self) -> str:
        """A short description of the function's origin."""

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The parameters at which the gradients are checked, as float64 arrays by name."""

    def losses(self, parameters: Mapping[str, Array]) -> Array:
        """Return the S loss terms that add up to L, as a float64 array of shape (S,).

        There is one term per sample if the function returns the losses of the samples separately.
        """

    def losses_at(self, points: Sequence[Mapping[str, Array]]) -> Array:
        """Return the S loss terms at each of K points, (K, S). A vectorized function is called only once."""

    @property
    def terms(self) -> int:
        """The number of loss terms that the function returns, S."""

    @property
    def vectorized(self) -> bool:
        """Whether the function accepts parameters stacked along a first axis, one set per point."""

    @property
    def is_wide(self) -> bool:
        """Whether the losses are known to be computed in float64 from start to end."""

    def gradients(self, parameters: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the gradient of each parameter, by name, in the dtype it was computed in."""

    def wide_gradients(self) -> WideGradients | None:
        """Return the gradients computed in a wider dtype, to reveal rounding errors.

        Returns None if the code cannot compute in a wider dtype.
        """

    def attached(self) -> Iterable[Attached]:
        """Run the code again without the calls that detach a branch, such as detach(), if there are any.

        Yields the gradients of each run.
        """

    @property
    def remarks(self) -> tuple[str, ...]:
        """Warnings about things in the code that are allowed but rarely intended, one short line each."""

    @property
    def samples(self) -> int | None:
        """The number of samples that the code is called with; None if that is unknown."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """The number of entries in each output if L = Σ c · out; empty if the code has a loss of its own."""

    @property
    def stands_alone(self) -> bool:
        """Whether no network section can describe the code, as is the case for a layer or a jax function."""

    @property
    def takes_taps(self) -> bool:
        """Whether the code may mark intermediate results with `tap`, as Python functions and layers may."""

    @property
    def loss_name(self) -> str:
        """A short name of the loss, such as ``its own loss``."""

    @property
    def loss(self) -> float:
        """The loss at `parameters` as the author wrote it, without any weights added by gradcheck."""

    @property
    def weighted(self) -> str:
        """A description of how L differs from the loss that the author wrote; empty if it does not differ."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Facts that suggest wrong gradients, found by running the code in other ways."""

    def sites(self, names: Sequence[str]) -> Sites:
        """Return verified sites of some parameters in `names`, found without any gradient (see `Sites`)."""

    def places(self, wrong: Collection[str], right: Collection[str]) -> Iterable[str]:
        """Return sentences that say where in the code the fault lies, as far as the code's taps show it.

        wrong, right: the names of the tensors whose gradients are wrong, and of those whose gradients agree.
        """

    @property
    def calls(self) -> Sequence[Call]:
        """A call of a layer's forward function, which may show the kind of layer; empty for other code."""

    @property
    def before(self) -> Sequence[Function]:
        """Functions to check first. If one of them is wrong, the result for this function means nothing."""

    @property
    def other_modes(self) -> Mapping[str, Function]:
        """The same function with gradients from each further mode to check, by the name of the mode."""

    @property
    def kernels(self) -> Sequence[Kernel]:
        """The kernel whose gradients are checked, if its losses come from a reference; empty otherwise."""

    @property
    def others(self) -> Sequence[Function]:
        """Functions that run the same code with other weights in L. Their gradients must be right, too."""


FORWARD = "forward mode (jvp)"
BATCHED = "batched backward (vmap)"
"""The names of further modes in which code computes gradients."""


@dataclass(frozen=True)
class Inputs:
    """The arguments for the user's code that the spec provides.

    parameters: the parameters by name, or None if the code defines its own.
    x, y: the data, or None if the spec names none.
    problem: the network with its parameters and data, or None if the spec describes no network.
    checks_inputs: whether ∂L/∂x is checked, too.
    order: 1 to check gradients, 2 to check the gradients of gradients.
    forward_mode: whether forward-mode derivatives are checked, too.
    batched: whether backward for a batch of upstreams is checked, too.
    """

    parameters: Mapping[str, Array] | None
    x: Array | None
    y: Array | None
    problem: Problem | None = None
    checks_inputs: bool = False
    order: int = 1
    forward_mode: bool = False
    batched: bool = False


class Change(NamedTuple):
    """A point that differs from the parameters only in some entries of one tensor.

    name: the name of the tensor.
    entries: flat indices of the entries.
    values: the new values of the entries.
    """

    name: str
    entries: Array
    values: Array

    def at(self, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """Return a copy of the parameters with this change."""
        point = {name: array.copy() for name, array in parameters.items()}
        point[self.name].flat[self.entries] = self.values
        return point


def no_change(function: Function) -> Change:
    """Return the point that is the parameters themselves."""
    return Change(next(iter(function.parameters)), np.array([], dtype=np.intp), np.array([]))


class Evaluator(Protocol):
    """An object that evaluates a function at many points, in this process or in several others."""

    @property
    def batch(self) -> int:
        """The number of points to pass to one call of `losses_at`."""

    def losses_at(self, changes: Sequence[Change]) -> Array:
        """Return the S loss terms at each of K points, (K, S). Each change describes one point."""

    def losses_at_rest(self) -> Iterable[tuple[str, Array]]:
        """Yield the S loss terms that the function now returns at the unperturbed parameters, (S,).

        Each comes with words for the machine, such as `` on node7``; empty for this machine. At least one
        call is made in each process that has evaluated the function, if it still exists. The loss terms of a
        call that the function refuses are NaN.
        """

    @property
    def tolerated(self) -> float:
        """The difference between the losses of two processes that has been tolerated so far."""


@dataclass(frozen=True)
class InProcess:
    """An evaluator that calls the function in this process, one stack of points at a time."""

    function: Function
    tolerated: float = 0.0

    @property
    def batch(self) -> int:
        return stack_of(self.function)

    def losses_at(self, changes: Sequence[Change]) -> Array:
        return evaluate_stacks(self.function, self.function.parameters, changes)

    def losses_at_rest(self) -> Iterable[tuple[str, Array]]:
        yield "", self.losses_at([no_change(self.function)])[0]


STACK = 16
"""The largest number of points in one stack, which is passed to one call of the function."""
_STACKED_NUMBERS = 2**24
"""The largest number of parameter entries in one stack: 128 MiB in float64."""


def stack_of(function: Function) -> int:
    """Return the number of points in a full stack, which depends only on the function.

    Rounding can depend on the size of a stack, so results are reproducible only if that size is fixed.
    """
    numbers = sum(array.size for array in function.parameters.values())
    return max(1, min(STACK, _STACKED_NUMBERS // max(1, numbers)))


def evaluate_stacks(function: Function, parameters: Mapping[str, Array], changes: Sequence[Change]) -> Array:
    """Return the S loss terms at each of K points, (K, S), evaluated one stack of points at a time."""
    size = stack_of(function)
    starts = range(0, len(changes), size)
    return np.concatenate([evaluate(function, parameters, changes[start : start + size]) for start in starts])


def evaluate(function: Function, parameters: Mapping[str, Array], changes: Sequence[Change]) -> Array:
    """Return the S loss terms at each of K points near `parameters`, (K, S).

    Every point is a copy, so the function may change it. The losses are NaN at a point that the function
    refuses, such as one outside its domain.
    """
    points = [change.at(parameters) for change in changes]
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


@dataclass(frozen=True)
class ForeignObjective:
    """The user's function as finite differences see it: its losses, but never its gradients.

    noise: for each parameter, the noise in the S loss terms, (S,), while that parameter is perturbed.
    evaluator: the object that evaluates the function at many points; None to evaluate it in this process.
    refusals: counts the points that the function refuses, so that calls to it end if it always fails.
    """

    function: Function
    noise: Mapping[str, Array]
    evaluator: Evaluator | None = None
    refusals: Refusals = field(default_factory=Refusals, compare=False)
    tells_kinks: bool = False
    widest: None = None

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        return {name: array.shape for name, array in self.function.parameters.items()}

    @cached_property
    def losses(self) -> Array:
        """The S loss terms at the unperturbed parameters, (S,)."""
        return self.function.losses({n: array.copy() for n, array in self.function.parameters.items()})

    @cached_property
    def evaluated_by(self) -> Evaluator:
        return self.evaluator or InProcess(self.function)

    def entries(self, name: str) -> Movable:
        return _Entries(self, name)

    def span(self, name: str) -> float:
        """Return the root mean square of the entries of parameter `name`, or 1 if all entries are 0."""
        return _whole(self.function.parameters[name]) or 1.0

    def along(self, name: str, directions: Sequence[Direction], unit: Array) -> Movable:
        return _Along(self, name, tuple(directions), unit)

    def penalty(self, name: str) -> None:
        """Return None, since a penalty cannot be separated from the rest of the user's loss."""

    @property
    def conventions(self) -> tuple[ForeignObjective, ...]:
        """The objectives under other conventions at kinks. There are none, since the kinks are unknown."""
        return ()

    def moved(self, name: str, changes: Sequence[Change]) -> Moved:
        losses = self._losses_at(name, changes)
        rounding = np.maximum(self.noise[name] / EPS, np.abs(losses))
        return Moved(losses, rounding, np.zeros(len(changes), dtype=bool))

    def _losses_at(self, name: str, changes: Sequence[Change]) -> Array:
        """Return the S loss terms at K points, (K, S); NaN if the code refused many points in a row."""
        if self.refusals.give_up(name):
            return np.full((len(changes), self.function.terms), np.nan)
        losses = self.evaluated_by.losses_at(changes)
        self.refusals.add(name, losses)
        return losses


@dataclass(frozen=True)
class _Moves:
    objective: ForeignObjective
    name: str

    @property
    def batch(self) -> int:
        return self.objective.evaluated_by.batch

    @cached_property
    def tensor(self) -> Array:
        """The parameter to perturb, as a flat array."""
        return self.objective.function.parameters[self.name].ravel()

    @property
    def rest(self) -> Array:
        return self.objective.losses


@dataclass(frozen=True)
class _Entries(_Moves):
    exact: ClassVar[bool] = True

    @cached_property
    def spread(self) -> Spread:
        return _together(self.objective.function, 1)

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
    def spread(self) -> Spread:
        return _together(self.objective.function, max(len(each.entries) for each in self.directions))

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


def _together(function: Function, numbers: int) -> Spread:
    """Return the spread for variables that perturb this many entries each."""
    return Together(stack_of(function) if function.vectorized else 1, numbers)


def length(position: Array) -> Array:
    """Return the length of a unit step for every entry of a tensor.

    The length is the entry's absolute value or the tensor's root mean square, whichever is larger; 1 if both
    are 0.
    """
    size = np.maximum(np.abs(position), _whole(position))
    return np.where(size > np.finfo(np.float64).tiny, size, 1.0)


def _whole(tensor: Array) -> float:
    """Return the root mean square of the tensor; 0 if its largest entry is 0 or subnormal in float64."""
    largest = float(np.abs(tensor).max(initial=0.0))
    if not largest > np.finfo(np.float64).tiny:
        return 0.0
    return largest * float(np.sqrt(np.mean(np.square(tensor / largest))))
