"""`explain` derives every kind of layer: each factor agrees, and a wrong step shows in its layer."""

from __future__ import annotations

import json
from functools import cache

import pytest
from build import spec_of
from layer_kinds import KINDS as DRAWN
from rich.cells import cell_len

from gradcheck_cli.explain.explain import explain
from gradcheck_cli.formats.explanation import json as json_format
from gradcheck_cli.formats.explanation import markdown, table
from gradcheck_cli.formats.view import View
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.problem.problem import build_problem
from gradcheck_cli.spec.layers import KINDS, in_order
from gradcheck_cli.verdict import Verdict
from tests.network.step_kinds import Draw

DENSE = {"units": 3, "activation": "tanh"}

OTHERS = {
    "units": ([DENSE, {"units": 4, "activation": "silu"}, {"units": 2}], [4]),
    "conv2d": ([{"conv2d": 2, "kernel": 2, "padding": 1, "activation": "tanh"}, "flatten", DENSE], [2, 3, 3]),
    "conv2d in groups": ([{"conv2d": 2, "kernel": 2, "groups": 2}, "flatten", DENSE], [2, 3, 3]),
    "max_pool2d": ([{"conv2d": 2, "kernel": 1}, {"max_pool2d": 2}, "flatten", DENSE], [1, 4, 4]),
    "flatten": ([{"conv2d": 2, "kernel": 1}, "flatten", DENSE], [1, 2, 2]),
    "batch_norm": ([DENSE, {"units": 4, "batch_norm": True, "activation": "relu"}, DENSE], [3]),
    "embedding": ([{"embedding": 5, "embedding_dim": 3, "padding_idx": 1}, "flatten", DENSE], [4]),
    "residual": ([DENSE, {"residual": ["layer_norm", {"units": 3}]}, DENSE], [4]),
    "rnn": ([DENSE, {"rnn": 2, "num_layers": 2}, DENSE], [3, 2]),
    "lstm": ([DENSE, {"lstm": 2}, DENSE], [3, 2]),
    "lstm in both directions": ([DENSE, {"lstm": 2, "bidirectional": True}, DENSE], [2, 2]),
    "gru": ([DENSE, {"gru": 2}, DENSE], [3, 2]),
    "attention": ([{"units": 4}, {"attention": 2, "causal": True}, DENSE], [3, 2]),
    "attention with shared keys": ([{"units": 4}, {"attention": 2, "kv_heads": 1}, DENSE], [3, 2]),
    "swiglu": ([DENSE, {"swiglu": 2, "bias": False}, DENSE], [3]),
    "geglu": ([DENSE, {"geglu": 2}, DENSE], [2, 3]),
}
"""A network for each kind of layer that `layer_kinds` does not draw."""

NAMES = [*DRAWN, *OTHERS]


def spec(name, **rest):
    if name in DRAWN:
        return DRAWN[name](Draw(3)).spec(3, **rest)
    layers, inputs = OTHERS[name]
    return spec_of(*layers, inputs=inputs, loss="cross_entropy", samples=4, seed=2, **rest)


def layer_of(described, name):
    """Return the name of the layer that the example is about."""
    key = name.split(" ")[0].rstrip(",")
    for place, layer in in_order(described.network.layers):
        if layer.kind == key or (key in ("batch_norm", "weight_norm") and getattr(layer, key, None)):
            return described.network.names[place]
    raise AssertionError(f"no layer of the kind {key}")


def test_there_is_an_example_of_every_kind():
    kinds = {layer.kind for name in NAMES for _, layer in in_order(spec(name).network.layers)}
    assert kinds == set(KINDS), "add a network to OTHERS, or a row to layer_kinds"


@pytest.mark.parametrize("name", NAMES)
def test_every_factor_of_every_kind_agrees(name):
    described = spec(name)
    layer = layer_of(described, name)
    explanation = explain(described, layer)
    derivation = explanation.layers[0]
    assert derivation.layer == layer
    assert all(factor.verdict is Verdict.AGREES for factor in explanation.factors)
    assert all(each.formula for each in (*derivation.definitions, *derivation.chain, *derivation.factors))
    gradients = {factor.comparison.name for factor in derivation.factors if factor.is_gradient}
    own = {name for name in build_problem(described).network.shapes if name.startswith(f"{layer}.")}
    assert own <= gradients
    assert len(gradients) > len(own) or layer == "embedding1"  # tokens have no gradient
    assert_the_entry_is_worked_out(derivation)
    assert_every_rendering_shows_it(explanation, derivation)


def assert_the_entry_is_worked_out(derivation):
    (worked,) = derivation.worked
    assert worked.total == pytest.approx(worked.numerical, rel=1e-5)
    if worked.count <= len(worked.terms):
        assert sum(g * local for g, local in worked.terms) == pytest.approx(worked.total, rel=1e-4)


def assert_every_rendering_shows_it(explanation, derivation):
    for width in (80, 120):
        lines = table.render(explanation, View(width=width), "net.yaml").splitlines()
        assert max(map(cell_len, lines)) <= width
        assert f"The gradients of layer '{derivation.layer}', by the chain rule:" in lines
    table.render(explanation, View(ascii=True), "net.yaml").encode("ascii")
    in_markdown = markdown.render(explanation, View(), "net.yaml")
    for factor in derivation.factors:
        assert factor.symbol in in_markdown
    (shown, *_) = json.loads(json_format.render(explanation, View(), "net.yaml"))["layers"]
    assert [factor["symbol"] for factor in shown["factors"]] == [f.symbol for f in derivation.factors]
    assert shown["worked"][0]["total"] == derivation.worked[0].total


@cache
def kinds_of_steps():
    """Return, for each kind of step that hands a gradient down, the first network whose layer has it."""
    found = {}
    for name in NAMES:
        layer = layer_of(spec(name), name)
        for node in build_problem(spec(name)).network.graph.nodes:
            if node.layer == layer and not node.step.tokens and node.step.formulas.input(0).product != "0":
                found.setdefault(type(node.step), name)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_step_shows_in_the_factors_of_its_layer(name, monkeypatch):
    described = spec(name)
    layer = layer_of(described, name)
    for kind in (kind for kind, where in kinds_of_steps().items() if where == name):
        with monkeypatch.context() as planted:
            planted.setattr(kind, "vjp", doubled(kind.vjp))
            factors = explain(described, layer).layers[0].factors
        wrong = {factor.symbol for factor in factors if factor.verdict is Verdict.WRONG}
        assert any(symbol.startswith(("∂L/", "δ")) for symbol in wrong), kind
        # The local factor of an activation is its derivative, and a step that only moves numbers has none.
        has_none = kind is Pointwise or getattr(kind.formulas, "moves", False)
        assert has_none or any(not symbol.startswith(("∂L/", "δ")) for symbol in wrong), kind


def doubled(vjp):
    """Return a vjp that hands down twice the gradient."""

    def wrong(self, p, inputs, output, upstream):
        handed, own = vjp(self, p, inputs, output, upstream)
        return tuple(2.0 * share for share in handed), own

    return wrong


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_the_first_factor(loss):
    explanation = explain(spec_of((3, "tanh"), (2, "identity"), loss=loss), "output")
    first = explanation.layers[0].factors[0]
    assert first.formula == f"c · {LOSSES[loss].formula}"
    assert first.verdict is Verdict.AGREES
