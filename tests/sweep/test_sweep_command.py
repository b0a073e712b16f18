"""`gradcheck sweep`, as a script sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradcheck_cli import cli
from gradcheck_cli.errors import UntrustedReferenceError


@pytest.fixture
def gradcheck(capsys, configs, monkeypatch):
    """Run the command in the folder of example specs, and return its exit code, stdout and stderr."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.chdir(configs)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["sweep", *arguments])
        return left.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["output_layer.yaml"], 0),
        (["wrong_gradient.yaml"], 1),
        (["missing.yaml"], 2),
        (["output_layer.yaml", "--scheme", "adaptive"], 2),
        (["output_layer.yaml", "--scheme", "central", "--scheme", "forward"], 0),
        (["relu_huber.yaml", "--scheme", "central"], 3),
        (["digits_mlp.yaml", "--only", "nothing.*"], 2),
        (["code/softmax_regression.yaml", "--scheme", "complex"], 2),
        (["code/softmax_regression.yaml", "--no-code"], 2),
        (["digits_mlp.yaml", "--gradients", "data/wrong_gradient.npz", "--only", "output.*"], 1),
        (["digits_mlp.yaml", "--gradients", "missing.npz"], 2),
        (["code/book_trap.yaml", "--python", "code/book_trap.py:loss_and_gradients"], 1),
    ],
)
def test_exit_code(arguments, code, gradcheck):
    found, out, err = gradcheck(*arguments)
    assert found == code
    assert bool(out) == (code != 2)
    assert bool(err) == (code == 2)
    assert "Traceback" not in err


def test_a_refusal_names_the_option(gradcheck):
    for option, value in (("--only", "nothing.*"), ("--gradients", "missing.npz")):
        assert option in gradcheck("digits_mlp.yaml", option, value)[2]
    assert "--no-code" in gradcheck("code/softmax_regression.yaml", "--no-code")[2]


def test_json_is_alone_on_stdout(gradcheck):
    code, out, _ = gradcheck("wrong_gradient.yaml", "--format", "json", "--scheme", "central")
    document = json.loads(out)
    assert code == document["exit_code"] == 1
    assert [scheme["scheme"] for scheme in document["schemes"]] == ["central"]


@pytest.mark.parametrize("file", ["sweep.jpg", "missing/sweep.png"])
def test_an_unsavable_picture_is_refused_before_the_work_starts(file, gradcheck, tmp_path, monkeypatch):
    monkeypatch.setattr("gradcheck_cli.spec.file.read_spec", lambda path: pytest.fail("the work has started"))
    code, out, err = gradcheck("digits_mlp.yaml", "--save", str(tmp_path / file))
    assert (code, out) == (2, "")
    assert "--save: " in err


def test_the_picture_is_saved_in_addition_to_the_result(gradcheck, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "sweep.svg"
    code, out, err = gradcheck("output_layer.yaml", "--save", str(file))
    assert (code, file.exists()) == (0, True)
    assert "relative error" in out
    assert str(file) in err


def test_contradicting_references_are_a_defect(gradcheck, monkeypatch):
    def contradict(*_: object) -> None:
        raise UntrustedReferenceError("two ways contradict each other")

    monkeypatch.setattr("gradcheck_cli.subject.network.NetworkSubject.check", contradict)
    code, out, err = gradcheck("output_layer.yaml")
    assert (code, out) == (70, "")
    assert "two ways contradict each other" in err
    assert "Traceback" not in err


def test_help_lists_the_exit_codes(gradcheck):
    code, out, _ = gradcheck("--help")
    assert code == 0
    assert "Exit codes:" in out


def test_a_narrow_terminal_has_the_whole_plot(gradcheck, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = gradcheck("output_layer.yaml")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert Path("output_layer.yaml").name in out
