"""How code is differenced, by the time that its evaluations take: literally, or along random directions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from time import perf_counter, process_time
from typing import Literal, NamedTuple

import numpy as np

from gradcheck_cli.numerical.objective import Array, DirectedObjective, Movable
from gradcheck_cli.numerical.projections import DIRECTIONS, EVALUATIONS
from gradcheck_cli.numerical.schemes import DEFAULT_SCHEME
from gradcheck_cli.spec import CheckSpec


class Time(NamedTuple):
    """Seconds since some fixed moment: of the processors, and on the wall."""

    processor: float
    wall: float


Clock = Callable[[], Time]


def now() -> Time:
    """Both clocks of this machine; the processors' time includes child processes that have ended."""
    children = os.times()
    return Time(process_time() + children.children_user + children.children_system, perf_counter())


WAITS = 0.05
"""Code that keeps a processor busy for a smaller share of its time is waiting: for a device, for a server.

Other work on the machine leaves code a larger share than that, unless there is twenty times as much of it."""

PATIENCE = 10.0
"""Every entry is moved by itself if that takes no more seconds than this in a single process."""

SMALL = 2.0
"""Work of fewer seconds stays in this process: the others would take as long to start."""

QUICK = 0.05
"""An evaluation this short, in seconds, is timed in a batch."""

TIMINGS = 3
"""A batch counts as the shortest of these, after one that compiles what is to be compiled."""

CALIBRATION = 3
"""How many steps are tried for the directions of a tensor, as a rule."""


@dataclass(frozen=True)
class Plan:
    """The way to go, how many processes are worth it, and both in a sentence for the reader."""

    way: Literal["literal", "directions"]
    jobs: int
    told: str


def plan(objective: DirectedObjective, names: Sequence[str], how: CheckSpec, clock: Clock) -> Plan:
    """Literally where that takes no longer than `PATIENCE`, or is asked for; else along directions.

    How many processes there are has no part in it: they change the time that it takes, never the result.
    """
    each = seconds_of(objective, names[0], clock) if names else 0.0
    literally = each * EVALUATIONS * sum(prod(objective.shapes[name]) for name in names)
    own_scheme = how.scheme != DEFAULT_SCHEME or how.step is not None
    if how.differences == "literal" or (not how.fast and (own_scheme or literally <= PATIENCE)):
        return Plan("literal", _jobs(how, literally), "")
    reason = "as --fast asks" if how.fast else f"since entry by entry would take about {_time(literally)}"
    told = f"Moved along {DIRECTIONS} random directions of every tensor, {reason}."
    work = each * EVALUATIONS * CALIBRATION * DIRECTIONS * len(names)
    return Plan("directions", _jobs(how, work), told)


def seconds_of(objective: DirectedObjective, name: str, clock: Clock) -> float:
    """The processor time of one evaluation, so that other work on the machine changes nothing.

    An evaluation that is quick is timed as one of a batch. Code that waits counts by the wall clock.
    """
    moves = objective.entries(name)
    if not moves.position.size:
        return 0.0
    once = _seconds_of_batch(moves, 1, 1, clock)
    return once if once > QUICK else _seconds_of_batch(moves, moves.batch, TIMINGS, clock) / moves.batch


def _seconds_of_batch(moves: Movable, points: int, timings: int, clock: Clock) -> float:
    which = np.zeros(points, dtype=np.intp)
    moves.move(which, moves.position[which])
    return min(_timed(moves, which, clock) for _ in range(timings))


def _timed(moves: Movable, which: Array, clock: Clock) -> float:
    start = clock()
    moves.move(which, moves.position[which])
    end = clock()
    processor, wall = end.processor - start.processor, end.wall - start.wall
    return wall if processor < WAITS * wall else processor


def _jobs(how: CheckSpec, seconds: float) -> int:
    if seconds < SMALL:
        return 1
    return cores() if how.jobs == "auto" else how.jobs


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _time(seconds: float) -> str:
    """``40 s``, ``5 min``, ``3 h``"""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
