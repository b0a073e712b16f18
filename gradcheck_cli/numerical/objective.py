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


Site = tuple[str, str]
"""A layer, and which of its arrays (N, units) the parameters enter."""


class Affine(NamedTuple):
    """Where a parameter enters, and its factor there.

    In z = a wᵀ + b it is a (N, in) for the weight, and None, standing for 1, for the bias.
    own_unit: the factor (N, units) belongs to the unit of its column alone, as ẑ in y = γ ẑ + β.
    """

    site: Site
    inputs: Array | None
    own_unit: bool = False


class UnitObjective(Objective, Protocol):
    """A network whose pre-activations z are affine in its parameters (NUMERICS: unit differences)."""

    def affine(self, name: str) -> Affine:
        """How the parameter `name` enters the pre-activations of its layer."""

    def better_literally(self, name: str) -> bool:
        """Whether to move the entries of this parameter takes less than to move its site's numbers."""

    def units(self, site: Site) -> Movable:
        """The units × N numbers of a site in C order, each moved for its own sample."""

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
