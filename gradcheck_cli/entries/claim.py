"""The gradients to judge, and how large an error a correct gradient may have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gradcheck_cli.comparison import Comparison, compare
from gradcheck_cli.entries.by_convention import by_convention
from gradcheck_cli.gradients.analytic import Analytic
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.kinks import Alternatives
from gradcheck_cli.projected import Projected
from gradcheck_cli.types import Array, precision_of
from gradcheck_cli.verdict import default_rtol


@dataclass(frozen=True)
class Claim:
    """The user's gradients, with the error that a correct gradient may have.

    rounding: for each gradient, a bound on the rounding error of a correct gradient.
    rtol: the relative tolerance of each tensor.
    elsewhere: for each tensor, the size that an entry of 0 is compared with, as in `Judged`.
    atol: the absolute tolerance of every tensor.
    largest: the size of the largest entry in any tensor, as in `Judged`.
    observed: the largest rounding errors that were observed, for each gradient in which any were.
    """

    analytic: Analytic
    rounding: Mapping[str, Array]
    rtol: Mapping[str, float]
    elsewhere: Mapping[str, Array]
    atol: float = 0.0
    largest: float = np.inf
    observed: Mapping[str, Array] = field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        """The names of the tensors, in the order of the report."""
        return list(self.analytic.values)

    def only(self, names: Collection[str]) -> Claim:
        """Return the part of the claim that is about the tensors `names`."""
        return replace(self, analytic=self.analytic.only([name for name in self.names if name in names]))

    def compare(self, name: str, estimate: Estimate, projected: Projected | None = None) -> Comparison:
        """Compare one tensor with its estimate.

        projected: what is known about the entries that were not checked individually.
        """
        return compare(
            name,
            self.analytic.values[name],
            estimate,
            self.rounding[name],
            self.rtol[name],
            precision_of(self.analytic.dtypes[name]).eps,
            self.elsewhere[name],
            projected,
            self.atol,
            self.largest,
            self.observed.get(name, 0.0),
        )

    def by_convention(self, name: str, estimate: Estimate, kinks: Alternatives) -> Estimate:
        """Return the estimate, but with each entry on a kink set to the nearest conventional value."""
        analytic = self.analytic.values[name].astype(np.float64)
        return by_convention(analytic, estimate, kinks, self.rounding[name], self.rtol[name], self.atol)


def claim_of(
    analytic: Analytic,
    rounding: Mapping[str, Array],
    rtol: float | None,
    elsewhere: Mapping[str, Array],
    atol: float = 0.0,
    largest: float = np.inf,
    observed: Mapping[str, Array] | None = None,
) -> Claim:
    """Return a `Claim` on the gradients in `analytic`.

    rtol: the relative tolerance for every tensor; by default, the tolerance for the tensor's dtype.
    elsewhere: for each tensor, the size that an entry of 0 is compared with, as in `Judged`.
    atol: the absolute tolerance for every tensor.
    largest: the size of the largest entry in any tensor, as in `Judged`.
    observed: the largest rounding errors that were observed, for each gradient in which any were.
    """
    tolerances = {name: rtol or default_rtol(dtype) for name, dtype in analytic.dtypes.items()}
    return Claim(analytic, rounding, tolerances, elsewhere, atol, largest, observed or {})


def largest_of(values: Iterable[Array]) -> float:
    """Return the largest absolute value among all finite numbers in the arrays."""
    sizes = [np.abs(array[np.isfinite(array)]).max(initial=0.0) for array in values]
    return float(max(sizes, default=0.0))
