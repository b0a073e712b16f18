"""Check a tensor's gradient along random directions, and narrow disagreements down to entries.

A direction that disagrees is bisected over a random permutation of its entries. Each half that disagrees is
bisected again, down to single entries. A single entry is perturbed and judged as in an entry-by-entry check.
All other entries are checked along new directions until nothing disagrees. If too many parts disagree, whole
rows or columns are bisected instead, and some of their entries, drawn at random, are checked individually.

A few entries on a kink make the error bars of whole directions so wide that these tell nothing. Such entries
are found by bisecting, too, and are then judged individually, like any entry on a kink.

Every finding is confirmed: an entry is called wrong only if it was also checked individually.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.comparison import Comparison
from gradcheck_cli.directions.projections import DIRECTIONS, SMALLEST, Projector, part, random_direction
from gradcheck_cli.network.arithmetic import ROUNDING_SAFETY
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.numerical.objective import Direction
from gradcheck_cli.projected import Projected, Projection
from gradcheck_cli.types import EPS, Array

Confirm = Callable[[Array], Comparison]
"""A function that judges the entries with given flat indices individually; all other entries stay unknown."""

BUDGET = 32
"""The largest number of parts of a direction to follow. If more disagree, many entries are wrong."""
FOLLOWED = 4
"""The number of parts to follow if whole rows or columns do not explain the disagreement, either."""
DRAWN = 16
"""The number of entries to sample from all unexplained entries."""
DRAWN_FIRST = 4
DRAWN_OF_A_LINE = 4
ROUNDS = 8
FEW = 256
"""Tensors up to this size are checked entry by entry if no direction can be evaluated."""

FEWEST = 4
"""Up to this many entries are checked individually if the directions over them tell nothing."""

OUTLYING = 1e4
"""Entries above this multiple of the median are checked individually. A sum of all would hide the others."""

SECOND_LOOK = 4.0
"""The noise of the second, confirming evaluation of a direction, as a multiple of the first one's."""

NOISIER = 16.0
"""A second evaluation cannot refute the first if it is noisier by more than this factor."""

TELLING = 0.1
"""A direction proves nothing if it could hide a relative error above this bound in a typical entry."""

SPREAD = 4.0
"""The sum of errors of random sign rarely exceeds this multiple of the root of the sum of their squares."""


@dataclass(frozen=True)
class _Look:
    """Analytic and numerical gradients along K directions, with bounds on rounding. Each array is (K,)."""

    directions: Sequence[Direction]
    analytic: Array
    numerical: Estimate
    rounding: Array

    @property
    def excess(self) -> Array:
        """The distance between analytic and numerical gradient, divided by rounding plus error, (K,).

        The gradients disagree along a direction if the quotient for that direction is above 1.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.abs(self.analytic - self.numerical.value) / (self.rounding + self.numerical.error)
        return np.nan_to_num(excess, nan=0.0, posinf=np.inf)

    @property
    def off(self) -> float:
        """The distance between analytic and numerical gradients along the direction that disagrees most."""
        i = int(self.excess.argmax())
        return float(np.abs(self.analytic[i] - self.numerical.value[i]))

    @property
    def reveals(self) -> Array:
        """The smallest error in a single entry that each direction would reveal on a second look, (K,).

        Rounding can hide no more than the largest distance between the two gradients along any direction.
        """
        apart = np.abs(self.analytic - self.numerical.value).max()  # NaN if some value is unknown
        return (np.fmin(self.rounding, apart) + (1.0 + SECOND_LOOK) * self.numerical.error) / SMALLEST

    @property
    def least(self) -> float:
        """The smallest error in a single entry that the most precise direction is sure to reveal."""
        return float(self.reveals.min())

    @property
    def typical(self) -> float:
        """The size of a typical entry, estimated from the gradients along the directions."""
        return float(np.median(np.abs(self.numerical.value) / np.linalg.norm(self.directions[0].weights)))


class Survey:
    """The search for wrong entries in one tensor.

    analytic: the tensor's analytic gradient.
    rounding: a bound on the rounding error of a correct gradient.
    tolerances: the relative and the absolute tolerance.
    confirm: a function that judges single entries.
    """

    def __init__(
        self,
        projector: Projector,
        analytic: Array,
        rounding: Array,
        tolerances: tuple[float, float],
        confirm: Confirm,
        rng: np.random.Generator,
    ) -> None:
        self.projector = projector
        self.shape = analytic.shape
        self.analytic = analytic.astype(np.float64).ravel()
        self.rounding = ROUNDING_SAFETY * rounding.ravel()
        self.rtol, self.atol = tolerances
        self.confirm = confirm
        self.rng = rng
        self.value, self.error = np.full(analytic.size, np.nan), np.full(analytic.size, np.inf)
        self.explained = ~np.isfinite(self.analytic)
        self.suspect = np.zeros(analytic.size, dtype=bool)
        self.excused, self.by_atol, self.vanishes = False, False, False

    def result(self) -> tuple[Estimate, Projected]:
        """Return estimates of single entries, and the verdict of the directions on all other entries."""
        look = self._search()
        disagrees = look is not None and not self.excused and self._disagrees(look)
        vouched = look is not None and not disagrees and (self.vanishes or self._tells(look))
        covered = ~self.explained & vouched
        least = look.least if look else np.inf
        if self.excused:
            least = max(least, self._spread)
        told = () if look is None else _told(look)
        estimate = Estimate(self.value, self.error).reshape(*self.shape)
        masks = covered.reshape(self.shape), self.suspect.reshape(self.shape)
        return estimate, Projected(*masks, least, told, disagrees, self.by_atol)

    def _search(self) -> _Look | None:
        """Explain disagreements until no disagreement is left, or until none of the rest can be explained.

        Returns the last `_Look` along directions; None if every entry was checked individually.
        """
        outliers = self._outliers()
        if 0 < outliers.size <= BUDGET:
            self._moved(outliers)
        look = self._look()
        if look is not None and not np.isfinite(look.numerical.error).any() and self.analytic.size <= FEW:
            self._moved(np.flatnonzero(~self.explained))
            return None
        for _ in range(ROUNDS):
            if look is None or not self._explain(look):
                break
            look = self._look()
        return look

    def _outliers(self) -> Array:
        """Return the entries that are so much larger than the others that no direction would show these."""
        sizes = np.where(self.explained, 0.0, np.abs(self.analytic))
        told = sizes[sizes > 0.0]
        return np.flatnonzero(sizes > OUTLYING * np.median(told)) if told.size else np.flatnonzero(told)

    def _explain(self, look: _Look) -> bool:
        """Try to explain why directions disagree or tell nothing, and return whether this succeeded."""
        if self._disagrees(look):
            return self._narrow(look)
        if self._tells(look):
            return False
        self.vanishes = self._is_zero()
        return not self.vanishes and self._isolate(look)

    def _tells(self, look: _Look) -> bool:
        """Return whether the directions would disagree if a typical entry were wrong."""
        return bool(look.least <= self._telling(look))

    def _telling(self, look: _Look) -> float:
        """Return the largest error in a single entry that a direction may hide and still prove something."""
        left = self.analytic[~self.explained]
        return TELLING * max(float(np.linalg.norm(left)) / np.sqrt(max(1, left.size)), look.typical)

    def _is_zero(self) -> bool:
        """Return whether all unexplained entries are 0 to within rounding. A random sample confirms it."""
        left = np.flatnonzero(~self.explained)
        if (np.abs(self.analytic[left]) > self.rounding[left]).any():
            return False
        drawn = self._draw(left, DRAWN)
        return bool(self._moved(drawn).zero.ravel()[drawn].all())

    # --- looking -------------------------------------------------------------------------------------------

    def _look(self) -> _Look | None:
        """Evaluate all unexplained entries along new directions. Return None if every entry is explained."""
        left = np.flatnonzero(~self.explained)
        if not left.size:
            return None
        directions = [random_direction(left, self.rng) for _ in range(DIRECTIONS)]
        self.projector, numerical = self.projector.calibrated(directions)
        return self._against(directions, numerical)

    def _against(self, directions: Sequence[Direction], numerical: Estimate) -> _Look:
        gradients = [self.analytic[d.entries] * d.weights for d in directions]
        bounds = [self.rounding[d.entries] * d.weights for d in directions]
        summed = [EPS * np.abs(g).sum() for g in gradients]
        allowed = [np.linalg.norm(b) + own for b, own in zip(bounds, summed, strict=True)]
        return _Look(directions, np.array([g.sum() for g in gradients]), numerical, np.array(allowed))

    def _excess(self, directions: Sequence[Direction]) -> Array:
        return self._against(directions, self.projector.project(directions)).excess

    def _disagrees(self, look: _Look) -> bool:
        """Return whether any direction disagrees in a way that a second step does not refute."""
        worst_first = np.argsort(-look.excess, kind="stable")
        return any(self._is_borne_out(look, int(i)) for i in worst_first if look.excess[i] > 1.0)

    def _is_borne_out(self, look: _Look, i: int) -> bool:
        direction = [look.directions[i]]
        second = self._against(direction, self.projector.finer.project(direction))
        tells = second.numerical.error[0] <= NOISIER * look.numerical.error[i]
        return bool(not tells or second.excess[0] > 1.0)

    # --- isolating entries on kinks ------------------------------------------------------------------------

    def _isolate(self, look: _Look) -> bool:
        """Check the entries individually that make the directions tell nothing, as entries on a kink do.

        Returns whether any entry was checked. If a sample of single entries tells nothing, either, then noise
        is the reason. Closer looks at single entries would take long, and would rarely decide them.
        """
        left = np.flatnonzero(~self.explained)
        if left.size <= FEWEST:
            self._moved(left)
            return True
        telling = self._telling(look)

        def blur(directions: Sequence[Direction]) -> Array:
            return self._against(directions, self.projector.project(directions)).reveals / telling

        drawn = [Direction(entry, np.ones(1)) for entry in self._draw(left, FEWEST)[:, None]]
        if self.analytic.size - left.size > BUDGET or (blur(drawn) > 1.0).all():
            return False
        widest = look.directions[int(look.numerical.error.argmax())]
        blurred = self._halve(widest, widest.entries, excess=blur)
        if blurred is None or not blurred.size:
            return False
        self._moved(blurred)
        return True

    # --- narrowing -----------------------------------------------------------------------------------------

    def _narrow(self, look: _Look) -> bool:
        """Try to explain a part of the disagreement, and return whether this succeeded."""
        worst = look.directions[int(look.excess.argmax())]
        if (look.excess > 1.0).all() and self._all_are_wrong(worst.entries):
            return self._condemn(worst.entries)
        entries = self._halve(worst, worst.entries)
        if entries is not None and entries.size:
            self._moved(entries)
            return True
        return self._narrow_what_is_spread(look, worst)

    def _all_are_wrong(self, entries: Array) -> bool:
        """Return whether all entries of a small random sample, and then of a larger one, are wrong."""
        if not _all_wrong(self._moved(self._draw(entries, DRAWN_FIRST))):
            return False
        others = entries[~self.explained[entries]]
        return not others.size or _all_wrong(self._moved(self._draw(others, DRAWN - DRAWN_FIRST)))

    def _narrow_what_is_spread(self, look: _Look, worst: Direction) -> bool:
        """Try to explain a disagreement that is spread over many entries, and return whether this succeeded.

        Either all entries are wrong, or tiny errors add up, or whole rows or columns are wrong.
        """
        drawn = self._moved(self._draw(worst.entries, DRAWN))
        if _all_wrong(drawn):
            return self._condemn(worst.entries)
        if not drawn.wrong.any() and look.off <= self._spread + look.least:
            self.excused = True
            self.by_atol = look.off > self._relative_spread + look.least
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
        """Return the rows or columns whose sampled entries are all wrong.

        lines: the row or column of each of the direction's M entries, (M,).
        """
        found = self._halve(direction, lines)
        drawn = [] if found is None else [(line, direction.entries[lines == line]) for line in found]
        return [
            line for line, entries in drawn if _all_wrong(self._moved(self._draw(entries, DRAWN_OF_A_LINE)))
        ]

    def _halve(
        self,
        direction: Direction,
        labels: Array,
        followed: int | None = None,
        excess: Callable[[Sequence[Direction]], Array] | None = None,
    ) -> Array | None:
        """Bisect a permutation of the labels, and return the labels whose entries disagree.

        Returns None if more than `BUDGET` parts disagree.

        labels: a label for each of the direction's M entries, (M,).
        followed: the number of parts to keep at each step; those that disagree most are kept. By default, all
            parts are kept.
        excess: a function that returns a number above 1 for each direction that counts as one that disagrees;
            `_excess` by default.
        """
        excess_of = excess or self._excess
        kinds, of_kind = np.unique(labels, return_inverse=True)
        place = self.rng.permutation(len(kinds))
        order = np.argsort(place[of_kind], kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(place[of_kind], minlength=len(kinds)))])
        blocks = [(0, len(kinds))]
        while any(high - low > 1 for low, high in blocks):
            done = [block for block in blocks if block[1] - block[0] == 1]
            halves = [half for block in blocks if block not in done for half in _halves(*block)]
            found = excess_of([part(direction, order[start[low] : start[high]]) for low, high in halves])
            rank = np.argsort(-found, kind="stable")[:followed]
            blocks = done + [halves[i] for i in rank if found[i] > 1.0]
            if len(blocks) > BUDGET:
                return None
        kind_at = np.argsort(place)
        return kinds[[kind_at[low] for low, _ in sorted(blocks)]]

    # --- explaining ----------------------------------------------------------------------------------------

    def _moved(self, entries: Array) -> Comparison:
        """Check the given entries individually, and mark them as explained."""
        found = self.confirm(np.sort(entries))
        self.value[entries] = found.numerical.ravel()[entries]
        self.error[entries] = found.error.ravel()[entries]
        self.explained[entries] = True
        return found

    def _draw(self, entries: Array, most: int) -> Array:
        return self.rng.choice(entries, min(most, len(entries)), replace=False)

    def _condemn(self, entries: Array) -> bool:
        """Mark as suspect all `entries` that were not checked, since the sampled entries are wrong."""
        self.suspect[entries] = ~self.explained[entries]
        self.explained[entries] = True
        return True

    @property
    def _spread(self) -> float:
        """The largest plausible sum of the errors of all unexplained entries, if each is within tolerance."""
        left = np.count_nonzero(~self.explained)
        return self._relative_spread + SPREAD * self.atol * float(np.sqrt(left))

    @property
    def _relative_spread(self) -> float:
        """The largest plausible sum of the errors of all unexplained entries, if each is within `rtol`."""
        left = self.analytic[~self.explained]
        return SPREAD * self.rtol * float(np.sqrt(left @ left))


def _halves(low: int, high: int) -> tuple[tuple[int, int], tuple[int, int]]:
    middle = (low + high) // 2
    return (low, middle), (middle, high)


def _all_wrong(drawn: Comparison) -> bool:
    """Return whether most of the checked entries are wrong, and every correct one is 0."""
    moved = np.isfinite(drawn.error)
    right = moved & drawn.agrees & ~drawn.zero
    return bool(not right.any() and 2 * drawn.wrong.sum() > (moved & ~drawn.zero).sum())


def _told(look: _Look) -> tuple[Projection, ...]:
    rows = zip(look.analytic, look.numerical.value, look.numerical.error, strict=True)
    return tuple(Projection(float(a), float(n), float(u)) for a, n, u in rows)
