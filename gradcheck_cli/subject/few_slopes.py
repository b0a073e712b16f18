"""Recognise wrong gradients that are right for some samples or outputs, or for an earlier call's arguments.

Slopes of a few entries are enough to verify either. They are central differences of the code's losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.code.evaluation import elsewhere
from gradcheck_cli.code.failures import RefusedError, may_fail
from gradcheck_cli.code.objective import ForeignObjective, length
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.state import Made
from gradcheck_cli.diagnose.wrong_functions import EARLIER_CALL, PART_OF_OUTPUTS, PART_OF_SAMPLES
from gradcheck_cli.types import Array

_ENTRIES = 4
"""The number of entries to verify: those that are wrong by most."""

_STEPS = 2.0**-7, 2.0**-8
"""The steps, relative to the length of an entry's unit step. Their slopes are extrapolated."""

_RTOL, _TELLING = 1e-5, 1e-3
"""The tolerance of a slope, relative to the largest, and the largest noise at which slopes tell anything."""

_NTH = "first", "second", "third", "fourth", "fifth", "sixth"
"""The outputs that a gradient may lack, in words."""

_SAMPLES = 4
"""The least number of samples of which a part can be recognised."""


@dataclass(frozen=True)
class _Slopes:
    """The slopes of the S loss terms along K entries, (K, S), and a bound on the noise of their sums."""

    of_terms: Array
    noise: float

    def explain(self, analytic: Array, part: Array | slice) -> bool:
        """Return whether the sum of the slopes over some of the terms is the gradient.

        analytic: the gradient's entries, (K,).
        part: the terms: a mask, (S,), or a slice.
        """
        found = self.of_terms[:, part].sum(axis=1)
        largest = np.abs(found).max(initial=0.0)
        if not 0.0 < largest < np.inf or self.noise > _TELLING * largest:
            return False
        return bool((np.abs(found - analytic) <= _RTOL * largest + self.noise).all())


def right_for_other_data(objective: ForeignObjective, comparison: Comparison) -> Iterator[Made]:
    """Yield the pattern if the gradient is right for some samples, or for the first call's arguments."""
    which = _worst(comparison)
    if not which.size or objective.function.kernels:
        return
    with suppress(RefusedError):
        yield from _found(objective, comparison.name, which, comparison.analytic.ravel()[which])


def _found(objective: ForeignObjective, name: str, which: Array, analytic: Array) -> Iterator[Made]:
    if parts := _parts(objective):
        slopes = _slopes(objective, name, which, objective.function.parameters)
        for part in parts:
            if slopes.explain(analytic, part.terms):
                yield Made(part.wrong, "", name, place=part.words)
    if _is_kept(objective, name, which):
        yield Made(EARLIER_CALL, "", name)


def _is_kept(objective: ForeignObjective, name: str, which: Array) -> bool:
    """Return whether the gradient is right at the point of the first call, and at no other point."""
    first, other = (elsewhere(objective.function.parameters, seed) for seed in (0, 1))
    if not _is_right_at(first, objective, name, which[:1]):  # one entry usually suffices to tell
        return False
    return _is_right_at(first, objective, name, which) and not _is_right_at(other, objective, name, which)


def _is_right_at(point: Mapping[str, Array], objective: ForeignObjective, name: str, which: Array) -> bool:
    """Return whether some entries of the gradient are right at a point."""
    with may_fail(Exception):  # the code may fail in any way at another point
        gradients = objective.function.gradients(point)
    analytic = np.asarray(gradients[name], dtype=np.float64).ravel()[which]
    return _slopes(objective, name, which, point).explain(analytic, slice(None))


def _worst(comparison: Comparison) -> Array:
    """Return the flat indices of the wrong entries that are off by most, if they are finite."""
    off = np.where(comparison.wrong, np.abs(comparison.analytic - comparison.numerical), np.nan).ravel()
    order = np.argsort(-np.nan_to_num(off, nan=-1.0, posinf=-1.0), kind="stable")[:_ENTRIES]
    return order[np.isfinite(off[order])]


def _slopes(objective: ForeignObjective, name: str, which: Array, point: Mapping[str, Array]) -> _Slopes:
    steps = length(point[name].ravel())[which]
    coarse, fine = (
        np.stack([_slope(objective, name, k, s * step, point) for k, step in zip(which, steps, strict=True)])
        for s in _STEPS
    )
    noise = 4.0 * float(np.linalg.norm(objective.noise[name])) / float(_STEPS[1] * steps.min())
    return _Slopes((4.0 * fine - coarse) / 3.0, noise)


def _slope(
    objective: ForeignObjective, name: str, entry: int, step: float, point: Mapping[str, Array]
) -> Array:
    above, below = point[name].copy(), point[name].copy()
    above.flat[entry] += step
    below.flat[entry] -= step
    with may_fail(Exception):  # the code may fail in any way at another point
        losses = [objective.function.losses({**point, name: array}) for array in (above, below)]
    return np.asarray(np.subtract(*losses) / (above.flat[entry] - below.flat[entry]))


@dataclass(frozen=True)
class _Part:
    """Some of the loss terms, of which a gradient may be the sum.

    words: the samples that are summed over, or the output that is left out.
    terms: a mask of the S terms, (S,).
    """

    wrong: Wrong
    words: str
    terms: Array


def _parts(objective: ForeignObjective) -> list[_Part]:
    outputs = objective.function.outputs
    if len(outputs) > 1:
        return _parts_of_outputs(outputs) if sum(outputs) == len(objective.losses) else []
    return _parts_of_samples(objective)


def _parts_of_outputs(outputs: Sequence[int]) -> list[_Part]:
    """Return all terms but those of one output, for each of the first outputs.

    outputs: the number of terms of each output.
    """
    of = np.repeat(np.arange(len(outputs)), outputs)
    return [_Part(PART_OF_OUTPUTS, f"the {nth} output", of != k) for k, nth in enumerate(_NTH) if k in of]


def _parts_of_samples(objective: ForeignObjective) -> list[_Part]:
    terms = len(objective.losses)
    n = objective.function.samples or terms
    if n < _SAMPLES or terms % n:
        return []
    i = np.arange(n)
    parts = {
        "the first half of the samples": i < n // 2,
        "the second half of the samples": i >= n - n // 2,
        "samples 0, 2, 4, …": i % 2 == 0,
        "samples 1, 3, 5, …": i % 2 == 1,
        "all samples but the last": i < n - 1,
        "all samples but the first": i > 0,
        "the first sample": i == 0,
        "the last sample": i == n - 1,
    }
    return [_Part(PART_OF_SAMPLES, words, np.repeat(mask, terms // n)) for words, mask in parts.items()]
