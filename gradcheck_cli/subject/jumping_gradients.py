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

_POINTS = 8
"""The number of points nearby at which to compute the gradient."""

_NEAR = 2.0**-30
"""The distance of these points, in units of the parameters' entries."""

_JUMPS = 1e-6
"""A gradient jumps if it changes by more than this share of its largest entry. Curvature matters far less."""

_NOTE = (
    "the gradient of {} jumps at these parameters, as where kinks of relu lie behind others: next to them, it "
    "is between {:.3g} and {:.3g}. Its value on kinks is a convention, which differences cannot check. If no "
    "bias and no sample is 0, they can"
)


def with_jumps_undecided(function: Function, claim: Claim, checked: Checked) -> Checked:
    """Return the findings, in which wrong entries are undecided if jumps of the gradient explain them."""
    wrong = [c for c in checked.comparisons if c.wrong.any() and c.projected is None]
    nearby = _gradients_nearby(function) if wrong else ()
    if not nearby:
        return checked
    jumping = {c.name: at for c in wrong if (at := _explained(c, _stacked(c, nearby))).any()}
    comparisons = tuple(
        claim.compare(c.name, _widened(c, jumping[c.name])) if c.name in jumping else c
        for c in checked.comparisons
    )
    notes = (_note(c, jumping[c.name], _stacked(c, nearby)) for c in wrong if c.name in jumping)
    return replace(checked, comparisons=comparisons, notes=(*checked.notes, *notes))


def _gradients_nearby(function: Function) -> Sequence[Mapping[str, Array]]:
    """Return the gradients at random points next to the parameters; none if the code refuses a point."""
    try:
        with may_fail(Exception):
            return [function.gradients(point) for point in _points(function.parameters)]
    except RefusedError:
        return ()


def _points(parameters: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    rng = np.random.default_rng(0)
    for _ in range(_POINTS):
        signs = {name: rng.choice([-1.0, 1.0], value.shape) for name, value in parameters.items()}
        yield {
            name: value + _NEAR * length(value.ravel()).reshape(value.shape) * signs[name]
            for name, value in parameters.items()
        }


def _stacked(comparison: Comparison, nearby: Sequence[Mapping[str, Array]]) -> Array:
    """Return a tensor's gradients at the points nearby, (points, *shape)."""
    return np.stack([each[comparison.name] for each in nearby]).astype(np.float64)


def _explained(comparison: Comparison, nearby: Array) -> Array:
    """Return a mask of the wrong entries whose numerical value is near what the gradient jumps between."""
    values = np.concatenate([nearby, comparison.analytic[None]])
    low, high = values.min(axis=0), values.max(axis=0)
    jump = high - low
    jumps = jump > _JUMPS * np.abs(values).max()
    near = (comparison.numerical >= low - jump) & (comparison.numerical <= high + jump)
    explained: Array = comparison.wrong & jumps & near
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
