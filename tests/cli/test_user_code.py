"""Specs whose gradients are the user's code: options, worker processes, Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from command_specs import (
    GOOD,
    SLOW,
    is_running,
    strict,
)
from processes import PATIENCE, POSIX, run, started, wait_until

MY_NET = """\
import numpy as np

print("hello")


def parameters():
    return {"w": np.array([[0.5, -1.0]]), "b": np.array([0.25])}


def right(parameters, x, y, factor=1.0):
    off = x @ parameters["w"].T + parameters["b"] - y[:, None]
    loss = (off * off).sum(axis=1) / len(x)
    delta = factor * 2 * off / len(x)
    return loss, {"w": delta.T @ x, "b": delta.sum(axis=0)}


def doubled(parameters, x, y):
    return right(parameters, x, y, factor=2.0)


def leaves(parameters, x, y):
    raise SystemExit(0)
"""
OF_CODE = "data: {x: [[1, 2], [3, 1], [0, -1]], y: [1, 0.5, -2]}\n"


@pytest.fixture
def my_net(tmp_path, monkeypatch) -> Path:
    (tmp_path / "my_net.py").write_text(MY_NET)
    (tmp_path / "net.yaml").write_text(OF_CODE + "gradients: {python: my_net.py:right}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_function_is_checked_without_a_network(my_net, gradcheck):
    done = gradcheck("check", "net.yaml", "--format", "json")
    assert done.code == 0
    assert done.document["specs"][0]["gradients"] == "right of my_net.py"


def test_what_code_prints_goes_to_stderr(my_net):
    done = run("check", "net.yaml", "--format", "json")
    assert strict(done.stdout)["specs"]
    assert done.stderr == "hello\n"


def test_the_command_line_may_name_another_function_than_the_spec(my_net, gradcheck):
    done = gradcheck("check", "net.yaml", "--python", "my_net.py:doubled", "--format", "json")
    assert done.code == 1
    assert done.document["specs"][0]["ratio"] == pytest.approx(2.0)
    (my_net / "bare.yaml").write_text(OF_CODE)
    assert gradcheck("check", "bare.yaml").code == 2  # no gradients section


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--python", "my_net"], "--python must be FILE.py:NAME, not 'my_net'"),
        (["--python", "my_net.py:rigth"], "did you mean 'right'?"),
        (["--python", "my_net.py:right", "--torch", "n.py:f"], "choose one of them"),
        (["--python", "my_net.py:leaves"], "calls sys.exit(0) at my_net.py:"),
        (["--no-code"], "net.yaml:2:12: error: this spec runs right of my_net.py, and --no-code forbids"),
        (["--python", "my_net.py:right", "--no-code"], "--no-code forbids it"),
    ],
)
def test_code_that_cannot_or_must_not_run_is_bad_input(my_net, gradcheck, arguments, message):
    done = gradcheck("check", "net.yaml", *arguments)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_refused_code_is_not_run(my_net, gradcheck):
    (my_net / "my_net.py").write_text("open('ran', 'w')\n")
    assert gradcheck("check", "net.yaml", "--no-code").code == 2
    assert not (my_net / "ran").exists()


def test_fast_takes_random_directions(my_net, gradcheck):
    assert gradcheck("check", "net.yaml", "--format", "json").document["specs"][0]["projected"] == 0
    done = gradcheck("check", "net.yaml", "--fast", "--format", "json")
    (spec,) = done.document["specs"]
    assert (done.code, spec["differences"], spec["projected"]) == (0, "directions", 3)
    assert "as --fast asks" in spec["way"]
    (my_net / "fast.yaml").write_text((my_net / "net.yaml").read_text() + "check: {fast: true}\n")
    assert gradcheck("check", "fast.yaml", "--format", "json").document["specs"][0]["projected"] == 3
    literal = gradcheck("check", "fast.yaml", "--differences", "literal", "--format", "json")
    assert literal.document["specs"][0]["differences"] == "literal"


def test_fast_finds_what_is_wrong(my_net, gradcheck):
    done = gradcheck("check", "net.yaml", "--python", "my_net.py:doubled", "--fast")
    assert done.code == 1
    assert "all of" in done.out


def test_fast_changes_nothing_for_described_networks(gradcheck):
    fast, slow = (gradcheck("check", "good.yaml", "--format", "json", *how) for how in (["--fast"], []))
    assert fast.document["specs"][0]["tensors"] == slow.document["specs"][0]["tensors"]
    assert gradcheck("check", "good.yaml", "--jobs", "auto").code == 0


@pytest.mark.parametrize("jobs", ["1", "2", "auto"])
def test_jobs_change_nothing(my_net, gradcheck, jobs, monkeypatch):
    alone = gradcheck("check", "net.yaml", "--format", "json").document["specs"][0]["tensors"]
    monkeypatch.setattr("gradcheck_cli.directions.plan.SMALL", 0.0)
    done = gradcheck("check", "net.yaml", "--jobs", jobs, "--format", "json")
    assert done.code == 0
    assert done.document["specs"][0]["tensors"] == alone


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5", "100000"])
def test_impossible_jobs_are_refused(my_net, gradcheck, jobs):
    assert gradcheck("check", "net.yaml", "--jobs", jobs).code == 2
    (my_net / "jobs.yaml").write_text((my_net / "net.yaml").read_text() + f"check: {{jobs: {jobs}}}\n")
    done = gradcheck("check", "jobs.yaml")
    assert done.code == 2
    assert "jobs.yaml:3:15: error: 'jobs'" in done.err


@POSIX
def test_processes_end_without_a_warning(my_net):
    (my_net / "slow.py").write_text(SLOW.replace("(30, 40)", "(4, 5)"))
    (my_net / "slow.yaml").write_text("gradients: {python: slow.py:f}\n")
    done = run("check", "slow.yaml", "--jobs", "2", "--differences", "literal")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(my_net.glob("pid-*"))) == 3


@POSIX
def test_ctrl_c_ends_the_processes_too(my_net):
    (my_net / "slow.py").write_text(SLOW)
    (my_net / "slow.yaml").write_text(
        "gradients: {python: slow.py:f}\ncheck: {jobs: 2, differences: literal}\n"
    )
    with started("check", "slow.yaml") as process:
        wait_until(lambda: len(list(my_net.glob("pid-*"))) == 3)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.strip() == "interrupted"
    pids = [int(path.name.removeprefix("pid-")) for path in my_net.glob("pid-*")]
    wait_until(lambda: not any(map(is_running, pids)))


def test_explain_and_dump_need_a_network(my_net, gradcheck):
    for arguments in (["explain", "net.yaml"], ["dump", "net.yaml", "-o", "out"]):
        done = gradcheck(*arguments)
        assert done.code == 2
        assert "network" in done.err


def test_with_strict_a_single_undecided_entry_exits_with_3(folder, gradcheck):
    """Plain central differences cannot reach this tolerance in every entry."""
    loose = ["check", "good.yaml", "--scheme", "central", "--rtol", "1e-9"]
    report = gradcheck(*loose, "--format", "json")
    undecided = report.document["specs"][0]["unresolved"]
    assert undecided
    assert report.code == 0
    assert gradcheck(*loose, "--strict").code == 3
    (folder / "strict.yaml").write_text(GOOD + "check: {strict: true}\n")
    assert gradcheck("check", "strict.yaml", *loose[2:]).code == 3
    assert gradcheck("check", "good.yaml", "--strict").code == 0
