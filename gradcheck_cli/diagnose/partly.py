"""Mistakes that some units or some samples alone have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.site import RIGHT, Part, Site
from gradcheck_cli.diagnose.subsets import kept_samples, numbered
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.types import Array

# --- units -------------------------------------------------------------------------------------------------


def rows_as(site: Site, target: Target, penalty: Array) -> Array:
    """Which rows of the weight's gradient are as this site makes them."""
    return np.asarray(target.same(target.found, RIGHT[Part.WEIGHT](site) + penalty).all(axis=1))


def in_some_units(
    wrong: Site, right: Site, right_rows: Array, target: Target, penalty: Array
) -> tuple[str, Site] | None:
    """Which units, and the site, if each row of the weight's gradient is right or wrong in this way."""
    units = ~right_rows
    if not units.any() or units.all() or not rows_as(wrong, target, penalty)[units].all():
        return None
    dL_dy, delta = np.where(units, wrong.dL_dy, right.dL_dy), np.where(units, wrong.delta, right.delta)
    return numbered("unit", units), replace(wrong, dL_dy=dL_dy, delta=delta)


# --- samples -----------------------------------------------------------------------------------------------


def of_some_samples(sites: Sequence[Site], found: Mapping[str, Array]) -> tuple[str, Site] | None:
    """Which samples the loss is of, if only some, and the output layer's site; solved from all layers.

    found: the gradients without their penalties.
    """
    site = sites[-1]
    some = kept_samples(list(_sums_over_samples(sites, found)))
    if some is None:
        return None
    dL_da, dL_dy, delta = (some * each for each in (site.dL_da, site.dL_dy, site.delta))
    return numbered("sample", some[:, 0] > 0), replace(site, dL_da=dL_da, dL_dy=dL_dy, delta=delta)


def _sums_over_samples(
    sites: Sequence[Site], found: Mapping[str, Array]
) -> Iterator[tuple[Array, Array, Array]]:
    """What was found of every Σₙ δₙᵀ fₙ that is linear in each sample's loss, with δ and f."""
    for site in reversed(sites):
        if site.normalised is not None:  # of which every sample depends on all
            return
        if site.layer.weight in found:
            yield found[site.layer.weight], site.delta, site.a_h
        if site.layer.bias in found:
            yield found[site.layer.bias][:, None], site.delta, np.ones((site.samples, 1))


def sum_over_some(site: Site, part: Part, found: Array) -> tuple[str, Array] | None:
    """Which samples one product or sum is over, if only some, and the gradient that this leads to."""
    factors = site.a_h if part is Part.WEIGHT else np.ones((site.samples, 1))
    some = kept_samples([(found.reshape(len(site.w), -1), site.delta, factors)])
    if some is None:
        return None
    return numbered("sample", some[:, 0] > 0), RIGHT[part](replace(site, delta=some * site.delta))
