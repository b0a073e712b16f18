"""Mistakes that affect only some units or some samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.site import RIGHT, TENSORS, Part, Site
from gradcheck_cli.diagnose.subsets import kept_samples, numbered
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.network.steps.normalise import Normalised
from gradcheck_cli.types import Array

# --- units -------------------------------------------------------------------------------------------------


def rows_as(site: Site, target: Target, penalty: Array) -> Array:
    """Return, for each unit, whether the site reproduces the unit's row of the author's weight gradient."""
    return np.asarray(target.same(target.found, RIGHT[Part.WEIGHT](site) + penalty).all(axis=1))


def in_some_units(
    wrong: Site, right: Site, right_rows: Array, target: Target, penalty: Array
) -> tuple[str, Site] | None:
    """Return the names of the wrong units, and a site that is wrong in only these units.

    Returns None unless some rows of the weight's gradient match the wrong site and all other rows match the
    correct site.
    """
    units = ~right_rows
    if not units.any() or units.all() or not rows_as(wrong, target, penalty)[units].all():
        return None
    dL_dy, delta = np.where(units, wrong.dL_dy, right.dL_dy), np.where(units, wrong.delta, right.delta)
    return numbered("unit", units), replace(wrong, dL_dy=dL_dy, delta=delta)


# --- samples -----------------------------------------------------------------------------------------------


def of_some_samples(sites: Sequence[Site], found: Mapping[str, Array]) -> tuple[str, Site] | None:
    """Return the names of the samples that the loss includes, and the output layer's site for this loss.

    Returns None unless the author's gradients match a loss over only some of the samples.

    found: the author's gradients without penalty terms.
    """
    site = sites[-1]
    some = kept_samples(list(_sums_over_samples(sites, found)))
    if some is None:
        return None
    kept = replace(site, dL_da=some * site.dL_da, dL_dy=some * site.dL_dy)
    return numbered("sample", some[:, 0] > 0), replace(kept, delta=RIGHT[Part.NORM](kept))


def _sums_over_samples(
    sites: Sequence[Site], found: Mapping[str, Array]
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield each of the author's gradients that is a sum Σₙ δₙᵀ fₙ over samples n, as (gradient, δ, f).

    Each term of such a sum comes from the loss of one sample. So no gradient below the topmost batch
    normalisation is yielded, since each of its terms depends on all samples.
    """
    for site in reversed(sites):
        if not site.is_of_samples:
            return
        parts = (Part.WEIGHT, Part.BIAS) if site.normalised is None else (Part.BETA, Part.GAMMA)
        for part in parts:
            name = f"{site.layer.name}.{TENSORS[part]}"
            if name in found:
                yield _sum_over_samples(site, part, found[name])
        if site.normalised is not None:
            if site.layer.weight in found:
                yield from _through_the_norm(site, site.normalised, found[site.layer.weight])
            return


def _sum_over_samples(site: Site, part: Part, found: Array) -> tuple[Array, Array, Array]:
    if part is Part.WEIGHT:
        return found, site.delta, site.a_h
    summed = {
        Part.BIAS: site.delta,
        Part.BETA: site.dL_dy,
        Part.GAMMA: site.dL_dy if site.normalised is None else site.dL_dy * site.normalised.value,
    }
    return found[:, None], summed[part], np.ones((site.samples, 1))


def _through_the_norm(site: Site, norm: Normalised, found: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Yield the gradient of a weight below a normalisation, as a sum with one term for each sample's loss.

    Nothing is yielded if the computation would take too long.
    """
    if site.samples**2 * found.size > _MOST_PRODUCTS:
        return
    alone = np.eye(site.samples)[:, :, None] * (site.gamma * site.dL_dy)
    each = np.matmul(norm.vjp(alone).swapaxes(1, 2), site.a_h).reshape(site.samples, found.size)
    yield found.reshape(-1, 1), each, np.ones((site.samples, 1))


_MOST_PRODUCTS = 10_000_000
"""The largest number of products to compute for the gradient of one weight below a normalisation."""


def sum_over_some(site: Site, part: Part, found: Array) -> tuple[str, Array] | None:
    """Return the names of the samples that one sum includes, and the gradient that results.

    Returns None unless the author's gradient matches a sum over some of the samples.
    """
    some = kept_samples([_sum_over_samples(site, part, found)]) if site.is_of_samples else None
    if some is None:
        return None
    kept = replace(site, delta=some * site.delta, dL_dy=some * site.dL_dy)
    return numbered("sample", some[:, 0] > 0), RIGHT[part](kept)
