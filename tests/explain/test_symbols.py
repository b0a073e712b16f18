"""The symbols and formulas of derivations: symbolic backprop gives the formulas of a textbook."""

from __future__ import annotations

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of

from gradcheck_cli import InputError
from gradcheck_cli.explain.explain import explain
from gradcheck_cli.explain.symbols import Writer
from gradcheck_cli.formats.explanation import table
from gradcheck_cli.formats.view import View
from gradcheck_cli.formats.words.derivation import explained
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.verdict import Verdict

DENSE = {"units": 3, "activation": "tanh"}


def formulas(layer, *layers, **rest):
    """Return ∂L/∂v of every value of a layer, and ∂L/∂w of every parameter, as lines of text."""
    graph = problem_of(*layers, **rest).network.graph
    writer = Writer(graph, layer, "c · loss")
    values = [*(i + 1 for i in reversed(list(writer.shown()))), *writer.inputs]
    names = dict.fromkeys(name for i in writer.nodes for name in graph.nodes[i].names.values())
    of_values = [f"{writer.gradient(value)} = {writer.formula(value)}" for value in values]
    return [
        *of_values,
        *(f"∂L/∂{writer.parameter(*writer.use(name))} = {writer.of_every_use(name)}" for name in names),
    ]


def test_an_lstm_has_the_derivation_of_the_textbook():
    assert formulas("lstm1", {"lstm": 4}, {"units": 3}, inputs=[5, 2]) == [
        "∂L/∂out = δ w of output",
        "∂L/∂hₜ = δₜ₊₁ w_hh + ∂L/∂outₜ",
        "∂L/∂cₜ = ∂L/∂hₜ ⊙ oₜ · (1 − tanh(cₜ)²) + ∂L/∂cₜ₊₁ ⊙ fₜ₊₁",
        "∂L/∂gₜ = ∂L/∂cₜ ⊙ iₜ",
        "∂L/∂oₜ = ∂L/∂hₜ ⊙ tanh(cₜ)",
        "∂L/∂fₜ = ∂L/∂cₜ ⊙ cₜ₋₁",
        "∂L/∂iₜ = ∂L/∂cₜ ⊙ gₜ",
        (
            "δₜ = (∂L/∂iₜ · iₜ (1 − iₜ) at [0:4]) + (∂L/∂fₜ · fₜ (1 − fₜ) at [4:8])"
            " + (∂L/∂oₜ · oₜ (1 − oₜ) at [12:16]) + (∂L/∂gₜ · (1 − gₜ²) at [8:12])"
        ),
        "∂L/∂xₜ = δₜ w_ih",
        "∂L/∂x = ∂L/∂xₜ at [t]",
        "∂L/∂w_ih = Σₜ δₜᵀ xₜ",
        "∂L/∂b_ih = Σₜ Σₙ δₜₙ",
        "∂L/∂w_hh = Σₜ δₜᵀ hₜ₋₁",
        "∂L/∂b_hh = Σₜ Σₙ δₜₙ",
    ]


def test_attention_has_the_derivation_of_the_textbook():
    found = formulas("attention1", {"attention": 1}, {"units": 3}, inputs=[3, 4])
    assert found[:7] == [
        "∂L/∂out = δ w of output",
        "∂L/∂o = ∂L/∂out out_proj.w",
        "∂L/∂a = ∂L/∂o vᵀ",
        "∂L/∂s = a ⊙ (∂L/∂a − Σⱼ ∂L/∂aⱼ aⱼ)",
        "∂L/∂v = aᵀ ∂L/∂o",
        "∂L/∂k = 0.5 ∂L/∂sᵀ q",
        "∂L/∂q = 0.5 ∂L/∂s k",
    ]


def test_a_sequence_of_one_step_needs_no_index():
    found = formulas("rnn1", {"rnn": 2}, {"units": 3}, inputs=[1, 2])
    assert "∂L/∂w_ih = δᵀ x" in found


def test_pooling_and_dropout_between_layers_hand_the_gradient_down():
    layers = [{"conv2d": 2, "kernel": 1}, {"max_pool2d": 2}, {"dropout": 0.5}, "flatten", {"units": 3}]
    assert formulas("hidden1", *layers, inputs=[1, 4, 4])[0] == (
        "∂L/∂a = (Σ ∂L/∂out over the windows where x is the largest) of max_pool2d1"
    )
    assert formulas("max_pool2d1", *layers, inputs=[1, 4, 4])[0] == "∂L/∂out = mask ⊙ ∂L/∂out of dropout1"
    assert formulas("dropout1", *layers, inputs=[1, 4, 4])[0] == "∂L/∂out = δ w of output"


def test_a_skip_connection_adds_to_the_gradient():
    layers = [DENSE, {"residual": [{"units": 3, "activation": "tanh"}]}, {"units": 2}]
    assert formulas("hidden1", *layers)[0] == "∂L/∂a = δ w of hidden2 + ∂L/∂out of residual1"
    assert formulas("residual1", *layers)[1] == "∂L/∂x = ∂L/∂out + δ w of hidden2"


def test_a_tied_weight_gets_a_share_from_each_layer():
    layers = [{"embedding": 5, "embedding_dim": 3}, {"units": 5, "weight": "embedding1"}]
    assert (
        "∂L/∂w = δᵀ a⁽ʰ⁾ + (Σ ∂L/∂out over the positions where x is v, in row v) of embedding1"
        in formulas("output", *layers, inputs=[2])
    )


def test_the_activation_after_a_batch_norm_takes_y():
    found = formulas("hidden1", {"units": 3, "batch_norm": True, "activation": "relu"}, {"units": 2})
    assert found[1:4] == [
        "∂L/∂y = ∂L/∂a · ∂a/∂y",
        "∂L/∂ẑ = γ ∂L/∂y",
        "δ = (∂L/∂ẑ − mean ∂L/∂ẑ − ẑ mean(∂L/∂ẑ ẑ)) / √(var z + eps)",
    ]


# --- which layers, and how much of them --------------------------------------------------------------------

BLOCK = [{"residual": ["layer_norm", {"attention": 1}]}, "flatten", {"units": 2}]


def block(**rest):
    return spec_of(*BLOCK, inputs=[3, 4], **rest)


def test_every_layer_is_derived_from_the_output_down():
    names = [each.layer for each in explain(block()).layers]
    assert names == ["output", "flatten1", "residual1", "attention1", "layer_norm1"]


@pytest.mark.parametrize("name", ["attention1", "residual1.attention1"])
def test_a_layer_inside_another_can_be_named_with_or_without_its_path(name):
    assert [each.layer for each in explain(block(), name).layers] == ["attention1"]


def test_a_layer_comes_with_the_layers_inside_it():
    explanation = explain(block(), "residual1")
    assert [each.layer for each in explanation.layers] == ["residual1", "attention1", "layer_norm1"]
    assert explanation.whole == "residual1"


@pytest.mark.parametrize("name", ["atention1", "residual1.atention1", "flatten1.attention1"])
def test_an_unknown_layer_is_refused_with_what_there_is(name):
    with pytest.raises(InputError, match="no layer") as refused:
        explain(block(), name)
    assert "attention1" in str(refused.value.complaints[0].help)


def test_a_layer_without_parameters_is_left_out_if_only_some_are_checked():
    explanation = explain(block(check={"parameters": "output.*"}))
    assert [each.layer for each in explanation.layers] == ["output"]


def test_several_layers_are_shown_in_brief_and_one_is_shown_whole():
    brief = table.render(explain(block()), View(width=80), "net.yaml").splitlines()
    assert "attention1: 5 × 3 × 4 → 5 × 3 × 4" in brief
    assert "L = c Σₙ mse(aₙ, yₙ), with c = 0.2" in brief
    assert brief[-3] == "To see the steps of one layer: --layer output"
    assert not any("∂L/∂s" in line for line in brief)
    whole = table.render(explain(block(), "attention1"), View(width=80), "net.yaml")
    assert "∂L/∂s" in whole
    assert "--layer" not in whole


# --- gradients of the user ---------------------------------------------------------------------------------


def test_a_wrong_gradient_in_a_layer_of_many_steps_is_named_with_what_it_rests_on(tmp_path):
    right = right_gradients(build_problem(block()))
    wrong = {**right, "attention1.in_proj_bias": 1.5 * right["attention1.in_proj_bias"]}
    np.savez(tmp_path / "g.npz", **wrong)
    explanation = explain(block(gradients={"file": tmp_path / "g.npz"}), "attention1")
    assert [f.symbol for f in explanation.factors if f.verdict is Verdict.WRONG] == ["∂L/∂in_proj_b"]
    assert explanation.exit_code == 1
    said = explained(explanation)
    assert said.startswith("wrong: ∂L/∂in_proj_b = Σₙ ∂L/∂qkvₙ is wrong; at [")
    assert said.endswith(
        "The factors above are gradcheck's own, so an earlier step of yours may be wrong, too."
    )
    shown = table.render(explanation, View(), "net.yaml")
    assert "g.npz has" in shown
    assert "from" in shown


def test_a_large_value_is_checked_for_its_first_samples_and_a_note_says_so(monkeypatch):
    assert explain(block()).unusual == ()
    monkeypatch.setattr("gradcheck_cli.explain.numbers.MOST", 24)
    explanation = explain(block(), "attention1")
    assert any("only its first samples are checked" in note for note in explanation.unusual)
    first = explanation.layers[0].factors[0]
    assert first.comparison.shape == (2, 3, 4)
    assert first.verdict is Verdict.AGREES
