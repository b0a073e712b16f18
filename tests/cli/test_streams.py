"""Data goes to stdout, everything else to stderr, and a reader that leaves changes nothing."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from command_specs import (
    save,
)
from processes import POSIX, in_shell, run


def test_only_json_is_on_stdout_even_with_errors(gradcheck):
    done = gradcheck("check", "--format", "json", "bad.yaml", "no-such.yaml", "good.yaml")
    assert done.document["version"] == 1
    assert done.code == done.document["exit_code"] == 2
    assert [spec["verdict"] for spec in done.document["specs"]] == [None, None, "agrees"]
    assert "activaton" in done.err
    assert "no-such.yaml" in done.err


def test_gradients_that_are_not_finite_are_wrong_rather_than_bad_input(folder, right, gradcheck):
    bias = np.array([np.nan, -np.inf])
    save(folder / "wrong.npz", right, **{"output.bias": bias})
    done = gradcheck("check", "--format", "json", "wrong.yaml")
    assert (done.code, done.err) == (1, "")
    tensor = done.document["specs"][0]["tensors"][1]
    assert (tensor["wrong"], tensor["verdict"], tensor["max_relative_error"]) == (2, "wrong", None)
    table = gradcheck("check", "--show", "2", "wrong.yaml")
    assert table.code == 1
    assert {"nan", "-inf"} <= set(table.out.split())


def test_a_wrong_command_line_leaves_stdout_empty(gradcheck):
    done = gradcheck("check", "--format", "json", "--nonsense", "good.yaml")
    assert (done.code, done.out) == (2, "")


@POSIX
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", "good.yaml"], 0),
        (["check", "undecided.yaml"], 3),
        (["check", "--format", "json", "wrong.yaml"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_reader_that_has_left_changes_no_exit_code(arguments, code, folder, unread):
    done = run(*arguments, capture_output=False, stdout=unread, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (code, "")


@POSIX
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["check", "bad.yaml", "wrong.yaml"], 2), (["check", "wrong.yaml"], 1), (["--nonsense"], 2), ([], 2)],
)
def test_errors_that_nobody_reads_change_no_exit_code(arguments, code, folder, unread):
    assert run(*arguments, capture_output=False, stdout=unread, stderr=unread).returncode == code


@POSIX
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("spec", "code"), [("good.yaml", 0), ("bad.yaml", 2)])
def test_closed_streams_change_no_exit_code(closed, spec, code, folder):
    done = in_shell(closed, "check", spec)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
