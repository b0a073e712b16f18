"""The rise of a function near unperturbed arguments, φ(z + d) − φ(z), as a polynomial in d for each z.

Each polynomial interpolates values of φ at six points around z; no derivative is used. Up to `RADIUS`, its
error is below the rounding error of φ for every smooth activation: the next term is bounded by the seventh
power of `RADIUS` / r, where r > 1 is the distance from z to the nearest point, in the complex plane, at which
φ is not smooth. The tests compare the polynomials with values of φ in wider floats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.network.rise import length
from gradcheck_cli.types import EPS, Array

RADIUS = 2.0**-6
"""The longest change d of an argument for which a polynomial is used."""

_POINTS = np.cos(np.pi * (2 * np.arange(6) + 1) / 12)
"""The points between −1 and 1 at which a polynomial of degree 6 without a constant interpolates best."""

_BLOCK = 2**15
"""The number of elements to evaluate at once. A block of this size stays in the cache."""

Pick = Callable[[Array, slice], Array]
"""A function that returns the elements that some copies change, in a shape that broadcasts to theirs.

It takes them from an array like the arguments.
"""

Exact = Callable[[slice, Array], Array]
"""A function that returns the rises of some copies at the elements of a mask, without the curve."""


@dataclass(frozen=True)
class LocalCurve:
    """The rises of an elementwise function near N samples of arguments.

    coefficients: the coefficients of the polynomials, (6, N, *features), from d to d⁶.
    """

    coefficients: Array

    @classmethod
    def of(cls, function: Callable[[Array], Array], z: Array) -> LocalCurve:
        """Return the rises of `function` near the arguments z, (N, *features)."""
        at_rest = function(z)
        rises = np.stack([function(z + RADIUS * point) - at_rest for point in _POINTS])
        powers = np.arange(1, len(_POINTS) + 1)
        solved = np.linalg.inv(_POINTS[:, None] ** powers) / RADIUS ** powers[:, None]
        return cls(np.tensordot(solved, rises, 1))

    @cached_property
    def _each(self) -> tuple[Array, ...]:
        return tuple(self.coefficients)

    def rise(self, pick: Pick, d: Array, exact: Exact) -> Array:
        """Return the rises after changes d, (B, …), of B copies."""
        rise, size = np.empty_like(d), max(1, _BLOCK * len(d) // max(1, d.size))
        for start in range(0, len(d), size):
            part = slice(start, start + size)
            longest = length(d[part])
            *lower, highest = self._each[: _terms(longest)]
            total = pick(highest, part) * d[part]
            for coefficient in reversed(lower[1:]):
                total += pick(coefficient, part)
                total *= d[part]
            total += pick(lower[0], part)
            np.multiply(total, d[part], out=rise[part])
            if not longest <= RADIUS:
                far = ~(np.abs(d[part]) <= RADIUS)
                rise[part][far] = exact(part, far)
        return rise


def _terms(longest: float) -> int:
    """Return the number of terms that changes up to a length need. All further terms are below rounding."""
    return next((k for k in range(2, len(_POINTS)) if longest ** (k + 1) < EPS / 2.0), len(_POINTS))


def is_near(d: Array) -> bool:
    """Return whether no change in d is longer than `RADIUS`, or is NaN."""
    return length(d) <= RADIUS
