"""Solving for unknowns, and comparing sites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.site import Site
from gradcheck_cli.types import Array

NOTHING = 1e-11
"""With a smaller factor only rounding is left."""


def is_right(site: Site, right: Site | None) -> bool:
    """Whether wrong steps have led to the same δ as the right ones."""
    if right is None:
        return False
    pairs = ((site.delta, right.delta), (site.dL_dy, right.dL_dy), (site.dL_da, right.dL_da))
    return all(np.abs(a - b).max(initial=0.0) <= 1e-13 * np.abs(b).max(initial=0.0) for a, b in pairs)


def times(site: Site, factor: float) -> Site:
    """Return the site with a factor on ∂L/∂a: everything after it is linear in that."""
    return replace(site, dL_da=factor * site.dL_da, dL_dy=factor * site.dL_dy, delta=factor * site.delta)


def projected(found: Array, candidate: Array) -> float:
    """Return the factor that brings the candidate nearest to what was found."""
    known = np.isfinite(found)
    size = float(np.square(candidate[known]).sum())
    return float((found[known] * candidate[known]).sum() / size) if size > 0 else np.nan


def affine(found: Array, at_zero: Array, at_one: Array) -> float:
    """Return the value at which an affine function comes nearest to what was found."""
    return projected(found - at_zero, at_one - at_zero)


def affine_if_any(found: Array, at_zero: Array | None, at_one: Array | None) -> float:
    """Return the value of `affine`, or 0 if one of the two does not apply."""
    return 0.0 if at_zero is None or at_one is None else affine(found, at_zero, at_one)


def unlike(values: Sequence[float]) -> list[float]:
    """Return the values without duplicates."""
    kept: list[float] = []
    for value in values:
        if not any(math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-8) for other in kept):
            kept.append(value)
    return kept
