"""The right formulas of batch normalisation's backward pass, and their terms."""

from __future__ import annotations

import numpy as np

from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.network.steps.normalise import Normalised
from gradcheck_cli.types import Array

FORMULAS = {
    Part.BIAS: ("∂L/∂b = Σₙ δₙ", "∂L/∂b"),
    Part.GAMMA: ("∂L/∂γ = Σₙ ∂L/∂yₙ ẑₙ", "∂L/∂γ"),
    Part.BETA: ("∂L/∂β = Σₙ ∂L/∂yₙ", "∂L/∂β"),
    Part.NORM: ("δ = (g − mean g − ẑ mean(g ẑ)) / √(var z + eps), g = γ ∂L/∂y", "δ"),
}
"""Maps each part to its correct formula and to the factor of the chain rule that the part computes."""

NORMALISED = "(g - g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0))"
"""The numerator of the correct δ, as numpy code."""


def centred_gradient(g: Array) -> Array:
    """Return g minus its mean over the samples."""
    centred: Array = g - g.mean(axis=0)
    return centred


def along_normalised(z_hat: Array, g: Array) -> Array:
    """Return the part of g that varies like ẑ: ẑ times the mean of g ẑ over the samples."""
    along: Array = z_hat * (g * z_hat).mean(axis=0)
    return along


def variance_of(at: Normalised, site: Site) -> Array:
    """Return var z without eps, but at least the smallest normal float, so that it can be divided by."""
    variance: Array = np.maximum(at.deviation**2 - (site.layer.batch_norm or 0.0), np.finfo(float).tiny)
    return variance
