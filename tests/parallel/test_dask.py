"""A dask cluster gives the same results as one process, and each of its faults ends in a clear message."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from textwrap import dedent

import numpy as np
import pytest

pytest.importorskip("distributed")

from cluster import cluster
from processes import run

from gradcheck_cli import InputError, check, check_gradients
from gradcheck_cli.parallel import executors
from gradcheck_cli.parallel.executors import Dask

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

NET = """
    import os
    import time
    import numpy as np

    AWAY = "TEST_OF_A_CLUSTER" in os.environ
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 9)), rng.normal(size=(4, 3))
    parameters = {"w": rng.normal(size=(3, 9)), "b": rng.normal(size=3)}

    def f(p, *_):
        BEFORE
        z = np.tanh(x @ p["w"].T + p["b"]) - y
        d = 2 * z * (1 - (z + y) ** 2)
        return (z * z).sum(axis=1), {"w": d.T @ x, "b": d.sum(axis=0)}
"""


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster") / "of_dask") as started:
        yield started


@pytest.fixture
def net(tmp_path, monkeypatch):
    """Write a spec whose code runs the statement `before` first, and return the path of the spec."""
    monkeypatch.setattr("gradcheck_cli.directions.plan.SMALL", 0.0)
    monkeypatch.chdir(tmp_path)

    def write(before="pass"):
        (tmp_path / "net.py").write_text(dedent(NET).replace("BEFORE", before))
        spec = tmp_path / "net.yaml"
        spec.write_text("gradients: {python: net.py:f}\ncheck: {differences: literal}\n")
        return spec

    return write


def same(one, two):
    for mine, yours in zip(one.comparisons, two.comparisons, strict=True):
        np.testing.assert_array_equal(mine.numerical, yours.numerical)
        np.testing.assert_array_equal(mine.error, yours.error)
        assert mine.verdict == yours.verdict
    return True


def refused(spec, executor):
    with pytest.raises(InputError) as caught:
        check(spec, executor=executor)
    (complaint,) = caught.value.complaints
    return complaint


def without_seconds(text):
    document = json.loads(text)
    for spec in document["specs"]:
        del spec["seconds"]
    return document


SLOW = "time.sleep(0.02)"


def test_the_command_prints_the_same_json_as_with_one_process(net, workers):
    """The scheduler of the cluster cannot import gradcheck, so this also shows that only workers need it."""
    net(SLOW)
    line = ("check", "net.yaml", "--format", "json", "--jobs")
    alone, shared = (run(*line, jobs) for jobs in ("1", f"dask:{workers.address}"))
    assert shared.returncode == 0, shared.stderr
    assert without_seconds(shared.stdout) == without_seconds(alone.stdout)


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(net, workers, tmp_path):
    spec = net(f"open(f'pid-{{os.getpid()}}', 'w').close(); {SLOW}")
    alone = check(spec)
    workers.add_worker()
    victim = workers.workers[-1]

    def kill():
        while not (tmp_path / f"pid-{victim.pid}").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        victim.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert same(alone, check(spec, executor=f"dask:{workers.address}"))
    killer.join(10)
    assert victim.wait(10) == -signal.SIGKILL


def test_a_function_of_a_test_can_be_shared_out_and_the_given_executor_stays_open(workers, monkeypatch):
    monkeypatch.setattr("gradcheck_cli.directions.plan.SMALL", 0.0)
    x = np.linspace(-1.0, 1.0, 12)
    with Dask(workers.address).opened() as opened:
        report = check_gradients(
            lambda w: (np.sin(w * x), np.cos(w * x) * x), x + 2, executor=opened.executor
        )
        assert report.passed
        assert opened.executor.submit(abs, -3).result() == 3


def test_code_that_raises_in_a_worker_is_reported_with_its_line(net, workers):
    spec = net("if AWAY: raise OSError('no such device')")
    complaint = refused(spec, f"dask:{workers.address}")
    assert complaint.message == "f of net.py raises OSError at net.py:12: no such device"


@pytest.mark.parametrize("leave", ["raise SystemExit(1)", "os._exit(1)"])
def test_code_that_exits_ends_no_worker(leave, net, workers):
    spec = net(f"if AWAY: {leave}")
    assert "net.py" in refused(spec, f"dask:{workers.address}").message
    assert all(worker.poll() is None for worker in workers.workers[:2])


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


def test_a_scheduler_that_goes_away_or_has_no_workers_is_reported(net, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "CONNECTING", 2.0)
    spec = net(f"open(f'pid-{{os.getpid()}}', 'w').close(); {SLOW}")
    with cluster(tmp_path / "of_dask", workers=0) as alone:
        complaint = refused(spec, f"dask:{alone.address}")
        assert complaint.message == f"the dask scheduler at {alone.address} has no workers"
        monkeypatch.setattr(executors, "CONNECTING", 30.0)
        alone.add_worker()

        def kill():
            while not (tmp_path / f"pid-{alone.workers[0].pid}").exists():
                time.sleep(0.01)
            os.kill(alone.scheduler.pid, signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
        complaint = refused(spec, f"dask:{alone.address}")
    assert f"the dask scheduler at {alone.address} no longer answers" in complaint.message
