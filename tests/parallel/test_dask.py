"""A dask cluster gives the same results as one process, and each of its faults ends in a clear message."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from textwrap import dedent

import numpy as np
import pytest

pytest.importorskip("distributed")

import distributed
from cluster import Cluster, cluster
from in_json import json_of, without_seconds
from processes import PATIENCE
from quick_engines import everything_is_shared_out

from gradcheck_cli import InputError, check, check_gradients, load_spec
from gradcheck_cli.parallel import executors
from gradcheck_cli.parallel.executors import Dask
from gradcheck_cli.subject.several import by_workers

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

NET = """
    import os
    import signal
    import numpy as np

    AWAY = "TEST_OF_A_CLUSTER" in os.environ
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 9)), rng.normal(size=(4, 3))
    parameters = {"w": rng.normal(size=(3, 9)), "b": rng.normal(size=3)}
    calls = []

    def f(p, *_):
        calls.append(p)
        BEFORE
        z = np.tanh(x @ p["w"].T + p["b"]) - y
        d = 2 * z * (1 - (z + y) ** 2)
        return (z * z).sum(axis=1), {"w": d.T @ x, "b": d.sum(axis=0)}

    def kill_the_first_worker_that_comes_here():
        try:
            file = open("killed", "x")
        except FileExistsError:
            return
        with file:
            file.write(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def clusters(tmp_path_factory) -> Iterator[Iterator[Cluster]]:
    """Give the same cluster again and again, until a test kills its scheduler."""

    def endless() -> Iterator[Cluster]:
        while True:
            with cluster(tmp_path_factory.mktemp("cluster") / "of_dask", workers=2) as started:
                while started.scheduler.poll() is None:
                    yield started

    given = endless()
    yield given
    given.close()


@pytest.fixture
def workers(clusters) -> Cluster:
    """A cluster with two workers, even if a test before has killed one."""
    started = next(clusters)
    started.start_workers(2)
    return started


@pytest.fixture(autouse=True)
def quick_work_and_slow_machines(monkeypatch) -> None:
    everything_is_shared_out(monkeypatch)
    monkeypatch.setattr(executors, "CONNECTING", PATIENCE)


@pytest.fixture
def net(tmp_path, monkeypatch):
    """Write a spec whose code runs the statement `before` first, and return the path of the spec."""
    monkeypatch.chdir(tmp_path)

    def write(before="pass"):
        (tmp_path / "net.py").write_text(dedent(NET).replace("BEFORE", before))
        spec = tmp_path / "net.yaml"
        spec.write_text("gradients: {python: net.py:f}\ncheck: {differences: literal}\n")
        return spec

    return write


def refused(spec, executor):
    with pytest.raises(InputError) as caught:
        check(spec, executor=executor)
    (complaint,) = caught.value.complaints
    return complaint


COMMAND = """
    import sys
    from gradcheck_cli.__main__ import main
    from gradcheck_cli.directions import plan

    plan.SMALL = 0.0
    sys.exit(main())
"""
"""The command, which shares out even work that takes milliseconds."""


def test_the_command_prints_the_same_json_as_with_one_process(net, workers):
    """The scheduler of the cluster cannot import gradcheck, so this also shows that only workers need it."""
    alone = check(net())
    program = [sys.executable, "-W", "error", "-c", dedent(COMMAND)]
    options = ("check", "net.yaml", "--format", "json", "--jobs", f"dask:{workers.address}")
    shared = subprocess.run([*program, *options], capture_output=True, encoding="utf-8", timeout=PATIENCE)
    assert shared.returncode == 0, shared.stderr
    assert without_seconds(shared.stdout) == json_of(alone)


def test_several_networks_are_checked_by_the_workers(workers, configs):
    paths = [str(configs / name) for name in ("output_layer.yaml", "wrong_gradient.yaml")]
    specs = list(map(load_spec, paths))
    answers = dict(by_workers(specs, Dask(workers.address)))
    for number, path in enumerate(paths):
        assert json_of(answers[number].given().report) == json_of(check(path))


def test_a_function_of_a_test_can_be_shared_out_and_the_given_executor_stays_open(workers):
    x = np.linspace(-1.0, 1.0, 12)
    with Dask(workers.address).opened() as opened:
        report = check_gradients(
            lambda w: (np.sin(w * x), np.cos(w * x) * x), x + 2, executor=opened.executor
        )
        assert report.passed
        assert opened.executor.submit(abs, -3).result() == 3


def test_a_message_to_all_clients_during_the_greeting_does_not_end_the_check(net, workers, monkeypatch):
    """An assertion in dask's client fails if such a message arrives together with the greeting."""
    client, refusals = distributed.Client, [AssertionError]

    def connect(*arguments, **options):
        if refusals:
            raise refusals.pop()
        return client(*arguments, **options)

    monkeypatch.setattr(distributed, "Client", connect)
    assert check(net(), executor=f"dask:{workers.address}").passed


def test_code_that_raises_in_a_worker_is_reported_with_its_line(net, workers):
    spec = net("if AWAY: raise OSError('no such device')")
    complaint = refused(spec, f"dask:{workers.address}")
    assert complaint.message == "f of net.py raises OSError at net.py:14: no such device"


@pytest.mark.parametrize("leave", ["raise SystemExit(1)", "os._exit(1)"])
def test_code_that_exits_ends_no_worker(leave, net, workers):
    spec = net(f"if AWAY: {leave}")
    assert "net.py" in refused(spec, f"dask:{workers.address}").message
    assert workers.is_whole


def test_a_worker_that_computes_otherwise_is_refused(net, workers):
    spec = net("p = {**p, 'b': p['b'] + AWAY}")
    complaint = refused(spec, f"dask:{workers.address}")
    assert "computes a different loss in a worker process" in complaint.message


def test_without_a_scheduler_the_message_says_what_to_start(net, monkeypatch):
    monkeypatch.setattr(executors, "CONNECTING", 0.3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    complaint = refused(net(), f"dask:{address}")
    assert complaint.message == f"there is no dask scheduler at {address}: no answer in 0.3 s"
    assert f"dask worker {address} --nworkers auto --nthreads 1" in complaint.help


def test_an_address_that_is_none_is_refused(net):
    assert "missing port number" in refused(net(), "dask:here").message


def test_a_scheduler_without_workers_is_refused(net, monkeypatch):
    monkeypatch.setattr(executors, "CONNECTING", 1.0)
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as alone:
        address = alone.scheduler_address
        assert refused(net(), f"dask:{address}").message == f"the dask scheduler at {address} has no workers"


# --- tests that kill a part of the cluster come last, since it must be started again after them ------------


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(net, workers, tmp_path):
    """The first worker to make its 20th evaluation kills itself. There are enough for both."""
    spec = net("AWAY and len(calls) == 20 and kill_the_first_worker_that_comes_here()")
    alone, shared = check(spec), check(spec, executor=f"dask:{workers.address}")
    assert json_of(shared) == json_of(alone)
    for one, other in zip(shared.comparisons, alone.comparisons, strict=True):
        np.testing.assert_array_equal([one.numerical, one.error], [other.numerical, other.error])
    killed = int((tmp_path / "killed").read_text())
    ended = [worker for worker in workers.workers if worker.pid == killed]
    assert [worker.wait(PATIENCE) for worker in ended] == [-signal.SIGKILL]
    assert [worker.poll() for worker in workers.workers if worker not in ended] == [None]


def test_a_scheduler_that_goes_away_is_reported(net, clusters, tmp_path, monkeypatch):
    """A worker kills the scheduler in the middle of an evaluation."""
    started = next(clusters)
    (tmp_path / "scheduler").write_text(str(started.scheduler.pid))
    spec = net("AWAY and len(calls) == 20 and os.kill(int(open('scheduler').read()), signal.SIGKILL)")
    monkeypatch.setattr(executors, "CONNECTING", 5.0)
    complaint = refused(spec, f"dask:{started.address}")
    assert f"the dask scheduler at {started.address} no longer answers" in complaint.message
