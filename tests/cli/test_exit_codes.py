"""Every command ends with the exit code of its worst result, and bad input never shows a traceback."""

from __future__ import annotations

import errno
import re

import pytest
from command_specs import (
    CODES,
    GOOD,
    raising,
)
from processes import run

from gradcheck_cli.errors import UntrustedReferenceError


@pytest.mark.parametrize(("spec", "code"), CODES.items())
def test_exit_code_of_one_spec(spec, code, folder):
    done = run("check", spec)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == (code == 2)
    assert spec in done.stdout


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing\n",
        b"- a\n- list\n",
        b"network: [",
        b"network: &a [*a]\n",
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b"PK\x03\x04" + bytes(range(256)),
        b"network: !!python/object/apply:os.system [true]\ndata: 1\n",
        b"[" * 500,
        GOOD.replace("inputs: 3", "inputs: .nan").encode(),
        GOOD.replace("units: 4", "units: 99999999999999999999").encode(),
        GOOD.replace("samples: 5", "samples: 1000000").replace("inputs: 3", "inputs: 1000000").encode(),
        (GOOD + "gradients: {file: good.yaml}\n").encode(),
        (GOOD + "gradients: {file: .}\n").encode(),
        (GOOD + "gradients: {file: missing.npz}\n").encode(),
        (GOOD + "check: {parameters: nothing.*}\n").encode(),
    ],
)
@pytest.mark.parametrize("command", ["check", "explain"])
def test_bad_input_is_reported_without_a_traceback(command, content, folder, gradcheck):
    (folder / "spec.yaml").write_bytes(content)
    done = gradcheck(command, "spec.yaml")
    assert done.code == 2
    assert "error: " in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "missing", ["no-such.yaml", "no/such/folder/spec.yaml", "", "good.yaml/x", "a" * 5000]
)
def test_a_file_that_cannot_be_read_is_bad_input(missing, gradcheck):
    done = gradcheck("check", missing)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["no-such-command"], "no-such-command"),
        (["check"], "SPEC"),
        (["explain"], "SPEC"),
        (["explain", "good.yaml", "wrong.yaml"], "wrong.yaml"),
        (["check", "--no-such-option", "good.yaml"], "--no-such-option"),
        (["check", "--scheme", "no-such", "good.yaml"], "'no-such' is not one of 'adaptive'"),
        (["check", "--format", "no-such", "good.yaml"], "--format"),
        (["check", "--color", "no-such", "good.yaml"], "--color"),
        (["check", "--differences", "no-such", "good.yaml"], "--differences"),
        (["check", "--seed", "-1", "good.yaml"], "--seed"),
        (["check", "--seed", "4294967296", "good.yaml"], "--seed"),
        (["check", "--show", "-1", "good.yaml"], "--show"),
        (["check", "good.yaml", "--only"], "--only"),
        *[
            (["check", "--rtol", value, "wrong.yaml"], "--rtol")
            for value in ("nan", "inf", "0", "1", "-1", "x")
        ],
        *[
            ([command, "--step", value, "wrong.yaml"], "--step")
            for command in ("check", "explain")
            for value in ("nan", "inf", "0", "-1", "x")
        ],
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_command_line_is_bad_input_and_points_to_the_help(arguments, says, gradcheck):
    done = gradcheck(*arguments)
    assert done.code == 2
    assert done.out == ""
    error, help = done.err.splitlines()
    assert error.startswith("error: ")
    assert says in error
    assert re.fullmatch(r"      = help: see gradcheck.* --help", help)


def test_no_arguments_show_the_help_on_stderr_and_are_bad_input():
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == run("--help").stdout


@pytest.mark.parametrize(
    ("specs", "code"),
    [
        ("good good", 0),
        ("good undecided good", 3),
        ("good undecided wrong", 1),
        ("wrong undecided good", 1),
        ("wrong bad undecided good", 2),
        ("bad wrong", 2),
        ("good bad", 2),
    ],
)
def test_the_worst_of_several_specs_decides_and_none_stops_the_others(specs, code, gradcheck):
    paths = [f"{name}.yaml" for name in specs.split()]
    done = gradcheck("check", "--format", "json", *paths)
    assert done.code == done.document["exit_code"] == code
    assert [(spec["spec"], spec["exit_code"]) for spec in done.document["specs"]] == [
        (path, CODES[path]) for path in paths
    ]
    assert bool(done.err) == ("bad" in specs)


ODD = [
    ZeroDivisionError("planted"),
    SystemExit(0),
    EOFError("planted"),
    BrokenPipeError(errno.EPIPE, "planted"),
]


@pytest.mark.parametrize("error", ODD, ids=repr)
def test_a_defect_is_not_a_verdict_and_does_not_stop_the_others(error, gradcheck, broken):
    broken(error)
    done = gradcheck("check", "--format", "json", "wrong.yaml", "broken.yaml", "bad.yaml", "good.yaml")
    assert done.code == done.document["exit_code"] == 70
    assert [spec["exit_code"] for spec in done.document["specs"]] == [1, 70, 2, 0]
    assert "Traceback" in done.err
    assert f"{type(error).__name__}: " in done.err
    assert "error: broken.yaml: gradcheck failed; see above\n" in done.err
    assert "this is a bug in gradcheck; please report it" in done.err


def test_an_untrusted_reference_is_a_defect_without_a_traceback(gradcheck, broken):
    broken(UntrustedReferenceError("two derivatives of output.bias[0] contradict each other"))
    done = gradcheck("check", "broken.yaml", "wrong.yaml")
    assert done.code == 70
    assert "error: broken.yaml: two derivatives of output.bias[0] contradict each other\n" in done.err
    assert "please report it" in done.err
    assert "Traceback" not in done.err
    assert "gradcheck itself failed" in done.out
    assert "wrong.yaml" in done.out


@pytest.mark.parametrize("command", ["check", "explain"])
def test_too_little_memory_is_bad_input(command, gradcheck, broken, monkeypatch):
    error = MemoryError("Unable to allocate 9 TiB")
    broken(error)
    monkeypatch.setattr("gradcheck_cli.explain.explain.build_problem", raising(error))
    done = gradcheck(command, "broken.yaml")
    assert done.code == 2
    assert "error: broken.yaml: out of memory; Unable to allocate 9 TiB\n" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("error", ODD, ids=repr)
def test_a_defect_in_an_explanation_is_not_a_verdict(error, gradcheck, monkeypatch):
    monkeypatch.setattr("gradcheck_cli.explain.explain.build_problem", raising(error))
    done = gradcheck("explain", "good.yaml")
    assert done.code == 70
    assert done.out == ""
    assert f"{type(error).__name__}: " in done.err
    assert "please report it" in done.err


@pytest.mark.parametrize("error", [ZeroDivisionError("planted"), OSError("planted")], ids=repr)
@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_defect_in_a_format_is_not_a_verdict(command, error, gradcheck, monkeypatch):
    monkeypatch.setattr(f"gradcheck_cli.cli.{command}.render", raising(error))
    done = gradcheck(command, "good.yaml")
    assert done.code == 70
    assert "please report it" in done.err


def test_interrupted_in_process_is_130(gradcheck, broken):
    broken(KeyboardInterrupt())
    done = gradcheck("check", "broken.yaml", "good.yaml")
    assert done.code == 130
    assert done.out == ""
    assert done.err.strip() == "interrupted"


def test_results_before_an_interruption_are_still_reported(gradcheck, broken):
    broken(KeyboardInterrupt())
    paths = ["wrong.yaml", "bad.yaml", "broken.yaml", "good.yaml"]
    done = gradcheck("check", *paths)
    assert done.code == 130
    assert "output.bias" in done.out
    for path in paths[2:]:
        assert f"✗ {path}: interrupted before it was checked\n" in done.out
    assert done.out.endswith("4 specs: 1 wrong, 1 not checked, 2 interrupted.\n")
    assert done.err.endswith("\ninterrupted: 2 of 4 specs were checked\n")
    document = gradcheck("check", "--format", "json", *paths).document
    assert document["exit_code"] == 130
    assert [spec["exit_code"] for spec in document["specs"]] == [1, 2, 130, 130]
    assert [spec["verdict"] for spec in document["specs"]] == ["wrong", None, None, None]
