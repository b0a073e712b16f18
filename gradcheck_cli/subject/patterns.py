"""Recognise patterns in wrong gradients by evaluating the user's code again.

Every pattern is verified before it is named. A staircase must be flat and have jumps. If a detached branch is
to blame, the gradient must be right once nothing is detached. A gradient that is called right along symmetric
moves must agree with differences along them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import nan
from typing import Literal

import numpy as np

from gradcheck_cli.code.findings import Attached
from gradcheck_cli.code.objective import ForeignObjective
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.diagnosis import Answer, Cause, Diagnosis
from gradcheck_cli.diagnose.state import Made
from gradcheck_cli.diagnose.words import cause_of
from gradcheck_cli.diagnose.wrong_functions import (
    ALONG_SYMMETRIC_MOVES,
    DETACHED,
    MISSING_CONJUGATE,
    OFF_DIAGONAL_HALF,
    OFF_DIAGONAL_TWICE,
    ONE_TRIANGLE,
    STAIRCASE,
    TRANSPOSED_FACTOR,
    mirrored,
    off_diagonal_half,
    off_diagonal_twice,
)
from gradcheck_cli.directions.projections import DIRECTIONS, Projector
from gradcheck_cli.numerical.estimate import ERROR_BARS
from gradcheck_cli.numerical.objective import Direction
from gradcheck_cli.numerical.stairs import is_flat, is_staircase
from gradcheck_cli.subject.few_slopes import right_for_other_data
from gradcheck_cli.types import Array
from gradcheck_cli.verdict import Verdict

_LOOKED_AT = 6
"""The number of entries of a tensor in which the loss may be flat."""

_EXAMINED = 4
"""The number of entries, among those looked at, that are examined for stairs."""

_LITTLE = 1e-9
"""The noise of a loss on a staircase, as a share of the loss. It is below the resolution of float32."""

_PAIRS = 4
"""The number of mirrored pairs of entries that are moved together."""

_TELLING = 1e-4
"""A slope along a direction proves nothing if its error bar exceeds this share of a typical slope."""


def patterns(
    objective: ForeignObjective, wrong: Sequence[Comparison], attached: Callable[[], Iterable[Attached]]
) -> tuple[Made, ...]:
    """Return the patterns that are verified in wrong tensors, at most one for each.

    attached: runs the code without the calls that detach a branch.
    """
    found = {c.name: made for c in wrong for made in islice(_of_tensor(objective, c), 1)}
    left = [c for c in wrong if c.name not in found or found[c.name].wrong is not STAIRCASE]
    found |= {made.tensor: made for made in (_detached(left, attached()) if left else ())}
    return tuple(found[c.name] for c in wrong if c.name in found)


def diagnosis_of_patterns(made: Sequence[Made]) -> Diagnosis:
    """Return a diagnosis that names the patterns, each with all of its tensors."""
    by_arrays = all(each.wrong in (TRANSPOSED_FACTOR, MISSING_CONJUGATE) for each in made)
    basis: Literal["arrays", "further runs"] = "arrays" if by_arrays else "further runs"
    return Diagnosis((Answer(tuple(_causes(made)), nan),), 0, (), (), basis)


def notes_of(made: Sequence[Made]) -> Iterator[str]:
    """Yield each pattern as a note, without its full stop and with a small letter first."""
    return (text[0].lower() + text[1:].removesuffix(".") for text in sentences_of_patterns(made))


def sentences_of_patterns(made: Sequence[Made]) -> Iterator[str]:
    """Yield a sentence for each pattern."""
    return (cause.sentence for cause in _causes(made))


def _causes(made: Sequence[Made]) -> Iterator[Cause]:
    kinds: dict[tuple[int, str], list[Made]] = {}
    for each in made:
        kinds.setdefault((id(each.wrong), each.place), []).append(each)
    return (cause_of(group, None) for group in kinds.values())


def _of_tensor(objective: ForeignObjective, comparison: Comparison) -> Iterator[Made]:
    name = comparison.name
    yield from _staircase(objective, comparison, comparison.analytic != 0.0)
    yield from right_for_other_data(objective, comparison)
    if _is_symmetric(objective.function.parameters[name]):
        yield from _Symmetric(objective, comparison).patterns()


# --- staircases ---------------------------------------------------------------------------------------------


def in_stairs(objective: ForeignObjective, comparisons: Sequence[Comparison]) -> tuple[Made, ...]:
    """Return the tensors, among those compared, in which the loss is a staircase."""
    return tuple(made for c in comparisons for made in _staircase(objective, c, np.array(True)))


def _staircase(objective: ForeignObjective, comparison: Comparison, among: Array) -> Iterator[Made]:
    """Yield the pattern if the loss is a staircase in most entries that do not agree or test nothing.

    Only the entries with the largest analytic values are looked at.

    among: a mask of the entries to consider.
    """
    candidates = (~comparison.agrees | comparison.zero) & among
    sizes = np.where(candidates, np.nan_to_num(np.abs(comparison.analytic)), -1.0).ravel()
    largest = np.argsort(-sizes, kind="stable")[: min(_LOOKED_AT, np.count_nonzero(candidates))]
    if 2 * _follows(comparison).ravel()[largest].sum() >= largest.size:
        return  # there are none, or a slope across the stairs shows that the gradient is wrong
    entries = without_measured_noise(objective).entries(comparison.name)
    flat = is_flat(entries, largest)
    examined = largest[flat][:_EXAMINED]
    stairs = sum(is_staircase(entries, int(k)) for k in examined) if 2 * flat.sum() > len(flat) else 0
    if 2 * stairs > len(examined):
        everywhere = flat.all() and not _follows(comparison).any()
        yield Made(STAIRCASE, "", comparison.name, place="" if everywhere else "most entries of ")


def _follows(comparison: Comparison) -> Array:
    """Return a mask of the entries whose numerical derivative is known and distinguishable from 0."""
    known = np.isfinite(comparison.error)
    return known & (np.abs(comparison.numerical) > comparison.bar + comparison.rounding)


def without_measured_noise(objective: ForeignObjective) -> ForeignObjective:
    """Return the objective with little noise, since stairs may have been measured as noise."""
    noise = _LITTLE * np.abs(objective.losses)
    return replace(objective, noise=dict.fromkeys(objective.noise, noise), evaluator=None)


# --- detached branches --------------------------------------------------------------------------------------


def _detached(wrong: Sequence[Comparison], runs: Iterable[Attached]) -> list[Made]:
    """Return the tensors that the best run corrects: the run that corrects the most wrong gradients."""
    best: list[Made] = []
    for without, gradients in runs:
        right = [c.name for c in wrong if _is_right(c, gradients)]
        if len(right) > len(best):
            best = [Made(DETACHED, "", name, place=without) for name in right]
    return best


def _is_right(comparison: Comparison, gradients: Mapping[str, Array]) -> bool:
    gradient = gradients.get(comparison.name)
    return gradient is not None and _agree(comparison, gradient.astype(np.float64), comparison.numerical)


def _agree(comparison: Comparison, analytic: Array, numerical: Array) -> bool:
    """Return whether two gradients agree within this comparison's errors, without an absolute tolerance."""
    judged = replace(comparison, analytic=analytic, numerical=numerical, atol=0.0)
    return judged.verdict is Verdict.AGREES and not judged.untested


# --- symmetric matrices -------------------------------------------------------------------------------------


def _is_symmetric(value: Array) -> bool:
    """Return whether a parameter consists of symmetric matrices that are not all diagonal."""
    if value.ndim < 2 or value.shape[-1] != value.shape[-2] or value.shape[-1] < 2:
        return False
    off_diagonal = value * (1.0 - np.eye(value.shape[-1]))
    return bool(off_diagonal.any() and np.allclose(value, mirrored(value), rtol=1e-12, atol=0.0))


@dataclass(frozen=True)
class _Symmetric:
    """A wrong gradient with respect to a parameter that is a symmetric matrix."""

    objective: ForeignObjective
    comparison: Comparison

    def patterns(self) -> Iterator[Made]:
        c, name = self._doubly_unsure, self.comparison.name
        known = bool(np.isfinite(c.error).all() and np.isfinite(c.analytic).all())
        if known and self._is_off_diagonal_twice():
            yield Made(OFF_DIAGONAL_TWICE, "", name)
        if known and _agree(c, c.analytic, off_diagonal_half(c.numerical)):
            yield Made(OFF_DIAGONAL_HALF, "", name)
        if not (known and _agree(c, c.analytic, mirrored(c.numerical))) and self._is_right_along_moves():
            yield Made(ALONG_SYMMETRIC_MOVES, "", name, place=_triangle(c) if known else "")

    @property
    def _doubly_unsure(self) -> Comparison:
        """The comparison, with each entry's error enlarged by the error of its mirror image."""
        c = self.comparison
        return replace(c, error=c.error + mirrored(c.error), rounding=c.rounding + mirrored(c.rounding))

    def _is_off_diagonal_twice(self) -> bool:
        c = self._doubly_unsure
        if not _agree(c, c.analytic, off_diagonal_twice(c.numerical)):
            return False
        entries = self._pairs()
        pairs = [Direction(pair, np.ones(2)) for pair in entries]
        return self._follow(pairs, c.analytic.ravel()[entries[:, 0]])

    def _is_right_along_moves(self) -> bool:
        """Return whether random symmetric moves agree with the gradient and are precise enough to tell."""
        rng = np.random.default_rng(0)
        moves = [self._symmetric_move(rng) for _ in range(DIRECTIONS)]
        analytic = self.comparison.analytic.ravel()
        slopes = np.array([analytic[move.entries] @ move.weights for move in moves])
        return bool(np.isfinite(slopes).all()) and self._follow(moves, slopes)

    def _follow(self, moves: Sequence[Direction], slopes: Array) -> bool:
        """Return whether differences along the moves give the expected slopes.

        slopes: the expected slope along each of the K moves, (K,).
        """
        _, found = Projector(self.objective, self.comparison.name).calibrated(moves)
        c = self.comparison
        rounding = [np.linalg.norm(c.rounding.ravel()[move.entries] * move.weights) for move in moves]
        allowed = ERROR_BARS * found.error + np.array(rounding) + c.rtol * np.abs(slopes)
        typical = float(np.median(np.abs(slopes)))
        return bool((np.abs(found.value - slopes) <= allowed).all() and allowed.max() <= _TELLING * typical)

    def _symmetric_move(self, rng: np.random.Generator) -> Direction:
        shape = self.comparison.shape
        weights = rng.uniform(0.5, 1.0, shape) * rng.choice([-1.0, 1.0], shape)
        symmetric = np.tril(weights) + mirrored(np.tril(weights, -1))
        return Direction(np.arange(weights.size), symmetric.ravel())

    def _pairs(self) -> Array:
        """Return the flat indices of P pairs, (P, 2): an entry off the diagonal and its mirror image."""
        c = self.comparison
        index = np.arange(c.analytic.size).reshape(c.shape)
        below = np.tril(np.ones(c.shape, dtype=bool), -1)
        pairs = np.stack([index[below], mirrored(index)[below]], axis=1)
        largest = np.argsort(-np.abs(c.analytic.ravel()[pairs[:, 0]]), kind="stable")
        return np.asarray(pairs[largest[:_PAIRS]])


def _triangle(comparison: Comparison) -> str:
    """Return words that say which triangle the loss depends on; empty if it depends on both."""
    still = np.abs(comparison.numerical) <= comparison.bar + comparison.rounding
    ones = np.ones(comparison.shape, dtype=bool)
    of = {"lower": np.triu(ones, 1), "upper": np.tril(ones, -1)}
    idle = [name for name, other in of.items() if still[other].all()]
    return ONE_TRIANGLE.format(idle[0]) if len(idle) == 1 else ""
