"""Mistakes in batch normalisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from by_hand import (
    Array,
    Pass,
)
from planted.plant import Formula, Parts, Rng


def normed(f: Callable[[Array, Array, Array], Array]) -> Parts:
    """Replace ∂L/∂z by f(g, ẑ, deviation), with g = γ ∂L/∂y."""

    def do(p: Pass, i: int, rng: Rng) -> Array | None:
        if p.z_hat[i] is None:
            return None
        return f(p.parameters[p.layers[i].gamma] * p.dL_dy[i], p.z_hat[i], p.deviation[i])

    return {"norm": do}


def unnormed(g: Array, z_hat: Array, deviation: Array) -> Array:
    return (g - g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / deviation


def other_eps(throughout: bool) -> Formula:
    def do(p: Pass, i: int, rng: Rng) -> Array | None:
        if p.z_hat[i] is None:
            return None
        own, usual = p.layers[i].batch_norm, [1e-3, 1e-4, 1e-5, 1e-6, 1e-8]
        eps = float(rng.choice([each for each in usual if not np.isclose(each, own)]))
        g, deviation = p.parameters[p.layers[i].gamma] * p.dL_dy[i], np.sqrt(p.z[i].var(axis=0) + eps)
        z_hat = (p.z[i] - p.z[i].mean(axis=0)) / deviation if throughout else p.z_hat[i]
        return unnormed(g, z_hat, deviation)

    return do


def eps_outside(p: Pass, i: int, rng: Rng) -> Array | None:
    if p.z_hat[i] is None:
        return None
    deviation = p.z[i].std(axis=0) + p.layers[i].batch_norm
    return unnormed(p.parameters[p.layers[i].gamma] * p.dL_dy[i], p.z_hat[i], deviation)


def gamma_forgotten(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if p.z_hat[i] is None else unnormed(p.dL_dy[i], p.z_hat[i], p.deviation[i])


def _unbiased_deviation(p: Pass, i: int) -> Array:
    return np.sqrt(p.z[i].var(axis=0, ddof=1) + p.layers[i].batch_norm)


def unbiased_divisor(p: Pass, i: int, rng: Rng) -> Array | None:
    """Keep ẑ from the forward pass, and recompute only the standard deviation, from the unbiased variance."""
    if p.z_hat[i] is None or len(p.x) < 2:
        return None
    return unnormed(p.parameters[p.layers[i].gamma] * p.dL_dy[i], p.z_hat[i], _unbiased_deviation(p, i))


def unbiased_throughout(p: Pass, i: int, rng: Rng) -> Array | None:
    """Return the derivative of a normalisation by the unbiased variance."""
    if p.z_hat[i] is None or len(p.x) < 2:
        return None
    g, deviation = p.parameters[p.layers[i].gamma] * p.dL_dy[i], _unbiased_deviation(p, i)
    z_hat = (p.z[i] - p.z[i].mean(axis=0)) / deviation
    return (g - g.mean(axis=0) - z_hat * (g * z_hat).sum(axis=0) / (len(g) - 1)) / deviation


def gamma_of_z(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if p.z_hat[i] is None else (p.dL_dy[i] * p.z[i]).sum(axis=0)


def gamma_averaged(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if p.z_hat[i] is None else (p.dL_dy[i] * p.z_hat[i]).mean(axis=0)


def beta_averaged(p: Pass, i: int, rng: Rng) -> Array | None:
    return None if p.z_hat[i] is None else p.dL_dy[i].mean(axis=0)
