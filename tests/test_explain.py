from __future__ import annotations

import numpy as np
import pytest
from build import spec_of

from gradcheck_cli import Spec, Verdict, load_spec
from gradcheck_cli.explain import explain
from gradcheck_cli.model.activations import ACTIVATIONS
from gradcheck_cli.model.losses import LOSSES
from gradcheck_cli.model.network import backprop, gradients
from gradcheck_cli.model.problem import build_problem

SYMBOLS = ["∂L/∂a", "∂a/∂z", "δ", "∂z/∂w", "∂z/∂b", "∂L/∂w", "∂L/∂b"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_factor_of_a_right_gradient_agrees(activation, loss):
    explanation = explain(spec_of((4, "tanh"), (3, activation), loss=loss, penalty={"l2": 0.1}))
    assert [factor.symbol for factor in explanation.factors] == SYMBOLS
    assert all(factor.verdict is not Verdict.WRONG for factor in explanation.factors)
    # relu that is off meets a target of 0 (l1) or of 1 (huber's delta) exactly on the loss's kink.
    on_a_kink = any(np.isinf(factor.comparison.error).any() for factor in explanation.factors)
    assert on_a_kink == (activation == "relu" and loss in ("l1", "huber"))
    assert explanation.verdict is (Verdict.UNRESOLVED if on_a_kink else Verdict.AGREES)


def test_shapes_are_those_of_the_derivation():
    spec = spec_of((4, "tanh"), (3, "sigmoid"), samples=5)
    shapes = [factor.comparison.shape for factor in explain(spec).factors]
    assert shapes == [(5, 3), (5, 3), (5, 3), (5, 4), (5, 3), (3, 4), (3,)]


def test_softmax_shows_its_jacobian():
    factors = explain(spec_of((4, "tanh"), (3, "softmax"), samples=5)).factors
    assert factors[1].comparison.shape == (5, 3, 3)


@pytest.fixture
def spec() -> Spec:
    return spec_of((4, "tanh"), (3, "sigmoid"), samples=5)


def given(spec: Spec, tmp_path, **factors: np.ndarray) -> Spec:
    """The spec with a gradient file of right gradients and these factors."""
    problem = build_problem(spec)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    np.savez(tmp_path / "g.npz", **right, **{f"output.{name}": value for name, value in factors.items()})
    return Spec.model_validate(
        {**spec.model_dump(by_alias=True, exclude_unset=True), "gradients": {"file": tmp_path / "g.npz"}}
    )


@pytest.mark.parametrize("name", ["dL_da", "da_dz", "delta", "dz_dw"])
def test_a_wrong_factor_stands_out_by_itself(spec, name, tmp_path):
    problem = build_problem(spec)
    ours = next(backprop(problem.network, problem.parameters, problem.x, problem.target))
    factors = explain(given(spec, tmp_path, **{name: 2 * getattr(ours, name)})).factors
    verdicts = {factor.comparison.name: factor.verdict for factor in factors}
    assert [key for key, verdict in verdicts.items() if verdict is Verdict.WRONG] == [name]


def test_given_factors_that_are_right_agree_and_say_where_they_are_from(spec, tmp_path):
    problem = build_problem(spec)
    ours = next(backprop(problem.network, problem.parameters, problem.x, problem.target))
    factors = explain(given(spec, tmp_path, delta=ours.delta)).factors
    assert [factor.origin for factor in factors] == [
        "backprop", "backprop", "g.npz", "backprop", "backprop", "g.npz", "g.npz",
    ]  # fmt: skip
    assert all(factor.verdict is Verdict.AGREES for factor in factors)


def test_a_wrong_product_of_right_factors_is_found_in_the_product(configs):
    explanation = explain(load_spec(configs / "wrong_gradient.yaml"))
    assert [f.symbol for f in explanation.factors if f.verdict is Verdict.WRONG] == ["∂L/∂w", "∂L/∂b"]
    assert explanation.exit_code == 1


def test_what_the_loss_has_beside_its_name_is_noted():
    loss = {"name": "cross_entropy", "label_smoothing": 0.1, "weight": [1, 2, 3]}
    explanation = explain(spec_of((4, "tanh"), (3, "identity"), loss=loss, penalty={"l2": 0.1, "l1": 1e-3}))
    assert explanation.notes == (
        "y: the targets, smoothed by 0.1",
        "y: the targets, times the weights of their classes, and softmax(a) times their sum",
        "plus a penalty ½ · 0.1 · Σ w² in L",
        "plus a penalty 0.001 · Σ |w| in L",
    )
    assert explain(spec_of((4, "tanh"), (3, "identity"))).notes == ()


def test_only_the_output_layer_is_explained_whatever_is_checked():
    explanation = explain(spec_of((4, "tanh"), (3, "sigmoid"), check={"parameters": "hidden1.bias"}))
    assert explanation.layer == "output"
    assert explanation.verdict is Verdict.AGREES
