"""Code that harms its process leads to a documented exit code, and to 1 only for wrong gradients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from textwrap import dedent

import numpy as np
import pytest
from processes import POSIX, everything, on_terminal, run

from gradcheck_cli import cli

CODE = """
import ctypes, os, subprocess, sys, threading, time
import numpy as np

def parameters():
    return {{"w": np.array([1.0, -2.0, 3.0])}}

{before}

def f(p, x, y):
    {inside}
    return np.exp(p["w"]).sum(), {{"w": {factor} / 2 * np.exp(p["w"])}}
"""

ENDINGS = {
    "C's exit": "ctypes.CDLL(None).exit(0)",
    "C's exit, 1": "ctypes.CDLL(None).exit(1)",
    "C's _exit": "ctypes.CDLL(None)._exit(0)",
    "C's quick_exit": "ctypes.CDLL(None).quick_exit(3)",
    "os._exit": "os._exit(0)",
    "os._exit, from os": "leave(0)",
    "posix._exit": "import posix; posix._exit(0)",
    "os.execv": "os.execv(sys.executable, ['python', '-c', ''])",
    "os.execlp": "os.execlp('true', 'true')",
    "posix.execv": "import posix; posix.execv('/bin/true', ['true'])",
    "C's execv": "ctypes.CDLL(None).execl(b'/bin/true', b'true', None)",
    "sys.exit": "sys.exit(0)",
    "SIGKILL": "os.kill(os.getpid(), 9)",
    "SIGTERM": "os.kill(os.getpid(), 15)",
    "abort": "os.abort()",
    "a crash": "ctypes.string_at(0)",
    "all files closed": "os.closerange(0, 200)",
    "no modules": "sys.modules.clear()",
}
"""One example of every way in which code can end its process."""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a spec of code that does something before it is called, or in every call."""
    monkeypatch.chdir(tmp_path)

    def write(name="net", inside="pass", before="", factor=2):
        text = CODE.format(inside=inside, before=dedent(before), factor=factor)
        (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / f"{name}.yaml").write_text(f"gradients: {{python: {name}.py:f}}\n")
        return f"{name}.yaml"

    return write


@pytest.fixture
def checked(capfd):
    """Run `check` in this process; only the spec's code has its own."""

    def check(*arguments: str) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["check", *arguments])
        return subprocess.CompletedProcess(arguments, left.value.code, *capfd.readouterr())

    return check


@POSIX
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_ending_the_process_is_not_a_verdict(ending, written, tmp_path, checked):
    spec = written(inside=ending, before="from os import _exit as leave", factor=3)
    done = checked(spec, "--report", "json=report.json")
    assert done.returncode == 2
    assert done.stderr.startswith("net.yaml:1:")
    assert "of net.py" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["exit_code"] == 2


@POSIX
@pytest.mark.parametrize("ending", ["os._exit(0)", "ctypes.CDLL(None).exit(0)", "ctypes.CDLL(None)._exit(1)"])
@pytest.mark.parametrize("when", ["between calls", "at the import"])
def test_ending_the_process_outside_of_calls_is_not_a_verdict(ending, when, written, checked):
    before = {
        "at the import": ending,
        "between calls": f"""
            sys.setswitchinterval(1e-6)  # the thread gets its turn in the short time between two calls

            def end():
                time.sleep(0.05)
                while True:
                    try:
                        {ending}
                    except SystemExit:
                        pass

            threading.Thread(target=end).start()
            """,
    }
    done = checked(written(before=before[when], inside="time.sleep(0.02)", factor=3))
    assert done.returncode == 2
    assert "✗ net.yaml: not checked" in done.stdout


@POSIX
def test_the_place_of_a_crash_is_reported(written, checked):
    done = checked(written(inside="ctypes.string_at(0)"))
    assert "f of net.py ends the process with SIGSEGV at net.py:11, so there is no verdict" in done.stderr


@POSIX
def test_the_other_specs_keep_their_verdicts(written, tmp_path, checked):
    right, wrong = written("right"), written("wrong", factor=3)
    ends = written("ends", inside="ctypes.CDLL(None).exit(0)")
    done = checked(right, ends, wrong, "--format", "json", "--report", "junit=report.xml")
    assert done.returncode == 2
    verdicts = [spec["verdict"] for spec in json.loads(done.stdout)["specs"]]
    assert (verdicts[0], verdicts[2]) == ("agrees", "wrong")
    assert (tmp_path / "report.xml").exists()


@POSIX
def test_a_sweep_of_code_that_ends_the_process_has_no_verdict(written):
    assert run("sweep", written(), "--scheme", "central").returncode == 0
    done = run("sweep", written(inside="ctypes.CDLL(None).exit(0)"), "--scheme", "central")
    assert (done.returncode, done.stdout) == (2, "")


@POSIX
@pytest.mark.parametrize("ending", ["ctypes.CDLL(None).exit(0)", "os._exit(0)", "ctypes.string_at(0)"])
def test_ending_one_of_several_processes_is_not_a_verdict(ending, written, monkeypatch, capfd):
    monkeypatch.setattr("gradcheck_cli.directions.plan.SMALL", 0.0)
    spec = written(
        inside=f"if os.environ['FIRST'] != str(os.getpid()): {ending}",
        before="os.environ.setdefault('FIRST', str(os.getpid()))",
        factor=3,
    )
    with pytest.raises(SystemExit) as left:
        cli.main(["check", spec, "--jobs", "2"])
    assert left.value.code == 2
    assert "✗ net.yaml: not checked" in capfd.readouterr().out


SPOILT = {
    "both closed": "sys.stdout.close(); sys.stderr.close()",
    "their own closed": "sys.__stdout__.close(); sys.__stderr__.close()",
    "their buffers closed": "sys.stdout.buffer.close(); sys.stderr.detach().close()",
    "set to None": "sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None",
    "another's": "sys.stdout = sys.stderr = open(os.devnull)",
    "without write": "sys.stdout = sys.stderr = object()",
    "descriptors closed": "os.closerange(0, 3)",
    "used in a with": "with sys.stderr: pass",
    "a raising excepthook": "sys.excepthook = sys.unraisablehook = None",
    "a path that is gone": "sys.path.clear()",
    "the folder left": "os.chdir('/')",
    "a fork": "os.fork()",
    "a thread that never ends": "threading.Thread(target=time.sleep, args=(1000,)).start()",
}
"""Damage to shared state that has no effect on the code's gradients."""


@POSIX
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_damage_to_shared_state_changes_no_verdict(spoilt, factor, written, tmp_path, checked):
    done = checked(written(inside=spoilt, factor=factor), "--format", "json", "--report", "json=report.json")
    assert done.returncode == (0 if factor == 2 else 1)
    (spec,) = json.loads(done.stdout)["specs"]
    assert spec["verdict"] == ("agrees" if factor == 2 else "wrong")
    assert (tmp_path / "report.json").exists()


@POSIX
@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_damage_to_shared_state_before_an_error_is_not_a_wrong_gradient(spoilt, written, checked):
    done = checked(written(inside=f"{spoilt}\n    raise ValueError('no')", before="sys.stderr = None"))
    assert done.returncode == 2
    assert "f of net.py raises ValueError at net.py:1" in done.stderr


@POSIX
def test_what_goes_to_standard_output_by_whatever_way_goes_to_stderr(written, checked):
    prints = """
        def shout(who):
            print(f"{who} prints")
            sys.__stdout__.write(f"{who} __stdout__"); sys.__stdout__.flush()
            os.write(1, b"os.write\\n")
            subprocess.run(["echo", "a subprocess"])
            libc = ctypes.CDLL(None); libc.puts(b"C's puts"); libc.fflush(None)

        shout("import")
        thread = threading.Thread(target=shout, args=("thread",)); thread.start(); thread.join()
        """
    done = checked(written(before=prints, inside="shout('call')"), "--format", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["specs"]
    for said in (
        "import prints",
        "thread prints",
        "call prints",
        "call __stdout__",
        "os.write",
        "a subprocess",
        "C's",
    ):
        assert said in done.stderr


@POSIX
def test_buffered_output_of_c_is_not_lost(written, monkeypatch, checked):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    done = checked(written(before='ctypes.CDLL(None).puts(b"C, and no flush")'), "--format", "json")
    assert (done.returncode, done.stderr) == (0, "C, and no flush\n")
    assert json.loads(done.stdout)["specs"]


JAX = """
import jax
import jax.numpy as jnp
import numpy as np

parameters = {"w": np.ones(3)}

@jax.value_and_grad
def traced(w):
    jax.debug.print("jax prints {}", w.sum())
    return jnp.exp(w).sum()

def f(p, x, y):
    loss, gradient = traced(jnp.asarray(p["w"]))
    return loss, {"w": gradient}
"""


@POSIX
def test_what_jax_prints_goes_to_stderr(tmp_path, monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(JAX)
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}\n")
    done = run("check", "net.yaml", "--format", "json")  # jax's threads do not survive a fork
    assert json.loads(done.stdout)["specs"][0]["verdict"] != "wrong"
    assert "jax prints 3.0" in done.stderr


@POSIX
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_script_that_changes_the_folder_is_at_home_there(jobs, written, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("gradcheck_cli.directions.plan.SMALL", 0.0)
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "w.npy", np.ones(3))
    spec = written(
        before="os.chdir(os.path.join(os.path.dirname(__file__), 'sub'))", inside="np.load('w.npy')"
    )
    line = ["check", spec, spec, "--jobs", jobs, "--differences", "literal", "--report", "json=report.json"]
    with pytest.raises(SystemExit) as left:
        cli.main(line)
    assert left.value.code == 0, capfd.readouterr().err
    assert json.loads((tmp_path / "report.json").read_text())["exit_code"] == 0


HANGING = {
    "a loop": "while True: pass",
    "a sleep": "time.sleep(1000)",
    "C": "ctypes.PyDLL(None).sleep(1000)",  # without releasing the GIL
    "a loop that catches everything": """
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            pass""",
}


@POSIX
@pytest.mark.parametrize("hangs", HANGING.values(), ids=HANGING)
def test_code_that_hangs_is_stopped_after_the_timeout(hangs, written, checked):
    done = checked(written(inside=hangs), written("right"), "--timeout", "4")
    assert done.returncode == 2
    assert "net.yaml:1:12: error: there is no verdict after 4 s; f of net.py is still running" in done.stderr
    assert "agrees" in done.stdout


SLOW_THEN_HANGING = """
import time
import numpy as np

parameters, start = {"w": np.ones(3000)}, time.monotonic()

def f(p, x, y):
    time.sleep(0.01 if time.monotonic() - start < 6 else 1000)
    return np.exp(p["w"]).sum(), {"w": np.exp(p["w"])}
"""


@POSIX
def test_the_terminal_gets_its_cursor_back(written, tmp_path):
    spec = written()
    (tmp_path / "net.py").write_text(SLOW_THEN_HANGING)
    with on_terminal("check", spec, "--differences", "literal", "--timeout", "9") as (_, texts):
        text = everything(texts)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


@POSIX
@pytest.mark.parametrize("said", ["variable", "project"])
def test_a_variable_or_the_project_may_set_the_time(said, written, tmp_path, monkeypatch, checked):
    if said == "variable":
        monkeypatch.setenv("GRADCHECK_TIMEOUT", "0.5")
    else:
        (tmp_path / "pyproject.toml").write_text("[tool.gradcheck]\ntimeout = 0.5\n")
    done = checked(written(inside="time.sleep(1000)"))
    assert done.returncode == 2
    assert "after 0.5 s" in done.stderr


@POSIX
def test_the_time_is_limited_of_networks_and_sweeps_too(written, configs):
    for command, spec in (
        ("check", configs / "relu_huber.yaml"),
        ("sweep", written(inside="time.sleep(9)")),
    ):
        done = run(command, str(spec), "--timeout", "0.001")
        assert done.returncode == 2
        assert "there is no verdict after 0.001 s" in done.stderr


@POSIX
@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_an_invalid_timeout_is_refused(seconds, written, checked):
    done = checked(written(), "--timeout", seconds)
    assert done.returncode == 2
    assert "--timeout" in done.stderr


@POSIX
def test_code_may_ask_what_is_typed(written):
    spec = written(before="print('read', input())")
    done = run("check", spec, stdin=None, input="something\n")
    assert (done.returncode, done.stderr) == (0, "read something\n")


def test_a_defect_in_the_subprocess_is_reported_with_its_traceback(written, monkeypatch, capfd):
    def fail(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("gradcheck_cli.subject.code.plan", fail)
    with pytest.raises(SystemExit) as left:
        cli.main(["check", written()])
    assert left.value.code == 70
    assert "in fail" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform not in ("linux", "freebsd"), reason="is how it is done elsewhere")
@pytest.mark.parametrize(
    ("inside", "code"), [("pass", 0), ("os._exit(0)", 2), ("ctypes.CDLL(None)._exit(0)", 2)]
)
def test_it_works_where_processes_cannot_fork(inside, code, written, monkeypatch, capfd):
    monkeypatch.setattr("gradcheck_cli.code.own_process.START", "spawn")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    with pytest.raises(SystemExit) as left:
        cli.main(["check", written(inside=inside)])
    assert left.value.code == code
