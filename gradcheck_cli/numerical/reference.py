"""The numerical gradient of whole tensors: by unit differences, or literally entry by entry.

Unit differences are the keystone. The loss is a sum over samples and z_nj = Σₖ a_nk w_jk + b_j. Give each
sample n its own copy of the weights: the gradient is the sum over the copies. Moving entry (j, k) of the
copy by η / a_nk moves z_nj by exactly η, whatever k is, so one difference in z_nj,

    D_nj = (ℓₙ(z_nj + η) − ℓₙ(z_nj − η)) / 2η,

serves every k of that row:

    ∂L/∂w_jk = Σₙ a_nk D_nj        ∂L/∂b_j = Σₙ D_nj

Every term is a true finite difference of sample n's loss in w_jk, with a step of its own, and all entries
are had for the price of the units. It leans on z being affine in w; the literal way does not, and so it
is the witness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import numpy as np

from gradcheck_cli.numerical.estimate import Estimate, Progress, certify, differentiate
from gradcheck_cli.numerical.objective import Array, Objective, UnitObjective
from gradcheck_cli.numerical.schemes import Scheme

_EPS = float(np.finfo(np.float64).eps)

Estimates = dict[str, Estimate]


class Reference(Protocol):
    """A way to difference an objective."""

    def estimate(self, names: Sequence[str]) -> Estimates:
        """Value and error of every entry of these tensors, by as few evaluations as may do."""

    def refine(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        """The same with the whole ladder of steps for the entries that `undecided` marks."""


@dataclass(frozen=True)
class UnitDifferences:
    """Every entry, with its own error bar, from differences in the pre-activations."""

    objective: UnitObjective
    scheme: Scheme
    step: float | None = None
    progress: Progress | None = None
    _pairs: dict[str, Estimate] = field(default_factory=dict)  # of each layer: D_nj, shape (N, units)

    def estimate(self, names: Sequence[str]) -> Estimates:
        for name in names:
            layer = self.objective.affine(name).layer
            if layer not in self._pairs:
                units = self.objective.units(layer)
                pairs = certify(units, self.scheme, self.step, progress=self.progress)
                self._pairs[layer] = pairs.reshape(-1, self.objective.shapes[name][0])
        return {name: self._assemble(name) for name in names}

    def refine(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        if not self.scheme.escalates:
            return estimates
        by_layer: dict[str, list[Any]] = {}
        for name, entries in undecided.items():
            units = entries.reshape(len(entries), -1).any(axis=1)
            by_layer.setdefault(self.objective.affine(name).layer, []).append(units)
        for layer, masks in by_layer.items():
            self._refine_units(layer, reduce(np.logical_or, masks))
        return {
            name: self._assemble(name) if self.objective.affine(name).layer in by_layer else estimate
            for name, estimate in estimates.items()
        }

    def _refine_units(self, layer: str, units: Array) -> None:
        pairs = self._pairs[layer]
        mask = np.broadcast_to(units, pairs.value.shape)
        moves, which = self.objective.units(layer), np.flatnonzero(mask)
        finer = differentiate(moves, self.scheme, self.step, which, self.progress)
        self._pairs[layer] = pairs.replaced(mask, finer)

    def _assemble(self, name: str) -> Estimate:
        pairs, inputs = self._pairs[self.objective.affine(name).layer], self.objective.affine(name).inputs
        if inputs is None:
            inputs = np.ones((len(pairs.value), 1))
            total = entry_sums(pairs, inputs, self.scheme.extrapolate).reshape(-1)
        else:
            total = entry_sums(pairs, inputs, self.scheme.extrapolate)
        return _with_penalty(total, self.objective, name, self.scheme, self.step)


def entry_sums(pairs: Estimate, inputs: Array, independent: bool = True) -> Estimate:
    """Σₙ a_nk D_nj with its error, (units, in), of D (N, units) and a (N, in).

    Errors that are noise are independent, as are the roundings of the products, so they add as squares;
    the factor 2 allows for the few cases where they are not. The truncation error of a plain scheme is
    not: it adds up. A pair of which nothing is known leaves the entries it feeds unknown.
    """
    known = np.isfinite(pairs.error)
    d, u = np.where(known, pairs.value, 0.0), np.where(known, pairs.error, 0.0)
    value = d.T @ inputs
    # The squares are taken of numbers of at most 1, which cannot overflow and lose nothing that counts.
    errors, error_scale = _at_most_one(np.hypot(u, _EPS * d))
    weights, weight_scale = _at_most_one(inputs)
    error = (
        2.0 * np.sqrt((errors * errors).T @ (weights * weights))
        if independent
        else errors.T @ np.abs(weights)
    )
    error = error * error_scale[:, None] * weight_scale
    if not known.all():
        unknown = (~known).T.astype(float) @ (inputs != 0) > 0
        value[unknown], error[unknown] = np.nan, np.inf
    return Estimate(value, error)


def _at_most_one(columns: Array) -> tuple[Array, Array]:
    """The columns divided by their largest sizes, and those."""
    scale = np.abs(columns).max(axis=0)
    return columns / np.where(scale > 0, scale, 1.0), scale


@dataclass(frozen=True)
class LiteralDifferences:
    """Every entry moved by itself, for the whole batch at once: slow, and it leans on nothing."""

    objective: Objective
    scheme: Scheme
    step: float | None = None
    progress: Progress | None = None

    def estimate(self, names: Sequence[str]) -> Estimates:
        result = {}
        for name in names:
            entries = certify(self.objective.entries(name), self.scheme, self.step, progress=self.progress)
            entries = entries.reshape(*self.objective.shapes[name])
            result[name] = _with_penalty(entries, self.objective, name, self.scheme, self.step)
        return result

    def refine(self, estimates: Estimates, undecided: Mapping[str, Array]) -> Estimates:
        refined = dict(estimates)
        if self.scheme.escalates:
            for name, mask in undecided.items():
                refined[name] = estimates[name].replaced(mask, self.at(name, np.flatnonzero(mask)))
        return refined

    def at(self, name: str, which: Array) -> Estimate:
        """The entries of flat index `which`, flat, with the whole ladder of steps."""
        entries = self.objective.entries(name)
        estimate = differentiate(entries, self.scheme, self.step, which, self.progress)
        return _with_penalty(estimate, self.objective, name, self.scheme, self.step, which)


def _with_penalty(
    estimate: Estimate,
    objective: Objective,
    name: str,
    scheme: Scheme,
    step: float | None,
    which: Array | None = None,
) -> Estimate:
    """Add the penalty's own differences: subtracted on their own, they carry none of the losses' noise."""
    penalty = objective.penalty(name)
    if penalty is None:
        return estimate
    own = differentiate(penalty, scheme, step, which).reshape(*estimate.value.shape)
    return Estimate(estimate.value + own.value, np.hypot(estimate.error, own.error))
