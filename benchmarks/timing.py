"""Time several methods in turn, and extrapolate long ones from samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

ROUNDS = 15
"""Number of runs of a short method."""

REPEATED_SHARE = 0.25
"""A method is repeated until it has used this share of the patience."""

SAMPLED_SHARE = 0.1
"""The largest sample takes about this share of the patience."""

GROWTH = 4
"""Factor by which each sample is larger than the one before."""

NOISE = 1.1
"""Noise may make the times of two equal samples differ by this factor."""

Run = Callable[[int], object]
Clock = Callable[[Run, int], float]


@dataclass(frozen=True)
class Timing:
    """The seconds for all entries. extrapolated: whether these come from a sample of the entries."""

    seconds: float
    extrapolated: bool = False

    def __str__(self) -> str:
        return f"{'~' if self.extrapolated else ''}{duration(self.seconds)}"


@dataclass(frozen=True)
class Way:
    """One method to check a gradient.

    run: a function that checks a number of entries; a method that cannot sample checks all of them.
    entries: the number of all entries.
    most: the size of the largest possible sample; 0 if sampling is impossible.
    chunk: the number of entries checked at once; sample sizes are multiples of it.
    """

    name: str
    run: Run
    entries: int
    most: int = 0
    chunk: int = 16


def duration(seconds: float) -> str:
    """Format a duration in a suitable unit, such as ``1.23 ms``."""
    for unit, size in (("h", 3600.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return (
                f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:,.0f} {unit}"
            )
    return f"{seconds * 1e6:.3g} µs"


def seconds_of(run: Run, entries: int) -> float:
    start = perf_counter()
    run(entries)
    return perf_counter() - start


def look(way: Way, patience: float, clock: Clock = seconds_of) -> Timing:
    """Return the seconds for all entries, from a full run if it fits into the patience, else from samples."""
    if not way.most:
        return Timing(clock(way.run, way.entries))
    points: list[tuple[int, float]] = []
    size = min(way.chunk, way.most, way.entries)
    clock(way.run, size)  # warm-up
    while True:
        points.append((size, clock(way.run, size)))
        if size == way.entries:
            return Timing(points[-1][1])
        whole = extrapolate(points, way.entries)
        if whole <= patience:
            size = way.entries
        elif size == way.most or (len(points) > 1 and points[-1][1] * GROWTH > patience * SAMPLED_SHARE):
            return Timing(whole, extrapolated=True)
        else:
            size = min(GROWTH * size, way.most, way.entries)


def extrapolate(points: Sequence[tuple[int, float]], entries: int) -> float:
    """Return the seconds for this many entries, from samples (entries, seconds) of growing size.

    The seconds follow the line through the two largest samples. They are proportional to the largest sample
    if there is no second one, or if noise may explain the difference between the two: almost no difference,
    or a growth that is more than proportional.
    """
    size, seconds = points[-1]
    if len(points) > 1:
        smaller, less = points[-2]
        slope = (seconds - less) / (size - smaller)
        if seconds > NOISE * less and slope <= seconds / size:
            return seconds + slope * (entries - size)
    return seconds * entries / size


def side_by_side(ways: Sequence[Way], patience: float, clock: Clock = seconds_of) -> dict[str, Timing]:
    """Return the median seconds of every method. In each round all take turns, until patience runs out.

    The first run of a method is a warm-up. It counts only if there is no other.
    """
    looks = {way.name: look(way, patience, clock) for way in ways}
    times = {name: [timing.seconds] for name, timing in looks.items()}
    for _ in range(ROUNDS):
        for way in ways:
            mine = times[way.name]
            if not looks[way.name].extrapolated and sum(mine[1:]) + mine[-1] < patience * REPEATED_SHARE:
                mine.append(clock(way.run, way.entries))
    return {name: Timing(median(mine[1:] or mine), looks[name].extrapolated) for name, mine in times.items()}
