"""A dask cluster on the loopback: a scheduler that cannot import gradcheck, and workers that can."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from distributed import Client
from paths import ROOT

MARK = "TEST_OF_A_CLUSTER"
"""The variable by which code knows that it runs in the cluster."""

_PATIENCE = 60.0
_NO_GRADCHECK = "raise ImportError('the scheduler must not need gradcheck_cli')\n"


@dataclass
class Cluster:
    """The processes of a cluster, whose logs are in `folder`."""

    folder: Path
    port: int
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def is_whole(self) -> bool:
        """Whether its scheduler and all of its workers still run."""
        return all(process.poll() is None for process in (*self.workers, self.scheduler))

    def start_workers(self, number: int) -> None:
        """Start as many workers as are missing, and wait for them."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        if missing := number - len(self.workers):
            for _ in range(missing):
                self.workers.append(self._worker())
            with Client(self.address, timeout=_PATIENCE, set_as_default=False) as client:
                client.wait_for_workers(number, timeout=_PATIENCE)

    def _worker(self) -> subprocess.Popen[bytes]:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder))
        return _started(self.folder, "worker", ("worker", self.address, *options), str(ROOT))

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def _started(folder: Path, name: str, command: tuple[str, ...], path: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": path, "MALLOC_TRIM_THRESHOLD_": "65536", MARK: "1"}
    environment.pop("COVERAGE_FOLDER", None)
    with open(folder / f"{name}.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *command], stdout=log, stderr=log, env=environment, cwd=folder
        )


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _await(port: int, scheduler: subprocess.Popen[bytes]) -> None:
    give_up = monotonic() + _PATIENCE
    while monotonic() < give_up and scheduler.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        sleep(0.1)
    raise RuntimeError("the scheduler does not start")


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """Start a scheduler and its workers, and kill them at the end."""
    hidden = folder / "scheduler_only" / "gradcheck_cli"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text(_NO_GRADCHECK)
    port = _free_port()
    command = ("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    started = Cluster(folder, port, _started(folder, "scheduler", command, str(hidden.parent)))
    try:
        _await(port, started.scheduler)
        started.start_workers(workers)
        yield started
    finally:
        started.stop()
