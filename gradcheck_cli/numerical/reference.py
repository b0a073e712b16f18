"""Compute the numerical gradients of whole tensors, by unit differences or by perturbing every entry.

Unit differences do most of the work. The loss is a sum of one term ℓₙ per sample n. In a dense layer with
inputs a, unit j of sample n has the pre-activation z_nj = Σₖ a_nk w_jk + b_j. Give each sample its own copy
of the weights; the gradient is then the sum over the copies. Perturbing entry (j, k) of sample n's copy by
η / a_nk changes z_nj by exactly η, whatever k is. So one difference in z_nj,

    D_nj = (ℓₙ(z_nj + η) − ℓₙ(z_nj − η)) / 2η,

serves all entries of row j:

    ∂L/∂w_jk = Σₙ a_nk D_nj        ∂L/∂b_j = Σₙ D_nj

Each term a_nk D_nj is a true finite difference of sample n's loss with respect to w_jk, with a step of its
own. All entries together cost only as much as the units. The method relies on z being affine in w. Literal
differences perturb every entry for the whole batch. They do not need z to be affine, so they serve as the
independent witness.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.numerical.corners import Corners, unbounded
from gradcheck_cli.numerical.estimate import ERROR_BARS, Estimate, Progress, certify, differentiate
from gradcheck_cli.numerical.looks import Look, Looks, Wanted, taken
from gradcheck_cli.numerical.mixtures import Mixtures
from gradcheck_cli.numerical.objective import Factors, Objective, Site, UnitObjective, is_inexact
from gradcheck_cli.numerical.schemes import Scheme, escalated, in_wide_floats
from gradcheck_cli.types import EPS, Array

Estimates = dict[str, Estimate]


class Reference(Protocol):
    """A method for computing the numerical gradient of an objective."""

    def estimate(self, names: Sequence[str]) -> Estimates:
        """Estimate every entry of the tensors `names`, with as few evaluations as possible."""

    def confirm(self, estimates: Estimates, wrong: Mapping[str, Array]) -> Estimates:
        """Evaluate the entries that `wrong` marks at a shorter step, and return the updated estimates."""

    def refine(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        """Evaluate the marked entries by the whole ladder of steps, and return the updated estimates."""

    def sharpen(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        """Evaluate the marked entries in the widest available floats, and return the updated estimates."""

    @property
    def objective(self) -> Objective:
        """The function to differentiate."""

    def under(self, convention: Any) -> Reference:
        """Return the same method for another objective."""

    def between(self, name: str, undecided: Array) -> tuple[Array, Array]:
        """Return the least and the greatest gradient of each entry over all choices of sides at kinks."""

    def mixtures(self, name: str, undecided: Array) -> Mixtures | None:
        """Return the gradients of the marked entries under all mixtures of pieces, or None if unknown."""


class UnitDifferences:
    """Estimates the gradient of every entry, with an error bar, by perturbing the pre-activations."""

    def __init__(
        self,
        objective: UnitObjective,
        scheme: Scheme,
        step: float | None = None,
        progress: Progress | None = None,
        looks: Looks = taken,
    ) -> None:
        self.objective = objective
        self.scheme = scheme
        self.step = step
        self.progress = progress
        self.looks = looks
        self._pairs: dict[Site, Estimate] = {}  # D_fn by site, shape (F, N)
        self._literal = QuickLiteralDifferences(objective, scheme, step, progress, looks)

    def under(self, convention: UnitObjective) -> UnitDifferences:
        """Return unit differences of another objective, with the same settings."""
        return UnitDifferences(convention, self.scheme, self.step, self.progress, self.looks)

    def estimate(self, names: Sequence[str]) -> Estimates:
        literally = [name for name in names if self.objective.literally(name)]
        estimates = self._literal.estimate(literally)
        for site in self._sites_of(name for name in names if name not in estimates):
            if site not in self._pairs:
                pairs = self._look(certify, self.objective, site, self.scheme, self.step)
                self._pairs[site] = pairs.reshape(*self.objective.site_shape(site))
        return {name: estimates.get(name) or self._assemble(name) for name in names}

    def estimate_by_whole_ladder(self, names: Sequence[str]) -> Estimates:
        """Return estimates of every entry, undecided or not, from the whole ladder of steps."""
        estimates = self.estimate(names)
        return self.refine(estimates, {name: np.full(e.value.shape, True) for name, e in estimates.items()})

    def _sites_of(self, names: Iterable[str]) -> list[Site]:
        return list(dict.fromkeys(use.site for name in names for use in self.objective.uses(name)))

    def confirm(self, estimates: Estimates, wrong: Mapping[str, Array]) -> Estimates:
        if not self.scheme.escalates:
            return estimates
        units, literally = self._parted(wrong)
        for site, mask in self._pairs_of(units).items():
            pairs = self._pairs[site]
            first = Estimate(pairs.value[mask], pairs.error[mask])
            wanted = self._wanted(self.objective, site, self.scheme, self.step, np.flatnonzero(mask))
            self._pairs[site] = pairs.challenged(mask, *self.looks.confirm(first, wanted))
        return self._assembled(self._literal.confirm(estimates, literally), units)

    def refine(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        units, literally = self._parted(undecided)
        self._look_again(self.objective, units, escalated(self.scheme))
        return self._assembled(self._literal.refine(estimates, literally), units)

    def sharpen(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        if not self.scheme.escalates or self.objective.widest is None:
            return estimates
        literally = {name: mask for name, mask in undecided.items() if self._is_cheaper_literally(name, mask)}
        units = {name: mask for name, mask in undecided.items() if name not in literally}
        scheme = in_wide_floats(self.scheme, on_a_kink=bool(self.objective.conventions))
        self._look_again(self.objective.widest, units, scheme)
        return self._literal.sharpen(self._assembled(estimates, units), literally)

    def _is_cheaper_literally(self, name: str, entries: Array) -> bool:
        """Return whether perturbing the marked entries costs less than perturbing the pairs that they sum."""
        if self.objective.literally(name):
            return True
        batches = sum(
            int(np.count_nonzero(pairs.any(axis=1))) * self.objective.batches(site)
            for site, pairs in self._pairs_of({name: entries}).items()
        )
        return int(np.count_nonzero(entries)) < batches

    def _parted(self, masks: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Split the masks in two groups: parameters checked through their sites, and all others."""
        literally = {name: mask for name, mask in masks.items() if self.objective.literally(name)}
        return {name: mask for name, mask in masks.items() if name not in literally}, literally

    def _pairs_of(self, entries: Mapping[str, Array]) -> dict[Site, Array]:
        """Return, for each site, a mask of the (feature, sample) pairs that the marked entries sum over.

        A mask has the shape (F, N), for F features and N samples. A site without such pairs is left out. An
        example is a site that uses only the row of a padding token.
        """
        by_site: dict[Site, list[Any]] = {}
        for name, mask in entries.items():
            for site, factors in self.objective.uses(name):
                by_site.setdefault(site, []).append(factors.feeding(mask))
        fed = {site: reduce(np.logical_or, masks)[:, None] for site, masks in by_site.items()}
        return {
            site: np.broadcast_to(mask, self._pairs[site].value.shape)
            for site, mask in fed.items()
            if mask.any()
        }

    def _look_again(self, objective: UnitObjective, undecided: Mapping[str, Array], scheme: Scheme) -> None:
        """Apply the whole ladder to the (feature, sample) pairs that contribute to the undecided entries.

        objective: the network in the arithmetic to use.
        """
        for site, mask in self._pairs_of(undecided).items():
            pairs = self._pairs[site]
            which = np.flatnonzero(mask)
            finer = self._look(differentiate, objective, site, scheme, self._finer_step, which)
            if not self.scheme.escalates:
                self._pairs[site] = pairs.widened(mask, finer)
            elif objective is self.objective:
                self._pairs[site] = pairs.overruled(mask, finer)
            else:
                self._pairs[site] = pairs.improved(mask, finer)

    def _look(
        self,
        look: Look,
        objective: UnitObjective,
        site: Site,
        scheme: Scheme,
        step: float | None,
        which: Array | None = None,
    ) -> Estimate:
        """Return the result of `look` for some (feature, sample) pairs of a site.

        which: the indices of the pairs; all pairs by default.
        """
        return self.looks(look, self._wanted(objective, site, scheme, step, which))

    def _wanted(
        self, objective: UnitObjective, site: Site, scheme: Scheme, step: float | None, which: Array | None
    ) -> Wanted:
        moves = objective.units(site)
        which = np.arange(len(moves.position)) if which is None else which
        return Wanted(objective, site, moves, scheme, step, which, self.progress)

    @property
    def _finer_step(self) -> float | None:
        return self.step if self.scheme.escalates else None

    def _assembled(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        """Return the estimates. Any that depend on a site of an undecided entry are assembled again."""
        sites = set(self._sites_of(undecided))
        affected = [
            name
            for name in estimates
            if not self.objective.literally(name) and sites.intersection(self._sites_of([name]))
        ]
        return estimates | {name: self._assemble(name) for name in affected}

    def between(self, name: str, undecided: Array) -> tuple[Array, Array]:
        return self._corners.between(name, undecided)

    def mixtures(self, name: str, undecided: Array) -> Mixtures | None:
        return self._corners.mixtures(name, undecided)

    @cached_property
    def _corners(self) -> Corners:
        return Corners(self.objective, self.scheme, self._slopes_of_pairs)

    def _slopes_of_pairs(self, site: Site, fed: Array, objective: UnitObjective) -> Estimate:
        """Return the slopes of the marked pairs of a site, and 0 for all other pairs, with errors, (F, N).

        F is the number of features, and N the number of samples. A slope is NaN if its error bar hides it.
        """
        slopes, errors, which = np.zeros(fed.shape), np.zeros(fed.shape), np.flatnonzero(fed)
        scheme, step = escalated(self.scheme), self._finer_step
        found = self._look(differentiate, objective, site, scheme, step, which)
        size, usual = np.abs(found.value), np.abs(self._pairs.get(site, found).value)
        largest = max(np.fmax.reduce(each, axis=None, initial=0.0) for each in (size, usual))
        hidden = ERROR_BARS * found.error > np.fmax(size, _NEGLIGIBLE * largest)
        slopes.flat[which] = np.where(hidden & (largest > 0.0), np.nan, found.value)
        errors.flat[which] = found.error
        return Estimate(slopes, errors)

    def _assemble(self, name: str) -> Estimate:
        shares = [(factors, self._pairs[site]) for site, factors in self.objective.uses(name)]
        total = assembled(shares, self.scheme.extrapolate)
        return _with_penalty(total, self.objective, name, self.scheme, self.step)


_NEGLIGIBLE = 1e-6
"""An error bar below this share of the largest slope hides nothing, even if the slope is 0."""


def assembled(shares: Sequence[tuple[Factors, Estimate]], independent: bool = True) -> Estimate:
    """Return the gradient of a parameter, with its error: the sum of Jᵀ D over all uses of the parameter.

    D holds the slope of every (feature, sample) pair of the site where the parameter is used, and J is the
    matrix of the use (`Factors`).

    Noise is independent, and so are the rounding errors of the products, so these errors add in quadrature.
    A factor of 2 allows for the few cases where they are not independent. The truncation errors of a plain
    scheme are not independent: they add up. If a pair is unknown, so are the entries that it contributes to.

    shares: J and D for each use.
    """
    add = np.hypot if independent else np.add

    def plus(one: Estimate, other: Estimate) -> Estimate:
        return Estimate(one.value + other.value, add(one.error, other.error))

    return reduce(plus, (_share(factors, pairs, independent) for factors, pairs in shares))


def _share(factors: Factors, pairs: Estimate, independent: bool) -> Estimate:
    known = np.isfinite(pairs.error)
    d, u = pairs.value, pairs.error
    if not known.all():
        d, u = np.where(known, d, 0.0), np.where(known, u, 0.0)
    value, rounded = factors.sums(d), np.hypot(u, EPS * d)
    error = 2.0 * factors.squares(rounded) if independent else factors.sizes(rounded)
    if is_inexact(factors):
        error = error + factors.own_error(d)
    if not known.all():
        unknown = factors.sizes((~known).astype(float)) > 0
        value[unknown], error[unknown] = np.nan, np.inf
    return Estimate(value, error)


@dataclass(frozen=True)
class LiteralDifferences:
    """Perturbs every entry individually for the whole batch. This method is slow, but it assumes nothing."""

    objective: Objective
    scheme: Scheme
    step: float | None = None
    progress: Progress | None = None
    looks: Looks = taken

    def under(self, convention: Objective) -> LiteralDifferences:
        """Return a `LiteralDifferences` of another objective, with the same settings."""
        return replace(self, objective=convention)

    def estimate(self, names: Sequence[str]) -> Estimates:
        result = {}
        for name in names:
            size = int(np.prod(self.objective.shapes[name]))
            entries = self._look(certify, name, np.arange(size)).reshape(*self.objective.shapes[name])
            result[name] = _with_penalty(entries, self.objective, name, self.scheme, self.step)
        return result

    def confirm(self, estimates: Estimates, wrong: Mapping[str, Array]) -> Estimates:
        if not self.scheme.escalates:
            return estimates
        return estimates | {name: self._confirmed(name, estimates[name], wrong[name]) for name in wrong}

    def _confirmed(self, name: str, estimate: Estimate, wrong: Array) -> Estimate:
        which = np.flatnonzero(wrong)
        first = Estimate(estimate.value[wrong], estimate.error[wrong])
        shortly, hidden = self.looks.confirm(first, self._wanted(name, which))
        shortly = _with_penalty(shortly, self.objective, name, self.scheme, self.step, which)
        return estimate.challenged(wrong, shortly, hidden)

    def refine(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        more = {name: self.at(name, np.flatnonzero(mask)) for name, mask in undecided.items()}
        return estimates | {name: estimates[name].overruled(undecided[name], more[name]) for name in more}

    def sharpen(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        if not self.scheme.escalates or self.objective.widest is None:
            return estimates
        scheme = in_wide_floats(self.scheme, on_a_kink=bool(self.objective.conventions))
        wide = replace(self.under(self.objective.widest), scheme=scheme)
        sharper = dict(estimates)
        for name, mask in undecided.items():
            sharper[name] = estimates[name].improved(mask, wide.at(name, np.flatnonzero(mask)))
        return sharper

    def between(self, name: str, undecided: Array) -> tuple[Array, Array]:
        """Return infinite bounds. Literal differences cannot separate the kinks of individual samples."""
        return unbounded(self.objective.shapes[name])

    def mixtures(self, name: str, undecided: Array) -> None:
        """Return None, because literal differences cannot separate the kinks of individual samples."""

    def at(self, name: str, which: Array, look: Look = differentiate) -> Estimate:
        """Estimate the M entries with the flat indices `which`, (M,). `look` makes the estimates."""
        estimate = self.plainly(name, which, look)
        if self.scheme.escalates:
            return estimate
        default = replace(self, scheme=escalated(self.scheme), step=None)
        return estimate.widened(np.ones(len(which), dtype=bool), default.plainly(name, which))

    def plainly(self, name: str, which: Array, look: Look = differentiate) -> Estimate:
        """Estimate the entries `which` by the chosen scheme alone, even if its steps are too large."""
        estimate = self._look(look, name, which)
        return _with_penalty(estimate, self.objective, name, self.scheme, self.step, which)

    def _look(self, look: Look, name: str, which: Array) -> Estimate:
        return self.looks(look, self._wanted(name, which))

    def _wanted(self, name: str, which: Array) -> Wanted:
        entries = self.objective.entries(name)
        return Wanted(self.objective, name, entries, self.scheme, self.step, which, self.progress)


@dataclass(frozen=True)
class QuickLiteralDifferences(LiteralDifferences):
    """Perturbs every entry individually, in the quickest way that the objective knows."""

    objective: UnitObjective

    def _wanted(self, name: str, which: Array) -> Wanted:
        entries, key = self.objective.quick_entries(name), ("quickly", name)
        return Wanted(self.objective, key, entries, self.scheme, self.step, which, self.progress)


def _with_penalty(
    estimate: Estimate,
    objective: Objective,
    name: str,
    scheme: Scheme,
    step: float | None,
    which: Array | None = None,
) -> Estimate:
    """Return the estimate plus differences of the penalty alone, which are free of the losses' noise."""
    penalty = objective.penalty(name)
    if penalty is None:
        return estimate
    own = differentiate(penalty, scheme, step, which).reshape(*estimate.value.shape)
    return Estimate(estimate.value + own.value, np.hypot(estimate.error, own.error))
