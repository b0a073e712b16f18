"""Choose between single entries and random directions, depending on how long the user's code takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from gradcheck_cli.directions.projections import DIRECTIONS, EVALUATIONS
from gradcheck_cli.numerical.objective import DirectedObjective, Movable
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME
from gradcheck_cli.parallel.clock import Clock
from gradcheck_cli.spec.check import CheckSpec
from gradcheck_cli.types import Array

WAITS = 0.05
"""Code that uses a processor for a smaller share of its time counts as waiting for a device or server.

Other work on the machine rarely reduces the share that far, since it would have to use twenty times as much
processor time.
"""

PATIENCE = 10.0
"""Every entry is checked individually if checking them all takes at most this many seconds in one process."""

SMALL = 2.0
"""Work that takes fewer seconds than this stays in this process.

Starting other processes, or connecting to a cluster, would take as long as the work itself.
"""

QUICK = 0.05
"""An evaluation shorter than this, in seconds, is timed as part of a batch."""

TIMINGS = 3
"""The number of times that a batch is timed after a warm-up. The shortest time counts."""

CALIBRATION = 3
"""The number of steps that are usually tried for the directions of a tensor."""


@dataclass(frozen=True)
class Plan:
    """The method to use, and whether the work is worth sharing out.

    each: the time of one evaluation, in seconds.
    seconds: the time of all evaluations in one process.
    told: a sentence that explains the choice.
    """

    way: Literal["literal", "directions"]
    each: float
    seconds: float
    told: str

    @property
    def is_small(self) -> bool:
        """Whether the work takes so little time that it should stay in this process."""
        return self.seconds < SMALL


def literal_is_asked_for(how: CheckSpec) -> bool:
    """Return whether the user asks for literal differences, directly or by setting a scheme or a step."""
    own_scheme = how.scheme != DEFAULT_SCHEME or how.step is not None
    return how.differences == "literal" or (own_scheme and not how.fast)


def plan(objective: DirectedObjective, names: Sequence[str], how: CheckSpec, clock: Clock) -> Plan:
    """Choose literal differences if they take at most `PATIENCE` seconds, and random directions otherwise.

    Literal differences are always chosen if the user asks for them. Setting a scheme or a step also asks for
    literal differences, unless `fast` is set. The number of processes does not affect the choice, because it
    must never affect the result.
    """
    each = seconds_of(objective, names[0], clock) if names else 0.0
    literally = each * EVALUATIONS * sum(prod(objective.shapes[name]) for name in names)
    if literal_is_asked_for(how) or (not how.fast and literally <= PATIENCE):
        return Plan("literal", each, literally, "")
    reason = (
        "as --fast asks" if how.fast else f"because checking every entry would take about {_time(literally)}"
    )
    told = f"Checked along {DIRECTIONS} random directions per tensor, {reason}."
    work = each * EVALUATIONS * CALIBRATION * DIRECTIONS * len(names)
    return Plan("directions", each, work, told)


def seconds_of(objective: DirectedObjective, name: str, clock: Clock) -> float:
    """Return the processor time of one evaluation, in seconds.

    Processor time does not depend on other work on the machine. Quick evaluations are timed in a batch. Code
    that waits for a device or server is timed by the wall clock.
    """
    moves = objective.entries(name)
    if not moves.position.size:
        return 0.0
    once = _seconds_of_batch(moves, 1, 1, clock)
    return once if once > QUICK else _seconds_of_batch(moves, moves.batch, TIMINGS, clock) / moves.batch


def seconds_of_pass(moves: Movable, numbers: int, clock: Clock) -> float:
    """Return the time, in seconds, that a pass takes on average, like `seconds_of`.

    numbers: the number of variables that one pass perturbs. A batch may consist of several passes.
    """
    once = _seconds_of_batch(moves, numbers, 1, clock)
    return once if once > QUICK else _seconds_of_batch(moves, moves.batch, 1, clock) * numbers / moves.batch


def _seconds_of_batch(moves: Movable, points: int, timings: int, clock: Clock) -> float:
    which = np.arange(points) % len(moves.position)
    moves.move(which, moves.position[which])
    return min(_timed(moves, which, clock) for _ in range(timings))


def _timed(moves: Movable, which: Array, clock: Clock) -> float:
    start = clock()
    moves.move(which, moves.position[which])
    end = clock()
    processor, wall = end.processor - start.processor, end.wall - start.wall
    return wall if processor < WAITS * wall else processor


def _time(seconds: float) -> str:
    """Format a duration, such as ``40 s``, ``5 min`` or ``3 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
