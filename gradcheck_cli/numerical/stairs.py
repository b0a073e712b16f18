"""Find out whether a loss, as a function of one number, is a staircase: flat nearly everywhere, with jumps.

A loss that is merely flat at one point, as below a dead ReLU, is no staircase. So the loss is evaluated along
a whole line. A staircase is flat at most points of the line, and has different values at these points. Its
jump keeps its size when it is enclosed more and more closely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck_cli.numerical.objective import Movable
from gradcheck_cli.types import EPS, Array

_DISTANCES = tuple(4.0**-k for k in range(-1, 6))
"""The half lengths of the lines to try, in units of the number. Some stairs are wide, others narrow."""

_POINTS = 16
"""The number of points on a line."""

_SHORT = 2.0**-12
"""The length of the step that shows whether the loss is flat, as a share of the line's half length."""

_MOST_FLAT = 0.75
"""The smallest share of points at which a staircase is flat. The others may be next to a jump."""

_HALVINGS = 30
"""The number of times that the interval around a jump is halved."""

_KEPT = 0.02
"""A jump keeps at least this share of the difference when it is enclosed. A steep slope does not."""

_VISIBLE = 10.0
"""Jumps must be this many times as large as anything that noise could hide between two points."""


_NEXT_TO = 2.0**-14
"""The step that shows whether the loss is flat at the number's value, in units of the number."""


def is_flat(movable: Movable, numbers: Array) -> Array:
    """Return, for each of M numbers, whether the loss stays the same if the number changes a little.

    numbers: the indices of the numbers, (M,).
    """
    at, unit = movable.position[numbers], movable.unit[numbers]
    here, noise = _losses(movable, numbers[:1], at[:1])
    beyond, _ = _losses(movable, numbers, at + _NEXT_TO * unit)
    return np.asarray(np.abs(beyond - here) <= 2.0 * noise)


def is_staircase(movable: Movable, number: int) -> bool:
    """Return whether the loss is a staircase as a function of the number with index `number`."""
    return any(_has_stairs(_Line(movable, number), distance) for distance in _DISTANCES)


def jumps(movable: Movable, number: int, distance: float) -> bool:
    """Return whether the loss jumps somewhere on a line, as a function of one number.

    The loss may also change between its jumps. A jump keeps its size when it is enclosed; a kink does not.

    distance: the half length of the line, in units of the number.
    """
    line, steps = _Line(movable, number), distance * _spread()
    at, noise = line(steps)
    slopes = np.diff(at) / np.diff(steps)
    odd = np.abs(slopes - np.median(slopes)) * np.diff(steps)
    most = [int(k) for k in np.argsort(-odd)[:_ENCLOSED] if odd[k] > _VISIBLE * 2.0 * noise]
    return any(_jumps(line, steps[k], steps[k + 1], odd[k]) for k in most)


_ENCLOSED = 3
"""The number of intervals in which to look for a jump: those whose slopes are the oddest."""


@dataclass(frozen=True)
class _Line:
    movable: Movable
    number: int

    def __call__(self, steps: Array) -> tuple[Array, float]:
        """Return the loss after each step of the number in `steps`, and a bound on the noise of one loss."""
        which = np.full(len(steps), self.number, dtype=np.intp)
        start, unit = self.movable.position[self.number], self.movable.unit[self.number]
        return _losses(self.movable, which, start + steps * unit)


def _losses(movable: Movable, which: Array, to: Array) -> tuple[Array, float]:
    moved = movable.move(which, to)
    noise = EPS * moved.rounding.reshape(len(to), -1).sum(axis=1).max()
    return moved.losses.reshape(len(to), -1).sum(axis=1), float(noise)


def _has_stairs(line: _Line, distance: float) -> bool:
    """Return whether the loss has stairs on a line with the half length `distance`."""
    steps, short = distance * _spread(), distance * _SHORT
    both, noise = line(np.concatenate([steps, steps + short]))
    at, beyond = both.reshape(2, -1)
    flat = np.abs(beyond - at) <= 2.0 * noise
    if not np.isfinite(both).all() or flat.mean() < _MOST_FLAT:
        return False
    rise = np.abs(np.diff(at)) * (flat[1:] & flat[:-1])
    k = int(rise.argmax())
    return bool(rise[k] > _VISIBLE * 2.0 * noise / _SHORT) and _jumps(line, steps[k], steps[k + 1], rise[k])


def _spread() -> Array:
    """Return points between −1 and 1 in rising order, whose distances follow no pattern."""
    golden = 0.5 * (np.sqrt(5.0) - 1.0)
    return np.sort(2.0 * (golden * np.arange(1, _POINTS + 1) % 1.0) - 1.0)


def _jumps(line: _Line, low: float, high: float, rise: float) -> bool:
    """Return whether the losses at two points stay different when the points approach each other."""
    ends, _ = line(np.array([low, high]))
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        (value,), _ = line(np.array([middle]))
        if abs(value - ends[0]) >= abs(ends[1] - value):
            high, ends[1] = middle, value
        else:
            low, ends[0] = middle, value
    return bool(abs(ends[1] - ends[0]) >= _KEPT * rise)
