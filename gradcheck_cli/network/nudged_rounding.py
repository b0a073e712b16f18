"""Bound the rounding errors of any step by nudging its arguments and observing the change.

This analysis is the default for steps without an error analysis of their own. It needs only the forward pass
and the vjp of a step. A bound has two parts. The carried part is the change of the result if each argument
changes by its error. To find this change, the elements of an argument are nudged in groups, with several
choices of signs, and the changes of the result are added up. The step's own part is the difference between
its results in float32 and in float64. Both parts are absolute values, so a bound cannot be negative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.known import Arrays, Inputs, Known, Upstream
from gradcheck_cli.types import Array

_GROUPS = 32
"""The largest number of groups in which the features of an argument are nudged."""

_SIGNS = 8
"""The number of choices of signs that are tried for the elements of a group."""

_NUDGE = 2.0**-20
"""The size of a nudge, relative to the largest absolute value in its argument."""

_OWN_SAFETY = 4.0
_SAMPLES = 4
_APART = 2.0**-10
"""The relative distance between the points where rounding is observed, large enough for errors to differ."""

Point = Mapping[str, Array]
"""The arguments of a function, by name."""

Function = Callable[[Point], Sequence[Array]]


class Evaluated(Protocol):
    """The methods and attributes of a step that this module needs."""

    @property
    def couples(self) -> str: ...

    def forward(self, p: Arrays, *inputs: Array) -> Array: ...

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]: ...


def value_error(step: Evaluated, p: Arrays, inputs: Inputs, errors: Inputs, arithmetic: Arithmetic) -> Array:
    """Return a bound on the rounding error of a step's output."""
    at = {**_named("p", p), **_numbered("x", inputs)}
    by = {**_held(p, arithmetic), **_numbered("x", errors)}
    nudged = _Nudged(lambda point: (step.forward(_own(point, p), *_inputs(point)),), at, (_is_alone(step),))
    (bound,) = nudged.bounds(by, arithmetic)
    return bound


def vjp_error(
    step: Evaluated, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
    """Return ∂L/∂input with an error bound for each input, and error bounds for parameter gradients."""
    at = {**_named("p", p), **_numbered("x", known.inputs), "g": upstream.value}
    by = {**_held(p, arithmetic), **_numbered("x", known.input_errors), "g": upstream.error}
    handed, _ = step.vjp(p, known.inputs, known.output, upstream.value)

    def results(point: Point) -> Sequence[Array]:
        own, inputs = _own(point, p), _inputs(point)
        handed, gradients = step.vjp(own, inputs, step.forward(own, *inputs), point["g"])
        return (*handed, *(gradients[name] for name in p))

    nudged = _Nudged(results, at, (_is_alone(step),) * len(handed) + (False,) * len(p))
    bounds, hidden = nudged.bounds(by, arithmetic), nudged.carried("g", np.maximum(upstream.hidden, 0.0))
    below = tuple(Upstream(*each) for each in zip(handed, bounds, hidden, strict=False))
    return below, dict(zip(p, bounds[len(handed) :], strict=True))


def _is_alone(step: Evaluated) -> bool:
    """Return whether each sample of the output depends only on the same sample of the inputs."""
    return step.couples != "batch"


def _named(prefix: str, arrays: Arrays) -> dict[str, Array]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _numbered(prefix: str, arrays: Sequence[Array]) -> dict[str, Array]:
    return _named(prefix, {str(number): array for number, array in enumerate(arrays)})


def _held(p: Arrays, arithmetic: Arithmetic) -> dict[str, Array]:
    """Return bounds on the errors that come from storing the parameters in the arithmetic."""
    return _named("p", {name: arithmetic.input_eps * np.abs(value) for name, value in p.items()})


def _own(point: Point, p: Arrays) -> dict[str, Array]:
    return {name: point[f"p.{name}"] for name in p}


def _inputs(point: Point) -> Inputs:
    return tuple(array for name, array in point.items() if name.startswith("x."))


@dataclass(frozen=True)
class _Nudged:
    """A function, and the point around which its arguments are nudged.

    alone: for each result, whether each of its samples depends only on the same sample of the arguments.
    """

    function: Function
    at: Point
    alone: tuple[bool, ...]

    @cached_property
    def here(self) -> Sequence[Array]:
        return self.function(self.at)

    def bounds(self, by: Point, arithmetic: Arithmetic) -> list[Array]:
        """Return a bound on the rounding error of each result of the function.

        by: bounds on the errors of the arguments.
        """
        carried = [self.carried(name, error) for name, error in by.items()]
        own = [arithmetic.eps * each + arithmetic.tiny for each in _rounding(self.function, self.at)]
        return [sum(parts, each) for *parts, each in zip(*carried, own, strict=True)]

    def carried(self, name: str, error: Array) -> list[Array]:
        """Return a first-order bound on each result's change if argument `name` changes by up to ± `error`.

        The nudges are much larger than the errors, so that float64 can resolve the changes, which are then
        scaled down. A group of K elements changes a result by at most √K times the root mean square of the
        changes over all choices of signs.
        """
        value, total = self.at[name], [np.zeros(each.shape) for each in self.here]
        error = np.broadcast_to(error, value.shape)
        largest = float(error.max(initial=0.0))
        if largest == 0:
            return total
        if not np.isfinite(largest):
            return [np.full(each.shape, np.inf) for each in total]
        longer = _NUDGE * (float(np.abs(value).max()) or 1.0) / largest
        for nudges, features, count in _in_groups(longer * error):
            squares = [np.zeros(each.shape) for each in self.here]
            for nudge in nudges:
                changes = zip(
                    squares, self.function({**self.at, name: value + nudge}), self.here, strict=True
                )
                squares = [sofar + np.square(there - here) for sofar, there, here in changes]
            numbers = [features if alone else count for alone in self.alone]
            for each, square, many in zip(total, squares, numbers, strict=True):
                each += np.sqrt(many * square / len(nudges)) / longer
        return total


def _in_groups(error: Array) -> Iterator[tuple[list[Array], int, int]]:
    """Yield, for each group of elements, the nudges, the size of the group in one sample, and its total size.

    A group has the same features in every sample. If the group is small enough, the signs of its nudges are
    orthogonal.
    """
    rng, features = np.random.default_rng(0), error[0].size if error.ndim > 1 else error.size
    number = np.arange(features).reshape(error.shape[1:] if error.ndim > 1 else error.shape)
    for group in range(min(features, _GROUPS)):
        member = np.broadcast_to(number % _GROUPS == group, error.shape) & (error != 0)
        count = int(np.count_nonzero(member))
        if count:
            nudges = []
            for signs in _signs(count, rng):
                nudge = np.zeros(error.shape)
                nudge[member] = signs * error[member]
                nudges.append(nudge)
            yield nudges, -(-features // _GROUPS), count


def _signs(count: int, rng: np.random.Generator) -> Array:
    """Return several choices of signs for `count` elements, (choices, count).

    The choices are orthogonal if `count` is small, and random otherwise.
    """
    size = 1 << (count - 1).bit_length()
    if size > _SIGNS:
        return rng.choice([-1.0, 1.0], (_SIGNS, count))
    signs = np.ones((1, 1))
    while len(signs) < size:
        signs = np.block([[signs, signs], [signs, -signs]])
    return signs[:, :count]


def _rounding(function: Function, at: Point) -> list[Array]:
    """Return a bound on the difference between each result in float32 and in float64.

    The bound is the largest difference observed at points near `at`, times a safety factor, in units of
    machine epsilon.
    """
    rng, eps = np.random.default_rng(0), float(np.finfo(np.float32).eps)
    own = [np.zeros(each.shape) for each in function(at)]
    for _ in range(_SAMPLES):
        narrow = {name: _near(array, rng) for name, array in at.items()}
        wide = {name: array.astype(np.float64) for name, array in narrow.items()}
        for k, (rounded, exact) in enumerate(zip(function(narrow), function(wide), strict=True)):
            least = np.abs(exact) + np.sqrt(np.mean(np.square(exact)))  # no result is more precise
            seen = np.fmax(np.abs(rounded - exact) / eps, least)
            own[k] = np.fmax(own[k], seen)
    return [_OWN_SAFETY * each for each in own]


def _near(array: Array, rng: np.random.Generator) -> Array:
    nearby = array * (1.0 + _APART * rng.uniform(-1.0, 1.0, array.shape))
    return np.asarray(nearby.astype(np.float32))
