"""The changes of the maxima of windows after changes d of their elements, without cancellation.

If an element is behind the largest element of its window by b ≥ 0, it exceeds the unperturbed maximum by
d − b after the change. So the maximum changes by the largest d − b of its window. As long as no element
overtakes the largest one, for which b is 0, this is the change of the largest element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.network.part import Fixed, Part, Resting, Risen
from gradcheck_cli.network.rise import length
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Members:
    """The elements of each window, by their index among the positions, in C order.

    indices: K indices for each window, (*windows, K); −1 if the window has no such element.
    size: the number of positions along each axis.
    """

    indices: Array
    size: Shape

    @property
    def windows(self) -> Shape:
        return self.indices.shape[:-1]

    @cached_property
    def inside(self) -> Array:
        return self.indices >= 0

    @cached_property
    def owners(self) -> Array | None:
        """The window of each position, (positions,); −1 if there is none. None if any windows overlap."""
        found = self.indices[self.inside]
        if len(np.unique(found)) < len(found):
            return None
        owners = np.full(math.prod(self.size), -1)
        numbers = np.arange(math.prod(self.windows)).reshape(*self.windows, 1)
        owners[found] = np.broadcast_to(numbers, self.indices.shape)[self.inside]
        return owners


@dataclass(frozen=True)
class OfElements:
    """Each unperturbed element of N samples, (N, *before, *positions), and its only window.

    wins: whether the element is the largest.
    behind: how far the element is behind the largest; infinite for an element in no window.
    lead: how far the largest element is ahead of the second; 0 for all other elements.
    """

    wins: Array
    behind: Array
    lead: Array


@dataclass(frozen=True)
class MaximaAtRest:
    """What the changes of maxima need to know about N unperturbed samples, (N, *before, *positions).

    members: the elements of each window.
    pieces: which element of each window is the largest, (N, *before, *windows).
    behind: how far each element of each window is behind the largest, (N, *before, *windows, K).
    views: a function from changes, (…, *positions), to K arrays of the changes in each window, (…, *windows).
    """

    members: Members
    pieces: Array
    behind: Array
    views: Callable[[Array], Sequence[Array]]

    @cached_property
    def lead(self) -> Array:
        """How far the largest element of each window is ahead of the second, (N, *before, *windows)."""
        others = self.behind.copy()
        np.put_along_axis(others, self.pieces[..., None], np.inf, axis=-1)
        lead: Array = others.min(axis=-1)
        return lead

    @cached_property
    def clear(self) -> float:
        """A distance by which all elements may change without overtaking each other."""
        return 0.5 * float(self.lead.min(initial=np.inf))

    @cached_property
    def _largest(self) -> Array:
        """The index of the largest element of each window among the positions, (N, *before, *windows)."""
        indices = np.broadcast_to(self.members.indices, self.behind.shape)
        found: Array = np.take_along_axis(indices, self.pieces[..., None], axis=-1)[..., 0]
        return found

    @cached_property
    def _by_place(self) -> Sequence[Array]:
        """`behind` for each place in a window, K arrays (N, *before, *windows)."""
        return tuple(np.ascontiguousarray(each) for each in np.moveaxis(self.behind, -1, 0))

    @cached_property
    def _of_elements(self) -> OfElements:
        axes = len(self.members.size)
        before, inside = self.pieces.shape[: self.pieces.ndim - axes], self.members.inside
        flat = (*before, math.prod(self.members.size))
        wins, behind, lead = np.zeros(flat, dtype=bool), np.full(flat, np.inf), np.zeros(flat)
        behind[..., self.members.indices[inside]] = self.behind[..., inside]
        largest = self._largest.reshape(*before, -1)
        np.put_along_axis(lead, largest, self.lead.reshape(*before, -1), axis=-1)
        np.put_along_axis(wins, largest, np.array(True), axis=-1)
        return OfElements(*(each.reshape(*before, *self.members.size) for each in (wins, behind, lead)))

    def after(self, x: Part, output: Resting) -> Risen | None:
        """Return the changes of the maxima after the changes of a part; None if no maximum can change."""
        fixed = self._fixed(x)
        if fixed is None:
            return None
        if length(x.rise) < self.clear:
            return Risen(output, fixed, self.of_largest(x))
        return Risen(output, fixed, self._after_one(x) if self._is_one(x) else self._after_many(x))

    def of_largest(self, x: Part) -> Array:
        """Return the change of the element that is the largest at rest, for each maximum in `after`."""
        if self._is_one(x):
            return np.where(Resting(self._of_elements.wins, x.rest.samples).at(x.fixed), x.rise, 0.0)
        x = self._freed(x)
        rows = x.rise.reshape(-1, math.prod(self.members.size))
        largest = Resting(self._largest, x.rest.samples).at(self._all_windows(x)).reshape(len(rows), -1)
        largest += np.arange(len(rows))[:, None] * rows.shape[1]
        return rows.ravel().take(largest).reshape(*self._before(x.rise), *self.members.windows)

    def _after_one(self, x: Part) -> Array:
        """Return the changes of the maxima, (B,), after changes of one element in each of B copies."""
        behind, lead = (
            Resting(each, x.rest.samples).at(x.fixed)
            for each in (self._of_elements.behind, self._of_elements.lead)
        )
        return np.maximum(x.rise - behind, -lead)

    def _after_many(self, x: Part) -> Array:
        x = self._freed(x)
        changes = x.rise
        if x.rest.takes_turns and len(x.free) == len(x.fixed):  # then nothing needs to be gathered
            changes = changes.reshape(-1, *x.rest.value.shape)
            return self._highest(changes, self._by_place).reshape(
                *self._before(x.rise), *self.members.windows
            )
        fixed = self._all_windows(x)
        return self._highest(changes, (Resting(each, x.rest.samples).at(fixed) for each in self._by_place))

    def _highest(self, changes: Array, behind: Iterable[Array]) -> Array:
        highest: Array | None = None
        for change, below in zip(self.views(changes), behind, strict=True):
            ahead = change - below
            highest = ahead if highest is None else np.maximum(highest, ahead, out=highest)
        assert highest is not None
        return highest

    def _is_one(self, x: Part) -> bool:
        """Whether a part consists of one element in each copy, which is in at most one window."""
        return not x.free and self.members.owners is not None

    def _freed(self, x: Part) -> Part:
        axes = len(x.fixed)
        return x.freed(range(axes - len(self.members.size), axes))

    def _all_windows(self, x: Part) -> Fixed:
        before = len(x.fixed) - len(self.members.size)
        return (*x.fixed[:before], *(None,) * len(self.members.size))

    def _before(self, rise: Array) -> Shape:
        return rise.shape[: rise.ndim - len(self.members.size)]

    def _fixed(self, x: Part) -> Fixed | None:
        """Return the position of the maxima that may change; None if there are none."""
        owners, before = self.members.owners, len(x.fixed) - len(self.members.size)
        if not self._is_one(x) or owners is None:
            return self._all_windows(x)
        at: Any = x.fixed[before:]
        own = owners[np.ravel_multi_index(at, self.members.size)]
        if (own < 0).all():
            return None
        return (*x.fixed[:before], *np.unravel_index(np.maximum(own, 0), self.members.windows))
