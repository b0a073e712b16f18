"""Mistakes in batch normalisation's backward pass that use another eps than the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gradcheck_cli.diagnose.families import NORM
from gradcheck_cli.diagnose.mistake import Mistake, Solver
from gradcheck_cli.diagnose.norm_formulas import (
    FORMULAS,
    NORMALISED,
    along_normalised,
    centred_gradient,
    variance_of,
)
from gradcheck_cli.diagnose.site import Part, Site, penalty_terms
from gradcheck_cli.network.steps.normalise import Normalised
from gradcheck_cli.types import Array


def _divided_with(at: Normalised, g: Array, site: Site, eps: float) -> Array:
    """Return δ with `eps` only in the divisor, while ẑ keeps the eps of the forward pass."""
    divided: Array = at.vjp(g) * at.deviation / np.sqrt(variance_of(at, site) + eps)
    return divided


def _throughout_with(at: Normalised, g: Array, site: Site, eps: float) -> Array:
    """Return the exact δ of a normalisation that uses `eps` in place of the forward pass's eps."""
    deviation = np.sqrt(variance_of(at, site) + eps)
    return (centred_gradient(g) - along_normalised(at.value * at.deviation / deviation, g)) / deviation


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
        variance = np.where(parts[0].any(axis=1), np.ravel(variance_of(at, site)), np.inf)
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
    right, factor = FORMULAS[Part.NORM]

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
        f"deviation = np.sqrt(z_h.var(axis=0) + 1e-5)\ndelta_h = {NORMALISED} / deviation",
        part=Part.NORM,
        step=step,
        solver=solver,
        planted=1e-3,
    )


OTHER_EPS = (
    _other_eps(
        _divided_with,
        _eps_found(lambda at, g: [at.vjp(g) * at.deviation]),
        "batch normalisation's backward pass uses eps = {value} in the root it divides by",
        "δ = (…) / √(var z + {value})",
    ),
    _other_eps(
        _throughout_with,
        _eps_found(lambda at, g: [centred_gradient(g), -along_normalised(at.value * at.deviation, g)]),
        "batch normalisation's backward pass uses eps = {value} throughout",
        "δ = (…) / √(var z + {value}), in ẑ too",
    ),
)
