"""The weight of a sample multiplies its loss, with every loss of the table and in every command."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from build import right_gradients, units_for

from gradcheck_cli import Spec, Verdict, check
from gradcheck_cli.diagnose.layer_backprop import LayerBackprop
from gradcheck_cli.diagnose.site import Part
from gradcheck_cli.diagnose.table import MISTAKES
from gradcheck_cli.diagnose.words import planted_formula
from gradcheck_cli.dump import dump
from gradcheck_cli.explain.explain import explain
from gradcheck_cli.formats.explanation import table
from gradcheck_cli.formats.view import View
from gradcheck_cli.mutate.mutate import mutate
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.problem.problem import Problem, build_problem

WEIGHTS = np.array([0.5, 2.0, 0.0, 3.0, 1.0, 0.25])


def spec_of(
    loss: str, weights: np.ndarray | None = WEIGHTS, options: dict[str, Any] | None = None, **more: Any
) -> Spec:
    last = {"units": units_for(loss, 4), "activation": "identity" if loss in ("nll", "kl_div") else "tanh"}
    loss_spec: dict[str, Any] = {"name": loss, "reduction": "mean", **(options or {})}
    if weights is not None:
        loss_spec["sample_weight"] = weights.tolist()
    raw = {
        "network": {"inputs": 3, "layers": [{"units": 5, "activation": "tanh"}, last], "loss": loss_spec},
        "data": {"synthetic": "normal", "samples": len(WEIGHTS), "seed": 3},
    }
    return Spec.model_validate({**raw, **more})


def losses(problem: Problem) -> np.ndarray:
    return problem.objective.losses


@pytest.mark.parametrize("loss", LOSSES)
def test_the_weight_multiplies_the_value_and_the_gradient_of_each_sample(loss):
    plain, weighted = build_problem(spec_of(loss, None)), build_problem(spec_of(loss))
    np.testing.assert_allclose(losses(weighted), WEIGHTS * losses(plain), rtol=1e-14)
    a = plain.objective.output
    ours = weighted.network.coefficient * weighted.network.loss.gradient(a, weighted.target)
    theirs = plain.network.coefficient * plain.network.loss.gradient(a, plain.target)
    np.testing.assert_allclose(ours, WEIGHTS[:, None] * theirs, rtol=1e-14)


@pytest.mark.parametrize(
    ("scheme", "loss"),
    [
        *(("central", name) for name in LOSSES),
        *(("complex", name) for name, row in LOSSES.items() if row.pieces is None),  # it needs a smooth loss
    ],
)
def test_right_gradients_of_weighted_samples_agree(scheme, loss):
    report = check(spec_of(loss, check={"scheme": scheme, "inputs": True}))
    assert report.verdict is Verdict.AGREES


@pytest.mark.parametrize("power", [0, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_weights_that_are_forgotten_or_used_twice_are_named(loss, power, tmp_path):
    np.savez(tmp_path / "g.npz", **right_gradients(build_problem(spec_of(loss, WEIGHTS**power))))
    report = check(spec_of(loss, gradients={"file": tmp_path / "g.npz"}))
    assert report.verdict is Verdict.WRONG
    assert report.diagnosis is not None
    kinds = [cause.kind for answer in report.diagnosis.answers for cause in answer.causes]
    assert kinds[0] == "sample weights", kinds


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("cross_entropy", {"ignore_index": 1}),
    ("bce_with_logits", {"pos_weight": 2.5}),
)


@pytest.mark.parametrize(("loss", "options"), [*((loss, {}) for loss in LOSSES), *OPTIONS])
@np.errstate(all="ignore")
def test_a_wrong_formula_shows_the_weights_that_the_wrong_gradient_has(loss, options):
    plain, weighted = (build_problem(spec_of(loss, weights, options)) for weights in (None, WEIGHTS))
    sites = [LayerBackprop(problem, {}).right[-1] for problem in (plain, weighted)]
    spelt_out = [mistake for mistake in MISTAKES[Part.LOSS] if "{w" in mistake.wrong]
    assert len(spelt_out) > 50
    for mistake in spelt_out:
        without, given = (mistake.made(site, mistake.planted) for site in sites)
        assert (without is None) == (given is None)
        if without is not None and given is not None:
            np.testing.assert_allclose(given, WEIGHTS[:, None] * without, rtol=1e-12, atol=1e-14)
            shown = planted_formula(mistake, weighted, "output", mistake.planted)
            assert shown == planted_formula(mistake, plain, "output", mistake.planted).replace(
                "· ", "· wₙ ", 1
            )


def test_a_formula_shows_the_weights_of_classes_too():
    problem = build_problem(spec_of("cross_entropy", options={"weight": [1.0, 2.0, 0.5, 3.0]}))
    shown = {planted_formula(mistake, problem, "output", 0.0) for mistake in MISTAKES[Part.LOSS]}
    assert "∂L/∂a = c · wₙ w_y (softmax(softmax(a)) − y)" in shown
    assert "∂L/∂a = 1/N · wₙ (softmax(a) − y)" in shown  # the class weights are forgotten


@pytest.mark.parametrize("loss", ["mse", "huber", "cosine"])
def test_the_weights_are_part_of_the_derivation_and_every_factor_agrees(loss):
    found = explain(spec_of(loss))
    assert found.loss == loss
    assert f"L = c Σₙ wₙ {loss}(aₙ, yₙ)" in table.render(found, View(), "net.yaml")
    assert found.notes == ("wₙ: the weight of sample n",)
    assert found.verdict is Verdict.AGREES


def test_mistakes_with_weighted_samples_are_caught_and_named():
    found = mutate(spec_of("mse"))
    assert "sample weights" in {mutant.kind for mutant in found.visible}
    assert found.caught == len(found.visible) > 50
    assert found.named == found.caught
    assert not any("{" in mutant.wrong for mutant in found.mutants)


def test_a_dump_holds_targets_and_weights_apart():
    arrays = dump(spec_of("mse"))
    np.testing.assert_array_equal(arrays["sample_weight"], WEIGHTS)
    assert arrays["target"].shape == (6, 4)
    assert "sample_weight" not in dump(spec_of("mse", None))
