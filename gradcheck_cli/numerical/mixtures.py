"""Decide whether a single choice of pieces at kinks can explain all entries of a tensor together.

Each entry may lie between the slopes of a kink's pieces, although no choice of weights for the pieces
explains all entries at once. An example is a gradient that flows in full to both of two tied values, whereas
the weights of the two values should add up to 1. The gradients under all weights form a convex set. A
gradient lies outside the set if it is further along some direction than every point of the set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.types import Array

_ROUNDS = 100
"""The largest number of steps towards the nearest point of the set."""

_MOST_NUMBERS = 2**22
"""The largest number of floats to store for all choices of pieces."""

_LEAST_SLACK = 1e-6
"""The smallest slack of an entry, as a share of the largest entry's size.

The share is far above the noise of the gradients, and far below the effect of any other weights.
"""

_CLEARLY = 40.0
"""A choice of pieces explains a gradient only if every other choice is this many times further away.

A wrong entry that lies anywhere between all choices then passes in less than 3 % of cases.
"""


@dataclass(frozen=True)
class MixedCorner:
    """The gradients of E entries, (E,), under one choice of sides for the shared kinks.

    A shared kink is on the same side in all samples. A single kink has a side of its own.

    base: the gradient with every single kink on its first piece.
    shares: for each single kink, the amounts that its other pieces add to the gradients, (pieces, E).
    """

    base: Array
    shares: tuple[Array, ...]

    @property
    def is_known(self) -> bool:
        """Whether every gradient is a number. The differences may leave the slopes of some pieces unknown."""
        return all(np.isfinite(each).all() for each in (self.base, *self.shares))

    def choices(self) -> Array:
        """Return the gradient under every choice of one piece at each single kink, (choices, E).

        The result is empty if there are too many choices.
        """
        count = math.prod(1 + len(pieces) for pieces in self.shares)
        if count * len(self.base) > _MOST_NUMBERS:
            return np.zeros((0, len(self.base)))
        each = self.base[None]
        for pieces in self.shares:
            each = np.concatenate([each, *(each + piece for piece in pieces)])
        return each

    def furthest(self, direction: Array) -> Array:
        """Return, among the gradients of this corner, the one that lies furthest along a direction."""
        gradient = self.base.copy()
        for pieces in self.shares:
            along = pieces @ direction
            if along.max() > 0:
                gradient += pieces[along.argmax()]
        return gradient


@dataclass(frozen=True)
class Mixtures:
    """The gradients of some entries under every mixture of pieces at kinks: the convex hull of all corners.

    half: the distance that a kink of the penalty may move each entry to either side, (E,).
    bars: the error bars of the gradients, (E,).
    """

    corners: Sequence[MixedCorner]
    half: Array
    bars: Array

    def corner_near(self, gradient: Array, slack: Array) -> Array | None:
        """Return a gradient that explains `gradient`, with one piece chosen at each kink.

        Returns None if no choice of pieces explains `gradient`. The result is also None if other choices are
        almost as near: with that many choices, a wrong gradient may be near one of them by accident.

        slack: the error that each entry may have for other reasons, (E,).
        """
        choices = (self._nearest_choices(corner, gradient) for corner in self.corners)
        near = np.concatenate([each[_within(each, gradient, _CLEARLY * slack)] for each in choices])
        fits = _within(near, gradient, slack)
        return near[0] if fits.any() and fits.all() else None

    def _nearest_choices(self, corner: MixedCorner, gradient: Array) -> Array:
        """Return the gradient under every choice of pieces of one corner, (choices, E).

        Each entry's penalty has the slope of −1, 0 or 1 times `half` that is nearest to `gradient`.
        """
        each = corner.choices()
        if not self.half.any():
            return each
        sides = each + self.half * np.array([-1.0, 0.0, 1.0]).reshape(-1, 1, 1)
        nearest = np.abs(gradient - sides).argmin(axis=0)[None]
        found: Array = np.take_along_axis(sides, nearest, axis=0)[0]
        return found

    def nearest_if_outside(self, gradient: Array, slack: Array) -> Array | None:
        """Return a correct gradient near `gradient` if no mixture explains `gradient`; otherwise None.

        Each entry may follow another choice of sides, even for the shared kinks.

        slack: the error that each entry may have for other reasons, (E,).
        """
        bases = np.stack([corner.base for corner in self.corners])
        near, half = 0.5 * (bases.min(axis=0) + bases.max(axis=0)), self.half + 0.5 * np.ptp(bases, axis=0)
        corners = [MixedCorner(near, corner.shares) for corner in self.corners]
        largest = max(np.abs(each).max(initial=0.0) for each in (gradient, bases))
        unit = slack + self.bars + half + _LEAST_SLACK * largest
        if not np.isfinite(unit).all() or not (unit > 0).all():
            return None
        for _ in range(_ROUNDS):
            apart = (gradient - near) / unit
            furthest = _furthest(corners, apart / unit)
            if apart @ ((gradient - furthest) / unit) > np.abs(apart).sum():
                return near
            step = (furthest - near) / unit
            if not apart @ step > 0:
                return None
            near = near + min(1.0, float(apart @ step / (step @ step))) * (furthest - near)
        return None


def _within(choices: Array, gradient: Array, slack: Array) -> Array:
    """Return a mask of the choices, (choices,), whose entries are all within the slack of the gradient."""
    within: Array = (np.abs(gradient - choices) <= slack).all(axis=-1)
    return within


def _furthest(corners: Sequence[MixedCorner], direction: Array) -> Array:
    """Return, among the gradients of all corners, the one that lies furthest along a direction."""
    each = [corner.furthest(direction) for corner in corners]
    return each[int(np.argmax([gradient @ direction for gradient in each]))]
