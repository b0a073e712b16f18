"""If a spec describes another graph than the author's network, the difference is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from diagnose.networks import kinds, why

from gradcheck_cli.network.graph import Graph
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec


def network(unbiased: bool = False, causal: bool = False) -> Problem:
    layers = [
        {"attention": 1, "causal": causal},
        "flatten",
        {"units": 3, "activation": "tanh", "batch_norm": {"unbiased": unbiased}},
        {"units": 2},
    ]
    spec = {
        "network": {"inputs": [3, 2], "layers": layers, "loss": "mse"},
        "parameters": {"init": "xavier", "seed": 1, "bias": "same"},
        "data": {"synthetic": "normal", "samples": 5, "seed": 1},
    }
    return build_problem(Spec.model_validate(spec))


def right(of: Problem) -> dict[str, np.ndarray]:
    return gradients(of.network, of.parameters, of.x, of.target)


def test_another_variance_is_named():
    found = why(network(unbiased=True), right(network()))
    assert kinds(found)[0] == ("another network",)
    assert "divides the variance by N; the spec says unbiased: true" in found.answers[0].causes[0].sentence
    assert kinds(why(network(), right(network(unbiased=True))))[0] == ("another network",)


def test_a_mask_that_only_the_spec_has_is_named():
    found = why(network(causal=True), right(network()))
    assert kinds(found)[0] == ("another network",)
    assert found.answers[0].causes[0].where == ("attention1",)


def test_a_causal_mask_that_is_shifted_by_one_is_named():
    of = network(causal=True)
    nodes = [
        replace(node, step=Softmax(np.tri(3, k=1, dtype=bool))) if isinstance(node.step, Softmax) else node
        for node in of.network.graph.nodes
    ]
    graph = Graph(tuple(nodes), of.network.graph.features)
    found = why(of, right(replace(of, network=replace(of.network, graph=graph))))
    assert kinds(found)[0] == ("another network",)
    assert "shifted by one" in found.answers[0].causes[0].sentence
