"""The examples in C read what `gradcheck dump` writes, and their gradients are judged."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from gradcheck_cli import cli

CC = shutil.which("cc") or shutil.which("gcc")
C_EXAMPLE = ROOT / "configs" / "c_example"
SPECS = {"backprop": "net.yaml", "layer_norm": "layer_norm.yaml", "attention": "attention.yaml"}


def gradcheck(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    return left.value.code


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> Callable[[str], Path]:
    """Return the folder with the arrays of a program's spec, by the name of the program."""

    @cache
    def case(program: str) -> Path:
        folder = tmp_path_factory.mktemp("c") / "case"
        assert gradcheck("dump", str(C_EXAMPLE / SPECS[program]), "-o", str(folder)) == 0
        return folder

    return case


def compiled(source: str, folder: Path) -> str:
    if CC is None:
        pytest.skip("there is no C compiler here")
    (folder / "program.c").write_text(source)
    program = str(folder / "program")
    warnings = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror=implicit-function-declaration"]
    build = [CC, *warnings, "-O2", "-I", str(C_EXAMPLE), "-o", program, str(folder / "program.c"), "-lm"]
    subprocess.run(build, check=True)
    return program


@pytest.mark.parametrize(
    ("name", "right", "wrong", "said"),
    [
        ("backprop", "", "", ""),
        ("backprop", "sum * (1.0 - a * a)", "sum", "the derivative of tanh is missing"),
        ("backprop", "db.at[j] += delta", "db.at[j] = delta", "is δ of the last sample alone"),
        ("backprop", " / (double)x.size[0]", "", "The loss averages over the 40 samples"),
        (
            "backprop",
            "delta.at[n * out + j] * w.at[j * in + k]",
            "delta.at[n * out + j] * w.at[k]",
            "hidden1",
        ),
        ("layer_norm", "", "", ""),
        ("layer_norm", " - z[k] * along", "", "backward pass lacks the term from the variance"),
        ("layer_norm", "g[k] - mean - ", "g[k] - ", "backward pass lacks the term from the mean"),
        ("attention", "", "", ""),
        ("attention", "(dp[s] - along)", "dp[s]", "softmax's backward pass lacks the sum over the row"),
        (
            "attention",
            "k[s * apart + i];\n                dk",
            "q[s * apart + i];\n                dk",
            "attention1",
        ),
    ],
)
def test_gradients_from_c_are_judged(cases, tmp_path, capsys, name, right, wrong, said):
    source = (C_EXAMPLE / f"{name}.c").read_text(encoding="utf-8")
    assert right in source
    program = compiled(source.replace(right, wrong) if right else source, tmp_path)
    subprocess.run([program, str(cases(name)), str(tmp_path / "mine")], check=True)
    spec = str(C_EXAMPLE / SPECS[name])
    assert gradcheck("check", spec, "--gradients", str(tmp_path / "mine")) == (1 if right else 0)
    shown = " ".join(capsys.readouterr().out.split())
    assert ("wrong" in shown) == bool(right)
    assert said in shown


def test_the_program_refuses_what_it_cannot_read(cases, tmp_path):
    program = compiled((C_EXAMPLE / "backprop.c").read_text(encoding="utf-8"), tmp_path)
    broken = shutil.copytree(cases("backprop"), tmp_path / "broken")
    np.save(broken / "x.npy", np.load(broken / "x.npy").astype(np.float32))
    for folder, complaint in ((tmp_path / "none", "cannot read"), (broken, "no rows of float64 in")):
        result = subprocess.run(
            [program, str(folder), str(tmp_path / "out")], capture_output=True, text=True, check=False
        )
        assert result.returncode == 2
        assert complaint in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_specs_of_the_examples_are_right_as_they_stand():
    assert gradcheck("check", str(C_EXAMPLE), "-q") == 0
