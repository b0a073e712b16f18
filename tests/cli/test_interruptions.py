"""Ctrl-C at any moment, from the first import on: exit code 130, one line, no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_specs import SLOW, is_running
from processes import COMMAND, PATIENCE, POSIX, wait_until

from gradcheck_cli.errors import is_interruption

INTERRUPTING = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["gradcheck", "check", "good.yaml"]
from gradcheck_cli.__main__ import main
main()
"""


@POSIX
@pytest.mark.parametrize(
    "module",
    [
        "click",
        "gradcheck_cli.cli.check",
        "gradcheck_cli.cli.defaults",
        "numpy",
        "pydantic",
        "gradcheck_cli.checker",
    ],
)
def test_ctrl_c_while_something_is_imported_is_130_without_a_traceback(module, folder):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTING.format(module=module)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "interrupted")


IN_A_STRING = """
import signal, sys
import gradcheck_cli.cli
from gradcheck_cli.__main__ import main

def command():
    try:
        exec("import os, signal; os.kill(os.getpid(), signal.SIGINT)\\nfor i in range(10**6): pass")
    except KeyboardInterrupt:
        sys.exit(130)

signal.signal(signal.SIGINT, signal.default_int_handler)
gradcheck_cli.cli.main = command
main()
"""


@POSIX
def test_ctrl_c_while_a_string_is_executed_is_130(tmp_path):
    (tmp_path / "interrupted.py").write_text(IN_A_STRING)
    assert subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path).returncode == 130


def raised(error: BaseException, beneath: BaseException, explicit: bool) -> BaseException:
    try:
        try:
            raise beneath
        except BaseException as cause:
            if explicit:
                raise error from cause
            raise error  # noqa: B904 - the context is what is meant
    except BaseException as result:
        return result


@pytest.mark.parametrize("explicit", [True, False])
def test_an_interruption_is_seen_beneath_another_error(explicit):
    assert is_interruption(KeyboardInterrupt())
    assert is_interruption(raised(RuntimeError("Error calling __set_name__"), KeyboardInterrupt(), explicit))
    assert not is_interruption(raised(RuntimeError(), ValueError(), explicit))


def test_an_interruption_beneath_another_error_is_130(gradcheck, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise raised(RuntimeError("Error calling __set_name__"), KeyboardInterrupt(), True)

    for place in ("gradcheck_cli.checker.check", "gradcheck_cli.explain.explain.explain"):
        monkeypatch.setattr(place, fail)
    for command in ("check", "explain"):
        done = gradcheck(command, "good.yaml")
        assert (done.code, done.out, done.err.strip()) == (130, "", "interrupted")


def test_an_end_of_file_inside_is_a_defect_rather_than_an_interruption(gradcheck, monkeypatch):
    def fail(*_: object) -> None:
        raise EOFError("marshal data too short")

    monkeypatch.setattr("gradcheck_cli.cli.explain.explain.callback", fail)
    assert gradcheck("explain", "good.yaml").code == 70


def pids_in(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


@POSIX
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_the_command_ends_its_processes(how, folder):
    (folder / "slow.py").write_text(SLOW)
    (folder / "slow.yaml").write_text("gradients: {python: slow.py:f}\ncheck: {differences: literal}\n")
    process = subprocess.Popen(
        [*COMMAND, "check", "slow.yaml", "--jobs", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    wait_until(lambda: len(pids_in(folder)) == 3)
    process.send_signal(how)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == -how
    assert how == signal.SIGKILL or said.strip() == "interrupted"  # and no warning about leaked semaphores
    wait_until(lambda: not any(map(is_running, pids_in(folder))))
