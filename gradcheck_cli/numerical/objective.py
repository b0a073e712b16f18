"""Protocols for functions that finite differences can differentiate.

The numerical side knows only what these protocols offer: the position of each number, and the losses after it
is perturbed. Anything that can be evaluated can be an `Objective`. A network described by a spec is also a
`UnitObjective`, whose pre-activations can be perturbed individually.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from gradcheck_cli.types import Array, Shape


class Moved(NamedTuple):
    """The result of evaluating a batch of B perturbations.

    losses:   (B,), or (B, S) if each loss has S terms, which are differenced one by one and then summed.
    rounding: how far rounding may have shifted each loss, in units of ε and in the shape of the losses.
              If nothing more is known about the function, it is the size of the loss.
    crossed:  (B,), whether a branch of the function (the side of a kink) changed on the way.
    """

    losses: Array
    rounding: Array
    crossed: Array


class Spread(Protocol):
    """Evaluates batches of perturbations, possibly in several processes."""

    def empty(self, size: int, dtype: Any = float) -> Array:
        """Return an array (size,) to which every process that evaluates a batch can write."""

    def __call__(self, batch: Callable[[int], int], starts: Sequence[int]) -> Iterable[int]:
        """Evaluate the batches that begin at `starts`; yield the size of each finished batch."""


class _Alone:
    def empty(self, size: int, dtype: Any = float) -> Array:
        return np.empty(size, dtype)

    def __call__(self, batch: Callable[[int], int], starts: Sequence[int]) -> Iterable[int]:
        return map(batch, starts)


ALONE: Spread = _Alone()
"""A `Spread` that evaluates the batches one after another in this process."""


class Movable(Protocol):
    """P numbers, each of which can be perturbed while all others stay fixed."""

    @property
    def position(self) -> Array:
        """The current value of each number, (P,)."""

    @property
    def unit(self) -> Array:
        """The length of a step of 1 for each number, (P,)."""

    @property
    def batch(self) -> int:
        """The number of perturbations to evaluate at once."""

    @property
    def spread(self) -> Spread:
        """How the batches are distributed."""

    @property
    def rest(self) -> Array | None:
        """The unperturbed losses, (S,), if `Moved.crossed` does not report kinks; otherwise None."""

    def move(self, which: Array, to: Array) -> Moved:
        """Return the losses after setting only number which[i] to to[i], for each i of a batch (B,)."""


class Direction(NamedTuple):
    """A direction in parameter space: entries of a tensor, by flat index, and their weights, both (M,)."""

    entries: Array
    weights: Array


class Objective(Protocol):
    """A loss as a function of named parameters. Literal differences need nothing else."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every parameter."""

    def entries(self, name: str) -> Movable:
        """Return the entries of parameter `name` in C order, each perturbed for the whole batch at once."""

    def penalty(self, name: str) -> Movable | None:
        """Return the entries of parameter `name` as arguments of its penalties alone; None if it has none."""

    @property
    def tells_kinks(self) -> bool:
        """Whether `Moved.crossed` reports every kink."""

    @property
    def widest(self) -> Objective | None:
        """The same objective in wider floating point, slower but with less rounding; None if unavailable."""

    @property
    def conventions(self) -> Sequence[Objective]:
        """The objective under every usual convention for numbers on a kink; empty if there are none."""


class DirectedObjective(Objective, Protocol):
    """A loss whose parameters can also be perturbed many at a time."""

    def span(self, name: str) -> float:
        """Return how far a step of t = 1 in `along` moves an entry whose weight is 1."""

    def along(self, name: str, directions: Sequence[Direction], unit: Array) -> Movable:
        """Return a number t per direction, all at 0. Each t moves the parameter to θ + t · span · direction.

        unit: the `unit` of each number t.
        """


Site = int
"""The index of an array in a network that is affine in its parameters, such as a pre-activation."""


class Factors(Protocol):
    """How a parameter w enters the numbers z of a site: z = J w + c.

    The numbers z of the site have the shape (F, N): F features of each of N samples. Every sample has its own
    copy of the parameter, so an entry's gradient is a sum over all numbers that it reaches.
    """

    def sums(self, d: Array) -> Array:
        """Return Jᵀ d, in the shape of the parameter, for slopes d, (F, N)."""

    def squares(self, u: Array) -> Array:
        """Return √((J∘J)ᵀ u²), the sum of independent errors u ≥ 0."""

    def sizes(self, u: Array) -> Array:
        """Return |J|ᵀ u, the largest possible sum of errors u ≥ 0."""

    def feeding(self, entries: Array) -> Array:
        """Return a mask (F,) of the features that the marked entries reach.

        entries: a mask in the shape of the parameter.
        """

    def only(self, units: Array) -> Factors:
        """Return a copy restricted to rows `units` of the parameter and the features that belong to them."""

    def of(self, units: Array) -> Array:
        """Return the indices of the features that belong to these rows of the parameter."""


class Use(NamedTuple):
    """One use of a parameter: the site that the parameter enters, and how it enters the site."""

    site: Site
    factors: Factors


class UnitObjective(Objective, Protocol):
    """A network of steps, each of which is affine in its parameters.

    The module `reference` explains the unit differences that this allows.
    """

    def uses(self, name: str) -> Sequence[Use]:
        """Return every use of parameter `name`; the parameter's gradient is the sum over its uses."""

    def literally(self, name: str) -> bool:
        """Return whether perturbing the entries of this parameter costs less than perturbing its sites."""

    def units(self, site: Site) -> Movable:
        """Return the numbers (F, N) of a site in C order, each perturbed for its own sample only."""

    def site_shape(self, site: Site) -> tuple[int, int]:
        """Return F and N, the number of features and of samples of a site."""

    @property
    def widest(self) -> UnitObjective | None:
        """The same network in wider floating point, slower but with less rounding; None if unavailable."""

    @property
    def conventions(self) -> Sequence[UnitObjective]:
        """The network under every usual convention for numbers on a kink; empty if there are none."""

    @property
    def corners(self) -> Sequence[UnitObjective]:
        """The network under every combination of sides of its kinks; empty if there are too many."""

    @property
    def shared_corners(self) -> Sequence[UnitObjective]:
        """The corners, if each choice of a side concerns all samples alike; else empty."""

    @property
    def one_by_one(self) -> Sequence[UnitObjective]:
        """The networks with all kinks on their left and with exactly one on its right; empty if too many."""
