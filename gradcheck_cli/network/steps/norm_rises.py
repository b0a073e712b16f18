"""The exact change of a normalised row after a change of the row, and the sensitivity of losses to the row.

A norm divides the m numbers of a row by s: ẑ = c / s, with c = z − mean z, or c = z for norms that do not
subtract the mean. Subtracting two values of ẑ would lose most of their digits. With e, the change of c
divided by s, a change multiplies s by q = √(1 + r), and

    r = (2 Σ ẑ e + Σ e²) / d        the divisor d is m or m − 1
    ẑ' − ẑ = (e − ẑ (q − 1)) / q        q − 1 = r / (1 + q)

So a change is still a difference of two evaluations of ẑ, written in another order. It needs 1 / s and ẑ at
rest. If a single number of the row changes, r depends on this number alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.functions import row_sums
from gradcheck_cli.network.part import Part, Resting, Risen, reshaped
from gradcheck_cli.network.sensitivity import Sensitivity
from gradcheck_cli.network.steps.norm_errors import projected
from gradcheck_cli.types import EPS, Array

_LONGEST = 0.5
"""The largest |r|. Below −½, the digits of 1 + r begin to cancel."""

_ULPS = 4.0
"""The error of a change, in units in the last place of its terms."""

ULPS = Arithmetic(eps=1.0, tiny=0.0)
"""An arithmetic in which errors are measured in units of machine epsilon."""


@dataclass(frozen=True)
class Rows:
    """A norm of rows of m numbers.

    divisor: the number d that the mean square is computed with: m or m − 1.
    centred: whether the norm subtracts the mean.
    """

    divisor: int
    centred: bool

    def part(self, x: Part, output: Resting, z_hat: Array, inverse: Array) -> Risen | None:
        """Return the part of the output that changes with x; None if the change is too long for the formula.

        output: the unperturbed output, (N, *features), for N samples.
        z_hat: the same in rows, (N, *rows, m).
        inverse: 1 / s for every row, (N, *rows).
        """
        in_rows = output if z_hat.shape == output.value.shape else Resting(z_hat, output.samples)
        changes = Risen(x.rest, x.fixed, x.rise)
        changes = changes if in_rows is output else reshaped(changes, in_rows)  # type: ignore[assignment]
        is_one = changes.fixed[-1] is not None
        rise = (self._of_one if is_one else self._of_all)(changes, in_rows, inverse)
        if rise is None:
            return None
        risen = Risen(in_rows, (*changes.fixed[:-1], None), rise)
        return risen if in_rows is output else reshaped(risen, output)  # type: ignore[return-value]

    def _of_one(self, x: Risen, output: Resting, inverse: Array) -> Array | None:
        """Return the change of each row if only one number of the row changes, (B, …, m), for B copies."""
        *place, k = x.fixed
        z_hat, copies = output.at((*place, None)), x.rest.copies
        own, e = z_hat[copies, ..., k], x.rise * Resting(inverse, x.rest.samples).at(tuple(place))
        shared = 1.0 / z_hat.shape[-1] if self.centred else 0.0
        r = e * (2.0 * own + (1.0 - shared) * e) / self.divisor
        if not np.abs(r).max(initial=0.0) <= _LONGEST:
            return None
        q = np.sqrt(1.0 + r)
        e /= q
        rise: Array = z_hat * (-r / (q + q * q))[..., None]
        if self.centred:
            rise -= (shared * e)[..., None]
        rise[copies, ..., k] += e
        return rise

    def _of_all(self, x: Risen, output: Resting, inverse: Array) -> Array | None:
        """Return the change of each row, (B, …, m), for B copies."""
        held = x.held
        if x.rest.takes_turns and len(x.free) == len(x.fixed):  # then nothing needs to be gathered
            z_hat, held = output.value, held.reshape(-1, *output.value.shape)
        else:
            z_hat, inverse = output.at(x.fixed), Resting(inverse, x.rest.samples).at(x.fixed[:-1])
        if self.centred:
            held = held - (row_sums(held) / held.shape[-1])[..., None]
        r = _products(held, held) * inverse
        r += 2.0 * _products(z_hat, held)
        r *= inverse / self.divisor
        if not np.abs(r).max(initial=0.0) <= _LONGEST:
            return None
        q = np.sqrt(1.0 + r)
        rise: Array = held * (inverse / q)[..., None]
        rise -= z_hat * (r / (q + q * q))[..., None]
        return rise.reshape(x.held.shape)

    def sensitivity(self, at_rest: AtRest, above: Sensitivity) -> Sensitivity:
        """Return how strongly the losses depend on the rows.

        The Jacobian of ẑ is (1 − 1/m − ẑ ẑᵀ / d) / s, with 1/m if the norm subtracts the mean. The errors of
        1 / s and ẑ at rest change it.

        above: how strongly the losses depend on ẑ, (N, …, m).
        """
        z_hat, inverse, m = at_rest.z_hat, at_rest.inverse, at_rest.z_hat.shape[-1]
        if self.centred and m == 1:
            return Sensitivity(np.zeros_like(z_hat), np.zeros_like(z_hat))  # ẑ is always 0
        size, relative = np.abs(z_hat), at_rest.relative_error(self.divisor)
        off = at_rest.error_of_z_hat(relative)
        along, along_off = (self._mean_square(above.terms * each) for each in (size, off))
        rounded = above.terms + self._shared(above.terms) + size * along
        moved = size * along_off + (along + EPS * along_off) * (off + self._shared(off))
        terms, error = (
            projected(each, z_hat, self.divisor, self.centred) for each in (above.terms, above.error)
        )
        terms = inverse * (terms + EPS * _ULPS * rounded)
        error = inverse * (error + _ULPS * rounded + (1.0 + EPS * relative) * moved) + relative * terms
        return Sensitivity(terms, error).rounded(above, ulps=0.0)

    def _mean_square(self, products: Array) -> Array:
        """Return Σ a b / d over the last axis, from the products a b."""
        return row_sums(products)[..., None] / self.divisor

    def _shared(self, sizes: Array) -> Any:
        """Return what the mean of the last axis contributes to each element."""
        return row_sums(sizes)[..., None] / sizes.shape[-1] if self.centred else 0.0


@dataclass(frozen=True)
class AtRest:
    """The rows of a norm at rest, (N, …, m).

    z_hat: the normalised rows.
    error: bounds on the errors of c = z − mean z, in units of machine epsilon.
    inverse: 1 / s, (N, …, 1).
    eps: the number under the root of s.
    """

    z_hat: Array
    error: Array
    inverse: Array
    eps: float

    def relative_error(self, divisor: int) -> Array:
        """Return a bound on the relative error of 1 / s, in units of machine epsilon, (N, …, 1).

        s is the norm of (c / √d, √eps), so it changes by at most the norm of the change of c / √d. It cannot
        fall below √eps.
        """
        moved = np.sqrt(np.square(self.error * self.inverse).sum(axis=-1, keepdims=True) / divisor)
        moved += 4.0 + self.z_hat.shape[-1] / 32.0
        left = np.maximum(1.0 - EPS * moved, math.sqrt(self.eps) * self.inverse)
        bound: Array = moved / left
        return bound

    def error_of_z_hat(self, relative: Array) -> Array:
        """Return bounds on the errors of ẑ at rest, in units of machine epsilon."""
        carried = self.error * self.inverse * (1.0 + EPS * relative)
        return carried + (2.0 + relative) * np.abs(self.z_hat)


def _products(a: Array, b: Array) -> Array:
    """Return Σ a b over the last axis."""
    return np.einsum("...k,...k->...", a, b)
