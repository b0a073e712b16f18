"""Find wrong entries at which the gradient of the user's code jumps, since kinks lie behind other kinks.

A sample of zeros and biases of 0 put a unit of relu on its kink, and the units that read it on theirs. Then
both one-sided slopes may be 0, although a correct backward function with another slope than 0 at the kink
returns something else. No difference of the loss can tell. But next to such a point, the gradient itself
takes other values, on both sides of what it returns at the point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.function import Function
from gradcheck_cli.code.objective import length
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.entries.claim import Claim
from gradcheck_cli.numerical.estimate import ERROR_BARS, Estimate
from gradcheck_cli.report import Checked
from gradcheck_cli.types import Array

_FEW, _MANY = 8, 56
"""The number of points nearby at which to compute the gradient, and of further points if it jumps there.

Each point puts every kink on one of its sides, and many combinations of sides may be possible.
"""

_NEAREST, _FURTHEST = -38.0, -28.0
"""The distances of these points in powers of 2, relative to each entry or, for an entry of 0, to its tensor.

Each tensor has a random distance, so that any tensor may decide the side of a kink.
"""

_JUMPS = 1e-6
"""A gradient jumps if it changes by more than this share of its largest entry. Curvature matters far less."""

_NOTE = (
    "the gradient of {} jumps at these parameters, as where kinks of relu lie behind others: next to them, "
    "it is between {:.3g} and {:.3g}. Its value on kinks is a convention, which differences cannot check. If "
    "no bias and no sample is 0, they can"
)


def with_jumps_undecided(function: Function, claim: Claim, checked: Checked) -> Checked:
    """Return the findings, in which wrong entries are undecided if jumps of the gradient explain them."""
    wrong = [c for c in checked.comparisons if c.wrong.any() and c.projected is None]
    try:
        with may_fail(Exception):
            nearby = _nearby(function, wrong)
    except RefusedError:
        return checked
    jumping = {c.name: at for c in wrong if (at := _explained(c, nearby[c.name])).any()}
    comparisons = tuple(
        claim.compare(c.name, _widened(c, jumping[c.name])) if c.name in jumping else c
        for c in checked.comparisons
    )
    notes = (_note(c, jumping[c.name], nearby[c.name]) for c in wrong if c.name in jumping)
    return replace(checked, comparisons=comparisons, notes=(*checked.notes, *notes))


def _nearby(function: Function, wrong: Sequence[Comparison]) -> dict[str, Array]:
    """Return the gradients of wrong tensors at random points next to the parameters, (points, *shape)."""
    rng = np.random.default_rng(0)
    few = _gradients(function, wrong, _points(function.parameters, _FEW, rng))
    if not any((c.wrong & _jumps(few[c.name])).any() for c in wrong):
        return few
    more = _gradients(function, wrong, _points(function.parameters, _MANY, rng))
    return {name: np.concatenate([few[name], more[name]]) for name in few}


def _gradients(
    function: Function, wrong: Sequence[Comparison], points: Iterator[Mapping[str, Array]]
) -> dict[str, Array]:
    each = [function.gradients(point) for point in points]
    return {c.name: np.stack([at[c.name] for at in each]).astype(np.float64) for c in wrong}


def _points(
    parameters: Mapping[str, Array], count: int, rng: np.random.Generator
) -> Iterator[dict[str, Array]]:
    for _ in range(count):
        yield {
            name: value + 2.0 ** rng.uniform(_NEAREST, _FURTHEST) * _signs(value, rng) * _size(value)
            for name, value in parameters.items()
        }


def _signs(value: Array, rng: np.random.Generator) -> Array:
    return rng.choice([-1.0, 1.0], value.shape)


def _size(value: Array) -> Array:
    return np.where(value != 0.0, np.abs(value), length(value.ravel()).reshape(value.shape))


def _jumps(nearby: Array) -> Array:
    """Return a mask of the entries of a gradient that jump from point to point, (*shape)."""
    jumps: Array = np.ptp(nearby, axis=0) > _JUMPS * np.abs(nearby).max()
    return jumps


def _explained(comparison: Comparison, nearby: Array) -> Array:
    """Return a mask of the wrong entries both of whose values are near what the gradient jumps between.

    A few points do not show the extremes, so values as far beyond them as they are apart count as near.
    """
    low, high = nearby.min(axis=0), nearby.max(axis=0)
    jump = high - low
    both = np.stack([comparison.numerical, comparison.analytic])
    near = ((both >= low - jump) & (both <= high + jump)).all(axis=0)
    explained: Array = comparison.wrong & _jumps(nearby) & near
    return explained


def _widened(comparison: Comparison, at: Array) -> Estimate:
    """Return the estimate with error bars that allow for the jumps of the marked entries."""
    error = np.where(at, np.maximum(comparison.error, comparison.difference / ERROR_BARS), comparison.error)
    return Estimate(comparison.numerical, error)


def _note(comparison: Comparison, at: Array, nearby: Array) -> str:
    first = tuple(int(i) for i in np.argwhere(at)[0])
    place = f"{comparison.name}{list(first)}" if first else comparison.name
    values = [float(each[first]) for each in nearby]
    return _NOTE.format(place, min(values), max(values))
