"""Random directions: many entries of a tensor moved at once, and held against a single number.

With d of random signs and sizes on a set of entries, 0 elsewhere, and s the length of a step,

    (ℓ(θ + t s d) − ℓ(θ − t s d)) / 2t  →  s Σ d g        for t → 0

sees every entry of the set at the price of one. It is a number that is moved, as any other: value and error
bar come from `estimate`, whose noise is that of this very function. The longest step that tells most is found
on the run, from losses alone, so that no gradient can excuse itself.

What a direction cannot see is errors that cancel in its sum; so there are several. And that is why d is not
±1: two entries that were swapped, or are off by as much, would cancel in every second direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gradcheck_cli.numerical.estimate import Estimate, Progress, certify
from gradcheck_cli.numerical.objective import Array, DirectedObjective, Direction, Shape
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME, SCHEMES

DIRECTIONS = 3
"""Errors that cancel in one direction by chance do so in a second, or a third, by another chance."""

SMALLEST = 0.5
"""The least that an entry moves in a direction, beside one that moves by 1."""

EVALUATIONS = 2 * len(SCHEMES[DEFAULT_SCHEME].certify)
"""How many a projection takes."""

_STEPS = tuple(2.0**-k for k in (-2, 0, 2, 5, 8, 11, 14))
"""The steps that are tried for a tensor, from long ones that may cross kinks to short ones, all noise."""

_FINE = 1e-6
"""An error bar that is a small share of what is measured needs no better step."""


def random_direction(entries: Array, rng: np.random.Generator) -> Direction:
    """A random sign and a size from `SMALLEST` to 1 for each of these entries (flat index)."""
    sizes = rng.uniform(SMALLEST, 1.0, len(entries))
    return Direction(entries, sizes * rng.choice(np.array([-1.0, 1.0]), len(entries)))


def part(direction: Direction, among: Array) -> Direction:
    """The direction on those of its entries that `among` (M,) marks."""
    return Direction(direction.entries[among], direction.weights[among])


@dataclass(frozen=True)
class Projector:
    """Projections of one tensor, each divided by s: Σ d g and its error.

    step: the longest step, for a direction that moves a single entry of every row.
    """

    objective: DirectedObjective
    name: str
    step: float = _STEPS[0]
    progress: Progress | None = field(default=None, repr=False)

    @property
    def shape(self) -> Shape:
        return self.objective.shapes[self.name]

    def project(self, directions: Sequence[Direction]) -> Estimate:
        """Value and error for each of K directions, (K,)."""
        unit = np.array([self.step / np.sqrt(most_in_a_row(d.entries, self.shape)) for d in directions])
        moves = self.objective.along(self.name, directions, unit)
        found = certify(moves, SCHEMES[DEFAULT_SCHEME], progress=self.progress)
        span = self.objective.span(self.name)
        return Estimate(found.value / span, found.error / span)

    def calibrated(self, directions: Sequence[Direction]) -> tuple[Projector, Estimate]:
        """The same with the step that tells most of these directions, and what it tells.

        Beyond the best step either kinks and higher orders, or noise, spoil all others: the first that is
        worse than the one before ends the search.
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
        """With a step on which other kinks lie, if any, and with more noise: a second opinion."""
        return replace(self, step=self.step / 4.0)


def _fine(known: Estimate, directions: Sequence[Direction]) -> bool:
    """Whether the bars are a trifle beside a typical entry: |Σ d g| is about its size times √Σd²."""
    size = np.median(np.abs(known.value) / [np.linalg.norm(d.weights) for d in directions])
    return bool(known.error.max() <= _FINE * size)


def most_in_a_row(entries: Array, shape: Shape) -> int:
    """The most of these entries that one row of the tensor has: so many add up in a pre-activation."""
    if not entries.size or len(shape) < 2:
        return 1
    return int(np.bincount(entries // int(np.prod(shape[1:]))).max())
