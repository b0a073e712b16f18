"""Measure what sharing out costs on a dask cluster of this machine, and simulate larger clusters.

    python benchmarks/cluster.py [--simulate] [--workers 2]

The cluster is a scheduler and worker processes on the loopback. The simulation uses gradcheck's own rules for
cutting work into parts, and the overheads measured before; `--simulate` takes them from `MEASURED` instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from cluster_simulation import MEASURED, Overheads, rows

from gradcheck_cli.parallel.parts import Shared

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT / "tests"), str(ROOT)]


def measured(started: Any) -> Overheads:
    """Measure the overheads on a cluster, in processor time, since other work may run on this machine."""
    from psutil import Process

    from benchmarks.cluster_simulation import Nothing  # the name under which workers can import it
    from gradcheck_cli.parallel.executors import Dask

    def used(process: Any) -> float:
        times = process.cpu_times()
        return times.user + times.system

    own, scheduler = Process(), Process(started.scheduler.pid)
    everyone = [own, scheduler, *(Process(worker.pid) for worker in started.workers)]
    with Dask(started.address).opened() as opened:
        shared = Shared(opened, Nothing())
        list(shared.each([[]] * 20))  # every worker gets the task
        before = [used(process) for process in everyone]
        for _ in range(PARTS // 10):
            list(shared.each([[]] * 10))
        busy = [(used(process) - then) / PARTS for process, then in zip(everyone, before, strict=True)]
    return Overheads(_connecting(started.address), sum(busy), max(busy[:2]))


def _connecting(address: str) -> float:
    """Return the processor time that a new process needs to import dask and connect to a scheduler."""
    found = subprocess.run(
        [sys.executable, "-c", CONNECT, address], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return float(found.stdout)


CONNECT = """
import sys
from time import process_time

from gradcheck_cli.parallel.executors import Dask

start = process_time()
with Dask(sys.argv[1]).opened():
    print(process_time() - start)
"""

PARTS = 500
"""The number of parts that do nothing in the measurement."""


SLOW = """
import time
import numpy as np

parameters = {{"w": np.random.default_rng(0).normal(size=(20, 25))}}


def f(p, *_):
    time.sleep({each})
    return (np.sin(p["w"]) ** 2).sum(axis=1), {{"w": np.sin(2 * p["w"])}}
"""


def speed_up(started: Any, folder: Path, each: float = 0.02, evaluations: int = 2000) -> list[float]:
    """Return the seconds of evaluations of a function by one process and by the cluster, in turns."""
    from gradcheck_cli.code.function import Inputs
    from gradcheck_cli.code.points import Change, InProcess
    from gradcheck_cli.code.pool import Case, InFile, Workers
    from gradcheck_cli.code.sources import read_code
    from gradcheck_cli.parallel.executors import Dask
    from gradcheck_cli.spec.gradients import CODE_MODELS, Code

    (folder / "slow.py").write_text(SLOW.format(each=each))
    source, inputs = CODE_MODELS["python"](python=Code(folder / "slow.py", "f")), Inputs(None, None, None)
    function = read_code(source, inputs)
    losses = function.losses(function.parameters)
    case = Case(InFile.of(source, inputs), function.parameters, losses, {"w": 1e-15 * losses})
    points = [Change("w", np.array([k]), np.array([0.01 * k])) for k in range(evaluations // ROUNDS)]
    seconds = [0.0, 0.0]
    with Dask(started.address).opened() as opened:
        workers = Workers(case, function, opened, each)
        workers.losses_at(points)  # both workers load the code
        for _ in range(ROUNDS):
            for number, evaluator in enumerate((InProcess(function), workers)):
                start = time.perf_counter()
                evaluator.losses_at(points)
                seconds[number] += time.perf_counter() - start
    return seconds


ROUNDS = 5
"""How often the two ways take turns."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--simulate", action="store_true", help="measure nothing")
    parser.add_argument("--workers", type=int, default=2, help="the number of worker processes (default: 2)")
    given = parser.parse_args()
    costs = MEASURED
    if not given.simulate:
        from parallel.cluster import cluster

        with TemporaryDirectory() as folder, cluster(Path(folder) / "logs", given.workers) as started:
            costs = measured(started)
            print(f"connect {costs.connect:.2f} s, one part {1e3 * costs.latency:.1f} ms, ", end="")
            print(f"each of many {1e3 * costs.send:.2f} ms")
            alone, shared = speed_up(started, Path(folder))
            print(
                f"20 ms, 2,000 evaluations: {alone:.1f} s alone, {shared:.1f} s shared: ",
                end="",
            )
            print(f"{alone / shared:.2f} times as fast")
    print(*rows(costs), sep="\n")


if __name__ == "__main__":
    main()
