"""Planted mistakes that only the gradient of x shows."""

from __future__ import annotations

import pytest

from gradcheck_cli.mutate.mutate import (
    INPUTS_LEFT_OUT,
    by_kind,
    mutate,
)
from gradcheck_cli.mutate.plant import plants
from gradcheck_cli.spec.spec import Spec


def of_layers(inputs: object, *layers: object) -> Spec:
    """A spec whose check covers ∂L/∂x, with the loss Σ c · out."""
    network = {"inputs": inputs, "layers": layers, "loss": {"name": "dot", "reduction": "sum"}}
    return Spec.model_validate(
        {
            "network": network,
            "parameters": {"init": "normal", "scale": 0.5, "seed": 1, "bias": "same"},
            "data": {"synthetic": "normal", "samples": 4, "seed": 2},
            "check": {"inputs": True},
        }
    )


LAYERS_WITH_INPUTS = {
    "delta before the activation": of_layers(3, {"units": 3, "activation": "tanh"}),
    "average not divided in backward": of_layers(
        [1, 6, 6], {"avg_pool2d": 2}, {"conv2d": 2, "kernel": 2}, "flatten"
    ),
    "layer norm: mean term missing": of_layers([2, 5], "layer_norm"),
}
"""Networks by a mistake that only ∂L/∂x shows."""


def only(monkeypatch, kind: str) -> None:
    """Plant mistakes of one kind, and the mistakes in the finished gradient of x."""
    monkeypatch.setattr(
        "gradcheck_cli.mutate.mutate.plants",
        lambda problem: (
            each for each in plants(problem) if each.where == "input" or each.wrong.kind == kind
        ),
    )


@pytest.mark.parametrize("kind", LAYERS_WITH_INPUTS)
def test_mistakes_in_the_gradient_of_x_are_caught_and_named(kind, monkeypatch):
    only(monkeypatch, kind)
    found = mutate(LAYERS_WITH_INPUTS[kind])
    assert found.named == found.caught == len(found.visible) > 5
    kinds = by_kind(found.mutants)
    assert all(m.visible for m in kinds[kind])
    assert {"transposed gradient", "gradient zero"} <= kinds.keys()


@pytest.mark.parametrize("kind", LAYERS_WITH_INPUTS)
def test_mistakes_in_the_gradient_of_x_need_a_check_of_x(kind, monkeypatch):
    only(monkeypatch, kind)
    of = LAYERS_WITH_INPUTS[kind]
    unchecked = of.check.model_copy(update={"inputs": False})
    found = mutate(of.model_copy(update={"check": unchecked}))
    assert {m.shown_by for m in found.mutants if not m.visible} <= {INPUTS_LEFT_OUT}
    assert {m.kind for m in found.mutants} <= {kind}


def test_a_forgotten_eps_needs_a_larger_eps(monkeypatch):
    of = of_layers([2, 5], "layer_norm")
    only(monkeypatch, "layer norm: eps outside the root")
    (hidden,) = (m for m in mutate(of).mutants if m.kind == "layer norm: eps outside the root")
    assert hidden.shown_by == "a larger eps, or values that differ less"
