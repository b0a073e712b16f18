"""Compute how a mistake at several nodes changes the gradients, without running the search.

A correct `vjp` is linear in its upstream gradient. So the difference between a backprop with the mistake and
the correct backprop can itself be passed down through the correct `vjp`s. The difference begins at the
topmost node with the mistake. Nodes whose upstream gradient does not change cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from gradcheck_cli.diagnose.fit import projected
from gradcheck_cli.diagnose.loops import Repeated
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.variant import Handed, Visit
from gradcheck_cli.types import Array

_MOST_STEPS = 12
"""The largest number of steps in solving for an unknown."""

_AHEAD = 1e-5
"""The step of the finite difference that gives the slope of the gradients with respect to an unknown."""

_SETTLED = 1e-10
"""An unknown counts as solved after a step that is smaller than this fraction of its value."""


class Consequences:
    """Tests mistakes at several nodes by computing the gradients that result.

    visits: the `Visit` to each node in a backprop without mistakes, by the node's index.
    targets: the author's gradients, by parameter.
    complete: for each node, the checked parameters whose gradients are complete after the visit to the node.
    visited: the number of visits to nodes that the tests have computed so far.
    """

    def __init__(
        self,
        visits: Mapping[int, Visit],
        targets: Mapping[str, Target],
        complete: Sequence[Sequence[str]],
    ) -> None:
        self.visits = visits
        self.targets = targets
        self.complete = complete
        self.visited = 0

    def reproduce(self, repeated: Repeated) -> bool:
        """Return whether an otherwise correct backprop with this mistake gives the author's gradients.

        Also returns True if the resulting gradients are not finite.
        """
        for i, changed in self._changed(repeated):
            if not all(self._matches(name, changed) for name in self.complete[i]):
                return False
        return True

    def explain_one(self, repeated: Repeated) -> bool:
        """Return whether the mistake alone gives at least one of the author's wrong gradients."""
        *_, (_, changed) = self._changed(repeated)
        wrong = [name for name, target in self.targets.items() if not target.is_right and name in changed]
        return any(self._matches(name, changed) for name in wrong)

    def solved(self, repeated: Repeated) -> Repeated:
        """Return the mistake with the best value of its unknown, if the mistake has an unknown.

        The gradients are polynomials in the unknown, because each round of a loop repeats the mistake. So the
        value is found in several steps. Each step treats the gradients as affine near the previous value.
        """
        value = repeated.value
        for number in range(_MOST_STEPS if repeated.variant.wrong.unknown else 0):
            here, ahead = (
                self._offs(replace(repeated, value=value + by), number == 0) for by in (0.0, _AHEAD)
            )
            step = _AHEAD * projected(here, here - ahead)
            if not np.isfinite(step):
                break
            value += step
            if abs(step) <= _SETTLED * abs(value):
                break
        return replace(repeated, value=value)

    def _offs(self, repeated: Repeated, is_shared: bool) -> Array:
        """Return the errors that remain with the mistake, in units of each tensor's size, as one vector.

        is_shared: whether other diagnoses try the same value of the unknown.
        """
        *_, (_, changed) = self._changed(repeated, is_shared)
        return np.concatenate(
            [
                ((target.found - target.right - changed.get(name, 0.0)) / (target.size or 1.0)).ravel()
                for name, target in self.targets.items()
            ]
        )

    def _changed(
        self, repeated: Repeated, is_shared: bool = False
    ) -> Iterator[tuple[int, Mapping[str, Array]]]:
        """Yield the index of every node, from the last one down, with the changes in the gradients so far.

        Changes that other diagnoses need, too, are computed to the end. Then all of them are yielded at once.
        """
        begun, at = self.visited, next(iter(self.visits.values())).at
        is_shared = is_shared or not repeated.variant.wrong.unknown
        if not (is_shared and at.memory.keeps):
            walk = self._walk(repeated)
        else:
            own, visited = at.once(("changes", repeated), lambda: self._whole(repeated))
            walk = ((i, own, visited[i]) for i in reversed(range(len(visited))))
        for i, changes, count in walk:
            self.visited = begun + count
            yield i, changes

    def _whole(self, repeated: Repeated) -> tuple[Mapping[str, Array], list[int]]:
        """Return the changes in all gradients, and by node the number of visits until the node was done."""
        *_, (_, own, _) = steps = list(self._walk(repeated))
        return own, [visited for _, _, visited in reversed(steps)]

    def _walk(self, repeated: Repeated) -> Iterator[tuple[int, Mapping[str, Array], int]]:
        """Yield the index of every node, with the changes so far and the number of visits so far."""
        top, visited = max(repeated.nodes), 0
        arrived = {i: visit.upstream for i, visit in self.visits.items() if i > top}
        upstream, own = dict[int, Array](), dict[str, Array]()
        for i in reversed(range(len(self.complete))):
            if i <= top and i in self.visits:
                visited += self._visit(repeated, i, arrived, upstream, own)
            yield i, own, visited

    def _visit(
        self,
        repeated: Repeated,
        i: int,
        arrived: dict[int, Array],
        upstream: dict[int, Array],
        own: dict[str, Array],
    ) -> bool:
        """Visit node i, and add the resulting changes to `arrived`, `upstream` and `own`.

        Returns whether anything had to be computed.

        arrived: ∂L/∂output of each node visited before.
        upstream: the changes in ∂L/∂value, by the index of the value.
        own: the changes in the parameters' gradients, by parameter.
        """
        right, change = self.visits[i], upstream.get(i + 1)
        visit = right if change is None else replace(right, upstream=right.upstream + change)
        arrived[i] = visit.upstream
        handed = None
        if i in repeated.nodes:
            seen = replace(visit, arrived=arrived) if upstream else right
            handed = repeated.variant.backward(seen, repeated.value)
        if handed is not None:
            shares, gradients = _minus(handed, right.right)
        elif change is not None:
            shares, gradients = right.step.vjp(right.p, right.inputs, right.output, change)
        else:
            return False
        for k, share in zip(right.node.inputs, shares, strict=True):
            _add(upstream, k, share)
        for name, gradient in gradients.items():
            _add(own, right.node.names[name], matrix(gradient))
        return True

    def _matches(self, name: str, changed: Mapping[str, Array]) -> bool:
        target = self.targets[name]
        if name not in changed:
            return target.is_right
        candidate = target.right + changed[name]
        return target.matches(candidate) or not bool(np.isfinite(candidate).all())


def _minus(wrong: Handed, right: Handed) -> Handed:
    shares = tuple(a - b for a, b in zip(wrong[0], right[0], strict=True))
    return shares, {name: wrong[1][name] - value for name, value in right[1].items()}


K = TypeVar("K", int, str)


def _add(total: dict[K, Array], key: K, change: Array) -> None:
    """Add a change to a total. A change of 0 is left out, so that the nodes below compute nothing."""
    if change.any():
        total[key] = total[key] + change if key in total else change
