"""The results of one call of the user's code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.types import Array

_MOST_APART = 1e-3
"""The largest difference allowed between two calls, relative to the largest entry.

Some difference is allowed because threads may race.
"""


@dataclass(frozen=True)
class Evaluation:
    """The S loss terms and the gradients that one call returned, in their original dtypes."""

    losses: Array
    gradients: Mapping[str, Array]

    @property
    def apart(self) -> float:
        """The largest difference allowed between the results of two calls.

        The difference is relative to the largest entry of the array that is compared.
        """
        arrays = (self.losses, *self.gradients.values())
        return min(_MOST_APART, 1e3 * max(float(np.finfo(array.dtype).eps) for array in arrays))


@dataclass(frozen=True)
class WideGradients:
    """The gradients that the code computes in a wider dtype, by name.

    throughout: whether forward and backward are known to compute in float64 from start to end.
    """

    gradients: Mapping[str, Array]
    throughout: bool


def elsewhere(point: Mapping[str, Array], seed: int = 0) -> dict[str, Array]:
    """Return another point, at which code is called before its results count.

    Code that keeps values of its first call then gives wrong gradients at `point`. Each entry is multiplied
    by a random factor of its own, so the gradients are not just scaled.
    """
    rng = np.random.default_rng(seed)
    return {name: array * rng.uniform(1.125, 1.5, array.shape) for name, array in point.items()}
