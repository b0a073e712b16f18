"""The search solves for unknowns and finds pairs of mistakes; it does not guess."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diagnose.networks import NETWORKS, compared, kinds, noise, problem, right, why
from mistakes import Backprop

from gradcheck_cli.diagnose import diagnose
from gradcheck_cli.diagnose.site import penalty_terms
from gradcheck_cli.network.functions import sigmoid

SIGMOID = NETWORKS["sigmoid"]


def test_the_learning_rate_is_solved_for():
    for rate in (1e-3, 0.37, 5.0):
        wrong = Backprop(below=lambda d, w, layer, g, rate=rate: d @ (w - rate * g[layer.weight]))(SIGMOID)
        (cause,) = why(SIGMOID, wrong).answers[0].causes
        assert cause.kind == "weights updated first"
        assert cause.value == pytest.approx(rate, rel=1e-6)
        assert cause.where == ("output", "hidden3", "hidden2")
        assert f"{rate:g}" in cause.sentence


def test_weights_updated_first_are_named_without_their_own_gradient():
    wrong = Backprop(below=lambda d, w, layer, g: d @ (w - 0.37 * g[layer.weight]))(SIGMOID)
    below = {name: gradient for name, gradient in wrong.items() if not name.startswith("output")}
    (cause,) = why(SIGMOID, below).answers[0].causes
    assert (cause.kind, cause.where) == ("weights updated first", ("output", "hidden3", "hidden2"))
    assert cause.value == pytest.approx(0.37, rel=1e-6)


def test_the_slope_of_a_leaky_relu_is_solved_for():
    of = problem("tanh", {"name": "leaky_relu", "negative_slope": 0.1}, "identity")

    def vjp(layer, y, dL_da, i):
        return dL_da * np.where(y > 0, 1, 0.23) if i == 1 else layer.activation.vjp(y, dL_da)

    (cause,) = why(of, Backprop(vjp=vjp)(of)).answers[0].causes
    assert (cause.kind, cause.where) == ("activation option", ("hidden2",))
    assert cause.value == pytest.approx(0.23)


def test_the_threshold_of_a_huber_loss_is_solved_for():
    of = NETWORKS["relu, huber"]
    wrong = Backprop(loss_gradient=lambda p, a: np.clip(a - p.target, -0.71, 0.71))(of)
    (cause,) = why(of, wrong).answers[0].causes
    assert cause.kind == "huber threshold"
    assert cause.value == pytest.approx(0.71)


def test_different_label_smoothing_is_solved_for():
    of = problem("tanh", "identity", loss={"name": "cross_entropy", "label_smoothing": 0.1})
    plain = of.plain_target
    target = 0.7 * plain + 0.3 / plain.shape[1]
    wrong = Backprop(loss_gradient=lambda p, a: p.network.loss.gradient(a, target))(of)
    (cause,) = why(of, wrong).answers[0].causes
    assert cause.kind == "label smoothing"
    assert cause.value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("factor", "kind"),
    [(11.0, "missing 1/N"), (1 / 11, "1/N twice"), (-1.0, "sign"), (7.0, "accumulated"), (1.37, "factor")],
)
def test_a_factor_is_called_by_its_name(factor, kind):
    found = why(SIGMOID, {name: factor * value for name, value in right(SIGMOID).items()})
    assert kinds(found)[0] == (kind,)
    assert found.answers[0].causes[0].value == pytest.approx(factor)


def test_a_mean_over_outputs_only_in_the_loss_is_named():
    of = problem("sigmoid", "sigmoid", reduction="mean", outputs=7)
    (cause,) = why(of, {name: 7 * value for name, value in right(of).items()}).answers[0].causes
    assert cause.kind == "missing 1/C"
    assert cause.sentence == "The loss averages over the 7 outputs, but the gradient does not."


def test_a_clipping_norm_is_named():
    exact = right(SIGMOID)
    norm = np.sqrt(sum(np.square(value).sum() for value in exact.values()))
    found = why(SIGMOID, {name: 0.1 / norm * value for name, value in exact.items()})
    assert kinds(found)[0] == ("clipped by norm",)


def test_a_round_norm_of_one_tensor_is_no_clipping_of_all():
    exact = right(SIGMOID)
    factor = 0.1 / np.linalg.norm(exact["output.bias"])
    (answer,) = why(SIGMOID, {name: factor * value for name, value in exact.items()}).answers
    assert [cause.kind for cause in answer.causes] == ["factor"]


def test_tensors_clipped_individually_are_one_mistake():
    exact = right(SIGMOID)
    clipped = {name: 0.001 / np.linalg.norm(value) * value for name, value in exact.items()}
    (cause,) = why(SIGMOID, clipped).answers[0].causes
    assert cause.kind == "clipped by norm"
    assert "hidden1.bias is scaled to a norm of 0.001" in cause.sentence


def test_a_mean_in_a_bias_only_is_named_as_the_biass():
    found = right(SIGMOID) | {"hidden2.bias": right(SIGMOID)["hidden2.bias"] / 11}
    assert kinds(why(SIGMOID, found)) == [("bias averaged",)]


def test_a_mean_over_another_batch_is_named_before_its_factor():
    for other, formula in ((32, "1/32 Σₙ"), (10, "1/(N − 1) Σₙ")):
        found = why(SIGMOID, {name: 11 / other * value for name, value in right(SIGMOID).items()})
        (cause,) = found.answers[0].causes
        assert cause.sentence == f"The gradient is divided by {other}, but there are 11 samples."
        assert cause.wrong == formula


def test_the_samples_that_count_are_solved_for():
    of = problem("sigmoid", "tanh", samples=20, units=9)
    some = np.isin(np.arange(20), (2, 3, 7, 11, 19))[:, None]
    wrong = Backprop(loss_gradient=lambda p, a: some * p.network.loss.gradient(a, p.target))(of)
    (cause,) = why(of, wrong).answers[0].causes
    assert cause.kind == "batch subset"
    assert "samples 2, 3, 7, 11 and 19" in cause.sentence


def test_a_mistake_in_one_unit_is_named_with_its_unit():
    def vjp(layer, y, dL_da, i):
        delta = layer.activation.vjp(y, dL_da)
        if i == 1:
            delta[:, 2] = dL_da[:, 2]
        return delta

    (cause,) = why(SIGMOID, Backprop(vjp=vjp)(SIGMOID)).answers[0].causes
    assert cause.kind == "activation derivative missing"
    assert cause.sentence.startswith("In unit 2 of layer hidden2, ")


def test_two_mistakes_at_once_are_both_named():
    wrong = Backprop(
        vjp=lambda layer, y, dL_da, i: dL_da if i == 2 else layer.activation.vjp(y, dL_da),
        bias=lambda delta, i: delta.mean(axis=0),
    )(SIGMOID)
    assert set(kinds(why(SIGMOID, wrong))[0]) == {"activation derivative missing", "bias averaged"}


def test_one_mistake_in_every_layer_is_one():
    wrong = Backprop(bias=lambda delta, i: delta[-1])(SIGMOID)
    (cause,) = why(SIGMOID, wrong).answers[0].causes
    assert cause.kind == "bias not summed"
    assert "every layer" in cause.sentence


def test_numbers_that_are_not_finite_are_named_next_to_other_mistakes():
    wrong = {name: 2.0 * value for name, value in right(SIGMOID).items()}
    wrong["hidden1.weight"][0, 0] = np.nan
    assert kinds(why(SIGMOID, wrong))[0] == ("overflow", "factor 2")
    only = right(SIGMOID)
    only["output.bias"][1] = np.inf
    assert kinds(why(SIGMOID, only)) == [("overflow",)]


def test_with_one_layer_checked_what_hands_down_to_it_is_found():
    wrong = Backprop(below=lambda d, w, layer, g: d @ w.T if w.shape[0] == w.shape[1] else d @ w)(SIGMOID)
    found = why(SIGMOID, {name: wrong[name] for name in ("hidden1.weight", "hidden1.bias")})
    assert ("transposed weights",) in kinds(found)


# --- what is not known -------------------------------------------------------------------------------------


def test_the_layer_is_named_without_a_guess():
    def vjp(layer, y, dL_da, i):
        return dL_da * np.cos(y) if i == 1 else layer.activation.vjp(y, dL_da)

    found = why(SIGMOID, Backprop(vjp=vjp)(SIGMOID))
    assert found.answers == ()
    assert found.layers == ("hidden2",)
    assert found.tried > 1000
    assert "Layers output and hidden3 are right" in found.observations[0]


def test_a_mistake_in_one_tensor_only_is_reported():
    wrong = right(SIGMOID)
    wrong["hidden2.weight"] = noise(wrong["hidden2.weight"])
    found = why(SIGMOID, wrong)
    assert found.answers == ()
    assert "hidden2.weight alone" in found.observations[0]


def test_errors_only_below_zero_are_reported():
    of = problem("tanh", "tanh", samples=5, units=9)

    def vjp(layer, y, dL_da, i):
        right = layer.activation.vjp(y, dL_da)
        return np.where(y < 0, right * np.cos(3 * y), right) if i == 0 else right

    found = why(of, Backprop(vjp=vjp)(of))
    assert found.answers == ()
    assert "δ of layer hidden1 is wrong only where z < 0." in found.observations


def test_wrong_samples_are_reported():
    of = problem("tanh", "tanh", samples=5, units=9)

    def vjp(layer, y, dL_da, i):
        right = layer.activation.vjp(y, dL_da)
        right[3] *= np.cos(y[3])
        return right

    found = why(of, Backprop(vjp=vjp)(of))
    assert found.answers == ()
    assert any("only in sample 3 of 5" in each for each in found.observations)


def test_wrong_rows_are_reported():
    wrong = right(SIGMOID)
    for name in ("hidden1.weight", "hidden1.bias"):
        wrong[name][1:4] = noise(wrong[name][1:4])
    found = why(SIGMOID, wrong)
    assert found.answers == ()
    assert any("rows 1, 2 and 3 of 5" in each for each in found.observations)


def test_a_kind_that_is_withheld_is_not_named():
    wrong = Backprop(vjp=lambda layer, y, dL_da, i: dL_da)(SIGMOID)
    assert kinds(why(SIGMOID, wrong))[0] == ("activation derivative missing",)
    found = why(SIGMOID, wrong, without=frozenset({"activation derivative missing"}))
    assert "activation derivative missing" not in {kind for each in kinds(found) for kind in each}


def test_a_right_gradient_has_no_cause():
    found = why(SIGMOID, right(SIGMOID))
    assert (found.answers, found.observations, found.layers) == ((), (), ())


def test_another_loss_than_the_networks_is_not_diagnosed_by_the_network():
    """The code's loss may differ from the network's; then only the arrays count."""
    of = replace(SIGMOID, target=1.0 - SIGMOID.target)
    wrong = {name: 3.0 * value for name, value in right(of).items()}
    found = diagnose(compared(of, wrong), SIGMOID, is_its_loss=False)
    assert found.basis == "another network"
    assert kinds(found)[0] == ("accumulated",)


def test_float32_gradients_are_diagnosed_by_their_own_precision():
    wrong = Backprop(vjp=lambda layer, y, dL_da, i: dL_da * sigmoid(y))(SIGMOID)
    narrow = {name: value.astype(np.float32) for name, value in wrong.items()}
    found = diagnose(compared(SIGMOID, narrow, np.float32), SIGMOID)
    assert kinds(found)[0][0] in ("slip in the activation's formula", "another activation's derivative")


# --- what reviews have found -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_noise_in_a_narrow_type_is_not_mistaken_for_rounding(dtype):
    rng = np.random.default_rng(0)
    noisy = {name: rng.normal(size=value.shape).astype(dtype) for name, value in right(SIGMOID).items()}
    assert diagnose(compared(SIGMOID, noisy, dtype), SIGMOID).answers == ()
    wide = {name: value.astype(np.float64) for name, value in noisy.items()}
    assert why(SIGMOID, wide).answers == ()


def test_rounding_to_float16_is_named():
    rounded = {name: value.astype(np.float16).astype(float) for name, value in right(SIGMOID).items()}
    assert kinds(why(SIGMOID, rounded)) == [("float16",)]


def test_a_sign_lost_on_the_way_down_names_no_layer_that_is_right():
    (answer,) = why(SIGMOID, Backprop(below=lambda d, w, layer, g: -(d @ w))(SIGMOID)).answers
    (cause,) = answer.causes
    assert cause.where == ("hidden3", "hidden1")  # lost twice, it is right again in hidden2
    assert cause.sentence == (
        "The gradient of hidden3.weight, hidden3.bias, hidden1.weight and hidden1.bias has the wrong sign."
    )


def test_formulas_that_overflow_explain_nothing_and_break_nothing():
    of = problem("softplus", "identity", samples=4)
    of = replace(of, parameters={name: 500.0 * value for name, value in of.parameters.items()})
    wrong = right(of)
    wrong["hidden1.weight"] = noise(wrong["hidden1.weight"])
    assert why(of, wrong).layers == ("hidden1",)


def test_two_variants_of_one_kind_are_named_with_their_places():
    def bias(delta, i):
        return delta[0] if i % 2 else delta[-1]

    (cause,) = why(SIGMOID, Backprop(bias=bias)(SIGMOID)).answers[0].causes
    assert "layers output and hidden2, the bias's gradient is δ of the first sample" in cause.sentence
    assert "layers hidden3 and hidden1, the bias's gradient is δ of the last sample" in cause.sentence


# --- causes that need more than a row ----------------------------------------------------------------------


def test_a_derivative_that_is_hard_coded_by_a_is_one_mistake_in_every_layer():
    """Sigmoid's a (1 − a) is used in a tanh layer and in the layer below a linear output."""
    of = problem("tanh", "identity")

    def vjp(layer, y, dL_da, i):
        a = layer.activation.value(y)
        return dL_da * a * (1.0 - a)

    everywhere = Backprop(vjp=vjp)(of)
    (cause,) = why(of, everywhere).answers[0].causes
    assert (cause.kind, cause.where) == ("another activation's derivative", ("output", "hidden1"))
    assert "every layer, the derivative is a (1 − a), that of sigmoid" in cause.sentence
    output = {**right(of), **{name: everywhere[name] for name in everywhere if name.startswith("output.")}}
    assert "a (1 − a)" in why(of, output).answers[0].causes[0].sentence


def test_weight_decay_that_the_spec_lacks_is_solved_for():
    wrong = right(SIGMOID)
    for name in (layer.weight for layer in SIGMOID.network.layers):
        wrong[name] = wrong[name] + 0.03 * SIGMOID.parameters[name]
    (cause,) = why(SIGMOID, wrong).answers[0].causes
    assert cause.kind == "penalty that the spec lacks"
    assert cause.value == pytest.approx(0.03)
    assert "weight decay" in cause.sentence


@pytest.mark.parametrize("eps", [1e-3, 4e-4, 1e-8])
def test_another_eps_of_batch_norm_is_solved_for(eps):
    of = NETWORKS["batch norm"]

    def norm_vjp(at, g):
        deviation = np.sqrt(at.deviation**2 - of.network.layers[0].batch_norm + eps)
        return at.vjp(g) * at.deviation / deviation

    (cause,) = why(of, Backprop(norm_vjp=norm_vjp)(of)).answers[0].causes
    assert cause.kind == "batch norm: another eps"
    assert cause.value == pytest.approx(eps, rel=1e-4)


def test_the_offset_of_a_flat_spot_is_solved_for():
    wrong = Backprop(vjp=lambda layer, y, dL_da, i: layer.activation.vjp(y, dL_da) + 0.1 * dL_da)(SIGMOID)
    (cause,) = why(SIGMOID, wrong).answers[0].causes
    assert cause.kind == "flat spot added"
    assert cause.value == pytest.approx(0.1)


def test_the_share_of_an_elastic_net_is_solved_for():
    of = NETWORKS["tanh, cross-entropy"]
    total = sum(of.network.penalties.values())
    wrong = right(of)
    for name in (layer.weight for layer in of.network.layers):
        w, terms = of.parameters[name], penalty_terms(of, name)
        wrong[name] = wrong[name] - sum(terms.values()) + total * (0.3 * np.sign(w) + 0.7 * w)
    (cause,) = why(of, wrong).answers[0].causes
    assert cause.kind == "elastic net mixed up"
    assert cause.value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("printed", "kind"),
    [
        (lambda g: np.round(g, 4), "few decimals"),
        (lambda g: np.vectorize(lambda entry: float(f"{entry:.3g}"))(g), "few digits"),
    ],
)
def test_a_gradient_rounded_as_printed_is_named(printed, kind):
    wrong = {name: printed(value) for name, value in right(SIGMOID).items()}
    assert kinds(why(SIGMOID, wrong))[0] == (kind,)


def test_other_numbers_are_not_called_rounded():
    wrong = {name: np.round(value, 3) + 0.001 for name, value in right(SIGMOID).items()}
    assert not {"few decimals", "few digits"} & {kind for each in kinds(why(SIGMOID, wrong)) for kind in each}
