"""Batch normalisation, ẑ = (z − mean z) / √(var z + eps) over the samples, with the biased variance.

    y = γ ẑ + β        ∂L/∂γ = Σₙ ∂L/∂yₙ ẑₙ        ∂L/∂β = Σₙ ∂L/∂yₙ

(S. Ioffe and C. Szegedy, "Batch normalization", ICML 2015, with the statistics of the batch.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck_cli.model.special import Array


@dataclass(frozen=True)
class Normalised:
    """The result of batch normalisation.

    value: ẑ (…, N, units).
    deviation: √(var z + eps) (…, 1, units).
    """

    value: Array
    deviation: Array

    def vjp(self, dL_dvalue: Array) -> Array:
        """Return ∂L/∂z for ∂L/∂ẑ (N, units), including the paths through the batch's mean and variance.

        ∂L/∂z = (g − mean g − ẑ mean(g ẑ)) / √(var z + eps), with g = ∂L/∂ẑ.
        """
        g, z_hat = dL_dvalue, self.value
        centred = g - g.mean(axis=-2, keepdims=True)
        along = (g * z_hat).mean(axis=-2, keepdims=True)
        result: Array = (centred - z_hat * along) / self.deviation
        return result


def normalise(z: Array, eps: float) -> Normalised:
    """Return ẑ for z (…, N, units), which may be complex (for the complex step)."""
    centred = z - z.mean(axis=-2, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(axis=-2, keepdims=True) + eps)
    return Normalised(centred / deviation, deviation)


def normalised_rounding(z: Array, z_rounding: Array, at: Normalised) -> Array:
    """Return the rounding error of ẑ (N, units) for a z with error z_rounding, both in units of ε."""
    size = np.abs(z)
    off = z_rounding + z_rounding.mean(axis=0) + size + 2.0 * size.mean(axis=0)  # error of z − mean z
    z_hat = np.abs(at.value)
    relative = (z_hat * off / at.deviation).mean(axis=0) + 4.0  # relative error of the deviation
    return off / at.deviation + z_hat * relative
