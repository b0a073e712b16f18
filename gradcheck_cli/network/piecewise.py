"""The kinks of a step, such as those of relu or of a maximum. Between its kinks, a step is smooth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.known import Arrays
from gradcheck_cli.network.part import Part, Resting
from gradcheck_cli.types import Array

_REACHES = 2.0 ** -np.arange(8.0, 64.0, 4.0)
"""The distances at which to look for kinks on both sides of every element."""


@dataclass(frozen=True)
class Sides:
    """The smooth pieces on which rounding may put the inputs of a step.

    pieces: the K pieces at each element of `Piecewise.pieces`, (K, *shape). If fewer pieces meet there, the
        last one is repeated.
    reach: the distance that rounding may move each element, with the shape of `Piecewise.pieces`.
    """

    pieces: Array
    reach: Array


class Piecewise:
    """What a step knows about its kinks. Except for the attributes, this is defined only if `has_pieces`.

    has_pieces: whether the step has kinks.
    turns: whether the slope changes at the kinks. If not, only the curvature does.
    flat_below: whether the step is constant below its kink.
    """

    has_pieces: bool = False
    turns: bool = True
    flat_below: bool = False

    def pieces(self, x: Array) -> Array:
        """Return the smooth piece on which each element of the input lies.

        If several elements determine a piece together, return a piece for each element of the output instead.
        """
        raise NotImplementedError

    def sides(self, x: Array, reach: Array) -> Sides:
        """Return the pieces on both sides of each kink that an input may cross with an error of ± reach."""
        return Sides(np.stack([self.pieces(x - reach), self.pieces(x + reach)]), reach)

    def branch(self, p: Arrays, x: Array, pieces: Array) -> Array:
        """Return the output computed from the smooth pieces in `pieces`, even where x is on another piece."""
        raise NotImplementedError

    def crossed(self, x: Part, output: Part, pieces: Resting) -> Array:
        """Return a mask of the copies, (B,), in which a perturbed part of the input crosses a kink.

        output: the perturbed part of the output.
        pieces: the pieces of the unperturbed input.
        """
        return any_of_each(self.pieces(x.value) != pieces.at(x.fixed))

    def distance_to_kinks(self, x: Array) -> float:
        """Return a distance by which all elements of x may change without crossing a kink."""
        here = self.pieces(x)
        for reach in _REACHES:
            if (self.pieces(x - reach) == here).all() and (self.pieces(x + reach) == here).all():
                return float(reach)
        return 0.0


def any_of_each(mask: Array) -> Array:
    """Return a mask of the copies, (B,), that have a marked element in a mask (B, …)."""
    found: Any = mask.reshape(len(mask), -1).any(axis=-1)
    return np.asarray(found)
