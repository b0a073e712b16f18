"""Shell completion, as click's own classes request it."""

from __future__ import annotations

import os

import pytest
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete
from command_specs import GOOD
from processes import run

from gradcheck_cli import cli, load_spec
from gradcheck_cli.cli.options import SCHEMES
from gradcheck_cli.formats import FORMATS
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.spec.starters import STARTERS

NORMALISED = GOOD.replace("{units: 4,", "{units: 4, batch_norm: true,")


def completed(*words: str) -> list[str]:
    """Return the completions of the last word."""
    *arguments, incomplete = words
    shell = ShellComplete(cli.cli, {}, "gradcheck", "_GRADCHECK_COMPLETE")
    return [item.value for item in shell.get_completions(arguments, incomplete)]


@pytest.fixture
def tree(folder):
    for name in ("specs/a.yaml", "specs/deep/b.yml", "specs/deep/c.yaml", "specs/data.npz", ".hidden/d.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(GOOD)
    (folder / "alone" / "below").mkdir(parents=True)
    (folder / "alone" / "below" / "only.yaml").write_text(GOOD)
    return folder


def test_commands_are_completed():
    assert set(completed("")) == {command.name for command in cli.COMMANDS}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check", "good"], ["good.yaml"]),
        (["explain", "good"], ["good.yaml"]),
        (["dump", "good"], ["good.yaml"]),
        (["check", "good.yaml", "und"], ["undecided.yaml"]),
        (["check", "specs/"], ["specs/a.yaml", "specs/deep/"]),
        (["check", "./specs/a"], ["./specs/a.yaml"]),
        (["check", "sp"], ["specs/", "specs/a.yaml", "specs/deep/"]),
        (["check", "specs/d"], ["specs/deep/", "specs/deep/b.yml", "specs/deep/c.yaml"]),
        (["check", "al"], ["alone/below/only.yaml"]),
        (["check", ".h"], [".hidden/d.yaml"]),
        (["check", "no/such"], []),
        (["check", "wrong.n"], []),
    ],
    ids=lambda words: " ".join(words),
)
def test_specs_are_yaml_files_and_folders(words, expected, tree):
    assert completed(*words) == expected


def test_a_folder_that_is_the_only_choice_leaves_no_way_for_a_space(tree):
    (tree / "empty").mkdir()
    assert completed("check", "empt") == ["empty/"]
    for words in (["check", "sp"], ["check", "specs/d"]):
        assert len(completed(*words)) > 1


def test_a_home_folder_is_looked_into_and_stays_a_tilde(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    assert completed("check", "~/specs/a") == ["~/specs/a.yaml"]


@pytest.mark.parametrize("command", ["check", "dump"])
def test_the_parameters_are_those_of_the_spec_on_the_line(command, tree):
    (tree / "normed.yaml").write_text(NORMALISED)
    for spec in ("good.yaml", "normed.yaml"):
        names = list(build_problem(load_spec(spec)).parameters)
        assert sorted(completed(command, spec, "--only", "")) == sorted(names)
    assert completed(command, "good.yaml", "--only", "out") == ["output.weight", "output.bias"]


def test_several_specs_have_the_parameters_of_all_of_them(tree):
    (tree / "other.yaml").write_text(GOOD.replace("{units: 2,", "{name: top, units: 2,"))
    names = completed("check", "good.yaml", "other.yaml", "--only", "")
    assert len(names) == len(set(names))
    assert {"output.bias", "top.bias", "hidden1.bias"} < set(names)


@pytest.mark.parametrize("spec", ["bad.yaml", "no-such.yaml", "-", "specs", "code.yaml"])
def test_without_names_there_are_no_completions_and_no_code_is_run(spec, tree):
    (tree / "code.yaml").write_text("gradients: {python: code.py:f}\n")
    (tree / "code.py").write_text("open('ran', 'w')\n")
    assert completed("check", spec, "--only", "") == []
    assert completed("check", "--only", "") == []
    assert not (tree / "ran").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check", "--scheme", ""], list(SCHEMES)),
        (["check", "--format", ""], list(FORMATS)),
        (["init", "--source", ""], list(STARTERS)),
        (["check", "--color", "n"], ["never"]),
    ],
)
def test_items_of_a_list_are_completed(words, expected):
    assert completed(*words) == expected


def test_a_report_is_completed_to_a_format_and_a_file(tree):
    assert completed("check", "--report", "jun") == ["junit=report.xml"]
    offered = completed("check", "--report", "")
    assert [each.partition("=")[0] for each in offered] == list(FORMATS)
    files = {each.partition("=")[2]: each for each in offered}  # two formats are plain text
    reports = [word for each in files.values() for word in ("--report", each)]
    assert run("check", "good.yaml", *reports).returncode == 0  # each can be written as it stands


def test_the_layers_are_those_of_the_spec_on_the_line(tree):
    assert completed("explain", "good.yaml", "--layer", "") == [
        layer.name for layer in build_problem(load_spec("good.yaml")).network.layers
    ]
    assert completed("explain", "good.yaml", "--layer", "out") == ["output"]


@pytest.mark.parametrize(
    "words",
    [["check", "--gradients"], ["check", "--python"], ["check", "--torch"], ["dump", "-o"], ["init"]],
    ids=" ".join,
)
def test_other_files_are_left_to_the_shell(words):
    shell = ShellComplete(cli.cli, {}, "gradcheck", "_GRADCHECK_COMPLETE")
    (item,) = shell.get_completions(words, "mi")
    assert (item.type, item.value) == ("file", "mi")


def test_an_invalid_project_does_not_prevent_completion(tree):
    (tree / "pyproject.toml").write_text("[tool.gradcheck]\nrtoll = 1\n")
    assert completed("check", "good") == ["good.yaml"]
    assert completed("check", "--scheme", "cent") == ["central"]


@pytest.mark.parametrize("shell", [BashComplete, ZshComplete, FishComplete])
def test_every_shell_gets_its_script_and_its_answers(shell, tree):
    def asked(instruction: str, **words: str):
        variables = {"_GRADCHECK_COMPLETE": f"{shell.name}_{instruction}", **words}
        return run(env={**os.environ, **variables})

    script = asked("source")
    assert (script.returncode, script.stderr) == (0, "")
    assert f"_GRADCHECK_COMPLETE={shell.name}_complete" in script.stdout
    cword = "go" if shell is FishComplete else "2"
    answer = asked("complete", COMP_WORDS="gradcheck check go", COMP_CWORD=cword)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "good.yaml" in answer.stdout
