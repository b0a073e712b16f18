from __future__ import annotations

import numpy as np
import pytest
from build import right_gradients, spec_of
from shares import pairs

from gradcheck_cli import InputError, Spec, Verdict, load_spec
from gradcheck_cli.explain.explain import explain
from gradcheck_cli.formats.explanation import markdown, table
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.derivation import explained
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.network import backprop, gradients
from gradcheck_cli.problem.problem import build_problem

AFFINE = ["∂z/∂w", "∂z/∂b", "∂z/∂a⁽ʰ⁾"]
SYMBOLS = ["∂L/∂a", "∂a/∂z", "δ", *AFFINE, "∂L/∂w", "∂L/∂b", "∂L/∂a⁽ʰ⁾"]
NORMALISED = [
    *["∂L/∂a", "∂a/∂y", "∂L/∂y", "∂y/∂γ", "∂y/∂β", "∂y/∂ẑ", "∂L/∂ẑ", "∂ẑ/∂z", "δ", *AFFINE],
    *["∂L/∂w", "∂L/∂b", "∂L/∂γ", "∂L/∂β", "∂L/∂a⁽ʰ⁾"],
]
DEEP = [(4, "tanh"), (5, "silu"), (3, "sigmoid")]


@pytest.mark.parametrize(("activation", "loss"), pairs(list(ACTIVATIONS), list(LOSSES)))
def test_every_factor_of_a_right_gradient_agrees(activation, loss):
    explanation = explain(spec_of((4, "tanh"), (3, activation), loss=loss, penalty={"l2": 0.1}))
    assert [[factor.symbol for factor in layer.factors] for layer in explanation.layers] == [SYMBOLS] * 2
    assert all(factor.verdict is not Verdict.WRONG for factor in explanation.factors)
    # An inactive relu with a target of 0 (l1) or 1 (huber, smooth_l1) is exactly on the loss's kink.
    on_a_kink = any(np.isinf(factor.comparison.error).any() for factor in explanation.factors)
    assert on_a_kink == (activation == "relu" and loss in ("l1", "huber", "smooth_l1"))
    assert explanation.verdict is (Verdict.UNRESOLVED if on_a_kink else Verdict.AGREES)


def test_shapes_are_those_of_the_derivation():
    spec = spec_of((4, "tanh"), (3, "sigmoid"), samples=5)
    shapes = [factor.comparison.shape for factor in explain(spec, "output").factors]
    assert shapes == [(5, 3), (5, 3), (5, 3), (5, 4), (5, 3), (3, 4), (3, 4), (3,), (5, 4)]


def test_softmax_shows_its_jacobian():
    factors = explain(spec_of((4, "tanh"), (3, "softmax"), samples=5)).factors
    assert factors[1].comparison.shape == (5, 3, 3)


@pytest.fixture
def spec() -> Spec:
    return spec_of((4, "tanh"), (3, "sigmoid"), samples=5)


def given(spec: Spec, tmp_path, **factors: np.ndarray) -> Spec:
    """Return the spec with a gradient file of right gradients and these factors."""
    problem = build_problem(spec)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    np.savez(tmp_path / "g.npz", **{**right, **factors})
    return Spec.model_validate(
        {**spec.model_dump(by_alias=True, exclude_unset=True), "gradients": {"file": tmp_path / "g.npz"}}
    )


FACTORS = ["dL_da", "da_dz", "delta", "dz_dw"]


def ours(spec: Spec, layer: str, name: str) -> np.ndarray:
    problem = build_problem(spec)
    steps = backprop(problem.network, problem.parameters, problem.x, problem.target)
    return next(getattr(step, name) for step in steps if step.layer.name == layer)


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("layer", ["output", "hidden1"])
def test_only_the_wrong_factor_stands_out(spec, layer, name, tmp_path):
    factors = explain(given(spec, tmp_path, **{f"{layer}.{name}": 2 * ours(spec, layer, name)})).factors
    verdicts = {factor.comparison.name: factor.verdict for factor in factors}
    assert [key for key, verdict in verdicts.items() if verdict is Verdict.WRONG] == [f"{layer}.{name}"]


def test_right_given_factors_agree_and_name_their_source(spec, tmp_path):
    with_delta = given(spec, tmp_path, **{"output.delta": ours(spec, "output", "delta")})
    factors = explain(with_delta, "output").factors
    assert [factor.origin for factor in factors] == [
        "backprop", "backprop", "g.npz", "backprop", "backprop", "backprop", "g.npz", "g.npz", "backprop",
    ]  # fmt: skip
    assert all(factor.verdict is Verdict.AGREES for factor in factors)


def unseen(spec: Spec, tmp_path, *factors: str) -> list[str]:
    """What an explanation of wrong output gradients asks for, given these factors as well."""
    wrong = {
        name: 1.5 * right_gradients(build_problem(spec))[name] for name in ("output.weight", "output.bias")
    }
    held = {f"output.{name}": ours(spec, "output", name) for name in factors}
    said = explained(explain(given(spec, tmp_path, **wrong, **held), "output"))
    assert said.startswith("wrong: ∂L/∂w = δᵀ a⁽ʰ⁾ is")
    return [name for name in FACTORS if f"output.{name}" in said]


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ((), FACTORS),
        (("dL_da",), ["da_dz", "delta", "dz_dw"]),
        (("dL_da", "da_dz"), ["delta", "dz_dw"]),
        (("dz_dw",), ["dL_da", "da_dz", "delta"]),
        (("delta",), ["dz_dw"]),  # whatever a right δ is made of is right as well
        (("delta", "dz_dw"), []),
    ],
)
def test_a_product_is_blamed_alone_only_if_the_user_gives_all_its_factors(spec, held, asked, tmp_path):
    assert unseen(spec, tmp_path, *held) == asked


def test_our_own_product_rests_on_nothing_unseen():
    (derivation,) = explain(spec_of((3, "sigmoid"), dtype="float32")).layers
    assert not any(factor.given for factor in derivation.factors)


def test_a_loss_that_is_not_the_networks_is_noted(spec, tmp_path):
    loss = build_problem(spec).objective.total
    assert explain(given(spec, tmp_path, loss=np.array(loss))).unusual == ()
    explanation = explain(given(spec, tmp_path, loss=np.array(2 * loss)))
    assert explanation.unusual == (
        f"the loss in g.npz is {2 * loss:.6g}, but the spec gives {loss:.6g}, 0.5 times as large",
    )
    for render in (table.render, markdown.render):
        assert "Note: the loss in g.npz" in render(explanation, View(), "net.yaml")


def test_an_activation_that_the_loss_applies_itself_is_noted():
    explanation = explain(spec_of((4, "tanh"), (3, "softmax"), loss="cross_entropy"))
    assert explanation.unusual == (
        "the loss takes logits and applies softmax itself, so the output layer applies it a second time",
    )


def test_a_wrong_product_of_right_factors_is_found_in_the_product(configs):
    explanation = explain(load_spec(configs / "wrong_gradient.yaml"))
    assert [f.symbol for f in explanation.factors if f.verdict is Verdict.WRONG] == ["∂L/∂w", "∂L/∂b"]
    assert explanation.exit_code == 1


def test_options_of_the_loss_are_noted():
    loss = {"name": "cross_entropy", "label_smoothing": 0.1, "weight": [1, 2, 3]}
    explanation = explain(spec_of((4, "tanh"), (3, "identity"), loss=loss, penalty={"l2": 0.1, "l1": 1e-3}))
    assert explanation.notes == (
        "y: the targets, smoothed by 0.1",
        "y: the targets times their class weights; softmax(a) is multiplied by the sum of y",
        "plus a penalty ½ · 0.1 · Σ w² in L",
        "plus a penalty 0.001 · Σ |w| in L",
    )
    assert explain(spec_of((4, "tanh"), (3, "identity"))).notes == ()


# --- layer by layer ----------------------------------------------------------------------------------------


def test_every_layer_of_the_check_is_derived_from_the_output_down():
    explanation = explain(spec_of(*DEEP))
    assert [(each.layer, each.above) for each in explanation.layers] == [
        ("output", ""),
        ("hidden2", "output"),
        ("hidden1", "hidden2"),
    ]
    assert [each.factors[0].formula for each in explanation.layers] == [
        "c · 2 (a − y)",
        "δ w of output",
        "δ w of hidden2",
    ]
    assert explanation.verdict is Verdict.AGREES


def test_what_is_not_checked_is_not_derived():
    explanation = explain(spec_of(*DEEP, check={"parameters": "hidden1.bias"}))
    (derivation,) = explanation.layers
    assert derivation.layer == "hidden1"
    assert [factor.symbol for factor in derivation.factors] == [each for each in SYMBOLS if each != "∂L/∂w"]


@pytest.mark.parametrize("layer", ["output", "hidden2", "hidden1"])
def test_a_single_layer_can_be_requested(layer):
    (derivation,) = explain(spec_of(*DEEP, check={"parameters": "hidden1.bias"}), layer).layers
    assert derivation.layer == layer
    assert [factor.symbol for factor in derivation.factors] == SYMBOLS


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no layer 'hiden1'"):
        explain(spec_of(*DEEP), "hiden1")


@pytest.mark.parametrize("layer", ["hidden2", "hidden1", "output"])
@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_a_layer_that_is_wrong_is_named_with_its_factor_and_no_other(layer, parameter, tmp_path):
    spec = spec_of(*DEEP)
    wrong = 1.001 * right_gradients(build_problem(spec))[f"{layer}.{parameter}"]
    explanation = explain(given(spec, tmp_path, **{f"{layer}.{parameter}": wrong}))
    verdicts = {factor.comparison.name: factor.verdict for factor in explanation.factors}
    assert [key for key, each in verdicts.items() if each is Verdict.WRONG] == [f"{layer}.{parameter}"]
    assert explanation.exit_code == 1
    symbol = "∂L/∂w = δᵀ a⁽ʰ⁾" if parameter == "weight" else "∂L/∂b = Σₙ δₙ"
    said = explained(explanation)
    assert said.startswith(f"wrong: {symbol} of layer {layer} is wrong; at [")
    assert f"put {layer}.dL_da" in said


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_batch_normalisation_has_its_factors_and_they_agree(activation):
    layers = [{"units": 4, "activation": activation, "batch_norm": True}, {"units": 3, "batch_norm": True}]
    explanation = explain(spec_of(*layers, samples=9))
    assert [[factor.symbol for factor in each.factors] for each in explanation.layers] == [NORMALISED] * 2
    assert all(factor.verdict is not Verdict.WRONG for factor in explanation.factors)
