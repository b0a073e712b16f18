"""A quick test of whether one mistake at one node can reproduce the author's gradients, without a sweep.

Backprop below a node is linear in the gradients that the node passes down. Suppose that v is a value of
the graph, and that a mistake changes ∂L/∂v by D. Then ⟨r, ∂L/∂w⟩ changes by ⟨D, t⟩, for any direction r of
the parameters w. Here t is the tangent of v: the derivative of v along r. So two random directions are enough
to test every mistake. A single forward pass per direction computes all tangents. A mistake that fails the
test cannot fit. A mistake that passes is then tried in a full sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.variant import Handed, Pass, Variant, Visit
from gradcheck_cli.network.graph import run
from gradcheck_cli.types import Array

T = TypeVar("T")

_STEP = 1e-30
"""The imaginary step that gives the tangents. It may be tiny, since no difference is computed."""

_ROUNDING = 1e-9
"""The rounding error allowed in a sum of products, relative to the sum of their absolute values."""

_KINKED = 1e-6
"""The relative disagreement between a node's `vjp` and its tangents above which the node is on a kink."""


@dataclass(frozen=True)
class Trial:
    """A mistake at a visit of an otherwise correct backprop.

    visit: the correct visit.
    variant: the mistake.
    """

    visit: Visit
    variant: Variant

    @property
    def unknowns(self) -> tuple[float, ...]:
        """The values at which to try the mistake's unknown. Gradients are affine in the unknown."""
        return (0.0, 1.0) if self.variant.wrong.unknown else (0.0,)

    @property
    def handed(self) -> list[Handed]:
        """The results of the wrong `vjp`, one for each value of the unknown to which the mistake applies."""
        handed, is_read = self._watched
        if is_read:
            self.visit.at.found.notice()
        return handed

    @cached_property
    def _watched(self) -> tuple[list[Handed], bool]:
        """The results of the wrong `vjp`, and whether they depend on the author's gradients."""
        return self.visit.at.found.watched(self._handed)

    def _handed(self) -> list[Handed]:
        every = (self.variant.backward(self.visit, value) for value in self.unknowns)
        return [each for each in every if each is not None]

    @cached_property
    def results(self) -> int:
        """The number of values of the unknown for which the wrong `vjp` has a result."""
        return self._once("results", lambda: len(self.handed))

    def changes(self, along: _Direction) -> list[tuple[float, float]]:
        """Return what each result changes along a direction, with a bound on the change's rounding."""
        return self._once(along.key, lambda: [along.change(self.visit, one) for one in self.handed])

    def _once(self, key: Hashable, compute: Callable[[], T]) -> T:
        return self.visit.at.once((key, self.variant, self.visit.i), compute)


@dataclass(frozen=True)
class _Direction:
    """A random direction of the parameters whose gradients are complete at one node.

    key: an object that equals the key of another direction only if both directions are the same.
    at: the node's index.
    along: the direction, by parameter name.
    tangents: the derivative of every value of the graph along the direction.
    off: the error of the author's gradients along the direction.
    slack: the part of this error that may be rounding.
    """

    key: Hashable
    at: int
    along: Mapping[str, Array]
    tangents: tuple[Array, ...]
    off: float
    slack: float

    def change(self, visit: Visit, handed: Handed) -> tuple[float, float]:
        """Return the change that a wrong `vjp` causes along the direction, and a bound on its rounding."""
        (shares, own), (right_shares, right_own), node = handed, visit.right, visit.node
        pairs = [
            (wrong - right, self.tangents[k])
            for k, wrong, right in zip(node.inputs, shares, right_shares, strict=True)
        ]
        for name, right in right_own.items():
            if node.names[name] in self.along:
                pairs.append((matrix(own[name] - right), self.along[node.names[name]]))
        total = sum(float(np.vdot(a, b)) for a, b in pairs)
        return total, _ROUNDING * sum(float(np.vdot(np.abs(a), np.abs(b))) for a, b in pairs)

    def agrees(self, visit: Visit) -> bool:
        """Return whether the node's correct `vjp` agrees with its tangents. If not, the node is on a kink."""
        (shares, own), node = visit.right, visit.node
        pairs = [(share, self.tangents[k]) for k, share in zip(node.inputs, shares, strict=True)]
        pairs += [
            (matrix(gradient), self.along[node.names[name]])
            for name, gradient in own.items()
            if node.names[name] in self.along
        ]
        below = sum(float(np.vdot(a, b)) for a, b in pairs)
        sizes = sum(float(np.vdot(np.abs(a), np.abs(b))) for a, b in pairs)
        above = float(np.vdot(visit.upstream, self.tangents[visit.i + 1]))
        return abs(above - below) <= _KINKED * sizes


Group = tuple[_Direction, _Direction]
"""Two directions of the same parameters."""


class Probe:
    """Tests mistakes by the changes they make along random directions.

    complete: for each node, the checked parameters whose gradients are complete once the node is visited.
    """

    def __init__(self, at: Pass, targets: Mapping[str, Target], complete: Sequence[Sequence[str]]) -> None:
        self._at, self._targets, self._complete = at, targets, complete
        self._groups = [
            _group(at, i, {name: targets[name] for name in names})
            for i, names in reversed(list(enumerate(complete)))
            if names
        ]

    def is_reliable(self, visits: Mapping[int, Visit]) -> bool:
        """Return whether all tangents agree with correct backprop. If not, some value is on a kink."""
        return all(self._agrees(each, visits) for group in self._groups for each in group)

    def _agrees(self, along: _Direction, visits: Mapping[int, Visit]) -> bool:
        return self._at.once(("agrees", along.key), lambda: all(map(along.agrees, visits.values())))

    def admits(self, trial: Trial, is_alone: bool) -> bool:
        """Return whether a mistake in an otherwise correct backprop may give the author's gradients.

        is_alone: whether the mistake must give all of them. If not, it must give one of the wrong gradients.
        """
        if trial.results < len(trial.unknowns):
            return trial.results > 0  # a mistake applies only if it has a result both at 0 and at 1
        return self._may_fit(trial) if is_alone else self._may_explain_one(trial)

    def _may_fit(self, trial: Trial) -> bool:
        for group in self._groups:
            if group[0].at > trial.visit.i:
                continue
            found = list(_compared(group, trial))
            if not all(fits for fits, _ in found):
                return False
            if any(is_visible for _, is_visible in found):
                return True  # further down, other mistakes may follow
        return True

    def _may_explain_one(self, trial: Trial) -> bool:
        below = (group for group in self._of_wrong_tensors if group[0].at <= trial.visit.i)
        return any(all(fits for fits, _ in _compared(group, trial)) for group in below)

    @cached_property
    def _of_wrong_tensors(self) -> list[Group]:
        wrong = (
            (i, {name: self._targets[name]})
            for i, names in reversed(list(enumerate(self._complete)))
            for name in names
            if not self._targets[name].is_right
        )
        return [_group(self._at, i, targets) for i, targets in wrong]


def _compared(group: Sequence[_Direction], trial: Trial) -> Iterator[tuple[bool, bool]]:
    """Yield, for each direction, whether the change fits the author's gradients and exceeds rounding."""
    changes = [trial.changes(each) for each in group]
    unknown = 0.0
    if len(trial.unknowns) > 1:
        slopes = [at_one[0] - at_zero[0] for at_zero, at_one in changes]
        best = int(np.argmax(np.abs(slopes)))
        slope = slopes[best]
        unknown = (group[best].off - changes[best][0][0]) / slope if slope else 0.0
    for each, made in zip(group, changes, strict=True):
        (at_zero, rounding), (at_one, more) = made[0], made[-1]
        change = at_zero + unknown * (at_one - at_zero)
        slack = each.slack + (1.0 + abs(unknown)) * (rounding + more) + _ROUNDING * abs(change)
        yield not abs(each.off - change) > slack, abs(change) > slack


def _group(at: Pass, i: int, targets: Mapping[str, Target]) -> Group:
    """Return two random directions of the parameters in `targets`, whose gradients are complete at node i."""
    return _direction(at, i, targets, 0), _direction(at, i, targets, 1)


def _direction(at: Pass, i: int, targets: Mapping[str, Target], number: int) -> _Direction:
    """Return one of the random directions of the parameters in `targets`.

    The direction does not depend on the author's gradients, except on which entries are finite.

    i: the node at which the gradients are complete.
    number: the number of the direction. Different numbers give different directions.
    """
    rng = np.random.default_rng([i, number])
    along, off, slack = {}, 0.0, 0.0
    for name, target in targets.items():
        r = np.where(target.finite, rng.normal(size=target.right.shape), 0.0) / (target.size or 1.0)
        found = np.where(target.finite, target.found, 0.0)
        along[name] = r
        off += float(np.vdot(r, np.where(target.finite, found - target.right, 0.0)))
        allowed = 2.0 * target.tolerance(found) + _ROUNDING * (np.abs(found) + np.abs(target.right))
        slack += float(np.vdot(np.abs(r), allowed))
    key = (i, number, *((name, of.size, of.finite.tobytes()) for name, of in targets.items()))
    return _Direction(key, i, along, at.once(key, lambda: _tangents(at, along)), off, slack)


def _tangents(at: Pass, along: Mapping[str, Array]) -> tuple[Array, ...]:
    """Return the derivative of every value of the graph along a direction of the parameters."""
    moved = {
        name: value + 1j * _STEP * along[name].reshape(value.shape) if name in along else value
        for name, value in at.problem.parameters.items()
    }
    return tuple(np.imag(value) / _STEP for value in run(at.graph, moved, at.problem.x))
