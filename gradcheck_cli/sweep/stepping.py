"""Apply plain difference schemes to tensor entries at one step after another, even across kinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from gradcheck_cli.numerical.estimate import Estimate, Progress, differentiate
from gradcheck_cli.numerical.objective import Factors, Movable, Moved, Objective, Site, UnitObjective
from gradcheck_cli.numerical.reference import assembled
from gradcheck_cli.numerical.schemes import Scheme
from gradcheck_cli.numerical.slopes import NEARBY, Slopes, slopes_at
from gradcheck_cli.types import Array

BATCHES = 4
"""The number of batches of entries to perturb at every step, for a network.

These batches cover all entries, except in large networks.
"""

ENTRIES = 64
"""The number of entries to perturb, over all tensors together, if the gradients come from code."""

NUMBERS = 2**22
"""The number of a network's values that may be computed again at every point, over all tensors.

A sweep has over 150 points. A layer that consists of many steps, such as attention, computes many values.
"""

FEWEST = 8
"""The number of entries or rows of each tensor to perturb, even if they exceed `NUMBERS`."""

_POINTS = 16
"""The number of points to cache, which is enough for two steps of every scheme."""


class Numbers:
    """Perturbs the entries `which` of a `Movable`, and caches the points at which they were evaluated.

    The cache saves time, since a halved step reuses points of earlier steps.
    """

    def __init__(self, movable: Movable, which: Array, progress: Progress | None = None) -> None:
        self.movable = movable
        self.which = which
        self.progress = progress
        starts = range(0, len(which), movable.batch)
        self._parts = [which[start : start + movable.batch] for start in starts]
        self._moves = [self._remembering(part) for part in self._parts]

    def at(self, scheme: Scheme, step: float) -> Slopes:
        rows = [
            slopes_at(self.movable, scheme, part, step, move)
            for part, move in zip(self._parts, self._moves, strict=True)
        ]
        return Slopes(*(np.concatenate(each) for each in zip(*rows, strict=True)))

    def estimate(self, scheme: Scheme) -> Estimate:
        """Estimate the derivatives with a scheme that chooses its own steps."""
        return differentiate(self.movable, scheme, which=self.which)

    def _remembering(self, part: Array) -> Callable[[Array, Array], Moved]:
        @lru_cache(maxsize=_POINTS)
        def at(points: bytes, dtype: str) -> Moved:
            moved = self.movable.move(part, np.frombuffer(points, dtype))
            if self.progress:
                self.progress.advance(len(part))
            return moved

        return lambda _, to: at(to.tobytes(), to.dtype.str)


class SweptObjective(UnitObjective, Protocol):
    """A network that tells how much work each perturbation causes."""

    def work_of_entry(self, name: str) -> int:
        """Return how many values a perturbed entry of the parameter causes to be computed again."""

    def work_of_unit(self, site: Site) -> int:
        """Return how many values must be recomputed when one number of the site is perturbed."""


def evaluations(schemes: Iterable[Scheme], steps: Sequence[float]) -> int:
    """Return the number of distinct points at which each entry is evaluated, over all schemes and steps.

    If a scheme takes complex steps, one more real point on each side is needed to look for kinks.
    """
    schemes = list(schemes)
    points = {offset * step for scheme in schemes for offset in scheme.offsets for step in steps}
    if not all(scheme.cancels for scheme in schemes):
        points |= {-NEARBY, NEARBY}
    return len(points)


@dataclass(frozen=True)
class Stepped:
    """The slopes of E entries at one step, the noise of each slope, and whether the step crossed a kink.

    Each array is (E,).
    """

    value: Array
    noise: Array
    crossed: Array

    def plus(self, other: Stepped) -> Stepped:
        noise = np.hypot(self.noise, other.noise)
        return Stepped(self.value + other.value, noise, self.crossed | other.crossed)


@dataclass(frozen=True)
class ByEntries:
    """Entries of a parameter that are perturbed directly."""

    numbers: Numbers

    @property
    def moved(self) -> list[Numbers]:
        return [self.numbers]

    def at(self, scheme: Scheme, step: float) -> Stepped:
        slopes = self.numbers.at(scheme, step)
        return Stepped(slopes.value, slopes.noise, slopes.crossed)

    def estimate(self, scheme: Scheme) -> Estimate:
        return self.numbers.estimate(scheme)


@dataclass(frozen=True)
class ByUnits:
    """The entries of a parameter that belong to certain units. The units are perturbed in every sample.

    uses: for each use of the parameter, the factors by which the parameter enters a site (see `Site`), and
        the (feature, sample) pairs to perturb.
    """

    uses: tuple[tuple[Factors, Numbers], ...]
    samples: int

    @property
    def moved(self) -> list[Numbers]:
        return [numbers for _, numbers in self.uses]

    def at(self, scheme: Scheme, step: float) -> Stepped:
        slopes = [numbers.at(scheme, step) for _, numbers in self.uses]
        total = self._sum([Estimate(of.value, of.noise) for of in slopes])
        crossed = np.zeros(len(total.value), dtype=bool)
        if any(of.crossed.any() for of in slopes):  # entries are unknown if one of their pairs crossed a kink
            unknown = [np.where(of.crossed, np.inf, 0.0) for of in slopes]
            crossed = np.isinf(self._sum([Estimate(np.zeros_like(each), each) for each in unknown]).error)
        return Stepped(total.value, total.error, crossed)

    def estimate(self, scheme: Scheme) -> Estimate:
        return self._sum([numbers.estimate(scheme) for _, numbers in self.uses])

    def _sum(self, pairs: Sequence[Estimate]) -> Estimate:
        shares = [
            (factors, each.reshape(-1, self.samples))
            for (factors, _), each in zip(self.uses, pairs, strict=True)
        ]
        return assembled(shares).reshape(-1)


@dataclass(frozen=True)
class Entries:
    """Some entries of one parameter, by flat index, with the parameter's penalty, if any."""

    which: Array
    losses: ByEntries | ByUnits
    penalty: ByEntries | None

    def at(self, scheme: Scheme, step: float) -> Stepped:
        stepped = self.losses.at(scheme, step)
        return stepped if self.penalty is None else stepped.plus(self.penalty.at(scheme, step))

    def estimate(self, scheme: Scheme) -> Estimate:
        """Estimate the derivatives with a scheme that chooses its own steps."""
        total = self.losses.estimate(scheme)
        if self.penalty is None:
            return total
        own = self.penalty.estimate(scheme)
        return Estimate(total.value + own.value, np.hypot(total.error, own.error))


class Drawing:
    """Chooses the entries to perturb: all entries, or a random sample if there are too many.

    included: for each tensor, the flat index of an entry that is always in the sample.
    """

    def __init__(self, included: Mapping[str, int], seed: int, progress: Progress | None = None) -> None:
        self._included = included
        self._rng = np.random.default_rng(seed)
        self._progress = progress
        self._rows: dict[tuple[tuple[Site, ...], int], Array] = {}
        self._sites: dict[tuple[Site, bytes], Numbers] = {}

    def by_units(self, objective: SweptObjective, names: Sequence[str]) -> dict[str, Entries]:
        share = NUMBERS // max(1, len(names))
        return {
            name: self._by_entries(objective, name, share)
            if objective.literally(name)
            else self._units_of(objective, name, share)
            for name in names
        }

    def by_entries(self, objective: SweptObjective, names: Sequence[str]) -> dict[str, Entries]:
        share = NUMBERS // max(1, len(names))
        return {name: self._by_entries(objective, name, share) for name in names}

    def of_code(self, objective: Objective, names: Sequence[str]) -> dict[str, Entries]:
        some = max(1, ENTRIES // max(1, len(names)))
        return {name: self._entries_of(objective, name, some) for name in names}

    def _by_entries(self, objective: SweptObjective, name: str, share: int) -> Entries:
        most = _affordable(BATCHES * objective.entries(name).batch, share, objective.work_of_entry(name))
        return self._entries_of(objective, name, most)

    def _entries_of(self, objective: Objective, name: str, most: int) -> Entries:
        movable = objective.entries(name)
        which = self._some(len(movable.position), most, self._included.get(name))
        return Entries(
            which, ByEntries(Numbers(movable, which, self._progress)), _penalty(objective, name, which)
        )

    def _units_of(self, objective: SweptObjective, name: str, share: int) -> Entries:
        shape, rows = objective.shapes[name], self._rows_of(objective, name, share)
        samples, uses = 1, []
        for site, factors in objective.uses(name):
            samples = objective.site_shape(site)[1]
            pairs = (factors.of(rows)[:, None] * samples + np.arange(samples)).ravel()
            if pairs.size:  # these rows may not affect every site
                uses.append((factors.only(rows), self._numbers(objective, site, pairs)))
        which = np.arange(int(np.prod(shape))).reshape(shape)[rows].ravel()
        return Entries(which, ByUnits(tuple(uses), samples), _penalty(objective, name, which))

    def _rows_of(self, objective: SweptObjective, name: str, share: int) -> Array:
        """Return the sampled rows of a parameter. Parameters with the same sites have the same rows."""
        (units, *inputs), sites = objective.shapes[name], tuple(use.site for use in objective.uses(name))
        if (sites, units) not in self._rows:
            included = self._included.get(name)
            row = None if included is None else included // int(np.prod(inputs))
            most = min(self._most(objective, site, units, share) for site in sites)
            self._rows[sites, units] = self._some(units, most, row)
        return self._rows[sites, units]

    def _most(self, objective: SweptObjective, site: Site, units: int, share: int) -> int:
        """Return how many units of a parameter fit into a few batches and into its share of the work."""
        features, samples = objective.site_shape(site)
        numbers = samples * max(1, features // units)
        most = max(1, BATCHES * objective.units(site).batch // numbers)
        return _affordable(most, share, numbers * objective.work_of_unit(site))

    def _numbers(self, objective: UnitObjective, site: Site, pairs: Array) -> Numbers:
        """Return the `Numbers` for (feature, sample) pairs of a site. The same pairs give the same object."""
        key = (site, pairs.tobytes())
        if key not in self._sites:
            self._sites[key] = Numbers(objective.units(site), pairs, self._progress)
        return self._sites[key]

    def _some(self, size: int, most: int, included: int | None) -> Array:
        if size <= most:
            return np.arange(size)
        drawn = self._rng.choice(size, max(1, most), replace=False)
        if included is not None and included not in drawn:
            drawn[0] = included
        return np.sort(drawn)


def _affordable(most: int, share: int, work: int) -> int:
    """Return how many entries or rows to perturb: at most `most`, and no more than their share allows.

    share: the number of values to compute again at each point.
    work: the number of values that one entry or row needs.
    """
    return min(most, max(FEWEST, share // max(1, work)))


def _penalty(objective: Objective, name: str, which: Array) -> ByEntries | None:
    penalty = objective.penalty(name)
    return None if penalty is None else ByEntries(Numbers(penalty, which))
