"""What random directions show about the entries of a gradient that were not checked individually."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Projection:
    """The projection Σ d g of a gradient g onto one random direction d, analytic and numerical.

    error: the error of `numerical`.
    """

    analytic: float
    numerical: float
    error: float

    @property
    def relative_error(self) -> float:
        scale = max(abs(self.analytic), abs(self.numerical))
        return abs(self.analytic - self.numerical) / scale if scale else 0.0


@dataclass(frozen=True)
class Projected:
    """The findings of random directions on the entries of one tensor that were not checked individually.

    covered: a mask of the entries that agree as a group.
    suspect: a mask of the unchecked entries in a row, column or tensor whose sampled entries are all wrong.
    least: the smallest error that the directions would reveal if it were in a single covered entry.
    directions: the last directions checked.
    disagrees: whether the remaining entries still disagree along the last directions.
    by_atol: whether the covered entries agree only because of the absolute tolerance.
    """

    covered: Array = field(repr=False)
    suspect: Array = field(repr=False)
    least: float
    directions: tuple[Projection, ...] = ()
    disagrees: bool = False
    by_atol: bool = False
