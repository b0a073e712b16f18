"""Seconds: of several ways in turn, and of a long one from a sample of what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

ROUNDS = 15
"""How often a short way is run."""

REPEATED_SHARE = 0.25
"""A way is repeated until it has used this share of the patience."""

SAMPLED_SHARE = 0.1
"""The largest sample takes about this share of the patience."""

GROWTH = 4
"""How much larger each sample is than the one before."""

NOISE = 1.1
"""By this factor two samples that take the same time may seem to differ."""

Run = Callable[[int], object]
Clock = Callable[[Run, int], float]


@dataclass(frozen=True)
class Timing:
    """Seconds for everything; extrapolated: from a sample of the entries."""

    seconds: float
    extrapolated: bool = False

    def __str__(self) -> str:
        return f"{'~' if self.extrapolated else ''}{duration(self.seconds)}"


@dataclass(frozen=True)
class Way:
    """One way to check a gradient.

    run:     does so for that many of the entries; a way that knows no sample does all of them.
    entries: how many there are;  most: how many a sample can have, 0 if there is no sampling.
    chunk:   how many entries are done at once: samples are multiples of it.
    """

    name: str
    run: Run
    entries: int
    most: int = 0
    chunk: int = 16


def duration(seconds: float) -> str:
    """``1.23 ms``, in the unit that suits."""
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
    """Seconds for all entries of a way: run in full if that is within the patience, else from samples."""
    if not way.most:
        return Timing(clock(way.run, way.entries))
    points: list[tuple[int, float]] = []
    size = min(way.chunk, way.most, way.entries)
    clock(way.run, size)  # warms it up
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
    """Seconds for that many entries, from samples (entries, seconds) of growing size.

    On the line through the two largest; or in proportion to the largest alone, where there is no other, or
    where the two differ by what may be noise: next to nothing, or more than in proportion.
    """
    size, seconds = points[-1]
    if len(points) > 1:
        smaller, less = points[-2]
        slope = (seconds - less) / (size - smaller)
        if seconds > NOISE * less and slope <= seconds / size:
            return seconds + slope * (entries - size)
    return seconds * entries / size


def side_by_side(ways: Sequence[Way], patience: float, clock: Clock = seconds_of) -> dict[str, Timing]:
    """Seconds of every way: the median of rounds in which they take turns, as long as patience lasts.

    The first run of a way warms it up, and does not count if there is another.
    """
    looks = {way.name: look(way, patience, clock) for way in ways}
    times = {name: [timing.seconds] for name, timing in looks.items()}
    for _ in range(ROUNDS):
        for way in ways:
            mine = times[way.name]
            if not looks[way.name].extrapolated and sum(mine[1:]) + mine[-1] < patience * REPEATED_SHARE:
                mine.append(clock(way.run, way.entries))
    return {name: Timing(median(mine[1:] or mine), looks[name].extrapolated) for name, mine in times.items()}
