"""The floating-point arithmetic that something is computed in, and how sums round in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Arithmetic:
    """The floating-point arithmetic a gradient was computed in.

    eps:       its machine epsilon;  tiny: what it may lose to underflow.
    input_eps: the relative error with which it holds x and the parameters; 0 if it holds them exactly.
    others_formulas: whether a formula may be one that loses digits, as people write it.
    """

    eps: float
    tiny: float
    input_eps: float = 0.0
    others_formulas: bool = True

    @classmethod
    def of(cls, dtype: np.dtype[Any], held: np.dtype[Any] | None = None) -> Arithmetic:
        """Return that of `dtype`, for numbers that `held` represents exactly (by default, `dtype` itself)."""
        info = np.finfo(dtype)
        exact = held is None or np.finfo(held).eps >= info.eps
        # Many a processor takes what is below the normal numbers for 0, though hardly in half precision.
        tiny = 4.0 * info.smallest_subnormal if info.bits == 16 else info.tiny
        return cls(float(info.eps), float(tiny), 0.0 if exact else float(info.eps))

    def summed(self, terms: Array, total: Array, count: int) -> Array:
        """Return the error of a sum of `count` terms whose sizes add up to `terms`.

        Terms of mixed sign round as their sizes. Terms of one sign add an ε of every partial sum, in any
        order: √count of the total if these are independent (N. J. Higham and T. Mary, SIAM J. Sci.
        Comput. 41, 2019). In a plain loop over many equal terms they are not: count / 16 covers it.
        """
        error: Array = self.eps * (terms + max(np.sqrt(count), count / 16.0) * np.abs(total))
        return error


FLOAT64 = Arithmetic.of(np.dtype(np.float64))


@dataclass(frozen=True)
class Nudged(Arithmetic):
    """Our own evaluation of a moved network, measured on a relative change far above the ε of float64.

    Divide its errors by its eps to have them in units of ε. Its sums round as their terms: they are numpy's.
    """

    def summed(self, terms: Array, total: Array, count: int) -> Array:
        error: Array = self.eps * terms
        return error


NUDGED = Nudged(eps=2.0**-40, tiny=0.0, others_formulas=False)
"""Its effect still shows in all digits, and is far below what bends a curve."""
