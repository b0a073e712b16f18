"""Code that leaves files open, catches everything, or raises errors that gradcheck uses itself."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess

import pytest
from processes import COMMAND, PATIENCE, POSIX, started, wait_until
from test_own_process import checked, written

__all__ = ["checked", "written"]

LEAKS = {
    "until it fails": "kept.append(open(__file__))",
    "all there are": """
    try:
        while True:
            kept.append(os.dup(2))
    except OSError:
        pass""",
    "by pipes and sockets": "kept.extend([os.pipe(), __import__('socket').socketpair()])",
}


@POSIX
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_code_that_leaves_files_open_is_reported(leak, jobs, written):
    spec = written(inside=leak, before="kept = []", factor=3)
    line = shlex.join([*COMMAND, "check", spec, "--differences", "literal", "--jobs", jobs])
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 64; exec {line}"],
        capture_output=True, encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("net.yaml:1:")
    assert "files open" in done.stderr
    assert "Traceback" not in done.stderr


@POSIX
def test_ctrl_c_ends_code_that_catches_everything(written, tmp_path):
    catching = """
    open("begun", "w").close()
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass"""
    with started("check", written(inside=catching)) as process:
        wait_until((tmp_path / "begun").exists)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err.strip()) == (130, "", "interrupted")


OURS = {
    "nothing": "InputError()",
    "a text": "InputError('mine')",
    "a complaint": "InputError(Complaint('mine', ('network', 'layers', 0)))",
    "no complaint": "InputError(None, 3)",
    "an untrusted reference": "UntrustedReferenceError('mine')",
    "a failed check": "FailedCheckError('mine')",
    "click's": "click.UsageError('mine')",
    "click's end": "click.exceptions.Exit(0)",
    "click's abortion": "click.Abort()",
}
"""Errors that gradcheck uses itself, raised by the user's code."""


@POSIX
@pytest.mark.parametrize("where", ["call", "array"])
@pytest.mark.parametrize("error", OURS.values(), ids=OURS)
def test_gradchecks_own_errors_raised_by_code_count_as_the_codes(error, where, written, checked):
    before = f"""
        import click
        from gradcheck_cli.errors import Complaint, InputError, UntrustedReferenceError
        from gradcheck_cli.testing import FailedCheckError

        def fail(*_, **__):
            raise {error}

        class Lazy:
            __array__ = fail
        """
    done = checked(written(before=before, inside="fail()" if where == "call" else "return Lazy(), {}"))
    assert done.returncode == 2
    assert done.stderr.startswith("net.yaml:1:")
    assert "error: f of net.py raises " in done.stderr
    assert "Traceback" not in done.stderr
