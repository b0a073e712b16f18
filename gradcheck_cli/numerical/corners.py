"""Find the extremes and mixtures of a network's gradients over all choices of sides at its kinks.

The slope of a (feature, sample) pair is linear in the weights of the pieces that meet at each kink. So its
extremes are at the corners, where every kink is wholly on one piece. If kinks are on the same piece in all
samples, the extremes of an entry's gradient are at the corners, too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gradcheck_cli.numerical.estimate import ERROR_BARS, Estimate, differentiate
from gradcheck_cli.numerical.mixtures import MixedCorner, Mixtures
from gradcheck_cli.numerical.objective import Corner, Factors, Objective, Site, UnitObjective
from gradcheck_cli.numerical.schemes import Scheme, escalated
from gradcheck_cli.types import Array, Shape

_MOST_MIXED = 2**22
"""The largest number of floats to store for the gradients under all mixtures of pieces."""


@dataclass(frozen=True)
class Corners:
    """The gradients of a network's parameters at its corners.

    scheme: the scheme for penalties and, if it can decide on its own, for losses.
    slopes_of_pairs: a function that returns the slopes of the marked (feature, sample) pairs of a site and
        0 for all other pairs, (F, N), with their errors. F is the number of features, and N the number of
        samples.
    """

    objective: UnitObjective
    scheme: Scheme
    slopes_of_pairs: Callable[[Site, Array, UnitObjective], Estimate]
    _known: dict[Hashable, Estimate] = field(default_factory=dict)

    def between(self, name: str, undecided: Array) -> tuple[Array, Array]:
        """Return the least and the greatest gradient of each entry over all choices of sides at kinks.

        The error bars of the slopes widen the bounds.
        """
        own = [_penalty_slopes(each, name, self.scheme) for each in self.objective.conventions]
        bounds = self._literally_within if not self.objective.uses(name) else self._within
        each = [bounds(corner, name, undecided) for corner in self.objective.corners(name)]
        if not each:
            return unbounded(undecided.shape)
        low, high = zip(*each, strict=True)
        return np.min(low, axis=0) + np.min(own, axis=0), np.max(high, axis=0) + np.max(own, axis=0)

    def _within(self, corner: Corner, name: str, undecided: Array) -> tuple[Array, Array]:
        """Return the extremes of each entry's slope over all choices of sides at single kinks.

        The slopes of penalties are left out.
        """
        low = high = np.zeros(undecided.shape)
        for site, factors in self.objective.uses(name):
            fed = np.broadcast_to(factors.feeding(undecided)[:, None], self.objective.site_shape(site))
            least, most = _extremes(corner, partial(self._slopes_at, site, fed))
            middle, half = factors.sums(0.5 * (least + most)), factors.sizes(0.5 * (most - least))
            low, high = low + middle - half, high + middle + half
        bars = self._bars(corner, name, undecided)
        return low - bars, high + bars

    def _bars(self, corner: Corner, name: str, undecided: Array) -> Array:
        """Return the widest error bar of each entry's gradient under the choices of a corner."""
        squares = np.zeros(undecided.shape)
        for site, factors in self.objective.uses(name):
            fed = np.broadcast_to(factors.feeding(undecided)[:, None], self.objective.site_shape(site))
            each = [self._estimates_at(site, fed, of).error for of in _objectives(corner)]
            squares += np.square(2.0 * factors.squares(_largest(each)))
        bars: Array = ERROR_BARS * np.sqrt(squares)
        return bars

    def mixtures(self, name: str, undecided: Array) -> Mixtures | None:
        """Return the gradients of the marked entries under all mixtures of pieces at kinks.

        Returns None if the gradients are unknown or too many to store.
        """
        corners = [self._mixed(corner, name, undecided) for corner in self.objective.corners(name)]
        known = [corner for corner in corners if corner is not None and corner.is_known]
        if not known or len(known) < len(corners):
            return None
        each = [_penalty_slopes(each, name, self.scheme) for each in self.objective.conventions]
        own = np.stack([slopes[undecided] for slopes in each])
        middle, half = 0.5 * (own.min(axis=0) + own.max(axis=0)), 0.5 * np.ptp(own, axis=0)
        bars = [self._bars(corner, name, undecided)[undecided] for corner in self.objective.corners(name)]
        shifted = [replace(corner, base=corner.base + middle) for corner in known]
        return Mixtures(shifted, half, np.max(bars, axis=0))

    def _mixed(self, corner: Corner, name: str, undecided: Array) -> MixedCorner | None:
        """Return the gradients of the marked entries under all choices of sides at single kinks.

        The slopes of penalties are left out.
        """
        uses, base = self.objective.uses(name), np.zeros(np.count_nonzero(undecided))
        samples = self.objective.site_shape(uses[0].site)[1] if uses and corner.in_sample else 1
        if not uses or sum(map(len, corner.single)) * samples * len(base) > _MOST_MIXED:
            return None
        shares: list[list[list[Array]]] = []
        for site, factors in uses:
            fed = np.broadcast_to(factors.feeding(undecided)[:, None], self.objective.site_shape(site))
            slopes = partial(self._slopes_at, site, fed)
            at_rest = slopes(corner.base)
            base = base + factors.sums(at_rest)[undecided]
            added = [np.stack([slopes(each) - at_rest for each in others]) for others in corner.single]
            shares.append([list(_by_kink(pieces, factors, undecided, corner.in_sample)) for pieces in added])
        total = [sum(parts) for groups in zip(*shares, strict=True) for parts in zip(*groups, strict=True)]
        return MixedCorner(base, tuple(each for each in total if each.any()))

    def _slopes_at(self, site: Site, fed: Array, objective: UnitObjective) -> Array:
        return self._estimates_at(site, fed, objective).value

    def _estimates_at(self, site: Site, fed: Array, objective: UnitObjective) -> Estimate:
        """Return the result of `slopes_of_pairs`, from a cache if possible.

        A layer's weight and bias need the same slopes, and so do bounds and mixtures.
        """
        key = site, id(objective), fed.tobytes()
        if key not in self._known:
            self._known[key] = self.slopes_of_pairs(site, fed, objective)
        return self._known[key]

    def _literally_within(self, corner: Corner, name: str, undecided: Array) -> tuple[Array, Array]:
        """Return the extremes of each entry's slope over all choices of sides at single kinks.

        The slopes of penalties are left out.

        An entry's slope is a sum over all samples. So the extremes are unknown unless the piece of each
        sample's kink can be chosen on its own.
        """
        if corner.single and corner.in_sample:
            return unbounded(undecided.shape)
        estimates = {id(of): self._of_entries(name, undecided, of) for of in _objectives(corner)}
        low, high = _extremes(corner, lambda objective: estimates[id(objective)].value)
        bars = ERROR_BARS * _largest([each.error for each in estimates.values()])
        return low - bars, high + bars

    def _of_entries(self, name: str, undecided: Array, objective: UnitObjective) -> Estimate:
        """Return the slopes of the marked entries; the slopes of all other entries are NaN."""
        which, full = np.flatnonzero(undecided), np.full(undecided.shape, np.nan)
        found = differentiate(objective.entries(name), escalated(self.scheme), None, which)
        slopes, errors = full, full.copy()
        slopes.flat[which], errors.flat[which] = found.value, found.error
        return Estimate(slopes, errors)


def _objectives(corner: Corner) -> list[UnitObjective]:
    return [corner.base, *(each for others in corner.single for each in others)]


def _largest(errors: Sequence[Array]) -> Array:
    """Return the largest finite error of each slope, or 0. Slopes without one are unknown anyway."""
    largest: Array = np.max([np.where(np.isfinite(each), each, 0.0) for each in errors], axis=0)
    return largest


def unbounded(shape: Shape) -> tuple[Array, Array]:
    """Return bounds that exclude no gradient, for entries whose kinks cannot be separated."""
    return np.full(shape, -np.inf), np.full(shape, np.inf)


def _by_kink(pieces: Array, factors: Factors, undecided: Array, in_sample: bool) -> Iterator[Array]:
    """Yield, for each kink, what each piece of the kink adds to the slopes of the marked entries.

    pieces: what each piece adds to the slopes of F features and N samples, (pieces, F, N), for one kink in
        every sample.
    """
    columns = np.eye(pieces.shape[-1]) if in_sample else np.ones((1, pieces.shape[-1]))
    for column in columns:
        yield np.stack([factors.sums(piece * column)[undecided] for piece in pieces])


def _extremes(corner: Corner, slopes: Callable[[UnitObjective], Array]) -> tuple[Array, Array]:
    """Return the least and the greatest slopes over all choices of sides at single kinks.

    slopes: a function that returns the slopes of an objective, in any shape.
    """
    low = high = base = slopes(corner.base)
    for others in corner.single:
        shares = [slopes(each) - base for each in others]
        low, high = (
            low + np.minimum(0.0, np.min(shares, axis=0)),
            high + np.maximum(0.0, np.max(shares, axis=0)),
        )
    return low, high


def _penalty_slopes(objective: Objective, name: str, scheme: Scheme) -> Array:
    penalty, shape = objective.penalty(name), objective.shapes[name]
    return np.zeros(shape) if penalty is None else differentiate(penalty, scheme).value.reshape(shape)
