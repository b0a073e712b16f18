"""Present the user's code as an objective in which the entries of its sites can be perturbed.

A site is an array inside the code; see `sites.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from gradcheck_cli.code.objective import ForeignObjective, length
from gradcheck_cli.code.refusals import is_refusal
from gradcheck_cli.code.sites import NO_SITES, Sites
from gradcheck_cli.numerical.objective import ALONE, Corner, Movable, Moved, Site, Spread, Use
from gradcheck_cli.types import EPS, Array


@dataclass(frozen=True)
class SiteObjective(ForeignObjective):
    """The losses of the user's code as a function of its parameters and of the entries of its sites.

    site_noise: for each parameter with sites, the noise in the loss terms that `Sites` returns.
    """

    sites: Sites = NO_SITES
    site_noise: Mapping[str, Array] = field(default_factory=dict)

    conventions: ClassVar[tuple[SiteObjective, ...]] = ()

    def uses(self, name: str) -> Sequence[Use]:
        return self.sites.uses[name]

    def corners(self, name: str) -> Sequence[Corner]:
        """Return nothing, because the kinks of the user's code are unknown."""
        return ()

    def quick_entries(self, name: str) -> Movable:
        return self.entries(name)

    def literally(self, name: str) -> bool:
        return name not in self.sites.uses

    def batches(self, site: Site) -> int:
        return 1

    def site_shape(self, site: Site) -> tuple[int, int]:
        features, samples = self.sites.values(site).shape
        return features, samples

    def units(self, site: Site) -> Movable:
        names = [name for name, uses in self.sites.uses.items() if site in {use.site for use in uses}]
        return _Numbers(self.sites, site, np.max([self.site_noise[name] for name in names], axis=0))


_UNITS = 2.0**-7, 2.0**7
"""The smallest and the largest unit step of an entry. The step is usually the size of the entry's feature."""


@dataclass(frozen=True)
class _Numbers:
    """The entries of a site. A perturbed entry changes only the loss terms of its own sample.

    The losses that `move` returns are differences from the unperturbed losses.

    noise: the noise in the S loss terms, (S,).
    """

    sites: Sites
    site: Site
    noise: Array

    spread: ClassVar[Spread] = ALONE
    exact: ClassVar[bool] = False

    @cached_property
    def position(self) -> Array:
        return self.sites.values(self.site).ravel()

    @cached_property
    def unit(self) -> Array:
        by_feature = self.sites.values(self.site)
        return np.clip(np.stack([length(feature) for feature in by_feature]), *_UNITS).ravel()

    @cached_property
    def terms(self) -> Array:
        return self.sites.terms(self.site)

    @property
    def batch(self) -> int:
        return self.sites.at_once(self.site) * len(self.terms)

    @property
    def rest(self) -> Array:
        return np.zeros(1)

    def move(self, which: Array, to: Array) -> Moved:
        features, samples = np.divmod(which, len(self.terms))
        distinct, of = np.unique(features, return_inverse=True)
        shifts = np.zeros((len(distinct), len(self.terms)))
        shifts[of, samples] = to - self.position[which]
        losses = self._losses([int(feature) for feature in distinct], shifts)
        own = self.terms[samples]
        found = losses[of[:, None], own]
        rounding = np.maximum(self.noise[own] / EPS, np.abs(found))
        return Moved(found - self.sites.rest()[own], rounding, np.zeros(len(which), dtype=bool))

    def _losses(self, features: Sequence[int], shifts: Array) -> Array:
        """Return the S loss terms for each of K features, (K, S), or NaN if the code refuses a shift."""
        try:
            return self.sites.shifted(self.site, features, shifts)
        except Exception as error:
            if not is_refusal(error):
                raise
        if len(features) == 1:
            return np.full((1, len(self.noise)), np.nan)
        pairs = zip(features, shifts, strict=True)
        return np.concatenate([self._losses([feature], shift[None]) for feature, shift in pairs])
