"""Worker processes that evaluate code: the results are the same bit for bit, for any number of them."""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import contextmanager, suppress
from textwrap import dedent

import numpy as np
import pytest

from gradcheck_cli import check, load_spec
from gradcheck_cli.code.function import Inputs
from gradcheck_cli.code.objective import ForeignObjective
from gradcheck_cli.code.points import Change, InProcess
from gradcheck_cli.code.pool import Case, InFile, Workers
from gradcheck_cli.code.sources import read_code
from gradcheck_cli.errors import InputError
from gradcheck_cli.parallel.executors import LocalPool
from gradcheck_cli.spec.gradients import CODE_MODELS, Code

NET = """
    import os
    import numpy as np

    PARENT = os.environ["TEST_WORKERS_PARENT"] == str(os.getpid())
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 30)), rng.normal(size=(7, 5))
    parameters = {"w": rng.normal(size=(5, 30)), "b": rng.normal(size=5)}

    def f(p, *_):
        BEFORE
        z = np.tanh(x @ p["w"].T + p["b"]) - y
        d = 2 * z * (1 - (z + y) ** 2)
        return (z * z).sum(axis=1), {"w": d.T @ x, "b": d.sum(axis=0)}

    def many(p, *_):
        z = np.tanh(x @ np.swapaxes(p["w"], 1, 2) + p["b"][:, None]) - y
        d = 2 * z * (1 - (z + y) ** 2)
        return (z * z).sum(axis=2), {"w": np.swapaxes(d, 1, 2) @ x, "b": d.sum(axis=1)}
"""


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_WORKERS_PARENT", str(os.getpid()))

    def make(before="pass", name="f"):
        (tmp_path / "net.py").write_text(dedent(NET).replace("BEFORE", before))
        source = CODE_MODELS["python"](python=Code(tmp_path / "net.py", name), vectorized=name == "many")
        inputs = Inputs(None, None, None)
        function = read_code(source, inputs)
        losses = function.losses(function.parameters)
        case = Case(InFile.of(source, inputs), function.parameters, losses, {"w": 1e-15 * losses})
        return case, function

    return make


@contextmanager
def workers(case, function, jobs):
    with LocalPool(jobs).opened() as opened:
        yield Workers(case, function, opened, 0.01)


def changes(count):
    rng = np.random.default_rng(1)
    return [Change("w", rng.choice(150, 4, replace=False), rng.normal(size=4)) for _ in range(count)]


@pytest.mark.parametrize("name", ["f", "many"])
def test_the_losses_are_bitwise_equal_for_any_number_of_workers(case, name):
    what, function = case(name=name)
    alone = InProcess(function).losses_at(changes(50))
    with workers(what, function, 2) as two, workers(what, function, 3) as three:
        np.testing.assert_array_equal(two.losses_at(changes(50)), alone)
        np.testing.assert_array_equal(three.losses_at(changes(50)), alone)
        assert two.batch % InProcess(function).batch == three.batch % InProcess(function).batch == 0


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_report_is_bitwise_equal_for_any_number_of_workers(case, tmp_path, fast, monkeypatch):
    case()
    monkeypatch.setattr("gradcheck_cli.directions.plan.SMALL", 0.0)
    monkeypatch.setattr("gradcheck_cli.directions.plan.PATIENCE", np.inf)  # a busy machine seems to wait
    reports = []
    for jobs in (1, 2):
        how = f"check: {{fast: {fast}, jobs: {jobs}}}"
        (tmp_path / "net.yaml").write_text(f"gradients: {{python: net.py:f}}\n{how}\n")
        reports.append(check(load_spec(tmp_path / "net.yaml")))
    for one, two in zip(*(report.comparisons for report in reports), strict=True):
        np.testing.assert_array_equal(one.numerical, two.numerical)
        np.testing.assert_array_equal(one.error, two.error)
        assert one.directions == two.directions


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("if not PARENT: raise ValueError('no')", "raises ValueError at net.py:11: no"),
        ("if not PARENT: os.kill(os.getpid(), 9)", "a worker process died while it ran the code"),
    ],
)
def test_errors_in_a_worker_are_reported(case, before, message):
    what, function = case(before)
    with pytest.raises(InputError) as caught, workers(what, function, 2) as two:
        two.losses_at(changes(4))
    assert message in caught.value.complaints[0].message


def test_code_that_differs_from_process_to_process_is_refused(case):
    what, function = case("p = {'w': p['w'] + (not PARENT), 'b': p['b']}")
    with pytest.raises(InputError) as caught, workers(what, function, 2) as two:
        two.losses_at(changes(4))
    assert "computes a different loss in a worker process" in caught.value.complaints[0].message


def _ends(process, seconds=60.0):
    """Wait until the worker has ended: the pool's own thread may notice a moment later."""
    deadline = time.monotonic() + seconds
    while process.exitcode is None and time.monotonic() < deadline:
        process.join(0.05)
    return process.exitcode is not None


def test_an_interruption_ends_them(case):
    what, function = case("import time; time.sleep(0 if PARENT else 0.01)")
    before = set(multiprocessing.active_children())
    with suppress(KeyboardInterrupt), workers(what, function, 2) as two:
        two.losses_at(changes(4))
        raise KeyboardInterrupt
    for process in set(multiprocessing.active_children()) - before:
        assert _ends(process)


def test_the_objective_uses_its_evaluator(case):
    _, function = case()

    class Zeros:
        batch = 5

        def losses_at(self, changes):
            return np.zeros((len(changes), 7))

    objective = ForeignObjective(function, {"w": np.zeros(7)}, Zeros())
    moves = objective.entries("w")
    assert moves.batch == 5
    assert not moves.move(np.array([0, 1]), np.array([1.0, 2.0])).losses.any()
