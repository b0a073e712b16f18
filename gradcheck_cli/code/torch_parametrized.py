"""Weights that torch computes from other parameters, such as w = g v / ‖v‖ of a weight norm.

v does not enter the output z = x wᵀ affinely, but w does. So unit differences of z give ∂L/∂w, and
differences of w alone give ∂w/∂v. Their product is ∂L/∂v. No derivative is involved, and computing w takes
less time than a forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil, log2
from typing import Any

import numpy as np

from gradcheck_cli.code.objective import length
from gradcheck_cli.numerical.jacobian import EVALUATIONS, jacobian
from gradcheck_cli.numerical.objective import Factors
from gradcheck_cli.types import Array, Shape

Tensor = Any
Module = Any

_INSIDE = "parametrizations"
"""The name of the submodule in which torch keeps what weights are computed from."""

_MOST_NUMBERS = 2**25
"""The largest number of derivatives ∂w/∂v to hold in memory: 256 MiB in float64."""

_PER_ENTRY = 2
"""Computing a weight this many times takes about as long as the literal differences of one entry."""


@dataclass(frozen=True)
class Weight:
    """A weight that is computed from several parameters.

    module: the module that uses the weight, by the name `attribute`.
    """

    module: Module
    attribute: str

    @property
    def value(self) -> Tensor:
        return getattr(self.module, self.attribute)


def computed_weights(root: Module) -> Iterator[tuple[Tensor, str, Weight]]:
    """Yield each parameter that a weight is computed from, with the name of the weight's module."""
    modules = dict(root.named_modules())
    for name, inside in modules.items():
        parent, _, attribute = name.rpartition(".")
        owner = parent.removesuffix(_INSIDE).removesuffix(".")
        if parent.rpartition(".")[2] == _INSIDE:
            for tensor in inside._parameters.values():
                yield tensor, owner, Weight(modules[owner], attribute)


def evaluations(shape: Shape) -> int:
    """Return the cost of ∂w/∂v for a v of this shape, as a number of entries that are perturbed literally."""
    return ceil(EVALUATIONS * int(np.prod(shape[1:])) / _PER_ENTRY)


@dataclass(frozen=True)
class Through:
    """The factors of v in z = J w(v) + c, to first order.

    factors: the factors J of w.
    slopes, errors: ∂w_um / ∂v_uk and its error, (K, U, M), for the U rows of w and v.
    weight, shape: the shapes of w and v.
    """

    factors: Factors
    slopes: Array
    errors: Array
    weight: Shape
    shape: Shape

    def sums(self, d: Array) -> Array:
        return self._product(self.factors.sums(d), self.slopes)

    def squares(self, u: Array) -> Array:
        """Return a bound on the error, since the errors of one row of ∂L/∂w are not independent."""
        return self._product(self.factors.squares(u), self.slopes, is_bound=True)

    def sizes(self, u: Array) -> Array:
        return self._product(self.factors.sizes(u), self.slopes, is_bound=True)

    def own_error(self, d: Array) -> Array:
        return self._product(np.abs(self.factors.sums(d)), self.errors)

    def _product(self, of_weight: Array, slopes: Array, is_bound: bool = False) -> Array:
        """Return the product of each row of numbers with its matrix of slopes, or of absolute values."""
        rows = enumerate(of_weight.reshape(slopes.shape[1], -1))
        products = [(np.abs(slopes[:, u]) if is_bound else slopes[:, u]) @ row for u, row in rows]
        return np.stack(products).reshape(self.shape)

    def feeding(self, entries: Array) -> Array:
        rows = entries.reshape(len(entries), -1).any(axis=1)
        marked = rows.reshape(-1, *(1,) * (len(self.weight) - 1))
        return self.factors.feeding(np.broadcast_to(marked, self.weight))

    def of(self, units: Array) -> Array:
        return self.factors.of(units)

    def only(self, units: Array) -> Through:
        return replace(
            self,
            factors=self.factors.only(units),
            slopes=self.slopes[:, units],
            errors=self.errors[:, units],
            weight=(len(units), *self.weight[1:]),
            shape=(len(units), *self.shape[1:]),
        )


def through(factors: Factors, weight_at: Callable[[Array], Array], here: Array) -> Through | None:
    """Return the factors of a parameter that a weight is computed from; None if they would be too many.

    They are also unknown if a row of the weight depends on other rows of the parameter.

    factors: the factors of the weight.
    weight_at: a function that returns the weight for another value of the parameter.
    here: the value of the parameter.
    """
    weight, rows = weight_at(here), len(here)
    if weight.size * (here.size // rows) > _MOST_NUMBERS or not _is_by_row(weight_at, here):
        return None
    by_row = here.reshape(rows, -1)

    def function(at: Array) -> Array:
        return weight_at(at.reshape(here.shape)).reshape(rows, -1)

    slopes = jacobian(function, by_row, length(here).reshape(rows, -1))
    return Through(factors, slopes.value, slopes.error, weight.shape, here.shape)


def _is_by_row(weight_at: Callable[[Array], Array], here: Array) -> bool:
    """Return whether a change in some rows of the parameter leaves all other rows of the weight as they are.

    The test changes half of the rows at a time, once for each bit of their indices.
    """
    rest, rows = weight_at(here), np.arange(len(here))
    if rest.ndim < 1 or len(rest) != len(rows):
        return False
    for bit in range(ceil(log2(max(1, len(rows))))):
        for side in (0, 1):
            moved = (rows >> bit) & 1 == side
            changed = here + 0.125 * length(here) * moved.reshape(-1, *(1,) * (here.ndim - 1))
            if (weight_at(changed) != rest)[~moved].any():
                return False
    return True
