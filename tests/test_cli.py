"""The command as a script sees it: exit codes, streams, terminals.

Tests of the process itself, such as signals, streams and the locale, start their own process with warnings as
errors; the others run `main` in this one.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from processes import POSIX, ended, everything, in_shell, on_terminal, run, started

import gradcheck_cli
from gradcheck_cli import cli
from gradcheck_cli.cli import progress
from gradcheck_cli.errors import UntrustedReferenceError
from gradcheck_cli.formats import FORMATS

NETWORK = """\
network:
  inputs: 3
  layers:
    - {units: 4, activation: ACTIVATION}
    - {units: 2, activation: ACTIVATION}
  loss: mse
parameters: {init: INIT, seed: 1}
data: {synthetic: normal, samples: 5, seed: 2}
"""
GOOD = NETWORK.replace("ACTIVATION", "sigmoid").replace("INIT", "xavier")
UNDECIDED = NETWORK.replace("ACTIVATION", "relu").replace("INIT", "zeros")
TINY = "network: {inputs: 1, layers: [{units: 1}], loss: mse}\ndata: {synthetic: normal, samples: 2}\n"
WRONG = GOOD + "gradients: {file: wrong.npz}\n"
BAD = GOOD.replace("activation", "activaton", 1)

CODES = {"good.yaml": 0, "wrong.yaml": 1, "bad.yaml": 2, "undecided.yaml": 3}


@pytest.fixture(scope="session")
def right(tmp_path_factory) -> dict[str, np.ndarray]:
    """Return the right gradients of the good spec."""
    from gradcheck_cli.network.network import gradients
    from gradcheck_cli.problem.problem import build_problem

    path = tmp_path_factory.mktemp("right") / "good.yaml"
    path.write_text(GOOD)
    problem = build_problem(gradcheck_cli.load_spec(path))
    return gradients(problem.network, problem.parameters, problem.x, problem.target)


@pytest.fixture
def folder(tmp_path, right, monkeypatch) -> Path:
    """Change to a folder with a spec for every exit code, and one with almost nothing to check."""
    for name, text in zip(CODES, (GOOD, WRONG, BAD, UNDECIDED), strict=True):
        (tmp_path / name).write_text(text)
    (tmp_path / "tiny.yaml").write_text(TINY)
    save(tmp_path / "wrong.npz", right, **{"output.bias": 2 * right["output.bias"]})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path: Path, right: dict[str, np.ndarray], **changed: np.ndarray) -> None:
    np.savez(path, **{**right, **changed})


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    """Remove the preferences of the tester's own terminal."""
    for name in (
        "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8",
        "PYTHONCOERCECLOCALE", "PYTHONWARNINGS",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TERM", "xterm")


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> dict:
        return strict(self.out)


@pytest.fixture
def gradcheck(folder, capsys):
    """Run the command in this process."""

    def call(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as left:
            cli.main(arguments)
        return Result(left.value.code, *capsys.readouterr())

    return call


def strict(text: str) -> dict:
    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is no JSON")

    return json.loads(text, parse_constant=refuse)


# --- exit codes --------------------------------------------------------------------------------------------


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


def failing(error: BaseException, where: str):
    """Return gradcheck's own check, except that it fails for one spec."""
    from gradcheck_cli.checker import check

    def wrapped(spec, *how, **named):
        if spec.check.seed == int(where):
            raise error
        return check(spec, *how, **named)

    return wrapped


@pytest.fixture
def broken(folder, monkeypatch):
    """Plant an exception in the check of broken.yaml."""

    def plant(error: BaseException) -> None:
        (folder / "broken.yaml").write_text(GOOD + "check: {seed: 4711}\n")
        monkeypatch.setattr("gradcheck_cli.checker.check", failing(error, "4711"))

    return plant


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


def raising(error: BaseException):
    def fail(*_: object) -> None:
        raise error

    return fail


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


# --- options -----------------------------------------------------------------------------------------------


def checked(document: dict) -> list[str]:
    return [tensor["name"] for tensor in document["specs"][0]["tensors"]]


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ([], ["output.weight", "output.bias", "hidden1.weight", "hidden1.bias"]),
        (["output.*"], ["output.weight", "output.bias"]),
        (["hidden1.bias", "output.weight"], ["output.weight", "hidden1.bias"]),
        (["*.bias", "output.*"], ["output.weight", "output.bias", "hidden1.bias"]),
    ],
    ids=" ".join,
)
def test_only_limits_the_check_and_may_be_repeated(only, names, gradcheck):
    options = [word for pattern in only for word in ("--only", pattern)]
    assert checked(gradcheck("check", "--format", "json", *options, "good.yaml").document) == names


def test_only_replaces_the_specs_own_choice(folder, gradcheck):
    (folder / "one.yaml").write_text(GOOD + "check: {parameters: hidden1.bias}\n")
    assert checked(gradcheck("check", "--format", "json", "one.yaml").document) == ["hidden1.bias"]
    done = gradcheck("check", "--format", "json", "--only", "output.bias", "one.yaml")
    assert checked(done.document) == ["output.bias"]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--only", "outptu.bias", "'outptu.bias' matches no parameter"),
        ("--gradients", "no-such.npz", "no-such.npz"),
    ],
)
def test_the_option_is_blamed_and_not_the_line_it_overrides(option, value, says, folder, gradcheck):
    (folder / "own.yaml").write_text(WRONG + "check: {parameters: output.*}\n")
    done = gradcheck("check", option, value, "own.yaml")
    assert done.code == 2
    assert done.err.startswith(f"error: own.yaml: {option}: ")
    assert says in done.err
    assert "|" not in done.err  # no line of the spec is quoted


def test_errors_in_the_spec_are_shown_at_their_place(folder, gradcheck):
    (folder / "own.yaml").write_text(GOOD + "check: {parameters: outptu.*}\n")
    done = gradcheck("check", "own.yaml")
    assert done.err.startswith("own.yaml:9:21: error: 'outptu.*' matches no parameter\n")
    assert "    9 |   check: {parameters: outptu.*}\n" in done.err


def test_options_of_the_differences_reach_the_report(gradcheck):
    options = ["--scheme", "central", "--differences", "literal", "--rtol", "1e-4"]
    (spec,) = gradcheck("check", "--format", "json", *options, "good.yaml").document["specs"]
    assert (spec["scheme"], spec["differences"], spec["witness"]) == ("central", "literal", None)
    assert {tensor["rtol"] for tensor in spec["tensors"]} == {1e-4}
    (plain,) = gradcheck("check", "--format", "json", "good.yaml").document["specs"]
    assert (plain["scheme"], plain["differences"]) == ("adaptive", "units")
    assert {tensor["rtol"] for tensor in plain["tensors"]} == {1e-6}


def test_a_larger_step_has_a_larger_error(gradcheck):
    errors = []
    for step in ("1e-4", "1e-2"):
        options = ["--scheme", "central", "--step", step, "--only", "output.bias", "--format", "json"]
        (spec,) = gradcheck("check", *options, "good.yaml").document["specs"]
        errors.append(spec["tensors"][0]["max_relative_error"])
    assert errors[1] > 100 * errors[0]


def test_rtol_decides_between_right_and_wrong(folder, right, gradcheck):
    save(folder / "off.npz", right, **{"output.bias": (1 + 1e-4) * right["output.bias"]})
    for command in ("check", "explain"):
        assert gradcheck(command, "--gradients", "off.npz", "good.yaml").code == 1
        assert gradcheck(command, "--gradients", "off.npz", "--rtol", "1e-3", "good.yaml").code == 0


def test_another_seed_draws_other_witnesses(gradcheck):
    def largest(*options: str) -> float:
        (spec,) = gradcheck("check", "--format", "json", *options, "good.yaml").document["specs"]
        return spec["witness"]["largest"]

    assert largest("--seed", "1") == largest("--seed", "1")
    assert len({largest("--seed", str(seed)) for seed in range(4)}) > 1


def test_gradients_replace_the_specs_own_and_are_relative_to_the_caller(folder, right, gradcheck):
    (folder / "specs").mkdir()
    (folder / "specs" / "wrong.yaml").write_text(WRONG)
    save(folder / "right.npz", right)
    done = gradcheck("check", "--format", "json", "--gradients", "right.npz", "specs/wrong.yaml")
    assert done.code == 0
    assert done.document["specs"][0]["gradients"] == "right.npz"


def test_show_lists_as_many_entries(gradcheck):
    assert "The worst" not in gradcheck("check", "wrong.yaml").out
    out = gradcheck("check", "--show", "3", "wrong.yaml").out
    *_, heading, first, second, third = out.splitlines()
    assert heading.split()[:2] == ["tensor", "entry"]
    assert [line.split()[-1] for line in (first, second, third)] == ["wrong", "wrong", "agrees"]


def test_more_entries_than_exist_can_be_requested(gradcheck):
    (spec,) = gradcheck("check", "--show", "1000", "--format", "json", "good.yaml").document["specs"]
    assert len(spec["worst"]) == spec["entries"] == 2 * 4 + 2 + 4 * 3 + 4


def test_quiet_is_a_line_per_spec_and_verbose_says_more(gradcheck):
    quiet = gradcheck("check", "-q", "good.yaml", "bad.yaml", "wrong.yaml").out.splitlines()
    assert [line.split(":")[0] for line in quiet] == ["✓ good.yaml", "✗ bad.yaml", "✗ wrong.yaml"]
    normal, verbose = (gradcheck("check", *flags, "good.yaml").out for flags in ([], ["-v"]))
    said = normal.splitlines()
    assert [line for line in verbose.splitlines() if line in said][: len(said)] == said
    assert "witness: " in verbose
    assert "witness: " not in normal


def test_heatmap_draws_wrong_tensors_below_the_table_and_in_reports(folder, gradcheck):
    plain = gradcheck("check", "wrong.yaml").out
    drawn = gradcheck("check", "wrong.yaml", "--heatmap", "--report", "table=out").out
    assert drawn == (folder / "out").read_text("utf-8")
    assert "  output.bias, 2\n" in drawn.removeprefix(plain)
    assert "|████| ✗\n" in drawn.removeprefix(plain)


def test_heatmap_needs_a_table(gradcheck):
    done = gradcheck("check", "good.yaml", "--heatmap", "--format", "json")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: --heatmap is drawn below the table, but json has no table\n"


@pytest.mark.parametrize(
    ("variables", "many"),
    [
        ({}, False),
        ({"TERM": "xterm-256color"}, True),
        ({"COLORTERM": "truecolor"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
    ],
    ids=str,
)
def test_a_heatmap_has_as_many_colours_as_the_terminal(variables, many, gradcheck, monkeypatch):
    monkeypatch.delenv("COLORTERM", raising=False)
    for name, value in {"FORCE_COLOR": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    assert ("48;5;" in gradcheck("check", "wrong.yaml", "--heatmap").out) == many


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["check", "-h"], ["explain", "-h"]], ids=" ".join)
def test_help_is_everywhere_and_lists_the_exit_codes(arguments, gradcheck):
    done = gradcheck(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "\n    3    nothing wrong was found, but too little could be decided\n" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_the_packages_own(option, gradcheck):
    assert gradcheck(option).out == f"gradcheck, version {gradcheck_cli.__version__}\n"


# --- specs from folders and from standard input ------------------------------------------------------------


def test_a_folder_means_every_spec_in_it_and_below(folder, gradcheck):
    for name in (
        "set/b.yaml",
        "set/a.yml",
        "set/deep/c.yaml",
        "set/.hidden/d.yaml",
        "set/.e.yaml",
        "set/f.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(GOOD)
    (folder / "set" / "g.yaml").mkdir()
    done = gradcheck("check", "--format", "json", "set", "undecided.yaml")
    assert done.code == 3
    assert [Path(spec["spec"]).as_posix() for spec in done.document["specs"]] == [
        "set/a.yml", "set/b.yaml", "set/deep/c.yaml", "undecided.yaml",
    ]  # fmt: skip


def test_a_folder_above_or_below_a_hidden_one_can_be_named(folder, gradcheck, monkeypatch):
    (folder / ".cache" / "set").mkdir(parents=True)
    (folder / ".cache" / "set" / "a.yaml").write_text(GOOD)
    assert gradcheck("check", "-q", str(folder / ".cache")).out.count("agrees") == 1
    monkeypatch.chdir(folder / ".cache" / "set")
    assert gradcheck("check", "-q", os.path.join("..", "..", ".cache", "set")).out.count("agrees") == 1


def test_an_empty_folder_is_bad_input_and_does_not_stop_the_others(folder, gradcheck):
    (folder / "empty").mkdir()
    done = gradcheck("check", "-q", "good.yaml", "empty", "wrong.yaml")
    assert done.code == 2
    assert done.err == "error: folder 'empty' contains no spec (.yaml or .yml)\n"
    assert len(done.out.splitlines()) == 3


@pytest.fixture
def typed(monkeypatch):
    """Put a text on standard input."""

    def put(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))

    return put


@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_dash_is_standard_input_with_paths_relative_to_the_caller(command, gradcheck, typed):
    typed(WRONG)
    done = gradcheck(command, "-")
    assert (done.code, done.err) == (1, "")
    assert "<stdin>" in done.out
    assert "wrong.npz" in done.out


def test_a_process_reads_its_standard_input(folder):
    done = run("check", "-", stdin=None, input=WRONG)
    assert (done.returncode, done.stderr) == (1, "")
    assert "<stdin>" in done.stdout


def test_errors_in_standard_input_are_located(gradcheck, typed):
    typed(BAD)
    done = gradcheck("check", "-")
    assert done.code == 2
    assert done.err.startswith("<stdin>:4:18: error: ")
    assert "✗ <stdin>: not checked" in done.out


def test_empty_standard_input_is_bad_input(gradcheck, typed):
    typed("")
    done = gradcheck("check", "-")
    assert done.code == 2
    assert "<stdin>" in done.err


@POSIX
def test_closed_standard_input_is_bad_input(folder):
    done = in_shell("<&-", "check", "-")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# --- data on stdout, the rest on stderr --------------------------------------------------------------------


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


@pytest.fixture
def unread() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


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


# --- reports -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_ci(monkeypatch) -> None:
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("spec", "code"), CODES.items())
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_can_be_printed_and_be_a_report(format, spec, code, folder, gradcheck):
    printed = gradcheck("check", spec, "--format", format)
    assert printed.code == code
    done = gradcheck("check", spec, "--report", f"{format}=out")
    assert (done.code, done.out) == (code, gradcheck("check", spec).out)
    assert without_times((folder / "out").read_text("utf-8")) == without_times(printed.out)


def without_times(text: str) -> str:
    return re.sub(r'(time=|"seconds": |<li>)"?[\d.e-]+', "", text)


def test_one_run_prints_a_table_and_leaves_its_reports(folder, gradcheck):
    (folder / "sub").mkdir()
    reports = [word for format in FORMATS for word in ("--report", f"{format}=sub/{format}")]
    done = gradcheck("check", "good.yaml", "wrong.yaml", *reports)
    assert done.code == 1
    assert done.out == gradcheck("check", "good.yaml", "wrong.yaml").out
    assert {path.name for path in (folder / "sub").iterdir()} == set(FORMATS)
    assert {path.suffix for path in folder.iterdir()} == {".yaml", ".npz", ""}  # no temporary file


@pytest.mark.parametrize("options", [["-q"], ["--color", "always"]], ids=" ".join)
def test_the_terminals_settings_do_not_affect_a_report(options, folder, gradcheck, monkeypatch):
    gradcheck("check", "wrong.yaml", "--report", "table=plain")
    monkeypatch.setenv("COLUMNS", "40")
    gradcheck("check", "wrong.yaml", "--report", "table=out", *options)
    assert (folder / "out").read_bytes() == (folder / "plain").read_bytes()


def test_a_report_has_as_many_entries_as_requested(folder, gradcheck):
    gradcheck("check", "wrong.yaml", "--show", "2", "-v", "--report", "table=out")
    assert (folder / "out").read_text("utf-8").count(" wrong\n") == 3
    assert "witness: " in (folder / "out").read_text("utf-8")


@pytest.mark.parametrize(
    ("report", "says"),
    [
        ("juint=out", "unknown format 'juint'; choose one of table, "),
        ("juint=out", "help: did you mean 'junit'?"),
        ("out.xml", "'out.xml' must be FORMAT=FILE, such as junit=report.xml"),
        ("junit=", "'junit=' names no file"),
        ("junit=-", "help: --format junit prints it"),
        ("junit=no/such/out", "does not exist"),
        ("junit=good.yaml/out", "does not exist"),
        ("junit=.", "'.' is a folder"),
        ("junit=good.yaml", "'good.yaml' is a spec"),
        ("junit=" + "a" * 300, "File name too long"),
    ],
)
def test_an_impossible_report_is_refused_before_the_work(report, says, folder, gradcheck, broken):
    broken(AssertionError("checked"))
    before = sorted(folder.iterdir())
    done = gradcheck("check", "broken.yaml", "good.yaml", "--report", report)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: --report: ")
    assert says in done.err
    assert sorted(folder.iterdir()) == before


@POSIX
def test_a_device_is_not_a_valid_report(gradcheck):
    done = gradcheck("check", "good.yaml", "--report", "junit=/dev/null")
    assert done.code == 2
    assert "'/dev/null' is a pipe or device" in done.err
    assert not os.path.isfile("/dev/null")


@POSIX
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everything")
@pytest.mark.parametrize("protected", [".", "out"])
def test_a_report_that_may_not_be_written_is_refused_before_the_work(protected, folder, gradcheck):
    (folder / "out").touch()
    (folder / protected).chmod(0o500)
    try:
        done = gradcheck("check", "good.yaml", "--report", "junit=out")
    finally:
        (folder / protected).chmod(0o700)
    assert (done.code, done.out) == (2, "")
    assert "'out' cannot be written: Permission denied" in done.err


@POSIX
def test_all_errors_in_reports_are_reported_at_once(folder, gradcheck):
    os.symlink("out", folder / "link")
    done = gradcheck("check", "good.yaml", *("--report", "x"), *("--report", "html5=y"),
                     *("--report", "json=out"), *("--report", "junit=./link"))  # fmt: skip
    assert done.code == 2
    assert done.err.count("error: --report: ") == 3
    assert "'./link' is another report's file; each report needs a file of its own" in done.err


@POSIX
def test_a_report_replaces_the_last_one_through_a_link_and_keeps_its_mode(folder, gradcheck):
    (folder / "out").write_text("{}")
    (folder / "out").chmod(0o640)
    os.symlink("out", folder / "link")
    assert gradcheck("check", "good.yaml", "--report", "json=link").code == 0
    assert (folder / "link").is_symlink()
    assert strict((folder / "out").read_text())["exit_code"] == 0
    assert (folder / "out").stat().st_mode & 0o777 == 0o640


OLD = {"a": "<testsuites/>", "b": "{}"}


@pytest.mark.parametrize(("spec", "code"), [("good.yaml", 2), ("wrong.yaml", 2)])
def test_a_report_that_fails_at_the_end_is_reported_and_leaves_the_table_and_the_last_one(
    spec, code, folder, gradcheck, monkeypatch
):
    for name, old in OLD.items():
        (folder / name).write_text(old)
    table = gradcheck("check", spec).out
    write = Path.write_text

    def full(path: Path, text: str, **how: str) -> int:
        if path.name == "a":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, text, **how)

    monkeypatch.setattr(Path, "write_text", full)
    done = gradcheck("check", spec, "--report", "junit=a", "--report", "json=b")
    assert (done.code, done.out) == (code, table)
    assert done.err == "error: --report: 'a' cannot be written: No space left on device\n"
    assert (folder / "a").read_text() == OLD["a"]
    assert strict((folder / "b").read_text())["version"] == 1
    assert not list(folder.glob(".gradcheck-*"))


def test_an_interrupted_check_leaves_no_report(folder, gradcheck, broken):
    broken(KeyboardInterrupt())
    assert gradcheck("check", "broken.yaml", "--report", "junit=out").code == 130
    assert not (folder / "out").exists()


@POSIX
def test_a_reader_that_has_left_takes_no_report_with_it(folder, unread):
    done = run("check", "wrong.yaml", "--report", "json=out", capture_output=False, stdout=unread)
    assert done.returncode == 1
    assert strict((folder / "out").read_text())["exit_code"] == 1


def test_annotations_point_at_the_wrong_layer_and_at_every_error(folder, gradcheck, monkeypatch):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder.parent))
    commands = [
        line for line in gradcheck("check", ".", "--format", "github").out.splitlines() if line[:2] == "::"
    ]
    assert [command.split("::")[1] for command in commands] == [
        f"error file={folder.name}/bad.yaml,line=4,col=18,title=not checked",
        f"error file={folder.name}/wrong.yaml,line=5,col=7,title=output.bias%3A wrong gradient",
        *[
            f"warning file={folder.name}/undecided.yaml,line={line},col=7,title={layer}.{kind}%3A unresolved"
            for line, layer in ((5, "output"), (4, "hidden1"))
            for kind in ("weight", "bias")
        ],
    ]


def test_junit_names_files_relative_to_the_root_of_the_project(folder, gradcheck, monkeypatch):
    monkeypatch.setenv("CI_PROJECT_DIR", str(folder.parent))
    assert f' file="{folder.name}/good.yaml"' in gradcheck("check", "good.yaml", "--format", "junit").out


@pytest.mark.parametrize(
    ("options", "appended"),
    [
        ([], False),
        (["--format", "json"], False),
        (["--format", "github"], True),
        (["--format", "markdown"], True),
        (["--report", "markdown=out"], True),
        (["--report", "github=out", "-q"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_job_summary_gets_markdown_if_a_github_format_is_requested(
    options, appended, folder, gradcheck, monkeypatch
):
    markdown = gradcheck("check", "wrong.yaml", "--format", "markdown").out
    (folder / "summary").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary")
    assert gradcheck("check", "wrong.yaml", *options).code == 1
    expected = "before\n" + (markdown if appended else "")
    assert (folder / "summary").read_text("utf-8") == expected


def test_a_summary_that_cannot_be_written_is_no_reason_to_fail(folder, gradcheck, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "no/such/summary")
    done = gradcheck("check", "good.yaml", "--format", "github")
    assert done.code == 0
    assert done.err.startswith("note: nothing was added to GITHUB_STEP_SUMMARY: ")


@pytest.mark.parametrize(("room", "begins"), [(0, ""), (100, "- ✓ good"), (5000, "### ✓ good")])
def test_a_summary_has_no_more_than_github_takes(room, begins, folder, gradcheck, monkeypatch):
    (folder / "summary").write_text("x" * (2**20 - room))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary")
    assert gradcheck("check", "good.yaml", "--format", "github").code == 0
    added = (folder / "summary").read_text("utf-8").lstrip("x")
    assert len(added.encode()) <= room
    assert added.startswith(begins)
    assert bool(added) == bool(begins)


# --- the terminal ------------------------------------------------------------------------------------------


def test_off_a_terminal_no_line_is_wrapped_and_nothing_is_colored(gradcheck):
    out = gradcheck("check", "--show", "3", "wrong.yaml").out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) > 100
    assert "numerical ± error  verdict\n" in out


@pytest.mark.parametrize("width", ["40", "80"])
@pytest.mark.parametrize("command", [["check", "--show", "3", "-v"], ["explain"]], ids=lambda c: c[0])
def test_columns_of_the_environment_bound_every_line(command, width, gradcheck, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    out = gradcheck(*command, "wrong.yaml").out
    assert max(map(len, out.splitlines())) <= int(width)


@pytest.mark.parametrize("columns", ["", "0", "-5", "many", "²"])
def test_columns_that_are_not_a_number_are_ignored(columns, gradcheck, monkeypatch):
    expected = gradcheck("check", "wrong.yaml").out
    monkeypatch.setenv("COLUMNS", columns)
    assert gradcheck("check", "wrong.yaml").out == expected


@pytest.mark.parametrize(
    ("option", "variables", "colored"),
    [
        ("auto", {}, False),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("auto", {"FORCE_COLOR": ""}, False),
        ("always", {}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("always", {"TERM": "dumb"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
    ],
)
@pytest.mark.parametrize("command", ["check", "explain"])
def test_color_is_what_the_option_says_then_the_environment(
    command, option, variables, colored, gradcheck, monkeypatch
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in gradcheck(command, "--color", option, "good.yaml").out) == colored


def test_json_is_never_colored(gradcheck):
    assert "\x1b" not in gradcheck("check", "--color", "always", "--format", "json", "wrong.yaml").out


def assert_ascii(code: int, *arguments: str, **variables: str) -> None:
    done = run(*arguments, encoding=None, env={**os.environ, **variables})
    assert done.returncode == code
    assert done.stdout.isascii()
    assert done.stderr.isascii()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"LANG": "C"},
        {"LANG": "POSIX"},
        {"LC_ALL": "C"},
        {"LC_CTYPE": "C", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_a_plain_locale_gets_ascii_on_both_streams(variables, folder):
    assert_ascii(2, "check", "--only", "δ*", "good.yaml", "naïve.yaml", **variables)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", "--show", "3", "-v", "wrong.yaml", "undecided.yaml"], 1),
        (["check", "--format", "json", "wrong.yaml"], 1),
        (["check", "--scheme", "δ", "good.yaml"], 2),
        (["check", "-h"], 0),
        (["explain", "-h"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_whatever_a_plain_locale_gets_is_ascii(arguments, code, folder):
    assert_ascii(code, *arguments, PYTHONIOENCODING="ascii")


@pytest.mark.parametrize("variables", [{}, {"LC_ALL": "C.UTF-8", "LANG": "C"}, {"LANG": ""}], ids=str)
def test_any_other_locale_gets_the_glyphs(variables, folder):
    done = run("check", "good.yaml", env={**os.environ, **variables})
    assert "✓ agrees" in done.stdout


@POSIX
@pytest.mark.parametrize(
    "name", [b"\xff.yaml", b"\x1b[2J.yaml", b"two\nlines.yaml", b"[bold].yaml"], ids=repr
)
def test_a_file_name_cannot_spoil_the_output(name, folder, gradcheck):
    (folder / os.fsdecode(name)).write_text(GOOD)
    done = gradcheck("check", "-q", os.fsdecode(name), "bad.yaml")
    assert done.code == 2
    first, _ = done.out.splitlines()
    assert first == f"✓ {ascii(os.fsdecode(name))[1:-1]}: agrees: all 26 entries."


# --- on a terminal -----------------------------------------------------------------------------------------


@POSIX
def test_a_terminal_gets_color_and_lines_of_its_width(folder):
    with on_terminal("check", "wrong.yaml", columns=60) as (process, texts):
        text = everything(texts)
        assert ended(process) == 1
    assert "\x1b[1;31m" in text
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= 60
    assert "  tensor          shape  rel error  worst entry  verdict" in map(str.rstrip, lines)


@POSIX
@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_terminal_that_wants_no_color_gets_none(variables, folder):
    with on_terminal("check", "wrong.yaml", **variables) as (_, texts):
        assert "\x1b" not in everything(texts)


@POSIX
def test_a_long_check_shows_its_progress_on_a_terminal_and_can_be_interrupted(tmp_path):
    spec = tmp_path / "large.yaml"
    spec.write_text(
        "network: {inputs: 500, layers: [{units: 500, activation: tanh}, {units: 300, activation: tanh}, "
        "{units: 10}], loss: mse}\nparameters: {init: xavier, seed: 1}\n"
        "data: {synthetic: normal, samples: 100, seed: 1}\n"
    )
    with on_terminal("check", "--differences", "literal", str(spec)) as (process, texts):
        assert any("large.yaml" in text and "%" in text for text in texts)
        process.send_signal(signal.SIGINT)
        text = everything(texts)
        assert ended(process) == 130
    assert "interrupted" in text
    assert "Traceback" not in text


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def progress_of(
    stream: io.StringIO, seconds: Sequence[float], monkeypatch, title: str = "folder/net.yaml"
) -> str:
    """Return what the progress of 100 evaluations writes.

    seconds: the clock's reading at each report.
    """
    clock = iter([0.0, *seconds])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Progress(title) as bar:
        bar.expect(100)
        for _ in seconds:
            bar.advance(100 // len(seconds))
    return stream.getvalue()


def test_progress_waits_for_a_second(monkeypatch):
    assert progress_of(Terminal(), [0.2, 0.9, 1.0], monkeypatch) == ""
    assert "net.yaml" in progress_of(Terminal(), [0.2, 1.1], monkeypatch)


def test_progress_shows_a_file_name_as_it_is(monkeypatch):
    assert "[red]net.yaml" in progress_of(Terminal(), [2.0, 3.0], monkeypatch, "[red]net.yaml")


def test_progress_is_ascii_on_a_plain_terminal(monkeypatch):
    assert not progress_of(Terminal(), [2.0, 3.0], monkeypatch).isascii()
    monkeypatch.setenv("LC_ALL", "C")
    text = progress_of(Terminal(), [2.0, 3.0], monkeypatch)
    assert "net.yaml" in text
    assert text.isascii()


def test_progress_never_reaches_its_end_early_and_never_falls(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(progress, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = []
    with progress.Progress("net.yaml") as bar:
        for expected in (10, 10, 50):  # more work appears whenever all seems done
            bar.expect(expected)
            for _ in range(expected // 2):
                bar.advance(2)
                shown.append(bar._bar.tasks[0].percentage if bar._bar else 0.0)
    assert max(shown) < 99.5
    assert shown == sorted(shown)


def test_progress_is_for_terminals_only(monkeypatch):
    assert progress_of(io.StringIO(), [5.0, 9.0], monkeypatch) == ""


# --- the derivation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "code"), CODES.items())
def test_explain_has_the_same_exit_codes(spec, code, gradcheck):
    done = gradcheck("explain", spec)
    assert done.code == code
    assert "Traceback" not in done.err
    assert bool(done.out) == (code != 2)


@pytest.mark.parametrize("name", ["dL_da", "da_dz", "delta", "dz_dw"])
def test_only_the_wrong_factor_of_the_user_stands_out(name, folder, right, gradcheck):
    from gradcheck_cli.network.network import backprop
    from gradcheck_cli.problem.problem import build_problem

    problem = build_problem(gradcheck_cli.load_spec("good.yaml"))
    ours = next(backprop(problem.network, problem.parameters, problem.x, problem.target))
    save(folder / "mine.npz", right, **{f"output.{name}": -getattr(ours, name)})
    done = gradcheck("explain", "--gradients", "mine.npz", "--format", "json", "good.yaml")
    assert done.code == done.document["exit_code"] == 1
    factors = [factor for layer in done.document["layers"] for factor in layer["factors"]]
    wrong = [factor for factor in factors if factor["verdict"] != "agrees"]
    assert [(factor["name"], factor["origin"]) for factor in wrong] == [(f"output.{name}", "mine.npz")]
    checked = name in ("dL_da", "delta")  # gradients of values; the other factors are for explain alone
    assert gradcheck("check", "--gradients", "mine.npz", "good.yaml").code == int(checked)


def test_explain_blames_its_options_too(gradcheck):
    done = gradcheck("explain", "--gradients", "no-such.npz", "wrong.yaml")
    assert done.code == 2
    assert done.err.startswith("error: wrong.yaml: --gradients: ")


# --- code of the user's ------------------------------------------------------------------------------------

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


SLOW = """
import os, time
import numpy as np

parameters = {"w": np.ones((30, 40))}


def f(parameters, x, y):
    open(f"pid-{os.getpid()}", "w").close()
    time.sleep(0.05)
    return (parameters["w"] ** 2).sum(axis=1), {"w": 2 * parameters["w"]}
"""


@POSIX
def test_ctrl_c_ends_the_processes_too(my_net):
    (my_net / "slow.py").write_text(SLOW)
    (my_net / "slow.yaml").write_text(
        "gradients: {python: slow.py:f}\ncheck: {jobs: 2, differences: literal}\n"
    )
    with started("check", "slow.yaml") as process:
        give_up = monotonic() + 60
        while len(list(my_net.glob("pid-*"))) < 3 and monotonic() < give_up:
            sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "interrupted"
    pids = [int(path.name.removeprefix("pid-")) for path in my_net.glob("pid-*")]
    assert len(pids) == 3
    while any(map(is_running, pids)) and monotonic() < give_up:
        sleep(0.05)
    assert not any(map(is_running, pids))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


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
