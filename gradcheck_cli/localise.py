"""Hold a tensor's gradient against random directions, and go after what does not agree down to the entries.

A direction that disagrees is halved over a random permutation of its entries: each half that disagrees is
halved again, down to single entries, and these are moved literally and judged as any other. Then the rest is
looked at along new directions, until nothing disagrees. Where too much does, whole rows or columns are halved
instead, and of what is then found some entries are moved literally.

Everything is found twice: nothing is called wrong here but entries that were moved by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.compare import ROUNDING_SAFETY, Comparison, Projected, Projection
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.objective import Array, Direction
from gradcheck_cli.numerical.projections import DIRECTIONS, SMALLEST, Projector, part, random_direction

Confirm = Callable[[Array], Comparison]
"""The full verdict of the entries of these flat indices, moved by themselves; all others are unknown."""

BUDGET = 32
"""So many parts of a direction are followed; where more disagree, the mistake is no matter of entries."""
FOLLOWED = 4
"""So many of them are followed if it is not one of rows or columns either."""
DRAWN = 16
"""How many entries stand for all that are left."""
DRAWN_FIRST = 4
DRAWN_OF_A_LINE = 4
ROUNDS = 8
FEW = 256
"""A tensor of so few entries is moved entry by entry where the code can be evaluated along no direction."""

SECOND_LOOK = 4.0
"""How much noisier than the first the look is that has to confirm a disagreement."""

NOISIER = 16.0
"""A look that is this much noisier than the first says nothing against it."""

TELLING = 0.1
"""A direction says nothing if a typical entry could be off by more than this and it would not show."""

SPREAD = 4.0
"""Errors of random sign, each within rtol, seldom add up to four times their root of squares."""

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class _Look:
    """Some directions, the gradient along them and what differences say, (K,); and what is allowed, (K,)."""

    directions: Sequence[Direction]
    analytic: Array
    numerical: Estimate
    rounding: Array

    @property
    def excess(self) -> Array:
        """|a − n| over what rounding and the error bar allow, each (K,). It disagrees beyond 1."""
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.abs(self.analytic - self.numerical.value) / (self.rounding + self.numerical.error)
        return np.nan_to_num(excess, nan=0.0, posinf=np.inf)

    @property
    def off(self) -> float:
        """By how much the direction that disagrees most does."""
        i = int(self.excess.argmax())
        return float(np.abs(self.analytic[i] - self.numerical.value[i]))

    @property
    def least(self) -> float:
        """An error in a single entry that shows for sure, in both looks."""
        return float((self.rounding + (1.0 + SECOND_LOOK) * self.numerical.error).min()) / SMALLEST

    @property
    def typical(self) -> float:
        """The size of a typical entry, by what the directions add up to."""
        return float(np.median(np.abs(self.numerical.value) / np.linalg.norm(self.directions[0].weights)))


class Survey:
    """The search in one tensor: what is explained of it, and what is known of its entries.

    analytic: its gradient.  rounding: a bound on that of a right one.  confirm: the verdict of entries.
    """

    def __init__(
        self,
        projector: Projector,
        analytic: Array,
        rounding: Array,
        rtol: float,
        confirm: Confirm,
        rng: np.random.Generator,
    ) -> None:
        self.projector = projector
        self.shape = analytic.shape
        self.analytic = analytic.astype(np.float64).ravel()
        self.rounding = ROUNDING_SAFETY * rounding.ravel()
        self.rtol = rtol
        self.confirm = confirm
        self.rng = rng
        self.value, self.error = np.full(analytic.size, np.nan), np.full(analytic.size, np.inf)
        self.explained = ~np.isfinite(self.analytic)
        self.suspect = np.zeros(analytic.size, dtype=bool)
        self.excused = False

    def result(self) -> tuple[Estimate, Projected]:
        """What is known of single entries, and what the directions say of all others."""
        look = self._search()
        disagrees = look is not None and not self.excused and self._disagrees(look)
        vouched = look is not None and not disagrees and (self._tells(look) or self._is_zero())
        covered = ~self.explained & vouched
        least = look.least if look else np.inf
        if self.excused:
            least = max(least, self._spread)
        told = () if look is None else _told(look)
        estimate = Estimate(self.value, self.error).reshape(*self.shape)
        masks = covered.reshape(self.shape), self.suspect.reshape(self.shape)
        return estimate, Projected(*masks, least, told, disagrees)

    def _search(self) -> _Look | None:
        """Explain what disagrees until nothing does or nothing more can be; the last look, if any."""
        look = self._look()
        if look is not None and not np.isfinite(look.numerical.error).any() and self.analytic.size <= FEW:
            self._moved(np.flatnonzero(~self.explained))
            return None
        for _ in range(ROUNDS):
            if look is None or not self._disagrees(look) or not self._narrow(look):
                break
            look = self._look()
        return look

    def _tells(self, look: _Look) -> bool:
        """Whether the directions would not agree if a typical entry were off."""
        size = np.sqrt(np.mean(np.square(self.analytic[~self.explained])))
        return bool(look.least <= TELLING * max(size, look.typical))

    def _is_zero(self) -> bool:
        """Whether all that is left is 0 to within rounding, and so are entries drawn at random."""
        left = np.flatnonzero(~self.explained)
        if (np.abs(self.analytic[left]) > self.rounding[left]).any():
            return False
        drawn = self._draw(left, DRAWN)
        return bool(self._moved(drawn).zero.ravel()[drawn].all())

    # --- looking -------------------------------------------------------------------------------------------

    def _look(self) -> _Look | None:
        """All that is not explained, along new directions; None if there is nothing left."""
        left = np.flatnonzero(~self.explained)
        if not left.size:
            return None
        directions = [random_direction(left, self.rng) for _ in range(DIRECTIONS)]
        self.projector, numerical = self.projector.calibrated(directions)
        return self._against(directions, numerical)

    def _against(self, directions: Sequence[Direction], numerical: Estimate) -> _Look:
        gradients = [self.analytic[d.entries] * d.weights for d in directions]
        bounds = [self.rounding[d.entries] * d.weights for d in directions]
        return _Look(
            directions,
            np.array([g.sum() for g in gradients]),
            numerical,
            np.array(
                [np.linalg.norm(b) + _EPS * np.abs(g).sum() for b, g in zip(bounds, gradients, strict=True)]
            ),
        )

    def _excess(self, directions: Sequence[Direction]) -> Array:
        return self._against(directions, self.projector.project(directions)).excess

    def _disagrees(self, look: _Look) -> bool:
        """Whether one of the directions disagrees, and no other step that tells as much says otherwise."""
        worst_first = np.argsort(-look.excess, kind="stable")
        return any(self._is_borne_out(look, int(i)) for i in worst_first if look.excess[i] > 1.0)

    def _is_borne_out(self, look: _Look, i: int) -> bool:
        direction = [look.directions[i]]
        second = self._against(direction, self.projector.finer.project(direction))
        tells = second.numerical.error[0] <= NOISIER * look.numerical.error[i]
        return bool(not tells or second.excess[0] > 1.0)

    # --- narrowing -----------------------------------------------------------------------------------------

    def _narrow(self, look: _Look) -> bool:
        """Explain some of what disagrees; whether that was possible."""
        worst = look.directions[int(look.excess.argmax())]
        if (look.excess > 1.0).all() and self._all_are_wrong(worst.entries):
            return self._condemn(worst.entries)
        entries = self._halve(worst, worst.entries)
        if entries is not None and entries.size:
            self._moved(entries)
            return True
        return self._narrow_what_is_spread(look, worst)

    def _all_are_wrong(self, entries: Array) -> bool:
        """Whether all of these are wrong, as far as a few drawn at random tell, and then some more."""
        if not _all_wrong(self._moved(self._draw(entries, DRAWN_FIRST))):
            return False
        others = entries[~self.explained[entries]]
        return not others.size or _all_wrong(self._moved(self._draw(others, DRAWN - DRAWN_FIRST)))

    def _narrow_what_is_spread(self, look: _Look, worst: Direction) -> bool:
        """Where too many parts disagree, or none does by itself: everything, a trifle, or whole lines."""
        drawn = self._moved(self._draw(worst.entries, DRAWN))
        if _all_wrong(drawn):
            return self._condemn(worst.entries)
        if not drawn.wrong.any() and look.off <= self._spread + look.least:
            self.excused = True
            return False
        for axis in range(min(2, len(self.shape)) if len(self.shape) > 1 else 0):
            lines = np.unravel_index(worst.entries, self.shape)[axis]
            whole = self._wrong_lines(worst, lines)
            if whole:
                return self._condemn(worst.entries[np.isin(lines, whole)])
        followed = self._halve(worst, worst.entries, FOLLOWED)
        if followed is not None and followed.size:
            self._moved(followed)
        return False

    def _wrong_lines(self, direction: Direction, lines: Array) -> list[int]:
        """Those of the lines (of a direction's entries, (M,)) of which all entries drawn are wrong."""
        found = self._halve(direction, lines)
        drawn = [] if found is None else [(line, direction.entries[lines == line]) for line in found]
        return [
            line for line, entries in drawn if _all_wrong(self._moved(self._draw(entries, DRAWN_OF_A_LINE)))
        ]

    def _halve(self, direction: Direction, labels: Array, followed: int | None = None) -> Array | None:
        """The labels (of a direction's entries, (M,)) that disagree, by halving a permutation of them all.

        None if more than the budget do; or, of these, the `followed` that disagree most.
        """
        kinds, of_kind = np.unique(labels, return_inverse=True)
        place = self.rng.permutation(len(kinds))
        order = np.argsort(place[of_kind], kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(place[of_kind], minlength=len(kinds)))])
        blocks = [(0, len(kinds))]
        while any(high - low > 1 for low, high in blocks):
            done = [block for block in blocks if block[1] - block[0] == 1]
            halves = [half for block in blocks if block not in done for half in _halves(*block)]
            excess = self._excess([part(direction, order[start[low] : start[high]]) for low, high in halves])
            rank = np.argsort(-excess, kind="stable")[:followed]
            blocks = done + [halves[i] for i in rank if excess[i] > 1.0]
            if len(blocks) > BUDGET:
                return None
        kind_at = np.argsort(place)
        return kinds[[kind_at[low] for low, _ in sorted(blocks)]]

    # --- explaining ----------------------------------------------------------------------------------------

    def _moved(self, entries: Array) -> Comparison:
        """Move these entries by themselves."""
        found = self.confirm(np.sort(entries))
        self.value[entries] = found.numerical.ravel()[entries]
        self.error[entries] = found.error.ravel()[entries]
        self.explained[entries] = True
        return found

    def _draw(self, entries: Array, most: int) -> Array:
        return self.rng.choice(entries, min(most, len(entries)), replace=False)

    def _condemn(self, entries: Array) -> bool:
        """What was not moved of these shares the verdict of those that were, as far as that goes."""
        self.suspect[entries] = ~self.explained[entries]
        self.explained[entries] = True
        return True

    @property
    def _spread(self) -> float:
        """What the errors of all entries that are left may add up to if none is beyond rtol."""
        left = self.analytic[~self.explained]
        return SPREAD * self.rtol * float(np.sqrt(left @ left))


def _halves(low: int, high: int) -> tuple[tuple[int, int], tuple[int, int]]:
    middle = (low + high) // 2
    return (low, middle), (middle, high)


def _all_wrong(drawn: Comparison) -> bool:
    """Whether most of the entries that were moved are wrong, and no other is right but those that are 0."""
    moved = np.isfinite(drawn.error)
    right = moved & drawn.agrees & ~drawn.zero
    return bool(not right.any() and 2 * drawn.wrong.sum() > (moved & ~drawn.zero).sum())


def _told(look: _Look) -> tuple[Projection, ...]:
    rows = zip(look.analytic, look.numerical.value, look.numerical.error, strict=True)
    return tuple(Projection(float(a), float(n), float(u)) for a, n, u in rows)
