"""The command `explain`: exit codes and what stands out."""

from __future__ import annotations

import pytest
from command_specs import (
    CODES,
    save,
)

import gradcheck_cli


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
