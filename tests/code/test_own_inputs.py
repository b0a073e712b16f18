"""Data and parameters that the user's code defines, for a network section that has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from book import RIGHT, SPEC, book

from gradcheck_cli import InputError, Spec, Verdict, check, load_spec
from gradcheck_cli.cli import main
from gradcheck_cli.dump import dump
from gradcheck_cli.explain.explain import explain
from gradcheck_cli.mutate.mutate import mutate

COUNTED = """
import os

with open(os.path.join(os.path.dirname(__file__), "loads.txt"), "a") as file:
    file.write("loaded\\n")
"""

CODE = COUNTED + book()


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "net.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "net.yaml").write_text(SPEC, encoding="utf-8")
    return tmp_path


@pytest.fixture
def spec(folder) -> Spec:
    return load_spec(folder / "net.yaml")


def loads(folder: Path) -> int:
    return (folder / "loads.txt").read_text().count("loaded")


def test_the_code_is_loaded_once(spec, folder):
    assert check(spec).verdict is Verdict.AGREES
    assert loads(folder) == 1


def test_a_dump_holds_what_the_code_defines(spec, folder):
    arrays = dump(spec)
    right = np.random.default_rng(3).normal(size=(3, 4))
    np.testing.assert_array_equal(arrays["hidden1.weight"], right.T)
    np.testing.assert_array_equal(arrays["y"], np.linspace(-1.0, 1.0, 20).reshape(5, 4))


def test_mistakes_are_planted_at_what_the_code_defines(spec):
    mutation = mutate(spec, sample=3)
    assert mutation.network == "3-4-4, tanh, identity, 5 samples"
    assert mutation.right is Verdict.AGREES


def test_a_derivation_has_the_gradients_that_the_code_returns(spec):
    explanation = explain(spec)
    assert explanation.verdict is Verdict.AGREES
    origins = {factor.symbol: factor.origin for factor in explanation.factors}
    assert origins["∂L/∂w"] == "f of net.py"
    assert origins["δ"] == "backprop"
    assert explanation.unusual == ()


def test_a_wrong_gradient_of_code_is_found_in_its_derivation(folder, spec):
    (folder / "net.py").write_text(CODE.replace(RIGHT, "(1 - a)"), encoding="utf-8")
    explanation = explain(spec)
    wrong = [factor.comparison.name for factor in explanation.factors if factor.verdict is Verdict.WRONG]
    assert wrong == ["hidden1.weight", "hidden1.bias"]


def test_the_derivation_of_code_with_another_loss_says_so(folder, spec):
    (folder / "net.py").write_text(
        CODE.replace("(d**2).sum(axis=1)", "(d**2).sum(axis=1) / 2"), encoding="utf-8"
    )
    (note,) = explain(spec).unusual
    assert note.startswith("the loss in f of net.py is ")


def test_code_without_a_network_section_has_no_derivation(folder):
    (folder / "net.yaml").write_text("gradients: {python: net.py:f}\n", encoding="utf-8")
    with pytest.raises(InputError, match="this needs a network") as caught:
        explain(load_spec(folder / "net.yaml"))
    assert "add network: {inputs: N" in caught.value.complaints[0].help


def test_code_that_is_not_there_yet_is_no_reason_not_to_dump(folder):
    (folder / "net.py").unlink()
    (folder / "net.yaml").write_text(f"{SPEC}data: {{synthetic: normal}}\n", encoding="utf-8")
    assert "numerical.output.bias" in dump(load_spec(folder / "net.yaml"))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


COMMANDS = [["explain"], ["mutate", "--sample", "1"], ["dump", "-o", "out.npz"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_uses_what_the_code_defines(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    name, *options = command
    assert run(name, "net.yaml", *options) == 0
    assert loads(folder) == 1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_command_runs_code_that_is_refused(folder, command, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    name, *options = command
    assert run(name, "net.yaml", *options, "--no-code") == 2
    assert "--no-code forbids it" in capsys.readouterr().err
    assert not (folder / "loads.txt").exists()
    assert not (folder / "out.npz").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_code_that_ends_the_process_is_no_verdict(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "net.py").write_text("import ctypes; ctypes.CDLL(None).exit(0)", encoding="utf-8")
    name, *options = command
    assert run(name, "net.yaml", *options) == 2
