"""Protocols for functions that finite differences can differentiate.

The numerical side sees only what these protocols offer: the current value of each variable, and the losses
after a variable is perturbed. Anything that can be evaluated can be an `Objective`. A network described by a
spec is also a `UnitObjective`, whose pre-activations can be perturbed individually.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np

from gradcheck_cli.types import Array, Shape


class Moved(NamedTuple):
    """The result of evaluating a batch of B perturbations.

    losses:   the losses, (B,), or (B, S) if each loss has S terms. Differences are taken term by term and
              then summed. In the result of `RisingMovable.rise`, they are changes of losses instead.
    rounding: a bound on the rounding error of each loss, in units of machine epsilon and in the shape of the
              losses. If nothing more is known about the function, the bound is the size of the loss.
    crossed:  whether the function changed to another branch (the other side of a kink) on the way, (B,).
    """

    losses: Array
    rounding: Array
    crossed: Array


Move = Callable[[Array, Array], Moved]
Points = Callable[[], Sequence[Array]]


class Spread(Protocol):
    """Evaluates batches of perturbations, possibly in several processes."""

    def empty(self, size: int, dtype: Any = float) -> Array:
        """Return an array, (size,), that every process that evaluates a batch can write to."""

    def __call__(self, batch: Callable[[int], int], starts: Sequence[int]) -> Iterable[int]:
        """Evaluate the batches that begin at `starts`, and yield the size of each finished batch."""

    def mover(self, movable: Movable, which: Array, points: Points) -> Move:
        """Return `movable.move`, or a function that returns the same results, which it computed together.

        The function must be called for `which` and each of the points, in their order.

        which: the indices of B variables, (B,).
        points: a function that returns the values of the B variables at each point, (B,).
        """


FEW = 64
"""Up to this many perturbations of a network are evaluated in one call. More calls would take longer."""


def together_if_few(movable: Movable, which: Array, points: Points) -> Move:
    """Return a `Move` as in `Spread.mover`, which evaluates few perturbations of a network in one call."""
    if len(which) > FEW:
        return movable.move
    to = points()
    if len(which) * len(to) > min(FEW, movable.batch) or any(np.iscomplexobj(point) for point in to):
        return movable.move
    moved = movable.move(np.tile(which, len(to)), np.concatenate(to))
    each = zip(*(part.reshape(len(to), -1, *part.shape[1:]) for part in moved), strict=True)
    return lambda *_: Moved(*next(each))


class _Alone:
    def empty(self, size: int, dtype: Any = float) -> Array:
        return np.empty(size, dtype)

    def __call__(self, batch: Callable[[int], int], starts: Sequence[int]) -> Iterable[int]:
        return map(batch, starts)

    def mover(self, movable: Movable, which: Array, points: Points) -> Move:
        return together_if_few(movable, which, points)


ALONE: Spread = _Alone()
"""A `Spread` that evaluates the batches one after another in this process."""


class Movable(Protocol):
    """P variables, each of which can be perturbed while all others stay fixed."""

    @property
    def position(self) -> Array:
        """The current value of each of the P variables, (P,)."""

    @property
    def unit(self) -> Array:
        """The length of a step of 1 for each of the P variables, (P,)."""

    @property
    def batch(self) -> int:
        """The number of perturbations to evaluate at once."""

    @property
    def spread(self) -> Spread:
        """The way to distribute batches of perturbations, possibly over several processes."""

    @property
    def rest(self) -> Array | None:
        """The S terms of the unperturbed loss, (S,).

        The terms are None if `Moved.crossed` reports kinks.
        """

    @property
    def exact(self) -> bool:
        """Whether the variables can be perturbed by steps that are far shorter than their `unit`.

        In a step along a direction, rounding in the many entries that change would distort short steps.
        """

    def move(self, which: Array, to: Array) -> Moved:
        """Return B losses. For loss i, only the variable at index `which[i]` is changed, to `to[i]`.

        which, to: (B,).
        """


class RisingMovable(Movable, Protocol):
    """Variables for which the change of the losses is also known directly, without subtracting losses.

    Nothing cancels in such a change, however short the step is. So a single, very short step suffices, where
    differences of losses need a ladder of steps.
    """

    def rise(self, which: Array, by: Array) -> Moved:
        """Return the changes of B losses. For loss i, only the variable at index `which[i]` grows by `by[i]`.

        The `losses` of the result are the changes ℓ(x + by) − ℓ(x), and `rounding` bounds their errors, in
        units of machine epsilon. It includes the effect of rounding errors in the unperturbed network.

        which, by: (B,).
        """


def can_rise(movable: Movable) -> TypeGuard[RisingMovable]:
    """Return whether the change of the losses is known directly. `isinstance` would take much longer."""
    return hasattr(movable, "rise")


class Direction(NamedTuple):
    """A direction in the space of one parameter's entries.

    entries: the flat indices of M entries, (M,).
    weights: the component of the direction for each of these entries, (M,). All other components are 0.
    """

    entries: Array
    weights: Array


class Objective(Protocol):
    """A loss as a function of named parameters. Literal differences need nothing else."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every parameter, by name."""

    def entries(self, name: str) -> Movable:
        """Return the entries of parameter `name`, in C order, as variables that can be perturbed.

        An entry is perturbed for the whole batch at once.
        """

    def penalty(self, name: str) -> Movable | None:
        """Return the entries of parameter `name` as variables of its penalties alone; None if it has none."""

    @property
    def tells_kinks(self) -> bool:
        """Whether `Moved.crossed` reports every kink."""

    @property
    def widest(self) -> Objective | None:
        """The same objective in wider floating point, slower but more precise; None if there is none."""

    @property
    def conventions(self) -> Sequence[Objective]:
        """The objective under each usual convention for elements on a kink; empty if no element is on one."""


class DirectedObjective(Objective, Protocol):
    """A loss whose parameters can also be perturbed many at a time."""

    def span(self, name: str) -> float:
        """Return the distance that a step of t = 1 in `along` moves an entry whose weight is 1."""

    def along(self, name: str, directions: Sequence[Direction], unit: Array) -> Movable:
        """Return one variable t per direction. Each variable is at t = 0 and can be perturbed.

        A step to t moves the parameter θ to θ + t · span · direction.

        unit: the length of a step of 1 for each variable t.
        """


Site = int
"""The index of a value that is affine in the parameters of its step, such as a pre-activation."""


class Factors(Protocol):
    """How a parameter w enters the elements z of a site: z = J w + c.

    The elements z have the shape (F, N), for F features and N samples. Every sample has its own copy of the
    parameter, so an entry's gradient is a sum over all elements that the entry reaches.
    """

    def sums(self, d: Array) -> Array:
        """Return Jᵀ d in the parameter's shape. J is from z = J w + c.

        d: the slopes with respect to z of F features and N samples, (F, N).
        """

    def squares(self, u: Array) -> Array:
        """Return √((J∘J)ᵀ u²), the error of Jᵀ d if d has independent errors u ≥ 0. J is from z = J w + c."""

    def sizes(self, u: Array) -> Array:
        """Return |J|ᵀ u, the largest possible error of Jᵀ d if d has errors u ≥ 0. J is from z = J w + c."""

    def feeding(self, entries: Array) -> Array:
        """Return a mask of the features that the marked entries reach, (F,) for F features.

        entries: a mask with the shape of the parameter.
        """

    def only(self, units: Array) -> Factors:
        """Return a copy restricted to the given rows of the parameter and to the features of these rows."""

    def of(self, units: Array) -> Array:
        """Return the indices of the features that belong to the given rows of the parameter."""


class InexactFactors(Factors, Protocol):
    """Factors in which J itself comes from finite differences, and so has errors."""

    def own_error(self, d: Array) -> Array:
        """Return the largest possible error of Jᵀ d that is due to the errors of J. d is as in `sums`."""


def is_inexact(factors: Factors) -> TypeGuard[InexactFactors]:
    """Return whether J has errors of its own. `isinstance` would take much longer."""
    return hasattr(factors, "own_error")


class Use(NamedTuple):
    """One use of a parameter: the site that the parameter enters, and the factors with which it enters."""

    site: Site
    factors: Factors


@dataclass(frozen=True)
class Corner:
    """A choice of one piece for each group of kinks that are on the same side in all samples.

    base: the network with this choice, and with every other kink on its first piece.
    single: for each other kink, a network for each of its other pieces. In that network, only this kink is on
        another piece than in `base`. The changes that several kinks make to a slope add up.
    in_sample: whether `single` changes one kink in every sample at once, and not one kink in the whole batch.
    """

    base: UnitObjective
    single: tuple[tuple[UnitObjective, ...], ...]
    in_sample: bool


class UnitObjective(Objective, Protocol):
    """A network of steps, each of which is affine in its parameters.

    Such a network allows unit differences, which the module `reference` explains.
    """

    def uses(self, name: str) -> Sequence[Use]:
        """Return every use of parameter `name`. The parameter's gradient is a sum with one term per use."""

    def literally(self, name: str) -> bool:
        """Return whether perturbing the entries of this parameter costs less than perturbing its sites."""

    def quick_entries(self, name: str) -> Movable:
        """Return the entries of parameter `name`, as `entries` does, to be perturbed in the quickest way."""

    def batches(self, site: Site) -> int:
        """Return how many evaluations of the whole batch it takes to perturb one feature in every sample."""

    def units(self, site: Site) -> Movable:
        """Return the elements of a site, in C order of (F, N), as variables that can be perturbed.

        The site has F features for each of N samples. An element is perturbed for its own sample only.
        """

    def site_shape(self, site: Site) -> tuple[int, int]:
        """Return F and N, the number of features and the number of samples of a site."""

    @property
    def widest(self) -> UnitObjective | None:
        """The same network in wider floating point, slower but more precise; None if there is none."""

    @property
    def conventions(self) -> Sequence[UnitObjective]:
        """The network under each usual convention for elements on a kink; empty if no element is on one."""

    def corners(self, name: str) -> Sequence[Corner]:
        """Return the network under every choice of pieces at the kinks that affect the parameter's gradient.

        The result is empty if there are too many choices.
        """
