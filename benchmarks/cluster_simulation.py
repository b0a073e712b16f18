"""Simulate a check on clusters of any size, from the overheads that `cluster.py` measures."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradcheck_cli.parallel.executors import KINDS, shortest_of
from gradcheck_cli.parallel.parts import at_once, cuts

DASK = next(kind for kind in KINDS if kind.package == "distributed")

POINTS = 4
"""The evaluations of one entry that agrees: two steps, to both sides."""

ENTRIES = 25_000
"""The entries in the simulation: 100,000 evaluations."""

JITTER = 0.1
"""How unequal machines are: the standard deviation of the logarithm of a part's time."""

SECONDS = (0.001, 0.01, 0.1, 1.0, 10.0)
WORKERS = (1, 2, 10, 100, 1000)


@dataclass(frozen=True)
class Overheads:
    """What sharing out costs, in seconds.

    connect: connecting to the scheduler, the import of dask included.
    latency: a part that does nothing, from here to a worker and back.
    send: the time that the client and the scheduler are busy with one part, when there are many.
    """

    connect: float
    latency: float
    send: float


MEASURED = Overheads(connect=0.4, latency=0.004, send=0.0014)
"""The processor time that `cluster.py` measured with dask 2026.8 (2026-11-28), for `--simulate`."""


@dataclass(frozen=True)
class Cluster:
    """A simulated cluster, as the rules for cutting see it."""

    workers: int

    @property
    def shortest(self) -> float:
        return max(DASK.shortest, shortest_of(self.workers, DASK.busy))

    def width(self) -> int:
        return self.workers


@dataclass(frozen=True)
class Simulated:
    """The number of parts of a check, its time, and the share of the workers' time that is evaluation."""

    parts: int
    seconds: float
    efficiency: float


def simulated(entries: int, each: float, workers: int, costs: Overheads, seed: int = 0) -> Simulated:
    """Simulate a check of one tensor whose code takes `each` seconds for an evaluation."""
    rng, cluster = np.random.default_rng(seed), Cluster(workers)
    parts, seconds, left = 0, costs.connect, entries
    while left:
        together = min(left, max(16, at_once(each, cluster)))
        cut = cuts(POINTS * together, each, workers, cluster.shortest)
        seconds += _time_of_call([each * (part.stop - part.start) for part in cut], workers, costs, rng)
        parts, left = parts + len(cut), left - together
    return Simulated(parts, seconds, POINTS * entries * each / (seconds * workers))


def _time_of_call(work: list[float], workers: int, costs: Overheads, rng: np.random.Generator) -> float:
    """Return when the last of some parts is back, if each goes to the first worker that is free."""
    free = [0.0] * workers
    for number, seconds in enumerate(work, start=1):
        start = max(heapq.heappop(free), number * costs.send)
        heapq.heappush(free, start + costs.latency + seconds * rng.lognormal(sigma=JITTER))
    return max(free)


def rows(costs: Overheads, entries: int = ENTRIES) -> Iterator[str]:
    """Yield a table of parts, time and efficiency for every number of workers and duration."""
    yield (
        "| one evaluation | "
        + " | ".join(f"{workers:,} worker{'s' * (workers > 1)}" for workers in WORKERS)
        + " |"
    )
    yield "|---:|" + "---:|" * len(WORKERS)
    for each in SECONDS:
        found = [simulated(entries, each, workers, costs) for workers in WORKERS]
        shown = (f"{one.parts:,} parts, {_time(one.seconds)}, {one.efficiency:.0%}" for one in found)
        yield f"| {each * 1000:,.0f} ms | " + " | ".join(shown) + " |"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"


class Nothing:
    """A task whose parts do nothing."""

    def begin(self) -> type[list]:  # type: ignore[type-arg]
        return list
