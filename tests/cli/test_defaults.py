"""The sources of option values: the command line, a variable, the spec, the project, or a default."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import click
import pytest
from command_specs import GOOD, NETWORK

from gradcheck_cli import cli

COMMANDS = {command.name: command for command in cli.COMMANDS}


@pytest.fixture
def project(folder):
    """Write these lines to [tool.gradcheck] in the folder's pyproject.toml."""

    def write(*lines: str, file: Path = folder / "pyproject.toml") -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(["[project]", 'name = "mine"', "", "[tool.gradcheck]", *lines, ""]))

    return write


def rtol_of(done) -> float:
    (rtol,) = {tensor["rtol"] for tensor in done.document["specs"][0]["tensors"]}
    return rtol


WHO = {
    "command line": (5e-2, ["--rtol", "5e-2"]),
    "variable": (4e-2, []),
    "spec": (3e-2, []),
    "project": (2e-2, []),
    "built-in": (1e-6, []),
}


@pytest.mark.parametrize(("who", "below"), list(pairwise([*WHO, None])))
def test_the_closest_to_the_run_decides(who, below, folder, gradcheck, project, monkeypatch):
    """Each source decides if all sources before it are silent."""
    said = list(WHO)[list(WHO).index(who) :]
    (folder / "spec.yaml").write_text(GOOD + ("check: {rtol: 3e-2}\n" if "spec" in said else ""))
    if "project" in said:
        project("rtol = 2e-2")
    if "variable" in said:
        monkeypatch.setenv("GRADCHECK_RTOL", "4e-2")
    options = WHO["command line"][1] if "command line" in said else []
    assert rtol_of(gradcheck("check", "spec.yaml", "--format", "json", *options)) == WHO[who][0]


@pytest.mark.parametrize("command", ["check", "explain"])
def test_what_the_spec_cannot_say_the_project_can(command, gradcheck, project):
    project('format = "json"')
    assert gradcheck(command, "good.yaml").document["exit_code"] == 0
    assert "agrees" in gradcheck(command, "good.yaml", "--format", "table").out


@pytest.mark.parametrize(
    ("line", "variable", "value"),
    [
        ('only = "output.*"', "GRADCHECK_ONLY", "output.*"),
        ('only = ["output.weight", "output.bias"]', "GRADCHECK_ONLY", "output.weight output.bias"),
    ],
)
def test_repeatable_options_may_have_one_or_several_values(
    line, variable, value, gradcheck, project, monkeypatch
):
    def names() -> list[str]:
        (spec,) = gradcheck("check", "good.yaml", "--format", "json").document["specs"]
        return [tensor["name"] for tensor in spec["tensors"]]

    everything = names()
    project(line)
    assert names() == ["output.weight", "output.bias"] != everything
    project()
    monkeypatch.setenv(variable, value)
    assert names() == ["output.weight", "output.bias"]


def test_a_closer_source_can_undo_a_switch(folder, gradcheck, project, monkeypatch):
    loose = ["--scheme", "central", "--rtol", "1e-9"]
    assert gradcheck("check", "good.yaml", *loose).code == 0
    project("strict = true")
    assert gradcheck("check", "good.yaml", *loose).code == 3
    (folder / "lax.yaml").write_text(GOOD + "check: {strict: false}\n")
    assert gradcheck("check", "lax.yaml", *loose).code == 0
    monkeypatch.setenv("GRADCHECK_STRICT", "1")
    assert gradcheck("check", "lax.yaml", *loose).code == 3
    assert gradcheck("check", "lax.yaml", *loose, "--no-strict").code == 0
    monkeypatch.setenv("GRADCHECK_STRICT", "")  # an empty variable sets nothing
    assert gradcheck("check", "lax.yaml", *loose).code == 0


def test_the_nearest_pyproject_counts_and_no_other(folder, gradcheck, project, monkeypatch):
    project("quiet = true", file=folder / "pyproject.toml")
    (folder / "below" / "deep").mkdir(parents=True)
    monkeypatch.chdir(folder / "below" / "deep")
    assert len(gradcheck("check", "../../good.yaml").out.splitlines()) == 1
    (folder / "below" / "pyproject.toml").write_text("[tool.ruff]\n")
    assert len(gradcheck("check", "../../good.yaml").out.splitlines()) > 1


@pytest.mark.parametrize(
    ("line", "column", "says", "help"),
    [
        ("rtoll = 1e-5", 1, "unknown key 'rtoll'", "did you mean 'rtol'?"),
        ('  "no_code" = true', 3, "unknown key 'no_code'", "did you mean 'no-code'?"),
        (
            "zzz = 1",
            1,
            "unknown key 'zzz'",
            "choose one of specs, only, inputs, order, forward-mode, batched, no-code, ",
        ),
        (
            'gradients = "mine.npz"',
            1,
            "'gradients' can only be set on the command line",
            "choose one of specs, only, inputs, ",
        ),
        (
            'output = "o.npz"',
            1,
            "'output' can only be set on the command line",
            "choose one of specs, only, inputs, ",
        ),
        ("[tool.gradcheck.check]", None, "unknown key 'check'", "choose one of specs, only, inputs, "),
        ("rtol = 2", 1, "rtol: 2.0 is not in the range 0<x<1", None),
        ('scheme = "centrall"', 1, "scheme: 'centrall' is not one of 'adaptive', ", None),
        ("scheme = ['central']", 1, "scheme: expected a single value, not a list", None),
        ("only = [['a']]", 1, "only: a list in a list is not allowed", None),
        ("only = {a = 1}", 1, "only: a table is not allowed", None),
        ("jobs = 1.5", 1, "jobs: '1.5' is not ", None),
        ("show = true", 1, "show: 'true' is not ", None),
        ('strict = "perhaps"', 1, "strict: 'perhaps' is not ", None),
    ],
)
@pytest.mark.parametrize("command", ["check", "explain"])
def test_errors_in_a_project_are_shown_at_their_place(command, line, column, says, help, gradcheck, project):
    project(line)
    done = gradcheck(command, "good.yaml")
    assert (done.code, done.out) == (2, "")
    first, *excerpt = done.err.splitlines()
    place = f"pyproject.toml:5:{column}: error: " if column else "error: pyproject.toml: [tool.gradcheck]: "
    assert first.startswith(place + says)
    assert bool(column) == (len(excerpt) >= 2)
    assert help is None or f"= help: {help}" in done.err


def test_all_errors_are_reported_at_once(gradcheck, project):
    project("rtoll = 1", "show = -1", "scheme = 3")
    assert gradcheck("check", "good.yaml").err.count("error: ") == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[tool.gradcheck\n", "error: cannot read 'pyproject.toml': Expected ']'"),
        ("# gradcheck\n\ntool = 3\n", None),
        ("[[tool.gradcheck]]\n", "error: pyproject.toml: 'tool.gradcheck' must be a table"),
        ("[tool]\ngradcheck = 3\n", "error: pyproject.toml: 'tool.gradcheck' must be a table"),
        ("tool.gradcheck.x = 3\n", "error: pyproject.toml: [tool.gradcheck]: unknown key 'x'"),
        (b"[tool.gradcheck] # \xff\n", "error: cannot read 'pyproject.toml': "),
        ("[tool.other\n", None),  # not gradcheck's to complain about
    ],
)
def test_an_invalid_project_file_is_reported_if_it_mentions_gradcheck(content, says, folder, gradcheck):
    (folder / "pyproject.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = gradcheck("check", "good.yaml")
    assert done.code == (2 if says else 0)
    assert done.err.startswith(says or "")
    assert "Traceback" not in done.err


def test_a_value_for_another_command_is_left_to_that_command(gradcheck, project, monkeypatch):
    (format,) = (option for option in COMMANDS["explain"].params if option.name == "format")
    monkeypatch.setattr(format, "type", click.Choice(["table"]))
    project('format = "json"')
    assert gradcheck("check", "good.yaml").document["exit_code"] == 0
    assert "agrees" in gradcheck("explain", "good.yaml").out


@pytest.mark.parametrize(
    ("name", "help"),
    [
        ("GRADCHECK_STRCIT", "did you mean 'GRADCHECK_STRICT'?"),
        ("GRADCHECK_HELP", "did you mean "),  # the help would end with 0, and nothing checked
        ("GRADCHECK_GRADIENTS", "choose one of GRADCHECK_ONLY, "),
    ],
)
def test_an_unknown_variable_is_reported(name, help, gradcheck, monkeypatch):
    monkeypatch.setenv(name, "1")
    done = gradcheck("check", "good.yaml")
    assert (done.code, done.out) == (2, "")
    assert f"'{name}'" in done.err
    assert f"= help: {help}" in done.err


@pytest.mark.parametrize(
    ("name", "value"), [("GRADCHECK_RTOL", "x"), ("GRADCHECK_FORMAT", "xml"), ("GRADCHECK_JOBS", "0")]
)
def test_a_variables_value_follows_the_options_rules(name, value, gradcheck, monkeypatch):
    monkeypatch.setenv(name, value)
    done = gradcheck("check", "good.yaml")
    assert done.code == 2
    assert done.err.startswith(f"error: {name}: Invalid value for ")


def test_the_source_of_a_bad_value_is_blamed(folder, gradcheck, project, monkeypatch):
    (folder / "own.yaml").write_text(GOOD + "check: {parameters: outptu.*}\n")
    project('only = "nothing.*"')
    assert gradcheck("check", "good.yaml").err.startswith("error: good.yaml: only in pyproject.toml: ")
    assert gradcheck("check", "own.yaml").err.startswith("own.yaml:9:21: error: 'outptu.*' matches no ")
    monkeypatch.setenv("GRADCHECK_ONLY", "nothing.*")
    assert gradcheck("check", "own.yaml").err.startswith("error: own.yaml: GRADCHECK_ONLY: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_works_with_any_project_file(command, gradcheck, project):
    project("rtoll = 1")
    done = gradcheck(command, "--help")
    assert (done.code, done.err) == (0, "")


def test_a_deleted_folder_has_no_project(folder, monkeypatch):
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    done = subprocess.run(
        [sys.executable, "-m", "gradcheck_cli", "check", "-q", "-"],
        input=NETWORK.replace("ACTIVATION", "tanh").replace("INIT", "he"),
        capture_output=True,
        encoding="utf-8",
        env=dict(os.environ),
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_tomllib_loads_only_for_a_project_that_mentions_gradcheck(folder):
    code = (
        "import sys\nsys.modules.pop('tomllib', None)  # which coverage has loaded\n"
        "from gradcheck_cli import cli\n"
        "try:\n    cli.main(['check', 'good.yaml', '-q'])\n"
        "finally:\n    print('tomllib' in sys.modules, file=sys.stderr)\n"
    )

    def loaded() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
        )
        return done.stderr.strip()

    (folder / "pyproject.toml").write_text("[tool.other]\n")
    assert loaded() == "False"
    (folder / "pyproject.toml").write_text("[tool.gradcheck]\n")
    assert loaded() == "True"


# --- which specs -------------------------------------------------------------------------------------------


def test_a_project_names_the_specs_that_are_checked_wherever_it_is_called(folder, gradcheck, monkeypatch):
    (folder / "inside").mkdir()
    (folder / "pyproject.toml").write_text('[tool.gradcheck]\nspecs = ["good.yaml", "wrong.yaml"]\n')
    monkeypatch.chdir(folder / "inside")
    done = gradcheck("check", "-q")
    assert done.code == 1
    names = [line.split(":")[0].split()[1] for line in done.out.splitlines()]
    assert names == [os.path.join("..", name) for name in ("good.yaml", "wrong.yaml")]
    assert gradcheck("check", "-q", "../good.yaml").out.count("\n") == 1  # the command line wins


def test_without_specs_anywhere_the_argument_is_missing(folder, gradcheck):
    (folder / "pyproject.toml").write_text("[tool.gradcheck]\nstrict = true\n")
    done = gradcheck("check")
    assert (done.code, done.out) == (2, "")
    assert "Missing argument" in done.err


@pytest.mark.parametrize("value", ['"configs"', "[]", "[1]", "{a = 1}"])
def test_specs_are_a_list_of_names(value, folder, gradcheck):
    (folder / "pyproject.toml").write_text(f"[tool.gradcheck]\nspecs = {value}\n")
    done = gradcheck("check")
    assert done.code == 2
    assert done.err.startswith("pyproject.toml:2:1: error: specs must be a list of files and folders")
