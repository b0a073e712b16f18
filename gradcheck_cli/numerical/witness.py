"""The witness: literal differences of random entries of every tensor, to compare with unit differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.numerical.estimate import ERROR_BARS, Estimate, certify
from gradcheck_cli.numerical.looks import Look
from gradcheck_cli.numerical.reference import Estimates, LiteralDifferences
from gradcheck_cli.types import Array

ENTRIES = 4
"""The number of entries to draw from each tensor."""

FLOOR = 1e-8
"""A relative difference below this is no contradiction. Faults in either method cause larger differences."""


@dataclass(frozen=True)
class Testimony:
    """The literal differences of some entries of one tensor.

    which: the flat indices of the entries.
    rounding: for each derivative, a bound on the error that rounding in the forward pass alone may cause.
    """

    name: str
    which: Array
    literal: Estimate
    rounding: Array

    def distance(self, estimates: Estimates) -> Array:
        """Return the distance from `estimates` divided by the allowed distance; 0 if either is unknown.

        The allowed distance is a sum of four terms: the two error bars, the rounding bound, and the value
        times `FLOOR`.
        """
        whole = estimates[self.name]
        return self.apart_from(Estimate(whole.value.ravel()[self.which], whole.error.ravel()[self.which]))

    @property
    def first(self) -> Testimony:
        """The part of the testimony that is about its first entry."""
        literal = Estimate(self.literal.value[:1], self.literal.error[:1])
        return Testimony(self.name, self.which[:1], literal, self.rounding[:1])

    def apart_from(self, other: Estimate) -> Array:
        """Return the distance from another estimate of the same entries, in units of the allowed distance."""
        allowed = (
            ERROR_BARS * (other.error + self.literal.error)
            + FLOOR * np.abs(self.literal.value)
            + self.rounding
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = np.abs(other.value - self.literal.value) / allowed
        return np.where(np.isfinite(distance), distance, 0.0)


def hear(
    witness: LiteralDifferences,
    estimates: Estimates,
    rounding: Mapping[str, Array],
    seed: int,
    look: Look = certify,
) -> list[Testimony]:
    """Return literal differences of random entries of every tensor.

    The same seed always draws the same entries.
    """
    rng = np.random.default_rng(seed)
    testimony = []
    for name, estimate in estimates.items():
        size = estimate.value.size
        which = np.sort(rng.choice(size, min(ENTRIES, size), replace=False))
        testimony.append(Testimony(name, which, witness.at(name, which, look), rounding[name].ravel()[which]))
    return testimony


def contradictions(testimony: Sequence[Testimony], estimates: Estimates) -> dict[str, Array]:
    """Return masks, by tensor, of the entries whose reference and witness differ beyond their errors."""
    masks = {}
    for t in testimony:
        apart = t.distance(estimates) > 1.0
        if apart.any():
            mask = np.zeros(estimates[t.name].value.shape, dtype=bool)
            mask.flat[t.which[apart]] = True
            masks[t.name] = mask
    return masks
