"""The form in which every source of gradients returns the analytic gradients."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradcheck_cli.types import Array, is_narrow


@dataclass(frozen=True)
class Analytic:
    """The analytic gradients to be checked.

    values: the gradient of each checked parameter by the parameter's name, in the parameter's shape.
    dtypes: the floating-point type in which each gradient was computed.
    origin: a short description of where the gradients come from.
    factors: the factors of the chain rule by name, such as `output.delta`; empty if the source provides no
        factors.
    loss: the loss as the author computed it, or None if the source does not provide it.
    """

    values: Mapping[str, Array]
    dtypes: Mapping[str, np.dtype[Any]]
    origin: str
    factors: Mapping[str, Array] = field(default_factory=dict)
    loss: float | None = None

    def only(self, names: Collection[str]) -> Analytic:
        """Return the gradients of the parameters `names` alone."""
        return replace(self, values={name: array for name, array in self.values.items() if name in names})


def dtype_of(array: Array) -> np.dtype[Any]:
    """Return the array's floating-point dtype; for integers, which are exact, return float64."""
    if is_narrow(array.dtype):
        return array.dtype
    return array.dtype.newbyteorder("=") if array.dtype.kind == "f" else np.dtype(np.float64)
