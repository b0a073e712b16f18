"""Solve for the unknowns of mistakes, and compare sites. A site is one layer of backprop (see `site.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.site import Site
from gradcheck_cli.types import Array

NOTHING = 1e-11
"""A gradient smaller than this fraction of another is nothing but rounding error."""


def is_right(site: Site, right: Site | None) -> bool:
    """Return whether a site reached by wrong steps has the same δ, ∂L/∂y and ∂L/∂a as the correct site."""
    if right is None:
        return False
    pairs = ((site.delta, right.delta), (site.dL_dy, right.dL_dy), (site.dL_da, right.dL_da))
    return all(np.abs(a - b).max(initial=0.0) <= 1e-13 * np.abs(b).max(initial=0.0) for a, b in pairs)


def times(site: Site, factor: float) -> Site:
    """Return the site with ∂L/∂a multiplied by a factor.

    ∂L/∂y and δ are multiplied as well, since they are linear in ∂L/∂a.
    """
    return replace(site, dL_da=factor * site.dL_da, dL_dy=factor * site.dL_dy, delta=factor * site.delta)


def projected(found: Array, candidate: Array) -> float:
    """Return the factor k for which k · `candidate` fits the gradient `found` best, by least squares."""
    known = np.isfinite(found)
    size = float(np.square(candidate[known]).sum())
    return float((found[known] * candidate[known]).sum() / size) if size > 0 else np.nan


def affine(found: Array, at_zero: Array, at_one: Array) -> float:
    """Return the value of the unknown with which the candidate gradient fits the gradient `found` best.

    The candidate is affine in the unknown.

    at_zero, at_one: the candidate with the unknown at 0 and at 1.
    """
    return projected(found - at_zero, at_one - at_zero)


def affine_if_any(found: Array, at_zero: Array | None, at_one: Array | None) -> float:
    """Return `affine(found, at_zero, at_one)`, or 0 if `at_zero` or `at_one` is None."""
    return 0.0 if at_zero is None or at_one is None else affine(found, at_zero, at_one)


def unlike(values: Sequence[float]) -> list[float]:
    """Return the values, leaving out each value that nearly equals an earlier one."""
    kept: list[float] = []
    for value in values:
        if not any(math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-8) for other in kept):
            kept.append(value)
    return kept
