"""Mistakes in batch normalisation: in its backward pass, and in the gradients of γ and β."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from gradcheck_cli.diagnose.families import NORM
from gradcheck_cli.diagnose.mistake import Mistake, Solver, Step
from gradcheck_cli.diagnose.site import Part, Site, penalty_terms
from gradcheck_cli.network.steps.normalise import Normalised
from gradcheck_cli.types import Array

_FORMULAS = {
    Part.BIAS: ("∂L/∂b = Σₙ δₙ", "∂L/∂b"),
    Part.GAMMA: ("∂L/∂γ = Σₙ ∂L/∂yₙ ẑₙ", "∂L/∂γ"),
    Part.BETA: ("∂L/∂β = Σₙ ∂L/∂yₙ", "∂L/∂β"),
    Part.NORM: ("δ = (g − mean g − ẑ mean(g ẑ)) / √(var z + eps), g = γ ∂L/∂y", "δ"),
}
"""Maps each part to its correct formula and to the factor of the chain rule that the part computes."""

Of = Callable[[Normalised, Array, Site], Array]
"""A function that takes ẑ, g = γ ∂L/∂y and the site, and returns the result of a wrong step."""


def _row(part: Part, kind: str, of: Of, sentence: str, wrong: str, code: str, shown_by: str = "") -> Mistake:
    right, factor = _FORMULAS[part]
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


def _centred(g: Array) -> Array:
    centred: Array = g - g.mean(axis=0)
    return centred


def _along(z_hat: Array, g: Array) -> Array:
    along: Array = z_hat * (g * z_hat).mean(axis=0)
    return along


def _unbiased(at: Normalised, site: Site) -> Array:
    """Return √(var z + eps) with the unbiased variance, which divides by N − 1 for N rows."""
    eps, count = site.layer.batch_norm or 0.0, site.rows
    variance = at.deviation**2 - eps
    deviation: Array = np.sqrt(variance * count / max(1, count - 1) + eps)
    return deviation


def _unbiased_throughout(at: Normalised, g: Array, site: Site) -> Array:
    deviation = _unbiased(at, site)
    z_hat = at.value * at.deviation / deviation
    return (_centred(g) - _along(z_hat, g)) / deviation


def _unbiased_consistently(at: Normalised, g: Array, site: Site) -> Array:
    """Return the exact δ of a normalisation whose variance divides by N − 1, for N rows."""
    deviation, count = _unbiased(at, site), site.rows
    z_hat = at.value * at.deviation / deviation
    return (_centred(g) - _along(z_hat, g) * count / max(1, count - 1)) / deviation


_NORMALISED = "(g - g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0))"
"""The numerator of the correct δ, as numpy code."""

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
        lambda at, g, s: _centred(g) / at.deviation,
        "batch normalisation's backward pass lacks the term from the variance",
        "δ = (g − mean g) / √(…)",
        "delta_h = (g - g.mean(axis=0)) / deviation",
    ),
    _norm(
        "batch norm: mean subtracted twice",
        lambda at, g, s: (_centred(g) - g.mean(axis=0) - at.along(g)) / at.deviation,
        "batch normalisation's backward pass subtracts the term from the mean twice",
        "δ = (g − 2 mean g − ẑ mean(g ẑ)) / √(…)",
        "delta_h = (g - 2 * g.mean(axis=0) - z_hat * (g * z_hat).mean(axis=0)) / deviation",
    ),
    _norm(
        "batch norm: variance term twice",
        lambda at, g, s: (_centred(g) - 2.0 * at.along(g)) / at.deviation,
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
        f"{_UNBIASED}\ndelta_h = {_NORMALISED} / deviation",
    ),
    _norm(
        "batch norm: unbiased variance",
        _unbiased_throughout,
        "batch normalisation's backward pass takes both ẑ and the root from the unbiased variance, "
        "which divides by N − 1",
        "δ = (…) / √(var with N − 1, + eps)",
        f"{_NORMALISED_AGAIN}\ndelta_h = {_NORMALISED.replace('z_hat', 'z_unbiased')} / deviation",
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
        lambda at, g, s: (_centred(g) - at.along(g) * s.rows / max(1, s.rows - 1)) / at.deviation,
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
        f"delta_h = {_NORMALISED} / deviation**2",
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
        lambda at, g, s: (_centred(g) - at.value * (g * at.value).sum(axis=0)) / at.deviation,
        "batch normalisation's backward pass uses a sum instead of a mean in the term from the variance",
        "δ = (g − mean g − ẑ Σ(g ẑ)) / √(…)",
        "",
    ),
    _norm(
        "batch norm: eps forgotten",
        lambda at, g, s: at.vjp(g) * at.deviation / np.sqrt(_variance(at, s)),
        "batch normalisation's backward pass lacks eps",
        "δ = (…) / √(var z)",
        f"delta_h = {_NORMALISED} / z_h.std(axis=0)",
    ),
    _norm(
        "batch norm: eps outside the root",
        lambda at, g, s: at.vjp(g) * at.deviation / (np.sqrt(_variance(at, s)) + (s.layer.batch_norm or 0.0)),
        "batch normalisation's backward pass adds eps to the root, not to the variance",
        "δ = (…) / (√(var z) + eps)",
        f"delta_h = {_NORMALISED} / (z_h.std(axis=0) + eps)",
    ),
)


def _variance(at: Normalised, site: Site) -> Array:
    """Return var z without eps, but at least the smallest normal float, so that it can be divided by."""
    variance: Array = np.maximum(at.deviation**2 - (site.layer.batch_norm or 0.0), np.finfo(float).tiny)
    return variance


def _divided_with(at: Normalised, g: Array, site: Site, eps: float) -> Array:
    """Return δ with `eps` only in the divisor, while ẑ keeps the eps of the forward pass."""
    divided: Array = at.vjp(g) * at.deviation / np.sqrt(_variance(at, site) + eps)
    return divided


def _throughout_with(at: Normalised, g: Array, site: Site, eps: float) -> Array:
    """Return the exact δ of a normalisation that uses `eps` in place of the forward pass's eps."""
    deviation = np.sqrt(_variance(at, site) + eps)
    return (_centred(g) - _along(at.value * at.deviation / deviation, g)) / deviation


def _eps_found(terms: Callable[[Normalised, Array], Sequence[Array]]) -> Solver:
    """Return a solver for eps that uses one row of the weight's gradient.

    The row belongs to the unit with the smallest variance, for which eps matters most.

    terms: a function that writes δ as a polynomial in r = 1 / √(var z + eps). It returns the coefficient of r
        and, if r³ occurs, the coefficient of r³. Each coefficient is (N, out), for N samples.
    """

    def solve(site: Site, _: Array) -> Iterator[float]:
        at, name = site.normalised, site.layer.weight
        if at is None or name not in site.found:
            return
        parts = [term.T @ site.a_h for term in terms(at, site.gamma * site.dL_dy)]
        variance = np.where(parts[0].any(axis=1), np.ravel(_variance(at, site)), np.inf)
        j = int(variance.argmin())
        found = site.found[name][j] - sum(term[j] for term in penalty_terms(site.problem, name).values())
        if np.isfinite([found, *(part[j] for part in parts)]).all():
            r = np.linalg.lstsq(np.stack([part[j] for part in parts], axis=1), found, rcond=None)[0][0]
            if r > 0 and r**-2 > variance[j]:
                yield float(r**-2 - variance[j])

    return solve


def _other_eps(
    of: Callable[[Normalised, Array, Site, float], Array], solver: Solver, sentence: str, wrong: str
) -> Mistake:
    right, factor = _FORMULAS[Part.NORM]

    def step(site: Site, eps: float) -> Array | None:
        at = site.normalised
        return None if at is None else of(at, site.gamma * site.dL_dy, site, eps)

    return Mistake(
        "batch norm: another eps",
        NORM,
        f"in {{where}}, {sentence}, unlike the forward pass",
        wrong,
        right,
        factor,
        "eps",
        f"deviation = np.sqrt(z_h.var(axis=0) + 1e-5)\ndelta_h = {_NORMALISED} / deviation",
        part=Part.NORM,
        step=step,
        solver=solver,
        planted=1e-3,
    )


_OTHER_EPS = (
    _other_eps(
        _divided_with,
        _eps_found(lambda at, g: [at.vjp(g) * at.deviation]),
        "batch normalisation's backward pass uses eps = {value} in the root it divides by",
        "δ = (…) / √(var z + {value})",
    ),
    _other_eps(
        _throughout_with,
        _eps_found(lambda at, g: [_centred(g), -_along(at.value * at.deviation, g)]),
        "batch normalisation's backward pass uses eps = {value} throughout",
        "δ = (…) / √(var z + {value}), in ẑ too",
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
    *_OTHER_EPS,
    *_GAMMAS,
    *_BETAS,
)
