"""Every engine gives the results of one process, and an engine that cannot work is refused with a reason."""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from textwrap import dedent, indent

import pytest
from here import Here
from in_json import json_of

from gradcheck_cli import InputError, check
from gradcheck_cli.parallel import executors, parts, remote
from gradcheck_cli.parallel.executors import (
    KINDS,
    Dask,
    Factory,
    Given,
    ended,
    engine_of,
    jobs_of,
    kind_of,
    named,
)
from gradcheck_cli.parallel.parts import ROUNDS, Shared, cuts
from gradcheck_cli.parallel.remote import Node, Versions

POOLS = """
    import sys
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    def pool():
        print("making a pool")
        return ProcessPoolExecutor(2, get_context("spawn"))

    def leaves():
        sys.exit(3)

    def number():
        return 5

    def library():
        from executorlib import SingleNodeExecutor
        return SingleNodeExecutor(max_workers=2, block_allocation=True)
"""

NET = """
    import numpy as np
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 9)), rng.normal(size=(4, 3))
    parameters = {"w": rng.normal(size=(3, 9)), "b": rng.normal(size=3)}

    def f(p, *_):
        pass
        z = np.tanh(x @ p["w"].T + p["b"]) - y
        d = 2 * z * (1 - (z + y) ** 2)
        return (z * z).sum(axis=1), {"w": d.T @ x, "b": d.sum(axis=0)}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "pools.py").write_text(dedent(POOLS))
    (tmp_path / "net.py").write_text(dedent(NET))
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}\ncheck: {differences: literal}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class OldFashioned(ThreadPoolExecutor):
    """An executor that cannot cancel its futures, as those of dask and ipyparallel."""

    def shutdown(self, wait=True):
        super().shutdown(wait)


class AtItsEnd(OldFashioned):
    """An executor that fails when it is shut down."""

    def shutdown(self, wait=True):
        super().shutdown(wait)
        raise OSError("gone")


class Broken(Here):
    def submit(self, function, *arguments):
        raise BrokenProcessPool("gone")


class Lost(Here):
    """An executor whose futures are all cancelled, as those of a scheduler that goes away."""

    def submit(self, function, *arguments):
        future: Future[bytes] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


class Doubling:
    """A task that doubles numbers, or fails at a negative one."""

    def begin(self):
        return self.double

    def double(self, numbers):
        if min(numbers) < 0:
            raise ValueError("negative")
        return [2 * number for number in numbers]


def shared(executor, task=None):
    with Given(executor).opened() as opened:
        return Shared(opened, task or Doubling())


@pytest.fixture(autouse=True)
def no_task_is_left(monkeypatch):
    monkeypatch.setattr(remote, "_BEGUN", {})


@pytest.mark.parametrize("engine", ["pools:pool", pytest.param("pools:library", marks=pytest.mark.slow)])
def test_a_check_with_the_executor_of_a_factory_gives_the_same_json(engine, folder, long_work, capfd):
    if engine == "pools:library":
        pytest.importorskip("executorlib")
    shared_out, alone = check("net.yaml", executor=engine), check("net.yaml")
    assert json_of(shared_out) == json_of(alone)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("leaves", "pools:leaves raises SystemExit: 3"),
        ("number", "pools:number returned int, which has no submit and shutdown"),
        ("numbr", "pools:numbr: the module has no 'numbr'"),
    ],
)
def test_a_factory_that_makes_no_executor_is_refused(name, message, folder):
    with pytest.raises(InputError) as caught, Factory("pools", name).opened():
        pass
    assert caught.value.complaints[0].message == message


@pytest.mark.parametrize("kind", [OldFashioned, AtItsEnd])
def test_no_executor_fails_a_check_by_how_it_is_shut_down(kind):
    executor = kind(1)
    with ended(executor):
        assert executor.submit(abs, -1).result() == 1
    with pytest.raises(ZeroDivisionError), ended(kind(1)):
        raise ZeroDivisionError


def test_an_executor_that_has_to_start_first_is_refused_in_a_forked_process(folder, monkeypatch):
    (folder / "message_passing.py").write_text("from here import Here as pool\n")
    monkeypatch.setattr(Here, "__module__", "mpi4py.futures")
    with Factory("message_passing", "pool").opened():
        pass
    monkeypatch.setattr(executors, "parent_process", lambda: True)
    with (
        pytest.raises(InputError, match="MPI has to start first"),
        Factory("message_passing", "pool").opened(),
    ):
        pass


def test_a_module_that_is_not_there_is_refused(folder):
    with pytest.raises(InputError, match="No module named 'nowhere'"), Factory("nowhere", "f").opened():
        pass


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("dask", Dask("")),
        ("dask:tcp://host:8786", Dask("tcp://host:8786")),
        ("my.pools:make", Factory("my.pools", "make")),
    ],
)
def test_a_text_names_an_engine(text, engine):
    assert named(text) == engine_of(text) == engine
    assert jobs_of(text) == text


@pytest.mark.parametrize("text", ["dask:", "many", "a:b c", "1.5", ":f", "my-pools:f", "0", "-1", "1025"])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError):
        jobs_of(text)


def test_one_job_needs_no_engine():
    assert engine_of(1) is None


def test_each_executor_has_a_row():
    assert kind_of(ThreadPoolExecutor(1)).package == kind_of(ProcessPoolExecutor(1)).package == "concurrent"
    assert kind_of(Here()) is KINDS[-1]


def test_parts_are_cut_by_time_and_cover_everything():
    for count, seconds, width, shortest in [
        (7, 0.1, 2, 1.0),
        (2000, 0.02, 2, 1.0),
        (5, 9.0, 9, 1.0),
        (1, 0.0, 3, 0.02),
    ]:
        found = cuts(count, seconds, width, shortest)
        assert [i for part in found for i in range(count)[part]] == list(range(count))
        assert len(found) <= width * ROUNDS
        assert len(found) == 1 or min(part.stop - part.start for part in found) * seconds >= 0.99 * shortest


def test_the_task_is_sent_only_to_workers_that_do_not_have_it():
    executor = Here()
    work = shared(executor)
    assert sorted((i, done.value) for i, done in work.each([[1], [2], [3]])) == [(0, [2]), (1, [4]), (2, [6])]
    calls = executor.calls
    assert [done.value for _, done in work.each([[5]])] == [[10]]
    assert executor.calls == calls + 1


def test_the_exception_of_a_part_is_raised_here_with_its_traceback():
    with pytest.raises(ValueError, match="negative") as caught:
        list(shared(Here()).each([[-1]]))
    assert "in double" in str(caught.value.__cause__)


class OnNode7(Here):
    """An executor whose only worker is on another machine, with these versions."""

    def __init__(self, *versions):
        self.versions = Versions(*versions) if versions else remote.own_versions()

    def submit(self, function, *arguments):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(remote, "own_node", lambda: Node("node7", 1))
            patched.setattr(remote, "own_versions", lambda: self.versions)
            return super().submit(function, *arguments)


def test_other_versions_are_refused():
    with pytest.raises(InputError) as caught:
        list(shared(OnNode7("3.10", "1.0", "0.1")).each([[1]]))
    (complaint,) = caught.value.complaints
    expected = "a worker on node7 has Python 3.10, numpy 1.0 and gradcheck 0.1, but this process has Python 3"
    assert complaint.message.startswith(expected)


def test_code_that_fails_on_one_machine_is_reported_with_its_name(folder, long_work, monkeypatch):
    spec = folder / "net.yaml"
    stat = "import os; os.stat(os.environ['A'])"
    (folder / "net.py").write_text(dedent(NET).replace("pass", stat))
    monkeypatch.setenv("A", ".")

    class Elsewhere(OnNode7):
        def submit(self, function, *arguments):
            monkeypatch.setenv("A", "no such place")
            return super().submit(function, *arguments)

    with pytest.raises(InputError) as caught:
        check(spec, executor=Elsewhere())
    assert caught.value.complaints[0].message.endswith("'no such place' on node7")


DRIFT = """
    import os
    f.calls = getattr(f, "calls", 0) + 1
    late = f.calls > 40 and os.environ["AWAY"] == "1"
    p = {**p, "b": p["b"] + late * f.calls * 1e-4}
"""


class Away(OnNode7):
    """An executor whose worker is on another machine, and knows it."""

    def submit(self, function, *arguments):
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("AWAY", "1")
            return super().submit(function, *arguments)


def test_code_that_starts_to_drift_in_a_worker_is_refused(folder, long_work, monkeypatch):
    """A check in one process refuses such code, too. No wrong gradient may be reported."""
    (folder / "net.py").write_text(dedent(NET).replace("    pass", indent(dedent(DRIFT), "    ")))
    monkeypatch.setenv("AWAY", "0")
    with pytest.raises(InputError, match=r"at first, and \S+ on node7 for the same arguments"):
        check(folder / "net.yaml", executor=Away())


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        (Broken(), "a worker process died while it ran the code"),
        (Lost(), "Lost no longer answers (CancelledError)"),
    ],
)
def test_an_engine_that_fails_is_reported(executor, message):
    with pytest.raises(InputError) as caught:
        list(shared(executor).each([[1]]))
    assert caught.value.complaints[0].message == message


class Silent(Here):
    """An executor whose parts never end."""

    def submit(self, function, *arguments):
        return Future()


def test_an_engine_that_neither_works_nor_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(parts, "_LOOK", 0.01)
    monkeypatch.setattr(parts, "_ALONE", 0.05)
    monkeypatch.setattr(executors.Opened, "width", lambda opened: 0)
    with pytest.raises(InputError, match=r"Silent has had no worker or has not answered for 0\.05 s"):
        list(shared(Silent()).each([[1]]))


def test_code_is_refused_if_its_file_differs(folder, long_work, monkeypatch):
    class Changing(Here):
        def submit(self, function, *arguments):
            (folder / "net.py").write_text(dedent(NET) + "# another line\n")
            return super().submit(function, *arguments)

    with pytest.raises(InputError, match="differs"):
        check(folder / "net.yaml", executor=Changing())
