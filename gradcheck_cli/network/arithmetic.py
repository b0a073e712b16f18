"""Models of floating-point arithmetic: machine epsilon, underflow, and the rounding errors of sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.types import Array, precision_of

ROUNDING_SAFETY = 3.0
"""A safety factor for first-order bounds on rounding errors."""


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point arithmetic that a gradient was computed in.

    eps:       the machine epsilon ε.
    tiny:      the largest error that underflow may cause.
    input_eps: the relative error with which x and the parameters are stored; 0 if they are stored exactly.
    others_formulas: whether the bounds also cover formulas that lose digits but are in common use.
    """

    eps: float
    tiny: float
    input_eps: float = 0.0
    others_formulas: bool = True

    @classmethod
    def of(cls, dtype: np.dtype[Any], held: np.dtype[Any] | None = None) -> Arithmetic:
        """Return the arithmetic of `dtype`.

        held: a type that represents x and the parameters exactly; by default, `dtype` itself.
        """
        eps = precision_of(dtype).eps
        exact = held is None or precision_of(held).eps >= eps
        # Many processors flush subnormal numbers to 0, but hardly any do so in half precision.
        tiny = np.finfo(dtype).tiny if dtype.itemsize > 2 else 4.0 * precision_of(dtype).smallest
        return cls(eps, float(tiny), 0.0 if exact else eps)

    def summed(self, terms: Array, total: Array, count: int) -> Array:
        """Return a bound on the rounding error of a sum of `count` terms.

        For terms of mixed sign, the error is about ε · terms, with the machine epsilon ε. For terms of one
        sign, every partial sum adds an error of ε times its size. If the errors are independent, they add up
        to √count · ε · total in any order of summation (N. J. Higham and T. Mary, SIAM J. Sci. Comput. 41,
        2019). In a plain loop over many equal terms, the errors are not independent. The factor count / 16
        allows for that.

        terms: the sum of the terms' absolute values.
        total: the sum itself.
        """
        error: Array = self.eps * terms + self.accumulated(total, count)
        return error

    def accumulated(self, total: Array, count: int) -> Array:
        """Return the part of the bound in `summed` that is due to partial sums of one sign."""
        error: Array = self.eps * max(np.sqrt(count), count / 16.0) * np.abs(total)
        return error


FLOAT64 = Arithmetic.of(np.dtype(np.float64))


@dataclass(frozen=True)
class Nudged(Arithmetic):
    """Arithmetic with an artificial ε, far larger than float64's, to measure gradcheck's own rounding errors.

    Divide the measured errors by this ε to express them in units of machine epsilon. The error of a sum is ε
    times the size of its terms, because numpy does the summing.
    """

    def accumulated(self, total: Array, count: int) -> Array:
        return np.zeros(1)


NUDGED = Nudged(eps=2.0**-40, tiny=0.0, others_formulas=False)
"""The arithmetic in which rounding errors are measured.

The ε of this arithmetic is large enough to measure its effects precisely, and small enough for functions to
look linear.
"""
