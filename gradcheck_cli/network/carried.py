"""How a parameter enters a value that is computed from the output of the parameter's step.

`factors` describes how a parameter w enters the output z of its step: z = J w + c. A value y above may be
affine in z: y = M z + c, where M holds numbers of the forward pass. Then y = M J w + c, so perturbing y also
gives the gradient of w. In attention, the scores q kᵀ are affine in k, and the output `a v` is affine in v. A
perturbed element of k or v changes the output of every token; a perturbed score, or a perturbed element of `a
v`, changes the output of one token.

As in `factors`, an array of elements of a value has the shape (F, N): the F features of a sample in C order,
for each of N samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gradcheck_cli.network.factors import Factors
from gradcheck_cli.types import Array, Shape


class Link(Protocol):
    """A map y = M z + c, with methods that compute sums over M.

    The arguments d and u of its methods hold elements of y, (F_y, N). The results hold elements of z,
    (F_z, N). A sample of y has F_y features, a sample of z has F_z, and there are N samples.
    """

    def sums(self, d: Array) -> Array:
        """Return Mᵀ d."""

    def sizes(self, u: Array) -> Array:
        """Return |M|ᵀ u."""

    def squares(self, u: Array) -> Array:
        """Return v with (J ∘ J)ᵀ v² ≥ (M J ∘ M J)ᵀ u². Both sides are equal if M J has one term per entry.

        J holds the parameter's factors in z.
        """

    def reached(self, below: Array) -> Array:
        """Return a mask of the features of y that depend on the marked features of z."""


@dataclass(frozen=True)
class Copies:
    """A value y whose elements are copies of elements of z.

    source: for each feature of y, the feature of z that it copies.  features: the number of features of z.
    """

    source: Array
    features: int

    def sums(self, d: Array) -> Array:
        total = np.zeros((self.features, *d.shape[1:]), d.dtype)
        np.add.at(total, self.source, d)
        return total

    def sizes(self, u: Array) -> Array:
        return self.sums(u)

    def squares(self, u: Array) -> Array:
        return _rooted(u, self.sums)

    def reached(self, below: Array) -> Array:
        return np.asarray(below[self.source])


@dataclass(frozen=True)
class Product:
    """A product y = z B of samples (…, T, K) with unperturbed matrices B.

    by: the matrices B, (N, …, K, S), for N samples.
    rows: the number of rows T.
    turned: whether z is stored as (…, K, T), and whether y is stored as (…, S, T).
    one: whether each entry of the parameter affects at most one element in each row of z.
    """

    by: Array
    rows: int
    turned: tuple[bool, bool]
    one: bool

    def sums(self, d: Array) -> Array:
        return self._below(d, self.by)

    def sizes(self, u: Array) -> Array:
        return self._below(u, np.abs(self.by))

    def squares(self, u: Array) -> Array:
        scale = float(np.abs(self.by).max(initial=0.0)) or 1.0  # so that no square overflows or underflows
        size = np.abs(self.by) / scale
        # (Σ b x)² ≤ Σ|b| · Σ|b| x²; a sum of one term is exactly b² x².
        weights = size * (size if self.one else size.sum(axis=-2, keepdims=True))
        return scale * _rooted(u, lambda squares: self._below(squares, weights))

    def reached(self, below: Array) -> Array:
        *lead, inner, outer = self.by.shape[1:]
        of_z = _turned(below, (*lead, self.rows, inner), self.turned[0])
        whole = np.broadcast_to(of_z.any(axis=-1, keepdims=True), (*lead, self.rows, outer))
        return (np.swapaxes(whole, -1, -2) if self.turned[1] else whole).ravel()

    def _below(self, d: Array, by: Array) -> Array:
        """Return d Bᵀ as elements of z."""
        *lead, _, outer = by.shape[1:]
        of_y = _turned(np.ascontiguousarray(d.T), (len(by), *lead, self.rows, outer), self.turned[1])
        of_z = np.matmul(of_y, np.swapaxes(by, -1, -2))
        in_shape = np.swapaxes(of_z, -1, -2) if self.turned[0] else of_z
        return in_shape.reshape(len(by), -1).T


@dataclass(frozen=True)
class Kept:
    """A link between some features of z and some features of y.

    of_z, of_y: the indices of the linked features of z and of y.
    features: the total number of features of z, and the total number of features of y.
    """

    link: Link
    of_z: Array
    of_y: Array
    features: tuple[int, int]

    def sums(self, d: Array) -> Array:
        return self.link.sums(self._whole(d))[self.of_z]

    def sizes(self, u: Array) -> Array:
        return self.link.sizes(self._whole(u))[self.of_z]

    def squares(self, u: Array) -> Array:
        return self.link.squares(self._whole(u))[self.of_z]

    def reached(self, below: Array) -> Array:
        whole = np.zeros(self.features[0], dtype=bool)
        whole[self.of_z] = below
        return self.link.reached(whole)[self.of_y]

    def _whole(self, numbers: Array) -> Array:
        whole = np.zeros((self.features[1], *numbers.shape[1:]))
        whole[self.of_y] = numbers
        return whole


@dataclass(frozen=True)
class Carried:
    """The factors M J of a parameter in a value y = M z + c.

    below: the parameter's factors J in z.  link: the map M.
    features: the number of features of z, and the number of features of y.
    """

    below: Factors | Carried
    link: Link
    features: tuple[int, int]

    @property
    def is_of_product(self) -> bool:
        """Whether y is a product, not a copy."""
        return isinstance(self.link, Product)

    def sums(self, d: Array) -> Array:
        return self.below.sums(self.link.sums(d))

    def sizes(self, u: Array) -> Array:
        return self.below.sizes(self.link.sizes(u))

    def squares(self, u: Array) -> Array:
        return self.below.squares(self.link.squares(u))

    def feeding(self, entries: Array) -> Array:
        return self.link.reached(self.below.feeding(entries))

    def of(self, units: Array) -> Array:
        below = np.zeros(self.features[0], dtype=bool)
        below[self.below.of(units)] = True
        return np.flatnonzero(self.link.reached(below))

    def only(self, units: Array) -> Carried:
        of_z, of_y = self.below.of(units), self.of(units)
        link = Kept(self.link, of_z, of_y, self.features)
        return Carried(self.below.only(units), link, (len(of_z), len(of_y)))


def product_of(by: Array, rows: int, turned: tuple[bool, bool], units: Array) -> Product:
    """Return the link of a product z B, with the arguments as in `Product`.

    units: the unit of the parameter to which each of the F features of z belongs, (F,).
    """
    *lead, inner, _ = by.shape[1:]
    in_row = np.sort(_turned(units, (*lead, rows, inner), turned[0]), axis=-1)
    return Product(by, rows, turned, bool((np.diff(in_row, axis=-1) > 0).all()))


def _turned(numbers: Array, shape: Shape, swapped: bool) -> Array:
    """Reshape `numbers` to `shape`.

    If `swapped` is set, `numbers` is stored with the last two axes of `shape` swapped.
    """
    if not swapped:
        return numbers.reshape(shape)
    return np.swapaxes(numbers.reshape(*shape[:-2], shape[-1], shape[-2]), -1, -2)


def _rooted(u: Array, squares: Callable[[Array], Array]) -> Array:
    """Return √squares(u²), computed so that u² does not overflow."""
    scale = float(u.max(initial=0.0)) or 1.0
    below: Array = scale * np.sqrt(squares(np.square(u / scale)))
    return below
