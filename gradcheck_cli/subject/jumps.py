"""Say where the loss of the user's code jumps, since a jump can leave entries undecided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.code.objective import ForeignObjective
from gradcheck_cli.code.precision import in_jumps
from gradcheck_cli.code.refusals import is_refusal
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.numerical.objective import Direction, Movable
from gradcheck_cli.numerical.stairs import jumps
from gradcheck_cli.subject.patterns import in_stairs, notes_of, without_measured_noise
from gradcheck_cli.types import EPS, Array

_LINES = 3
"""The number of lines on which to look for jumps."""

_REACH = 2.0**-2
"""The half length of the line on which to look for jumps, relative to the tensor's entries."""

_MOST = 6
"""The number of undecided entries of a tensor at which to look for a jump."""

_STEPS = (2.0**-24, 2.0**-34)
"""Two steps, in units of the entry. A smooth loss changes far less over the second one; a jump stays."""

_KEPT = 0.9
"""The smallest share of the change over the first step that a jump keeps over the second."""

_VISIBLE = 30.0
"""A jump must be this many times as large as the noise."""

_AT = "the loss jumps at the value of {}, so it has no derivative there"
_NEARBY = (
    "the loss jumps if {} changes, as if a part of it were rounded to few digits (float16, round) or "
    "switched (argmax, top-k, if). The error bars allow for these jumps"
)
_UNEVEN = "the loss has jumps or many kinks near the value of {}. The error bars allow for these"
_ROUNDED = "{}. Rounding to few digits, as in float16 or bfloat16, makes such stairs, too"
_ZERO = (
    "the loss is a staircase in {}, whose gradient is 0. That is right if the jumps are meant, as for argmax "
    "or round, but a loss that is rounded to few digits would look the same"
)


def notes_on_jumps(objective: ForeignObjective, unresolved: Sequence[Comparison]) -> Iterator[str]:
    """Yield notes, without full stops, on the jumps in the loss along the unresolved tensors."""
    stairs = in_stairs(objective, unresolved)
    zero = {c.name for c in unresolved if not c.analytic.any()} & {made.tensor for made in stairs}
    yield from map(_ROUNDED.format, notes_of([made for made in stairs if made.tensor not in zero]))
    if zero:
        yield _ZERO.format(listed(sorted(zero)))
    left = [c for c in unresolved if c.name not in {made.tensor for made in stairs}]
    found = {c.name: at for c in left if (at := _at_entries(objective, c))}
    if found:
        yield _AT.format(listed(at for of in found.values() for at in of))
    nearby = _in_jumps(objective, [c.name for c in left if c.name not in found])
    jumping = [name for name in nearby if _jumps_along(objective, name)]
    uneven = [name for name in nearby if name not in jumping]
    yield from (text.format(listed(some)) for text, some in ((_NEARBY, jumping), (_UNEVEN, uneven)) if some)


def _in_jumps(objective: ForeignObjective, names: Sequence[str]) -> list[str]:
    """Return the names, among those given, of the tensors along which the loss has measurable jumps."""
    if not names:
        return []
    try:
        found = in_jumps(objective.function, objective.noise)
    except Exception as error:
        if not is_refusal(error):
            raise
        return []
    return [name for name in names if name in found]


def _jumps_along(objective: ForeignObjective, name: str) -> bool:
    """Return whether the loss jumps along one of a few random lines, on which all entries change."""
    size, rng = int(np.prod(objective.shapes[name])), np.random.default_rng(0)
    every = np.arange(size)
    lines = [Direction(every, rng.choice([-1.0, 1.0], size)) for _ in range(_LINES)]
    along = without_measured_noise(objective).along(name, lines, np.ones(_LINES))
    return any(jumps(along, line, _REACH) for line in range(_LINES))


def _at_entries(objective: ForeignObjective, comparison: Comparison) -> list[str]:
    """Return the undecided entries at whose value the loss jumps, such as ``w[0, 1]``."""
    which = np.flatnonzero(comparison.unresolved)[:_MOST]
    if not which.size:  # a tensor of zeros, which tests nothing
        return []
    movable = objective.entries(comparison.name)
    jumps = _jumps(movable, which, 1.0) | _jumps(movable, which, -1.0)
    index = [np.unravel_index(k, comparison.shape) for k in which[jumps]]
    return [f"{comparison.name}{[int(i) for i in at]}" for at in index]


def _jumps(movable: Movable, which: Array, side: float) -> Array:
    """Return a mask of the K entries `which` at whose value the loss jumps to one side, (K,)."""
    at, unit = movable.position[which], movable.unit[which]
    rest = np.zeros(1) if movable.rest is None else movable.rest
    rises, noise = [], np.zeros(len(which))
    for step in _STEPS:
        moved = movable.move(which, at + side * step * unit)
        rises.append((moved.losses - rest).reshape(len(which), -1).sum(axis=1))
        noise = EPS * moved.rounding.reshape(len(which), -1).sum(axis=1)
    far, near = np.abs(rises[0]), np.abs(rises[1])
    return np.asarray((near > _KEPT * far) & (near > _VISIBLE * noise))
