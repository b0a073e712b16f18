"""What can be differenced.

The numerical side knows of a function only what these protocols offer: where a number stands, and what
the losses become when it is moved. Anything that can be evaluated can be an `Objective`; a network of
ours is also a `UnitObjective`, whose pre-activations can be moved one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Moved(NamedTuple):
    """What evaluating a batch of B moves gives.

    losses:   (B,), or (B, S) for S terms that are subtracted term by term and then summed.
    rounding: of the losses' shape, in units of ε: how far the arithmetic of their evaluation may have
              carried each of them. The size of the loss, for a function of which no more is known.
    crossed:  (B,) whether a branch of the function (the side of a kink) changed on the way.
    """

    losses: Array
    rounding: Array
    crossed: Array


class Spread(Protocol):
    """How batches of moves are distributed."""

    def empty(self, size: int, dtype: Any = float) -> Array:
        """An array (size,) that whoever evaluates a batch can write to."""

    def __call__(self, batch: Callable[[int], int], starts: Sequence[int]) -> Iterable[int]:
        """Evaluate the batches that begin at `starts`; how many numbers each had."""


class _Alone:
    def empty(self, size: int, dtype: Any = float) -> Array:
        return np.empty(size, dtype)

    def __call__(self, batch: Callable[[int], int], starts: Sequence[int]) -> Iterable[int]:
        return map(batch, starts)


ALONE: Spread = _Alone()
"""One after the other."""


class Movable(Protocol):
    """P numbers, each of which can be moved while all others stay."""

    @property
    def position(self) -> Array:
        """Where each number stands, (P,)."""

    @property
    def unit(self) -> Array:
        """The length of a step of 1 for each number, (P,)."""

    @property
    def batch(self) -> int:
        """How many moves to evaluate at once."""

    @property
    def spread(self) -> Spread:
        """How the batches are distributed."""

    @property
    def rest(self) -> Array | None:
        """The losses (S,) with nothing moved, where `Moved.crossed` does not tell of kinks; else None."""

    def move(self, which: Array, to: Array) -> Moved:
        """The losses with number which[i] alone at to[i], for each i of a batch (B,)."""


class Direction(NamedTuple):
    """Entries of a tensor, by flat index, and how far each of them moves, both (M,)."""

    entries: Array
    weights: Array


class Objective(Protocol):
    """A loss that is a function of named parameters: the literal way needs no more than this."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every parameter."""

    def entries(self, name: str) -> Movable:
        """The entries of parameter `name`, in C order, each moved for the whole batch at once."""

    def penalty(self, name: str) -> Movable | None:
        """The same entries under the penalty terms alone, which are differenced on their own."""

    @property
    def tells_kinks(self) -> bool:
        """Whether `Moved.crossed` tells of every kink."""

    @property
    def widest(self) -> Objective | None:
        """The same in wider floating point, if there is such: slower, and with less rounding."""

    @property
    def conventions(self) -> Sequence[Objective]:
        """The same under every usual convention about what sits on a kink; none where nothing does."""


class DirectedObjective(Objective, Protocol):
    """A loss whose parameters can also be moved many at a time."""

    def span(self, name: str) -> float:
        """The length of a step of 1 for any entry of the parameter in a direction."""

    def along(self, name: str, directions: Sequence[Direction], unit: Array) -> Movable:
        """The numbers t of θ + t · span · direction, one for each direction, all at 0.

        unit: the length of a step of 1 for each of them.
        """


Site = int
"""The number of an array of a network that parameters enter affinely."""


class Factors(Protocol):
    """How a parameter enters a site, z = J w + c.

    The site's numbers are (F, N): F features of each of N samples. Every sample has its own copy of the
    parameter, so an entry's gradient is a sum over all numbers that it reaches.
    """

    def sums(self, d: Array) -> Array:
        """Return Jᵀ d, in the shape of the parameter, for numbers d (F, N)."""

    def squares(self, u: Array) -> Array:
        """Return √((J∘J)ᵀ u²): how errors u ≥ 0 add up that are independent."""

    def sizes(self, u: Array) -> Array:
        """Return |J|ᵀ u: how errors u ≥ 0 add up that are not."""

    def feeding(self, entries: Array) -> Array:
        """Return which features (F,) feed these entries, a mask in the shape of the parameter."""

    def only(self, units: Array) -> Factors:
        """Return those of the parameter's rows `units` alone, for the features that belong to them."""

    def of(self, units: Array) -> Array:
        """Return the features that belong to these rows of the parameter, by index."""


class Use(NamedTuple):
    """One use of a parameter: where it enters, and how."""

    site: Site
    factors: Factors


class UnitObjective(Objective, Protocol):
    """A network of steps that are affine in their parameters (unit differences)."""

    def uses(self, name: str) -> Sequence[Use]:
        """Every use of parameter `name`: its gradient is the sum over them."""

    def literally(self, name: str) -> bool:
        """Whether it takes fewer evaluations to move the parameter's entries than its sites' numbers."""

    def units(self, site: Site) -> Movable:
        """The numbers (F, N) of a site in C order, each moved for its own sample."""

    def site_shape(self, site: Site) -> tuple[int, int]:
        """F and N of a site."""

    @property
    def widest(self) -> UnitObjective | None:
        """As that of an `Objective`."""

    @property
    def conventions(self) -> Sequence[UnitObjective]:
        """As those of an `Objective`."""

    @property
    def corners(self) -> Sequence[UnitObjective]:
        """Under every combination of sides for what sits on kinks; none if there are too many."""

    @property
    def one_by_one(self) -> Sequence[UnitObjective]:
        """With every kink on its left, and then with each alone on its right; none if there are too many."""
