"""What a rise is: the exact change of a function's value after a change of its argument.

A finite difference needs φ(z + d) − φ(z) for a short d. Subtracting two values loses most of their digits,
because they are nearly equal, and it costs an evaluation of φ. Addition theorems give the same number without
a subtraction. With t = tanh z and q = 1 − t², both known at rest, and τ = tanh d,

    tanh(z + d) − tanh(z) = τ q / (1 + t τ).

So a rise is still a difference of two evaluations of φ, written in another order. No derivative is used, and
d may have any length up to `LONGEST`. The tests compare value + rise with the value at z + d, in more digits
than float64 has, for every row that has a rise. The witness and the confirmation of a wrong gradient do not
use rises: they call the functions themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gradcheck_cli.types import Array

LONGEST = 0.5
"""The longest change of an argument whose rise is computed. The rise after a longer change is NaN."""

AtRest = tuple[Array, ...]
"""What a rise needs to know about the unperturbed argument: some arrays with the shape of the argument."""


@dataclass(frozen=True)
class Rise:
    """The change of an activation or a loss after a change d of its argument, without cancellation.

    at_rest: a function from the unperturbed argument (and, for a loss, the target) to arrays with the shape
        of the argument, (N, F), for F features of N samples.
    after:   a function from these arrays and d, (…, N, F), to the rise. The rise of an activation has the
        shape of d, and the rise of a loss has the shape (…, N). The function may overwrite d.
    sizes:   a function from these arrays to the sizes of the terms that a rise is summed from, for a change
        of 1 in each element, (N, F). A rise is exact to a few units in the last place of its terms.
    linear:  whether the rise is the only array at rest, a slope, times d.
    """

    at_rest: Callable[..., AtRest]
    after: Callable[[AtRest, Array], Array]
    sizes: Callable[[AtRest], Array]
    linear: bool = False

    def with_options(self, options: Mapping[str, Any]) -> Rise:
        """Return a copy with the row's options bound to `at_rest`."""
        return replace(self, at_rest=partial(self.at_rest, **options)) if options else self


def length(d: Array) -> float:
    """Return the largest |d|. The result is NaN if any element is NaN."""
    return max(float(d.max(initial=0.0)), -float(d.min(initial=0.0)))


SHORT = 2.0**-27
"""A change d is short if 1 + d² rounds to 1, so that 1 / (1 + d) is 1 − d to within rounding."""


def without_division(q: Array, product: Array, d: Array) -> Array:
    """Return q d / (1 + c d) for a short d, as (q − c q d) d. The result overwrites d.

    q, product: q and the product c q, with |c| at most 1.
    """
    factor = product * d
    np.subtract(q, factor, out=factor)
    return np.multiply(factor, d, out=d)


@dataclass(frozen=True)
class Series:
    """A function of a short d as a polynomial. Longer d are left to the function itself.

    function: the function in numpy.
    terms: pairs of a length and the coefficients of the polynomial, highest power first and without the
        constant, which is 0. The polynomial is used up to this length. There, its first missing term is at
        most 2⁻⁵⁴ times the sum, which is half a unit in the last place.
    odd: whether the function is odd, so that the polynomial is d times a polynomial in d².
    longest: the longest d. The result for a longer d is NaN.
    """

    function: np.ufunc
    terms: Sequence[tuple[float, tuple[float, ...]]]
    odd: bool = False
    longest: float = LONGEST

    def __call__(self, d: Array) -> Array:
        """Return the function of d, exact to a few units in the last place. This may overwrite d."""
        longest = length(d)
        for up_to, coefficients in self.terms:
            if longest <= up_to:
                return self._polynomial(coefficients, d)
        if not longest <= self.longest:
            d[~(np.abs(d) <= self.longest)] = np.nan
        return self.function(d, out=d)

    def _polynomial(self, coefficients: tuple[float, ...], d: Array) -> Array:
        first, *others = coefficients
        if not others:
            return d
        x = d * d if self.odd else d
        total = first * x
        for coefficient in others[:-1]:
            total += coefficient
            total *= x
        total += others[-1]
        return np.multiply(total, d, out=d)  # a second temporary array would take longer than the sums


TANH = Series(
    np.tanh,
    (
        (2.0**-27, (1.0,)),
        (2.0**-13, (-1 / 3, 1.0)),
        (2.0**-9, (2 / 15, -1 / 3, 1.0)),
        (2.0**-6, (62 / 2835, -17 / 315, 2 / 15, -1 / 3, 1.0)),
    ),
    odd=True,
)
"""tanh d. Its next terms are −17/315 d⁷, 62/2835 d⁹ and −1382/155925 d¹¹."""

EXPM1 = Series(
    np.expm1,
    (
        (2.0**-27, (1 / 2, 1.0)),
        (2.0**-17, (1 / 6, 1 / 2, 1.0)),
        (2.0**-12, (1 / 24, 1 / 6, 1 / 2, 1.0)),
        (2.0**-7, (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0)),
    ),
)
"""e^d − 1. The coefficient of d^k is 1/k!."""

LOG1P = Series(np.log1p, ((2.0**-27, (-1 / 2, 1.0)), (2.0**-18, (1 / 3, -1 / 2, 1.0))), longest=np.inf)
"""log(1 + d). The coefficient of d^k is ± 1/k."""
