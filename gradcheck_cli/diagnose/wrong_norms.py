"""Mistakes in batch normalisation: in its backward pass, and in the gradients of γ and β."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from gradcheck_cli.diagnose.families import LARGER_EPS, NORM
from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.norm_formulas import (
    FORMULAS,
    NORMALISED,
    along_normalised,
    centred_gradient,
    variance_of,
)
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.diagnose.wrong_eps import OTHER_EPS
from gradcheck_cli.network.steps.normalise import Normalised
from gradcheck_cli.types import Array

Of = Callable[[Normalised, Array, Site], Array]
"""A function that takes ẑ, g = γ ∂L/∂y and the site, and returns the result of a wrong step."""


def _row(part: Part, kind: str, of: Of, sentence: str, wrong: str, code: str, shown_by: str = "") -> Mistake:
    right, factor = FORMULAS[part]
    return Mistake(
        kind,
        NORM,
        f"in {{where}}, {sentence}",
        wrong,
        right,
        factor,
        code=code,
        shown_by=shown_by,
        part=part,
        step=_normed(of),
    )


def _normed(of: Of) -> Step:
    """Return a step that computes `of`. The step applies only to layers with batch normalisation."""

    def step(site: Site, _: float) -> Array | None:
        return None if site.normalised is None else of(site.normalised, site.gamma * site.dL_dy, site)

    return step


def _unbiased(at: Normalised, site: Site) -> Array:
    """Return √(var z + eps) with the unbiased variance, which divides by N − 1 for N rows."""
    eps, count = site.layer.batch_norm or 0.0, site.rows
    variance = at.deviation**2 - eps
    deviation: Array = np.sqrt(variance * count / max(1, count - 1) + eps)
    return deviation


def _unbiased_throughout(at: Normalised, g: Array, site: Site) -> Array:
    deviation = _unbiased(at, site)
    z_hat = at.value * at.deviation / deviation
    return (centred_gradient(g) - along_normalised(z_hat, g)) / deviation


def _unbiased_consistently(at: Normalised, g: Array, site: Site) -> Array:
    """Return the exact δ of a normalisation whose variance divides by N − 1, for N rows."""
    deviation, count = _unbiased(at, site), site.rows
    z_hat = at.value * at.deviation / deviation
    return (centred_gradient(g) - along_normalised(z_hat, g) * count / max(1, count - 1)) / deviation


_UNBIASED = "deviation = np.sqrt(z_h.var(axis=0, ddof=1) + eps)"
_NORMALISED_AGAIN = f"{_UNBIASED}\nz_unbiased = (z_h - z_h.mean(axis=0)) / deviation"
_WITH_N_LESS_1 = "(g - g.mean(axis=0) - z_hat * (g * z_hat).sum(axis=0) / (N - 1))"

_OTHER_GAMMA = "a gamma other than 1"
_UNLIKE_Z_HAT = "a batch with a mean other than 0 and a variance other than 1"

_norm = partial(_row, Part.NORM)
_gamma = partial(_row, Part.GAMMA)
_beta = partial(_row, Part.BETA)

WITHOUT_GAMMA: tuple[Mistake, ...] = (
    _norm(
        "batch norm: gamma forgotten",
        lambda at, g, s: at.vjp(s.dL_dy),
        "batch normalisation's backward pass lacks γ",
        "δ = (…) with g = ∂L/∂y",
        "g = dL_dy_h",
        _OTHER_GAMMA,
    ),
    _norm(
        "batch norm: left out",
        lambda at, g, s: s.dL_dy,
        "batch normalisation is left out of the backward pass",
        "δ = ∂L/∂y",
        "delta_h = dL_dy_h",
    ),
)
"""The mistakes that leave out γ. In a graph, γ belongs to a step of its own."""

_NORMS: tuple[Mistake, ...] = (
    _norm(
        "batch norm: mean term missing",
        lambda at, g, s: (g - at.along(g)) / at.deviation,
        "batch normalisation's backward pass lacks the term from the mean",
        "δ = (g − ẑ mean(g ẑ)) / √(…)",
        "delta_h = (g - z_hat * (g * z_hat).mean(axis=0)) / deviation",
    ),
    _norm(
        "batch norm: variance term missing",
        lambda at, g, s: centred_gradient(g) / at.deviation,
        "batch normalisation's backward pass lacks the term from the variance",
        "δ = (g − mean g) / √(…)",
        "delta_h = (g - g.mean(axis=0)) / deviation",
    ),
    _norm(
        "batch norm: mean subtracted twice",
        lambda at, g, s: (centred_gradient(g) - g.mean(axis=0) - at.along(g)) / at.deviation,
        "batch normalisation's backward pass subtracts the term from the mean twice",
        "δ = (g − 2 mean g − ẑ mean(g ẑ)) / √(…)",
        "delta_h = (g - 2 * g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / deviation",
    ),
    _norm(
        "batch norm: variance term twice",
        lambda at, g, s: (centred_gradient(g) - 2.0 * at.along(g)) / at.deviation,
        "batch normalisation's backward pass applies the term from the variance twice",
        "δ = (g − mean g − 2 ẑ mean(g ẑ)) / √(…)",
        "delta_h = (g - g.mean(axis=0) - 2 * z_hat * (g * z_hat).mean(axis=0)) / deviation",
    ),
    _norm(
        "batch norm: statistics held constant",
        lambda at, g, s: g / at.deviation,
        "batch normalisation's backward pass holds the mean and the variance constant",
        "δ = g / √(…)",
        "delta_h = g / deviation",
    ),
    _norm(
        "batch norm: unbiased variance",
        lambda at, g, s: at.vjp(g) * at.deviation / _unbiased(at, s),
        "batch normalisation's backward pass uses the root of the unbiased variance, which divides by N − 1",
        "δ = (…) / √(var with N − 1, + eps)",
        f"{_UNBIASED}\ndelta_h = {NORMALISED} / deviation",
    ),
    _norm(
        "batch norm: unbiased variance",
        _unbiased_throughout,
        "batch normalisation's backward pass takes both ẑ and the root from the unbiased variance, "
        "which divides by N − 1",
        "δ = (…) / √(var with N − 1, + eps)",
        f"{_NORMALISED_AGAIN}\ndelta_h = {NORMALISED.replace('z_hat', 'z_unbiased')} / deviation",
    ),
    _norm(
        "batch norm: unbiased variance",
        _unbiased_consistently,
        "batch normalisation's backward pass is written for the unbiased variance, which divides by N − 1",
        "δ = (…) / √(var with N − 1, + eps)",
        f"{_NORMALISED_AGAIN}\ndelta_h = {_WITH_N_LESS_1.replace('z_hat', 'z_unbiased')} / deviation",
    ),
    _norm(
        "batch norm: unbiased variance",
        lambda at, g, s: (centred_gradient(g) - at.along(g) * s.rows / max(1, s.rows - 1)) / at.deviation,
        "batch normalisation's backward pass divides the term from the variance by N − 1",
        "δ = (g − mean g − ẑ Σ(g ẑ) / (N − 1)) / √(…)",
        f"delta_h = {_WITH_N_LESS_1} / deviation",
    ),
    _norm(
        "batch norm: mean over too few",
        lambda at, g, s: (g - g.sum(axis=0) / max(1, s.rows - 1) - at.along(g)) / at.deviation,
        "batch normalisation's backward pass divides the term from the mean by N − 1",
        "δ = (g − Σ g / (N − 1) − ẑ mean(g ẑ)) / √(…)",
        "delta_h = (g - g.sum(axis=0) / (N - 1) - z_hat * (g * z_hat).mean(axis=0)) / deviation",
    ),
    WITHOUT_GAMMA[0],
    _norm(
        "batch norm: divided by the variance",
        lambda at, g, s: at.vjp(g) / at.deviation,
        "batch normalisation's backward pass divides by the variance, not by its root",
        "δ = (…) / (var z + eps)",
        f"delta_h = {NORMALISED} / deviation**2",
    ),
    _norm(
        "batch norm: left out",
        lambda at, g, s: g,
        "batch normalisation is left out of the backward pass, except for γ",
        "δ = γ ∂L/∂y",
        "delta_h = g",
    ),
    WITHOUT_GAMMA[1],
    _norm(
        "batch norm: deviation forgotten",
        lambda at, g, s: at.vjp(g) * at.deviation,
        "batch normalisation's backward pass does not divide by the standard deviation",
        "δ = g − mean g − ẑ mean(g ẑ)",
        "delta_h = g - g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)",
    ),
    _norm(
        "batch norm: sums in place of means",
        lambda at, g, s: (g - g.sum(axis=0) - at.value * (g * at.value).sum(axis=0)) / at.deviation,
        "batch normalisation's backward pass uses sums instead of means",
        "δ = (g − Σ g − ẑ Σ(g ẑ)) / √(…)",
        "delta_h = (g - g.sum(axis=0) - z_hat * (g * z_hat).sum(axis=0)) / deviation",
    ),
    _norm(
        "batch norm: sums in place of means",
        lambda at, g, s: (centred_gradient(g) - at.value * (g * at.value).sum(axis=0)) / at.deviation,
        "batch normalisation's backward pass uses a sum instead of a mean in the term from the variance",
        "δ = (g − mean g − ẑ Σ(g ẑ)) / √(…)",
        "",
    ),
    _norm(
        "batch norm: eps forgotten",
        lambda at, g, s: at.vjp(g) * at.deviation / np.sqrt(variance_of(at, s)),
        "batch normalisation's backward pass lacks eps",
        "δ = (…) / √(var z)",
        f"delta_h = {NORMALISED} / z_h.std(axis=0)",
        LARGER_EPS,
    ),
    _norm(
        "batch norm: eps outside the root",
        lambda at, g, s: (
            at.vjp(g) * at.deviation / (np.sqrt(variance_of(at, s)) + (s.layer.batch_norm or 0.0))
        ),
        "batch normalisation's backward pass adds eps to the root, not to the variance",
        "δ = (…) / (√(var z) + eps)",
        f"delta_h = {NORMALISED} / (z_h.std(axis=0) + eps)",
        LARGER_EPS,
    ),
)


_GAMMAS: tuple[Mistake, ...] = (
    _gamma(
        "batch norm: gamma gradient from z",
        lambda at, g, s: (s.dL_dy * s.activity.z[s.i]).sum(axis=0),
        "γ's gradient uses z instead of ẑ",
        "∂L/∂γ = Σₙ ∂L/∂yₙ zₙ",
        "dL_dgamma = (dL_dy_h * z_h).sum(axis=0)",
        _UNLIKE_Z_HAT,
    ),
    _gamma(
        "batch norm: gamma gradient from z",
        lambda at, g, s: (s.dL_dy * s.y).sum(axis=0),
        "γ's gradient uses γ ẑ + β instead of ẑ",
        "∂L/∂γ = Σₙ ∂L/∂yₙ yₙ",
        "dL_dgamma = (dL_dy_h * y_h).sum(axis=0)",
        _UNLIKE_Z_HAT,
    ),
    _gamma(
        "batch norm: gamma gradient from z",
        lambda at, g, s: (s.dL_dy * at.value * at.deviation).sum(axis=0),
        "γ's gradient uses z − mean z instead of ẑ",
        "∂L/∂γ = Σₙ ∂L/∂yₙ (zₙ − mean z)",
        "dL_dgamma = (dL_dy_h * (z_h - z_h.mean(axis=0))).sum(axis=0)",
        _UNLIKE_Z_HAT,
    ),
    _gamma(
        "batch norm: gamma gradient without z",
        lambda at, g, s: s.dL_dy.sum(axis=0),
        "γ's gradient lacks ẑ",
        "∂L/∂γ = Σₙ ∂L/∂yₙ",
        "dL_dgamma = dL_dy_h.sum(axis=0)",
    ),
    _gamma(
        "batch norm: gradient of gamma or beta averaged",
        lambda at, g, s: (s.dL_dy * at.value).mean(axis=0),
        "γ's gradient is averaged over the samples, not summed",
        "∂L/∂γ = mean ∂L/∂yₙ ẑₙ",
        "dL_dgamma = (dL_dy_h * z_hat).mean(axis=0)",
    ),
    _gamma(
        "batch norm: gamma gradient from delta",
        lambda at, g, s: (s.delta * at.value).sum(axis=0),
        "γ's gradient uses the δ from below the normalisation",
        "∂L/∂γ = Σₙ δₙ ẑₙ",
        "dL_dgamma = (delta_h * z_hat).sum(axis=0)",
    ),
    _gamma(
        "batch norm: gamma gradient from delta",
        lambda at, g, s: (g * at.value).sum(axis=0),
        "γ's gradient has an extra factor γ",
        "∂L/∂γ = Σₙ γ ∂L/∂yₙ ẑₙ",
        "dL_dgamma = (g * z_hat).sum(axis=0)",
    ),
)

_BETAS: tuple[Mistake, ...] = (
    _beta(
        "batch norm: gradient of gamma or beta averaged",
        lambda at, g, s: s.dL_dy.mean(axis=0),
        "β's gradient is averaged over the samples, not summed",
        "∂L/∂β = mean ∂L/∂yₙ",
        "dL_dbeta = dL_dy_h.mean(axis=0)",
    ),
    _beta(
        "batch norm: beta gradient from delta",
        lambda at, g, s: s.delta.sum(axis=0),
        "β's gradient sums the δ from below the normalisation",
        "∂L/∂β = Σₙ δₙ",
        "dL_dbeta = delta_h.sum(axis=0)",
        _OTHER_GAMMA,
    ),
    _beta(
        "batch norm: beta gradient from delta",
        lambda at, g, s: g.sum(axis=0),
        "β's gradient has an extra factor γ",
        "∂L/∂β = Σₙ γ ∂L/∂yₙ",
        "dL_dbeta = g.sum(axis=0)",
        _OTHER_GAMMA,
    ),
)


NORM_MISTAKES: tuple[Mistake, ...] = (
    _row(
        Part.BIAS,
        "batch norm: bias gradient from above the norm",
        lambda at, g, s: s.dL_dy.sum(axis=0),
        "the bias's gradient is taken at the output of the normalisation, as β's is",
        "∂L/∂b = Σₙ ∂L/∂yₙ",
        "dL_db_h = dL_dy_h.sum(axis=0)",
    ),
    *_NORMS,
    *OTHER_EPS,
    *_GAMMAS,
    *_BETAS,
)
