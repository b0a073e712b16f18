"""Check many entries of a tensor at once along random directions.

Let g be the gradient of the loss ℓ(θ), d a direction with random signs and sizes on a set of entries and 0
elsewhere, and s a step length. Then the difference

    (ℓ(θ + t s d) − ℓ(θ − t s d)) / 2t  →  s Σ d g        for t → 0

covers every entry of the set at the cost of one entry. The module `estimate` treats t like any other
perturbed variable, and returns the derivative with its error bar. The best step length is found from losses
alone, so no gradient can influence it.

A direction misses errors that cancel in the sum, so several directions are used. For the same reason, the
weights in d are not ±1. With weights of ±1, the errors of two swapped entries, or two equal errors, would
cancel in every second direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gradcheck_cli.numerical.estimate import Estimate, Progress, certify
from gradcheck_cli.numerical.objective import DirectedObjective, Direction
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES
from gradcheck_cli.types import Array, Shape

DIRECTIONS = 3
"""The number of directions.

Errors that happen to cancel in one direction go unnoticed only if they cancel in all.
"""

SMALLEST = 0.5
"""The smallest size of an entry's weight in a direction. The largest size is 1."""

EVALUATIONS = 2 * len(SCHEMES[DEFAULT_SCHEME].certify)
"""The number of evaluations per projection."""

_STEPS = tuple(2.0**-k for k in (-2, 0, 2, 5, 8, 11, 14))
"""The steps to try for a tensor, from long steps that may cross kinks to short steps that show only noise."""

_FINE = 1e-6
"""No better step is needed if the error bar is below this share of a typical entry."""


def random_direction(entries: Array, rng: np.random.Generator) -> Direction:
    """Return a direction over the given entries, with random signs and with sizes from `SMALLEST` to 1."""
    sizes = rng.uniform(SMALLEST, 1.0, len(entries))
    return Direction(entries, sizes * rng.choice(np.array([-1.0, 1.0]), len(entries)))


def part(direction: Direction, among: Array) -> Direction:
    """Return the direction restricted to some of its entries.

    among: a mask or the positions of the entries to keep.
    """
    return Direction(direction.entries[among], direction.weights[among])


@dataclass(frozen=True)
class Projector:
    """Projects the gradient of one tensor onto directions: Σ d g, with its error.

    step: the step for a direction with one entry per row. If a row has more entries, the step is shorter.
    """

    objective: DirectedObjective
    name: str
    step: float = _STEPS[0]
    progress: Progress | None = field(default=None, repr=False)

    @property
    def shape(self) -> Shape:
        return self.objective.shapes[self.name]

    def project(self, directions: Sequence[Direction]) -> Estimate:
        """Return the projection and its error for each of K directions, (K,)."""
        unit = np.array([self.step / np.sqrt(most_in_a_row(d.entries, self.shape)) for d in directions])
        moves = self.objective.along(self.name, directions, unit)
        found = certify(moves, SCHEMES[DEFAULT_SCHEME], progress=self.progress)
        span = self.objective.span(self.name)
        return Estimate(found.value / span, found.error / span)

    def calibrated(self, directions: Sequence[Direction]) -> tuple[Projector, Estimate]:
        """Return a projector with the most precise step for some directions, and its estimates.

        For longer steps, kinks and higher orders dominate; for shorter steps, noise dominates. So the search
        goes from long to short steps, and ends at the first step that is worse than the one before.
        """
        best, known = self, self.project(directions)
        for step in _STEPS[1:]:
            if _fine(known, directions):
                break
            shorter = replace(self, step=step)
            found = shorter.project(directions)
            if found.error.max() > known.error.max():
                break
            best, known = shorter, found
        return best, known

    @property
    def finer(self) -> Projector:
        """A projector with a shorter step, for a second opinion.

        Its steps cross other kinks, and its results have more noise.
        """
        return replace(self, step=self.step / 4.0)


def _fine(known: Estimate, directions: Sequence[Direction]) -> bool:
    """Return whether the error bars are negligible compared with a typical entry.

    A typical entry of the gradient g has the size |Σ d g| / √(Σ d²), for a direction d.
    """
    size = np.median(np.abs(known.value) / [np.linalg.norm(d.weights) for d in directions])
    return bool(known.error.max() <= _FINE * size)


def most_in_a_row(entries: Array, shape: Shape) -> int:
    """Return the largest number of `entries` that are in the same row.

    The changes of all entries in a row add up in one pre-activation.
    """
    if not entries.size or len(shape) < 2:
        return 1
    return int(np.bincount(entries // int(np.prod(shape[1:]))).max())
