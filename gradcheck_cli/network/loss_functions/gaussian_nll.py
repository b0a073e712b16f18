"""The negative log-likelihood of a Gaussian, like torch.nn.GaussianNLLLoss: ½ Σ (log v + (mean − y)² / v).

The outputs hold the means, then the variances var, and v = max(var, eps). Every function takes C outputs a of
N samples, (…, N, C), and a target (N, C) that holds y twice.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.network.functions import row_sums
from gradcheck_cli.types import Array


def _parts(a: Array, target: Array) -> tuple[Array, Array]:
    """Return mean − y and the variance, each (…, N, C / 2), for `a`, the C outputs of N samples."""
    half = a.shape[-1] // 2
    return a[..., :half] - target[..., :half], a[..., half:]


def gaussian_nll_pieces(a: Array, target: Array, eps: float) -> Array:
    """Return the piece that each output is on: for a variance, whether it is above eps.

    A mean has no kink and is always on the same piece.
    """
    d, var = _parts(a, target)
    return np.concatenate([np.ones(d.shape, dtype=bool), var.real > eps], axis=-1)


def gaussian_nll(a: Array, target: Array, eps: float) -> Array:
    """Return the negative log-likelihood, ½ Σ (log v + (mean − y)² / v), with v = max(var, eps)."""
    return gaussian_nll_branch(a, target, gaussian_nll_pieces(a, target, eps), eps)


def gaussian_nll_branch(a: Array, target: Array, above: Array, eps: float) -> Array:
    """Return the negative log-likelihood with eps in place of each variance that `above` does not mark."""
    d, var = _parts(a, target)
    v = np.where(above[..., d.shape[-1] :], var, eps)
    return 0.5 * row_sums(np.log(v) + d * d / v)


def gaussian_nll_gradient(a: Array, target: Array, eps: float) -> Array:
    """Return the gradients for the means and the variances.

    The gradients are (mean − y) / v and ½ (1 − (mean − y)² / v) / v, with v = max(var, eps). The gradient for
    a variance that is not above eps is 0.
    """
    d, var = _parts(a, target)
    above = var > eps
    v = np.where(above, var, eps)
    return np.concatenate([d / v, np.where(above, 0.5 * (1.0 - d * d / v) / v, 0.0)], axis=-1)
