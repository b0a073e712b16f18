"""Several networks are checked at the same time, with the results of one check after another."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from command_specs import GOOD, is_running
from processes import PATIENCE, POSIX, started, wait_until

POOLS = """\
from concurrent.futures import Executor, Future

class Here(Executor):
    def submit(self, function, *arguments):
        open("calls", "a").write("+")
        future = Future()
        future.set_result(function(*arguments))
        return future

class Gone(Executor):
    def submit(self, function, *arguments):
        raise OSError("the scheduler has gone")
"""

PATHS = ("good.yaml", "bad.yaml", "wrong.yaml", "undecided.yaml")


@pytest.fixture
def pools(folder) -> Path:
    (folder / "engines_here.py").write_text(POOLS)
    return folder


@pytest.fixture
def pids(monkeypatch, folder):
    """Note the process of each check, and return the function that reads the notes."""
    from gradcheck_cli.subject import several

    timed_check = several.timed_check

    def noting(spec):
        (folder / f"pid-{os.getpid()}-{spec.check.jobs}").touch()
        return timed_check(spec)

    monkeypatch.setattr(several, "timed_check", noting)
    return lambda: [path.name.split("-")[1:] for path in folder.glob("pid-*")]


def without_seconds(text: str) -> list[dict]:
    return [{**spec, "seconds": 0.0} for spec in json.loads(text)["specs"]]


@pytest.mark.parametrize("jobs", ["2", "auto", "engines_here:Here"])
def test_the_results_are_those_of_one_check_after_another(jobs, gradcheck, pools):
    at_once = gradcheck("check", *PATHS, "--jobs", jobs, "--format", "json")
    alone = gradcheck("check", *PATHS, "--format", "json")
    assert without_seconds(at_once.out) == without_seconds(alone.out)
    assert (at_once.code, at_once.err) == (alone.code, alone.err) == (2, alone.err)


@POSIX
def test_each_check_gets_its_share_of_the_processes(gradcheck, pids):
    assert gradcheck("check", "good.yaml", "wrong.yaml", "--jobs", "6").code == 1
    (one, jobs), (other, also) = pids()
    assert len({one, other, str(os.getpid())}) == 3
    assert jobs == also == "3"


def test_one_network_and_networks_with_one_job_stay_in_this_process(gradcheck, pids):
    assert gradcheck("check", "good.yaml", "--jobs", "2").code == 0
    assert gradcheck("check", "good.yaml", "tiny.yaml").code == 0
    assert pids() == []


def test_a_time_limit_keeps_networks_on_this_machine(gradcheck, pools):
    line = ("check", "good.yaml", "wrong.yaml", "--jobs", "engines_here:Here")
    assert gradcheck(*line, "--timeout", "60").code == 1
    assert not (pools / "calls").exists()
    assert gradcheck(*line).code == 1
    assert (pools / "calls").exists()


def test_an_engine_that_fails_leaves_no_verdict(gradcheck, pools):
    done = gradcheck("check", "good.yaml", "wrong.yaml", "--jobs", "engines_here:Gone")
    assert done.code == 2
    for name in ("good.yaml", "wrong.yaml"):
        assert f"{name}: --jobs: the executor of engines_here:Gone no longer answers" in done.err


def test_a_worker_that_has_other_files_is_refused(gradcheck, pools, monkeypatch):
    from gradcheck_cli.subject.several import Part

    of = Part.of

    def changed_on_the_way(spec):
        part = of(spec)
        with open("wrong.npz", "ab") as file:
            file.write(b"more")
        return part

    monkeypatch.setattr(Part, "of", changed_on_the_way)
    done = gradcheck("check", "wrong.yaml", "wrong.yaml", "--jobs", "engines_here:Here")
    assert done.code == 2
    assert "the content of 'wrong.npz' differs" in done.err
    assert "help: copy the same file to every machine" in done.err


@POSIX
def test_a_process_that_dies_leaves_no_verdict(gradcheck, monkeypatch):
    def dies(spec):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("gradcheck_cli.subject.several.timed_check", dies)
    done = gradcheck("check", "good.yaml", "wrong.yaml", "--jobs", "2")
    assert done.code == 2
    assert "a process that shared the work died" in done.err


def test_a_defect_in_one_check_is_70_and_the_others_are_reported(gradcheck, monkeypatch):
    from gradcheck_cli.subject import several

    timed_check = several.timed_check

    def fails(spec):
        if spec.check.seed == 7:
            raise RuntimeError("a mistake of ours")
        return timed_check(spec)

    monkeypatch.setattr(several, "timed_check", fails)
    Path("seven.yaml").write_text(GOOD + "check: {seed: 7}\n")
    done = gradcheck("check", "seven.yaml", "good.yaml", "--jobs", "2", "-q")
    assert done.code == 70
    assert "RuntimeError: a mistake of ours" in done.err
    assert "✓ good.yaml: agrees" in done.out


LARGE = """\
network: {inputs: 64, layers: [{units: 400, activation: tanh}, {units: 400, activation: tanh}, {units: 10}],
  loss: cross_entropy}
data: {synthetic: normal, samples: 400, seed: 1}
check: {differences: literal}
"""


@POSIX
def test_ctrl_c_ends_the_processes(folder):
    (folder / "large.yaml").write_text(LARGE)
    with started("check", "large.yaml", "large.yaml", "--jobs", "2") as process:
        children = children_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err.strip()) == (130, "", "interrupted")
    wait_until(lambda: not any(map(is_running, children)))


def test_checks_that_ended_before_an_interruption_are_reported(gradcheck, monkeypatch):
    from gradcheck_cli.subject import several

    in_processes = several.in_processes

    def interrupted(specs, check):
        answers = dict(in_processes(specs, check))
        yield 2, answers[2]
        yield 0, answers[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(several, "in_processes", interrupted)
    done = gradcheck("check", "wrong.yaml", "tiny.yaml", "good.yaml", "--jobs", "2", "-q")
    assert done.code == 130
    assert "✗ wrong.yaml: wrong" in done.out
    assert "✗ tiny.yaml: interrupted before it was checked" in done.out
    assert "✓ good.yaml: agrees" in done.out
    assert done.err == "\ninterrupted: 2 of 3 specs were checked\n"


def children_of(process: int) -> list[int]:
    """Wait until the process has two children, and return their process ids."""
    file = Path(f"/proc/{process}/task/{process}/children")
    wait_until(lambda: len(file.read_text().split()) >= 2)
    return list(map(int, file.read_text().split()))
