"""Networks that are graphs, wrong gradients for them, and the diagnoses of these gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from diagnose.networks import readable, right

from gradcheck_cli.comparison import compare
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.graph import diagnose_graph
from gradcheck_cli.diagnose.rows import matrix
from gradcheck_cli.diagnose.variant import Visit, pass_through
from gradcheck_cli.network.activations import ACTIVATIONS
from gradcheck_cli.network.graph import Graph, Node
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.numerical.estimate import Estimate
from gradcheck_cli.problem.problem import Problem, build_problem
from gradcheck_cli.spec.spec import Spec

Array = np.ndarray


def layer_nodes(name: str, *units: int, value: int, shared: str = "") -> list[Node]:
    names = {own: f"{shared or name}.{own}" for own in ("weight", "bias")}
    tanh = Pointwise(ACTIVATIONS["tanh"])
    return [Node(Dense(*units), name, (value,), names), Node(tanh, name, (value + 1,), {})]


def residual_network(seed: int = 2, shared: bool = False) -> Problem:
    """Return a network: x → first, second and third with a skip connection around both, then the output.

    shared: whether the third layer uses the parameters of the second.
    """
    spec = {
        "network": {
            "inputs": 4,
            "layers": [
                {"units": 5, "activation": "tanh", "name": name} for name in ("first", "second", "third")
            ]
            + [{"units": 3, "name": "last"}],
            "loss": {"name": "mse", "reduction": "batchmean"},
        },
        "parameters": {"init": "xavier", "seed": seed, "bias": "same"},
        "data": {"synthetic": "normal", "samples": 7, "seed": seed},
    }
    plain = build_problem(Spec.model_validate(spec))
    third = layer_nodes("third", 5, 5, value=4, shared="second" if shared else "")
    names = {own: f"last.{own}" for own in ("weight", "bias")}
    nodes = [*layer_nodes("first", 4, 5, value=0), *layer_nodes("second", 5, 5, value=2), *third]
    nodes += [Node(Add(), "third", (2, 6), {}), Node(Dense(5, 3), "last", (7,), names)]
    p = {name: value for name, value in plain.parameters.items() if not (shared and name.startswith("third"))}
    network = plain.network
    graph = Graph(tuple(nodes), network.features)
    return replace(plain, network=replace(network, graph=graph), parameters=p)


def why_drawn(
    of: Problem, found: Mapping[str, Array], exact: Mapping[str, Array], **options: Any
) -> Diagnosis:
    """Return the diagnosis of a graph's gradients. The right gradients are an argument."""
    comparisons = [
        compare(name, value, Estimate(exact[name], 1e-12 * np.abs(exact[name])), bounds(exact[name]), 1e-7)
        for name, value in found.items()
    ]
    return readable(diagnose_graph(of, exact, comparisons, **options))


def bounds(right: Array) -> Array:
    return np.full(right.shape, 1e-14 * np.abs(right).max())


def swept(of: Problem, wrong: Callable[[Visit], Any]) -> dict[str, Array]:
    """Return the gradients of a backward pass that calls this function in place of every `vjp`."""
    network, at = of.network, pass_through(of, {name: matrix(value) for name, value in right(of).items()})
    upstream = {len(at.values) - 1: network.coefficient * network.loss.gradient(at.values[-1], of.target)}
    gradients, arrived = dict[str, Array](), dict[int, Array]()
    for i in reversed(range(len(network.graph.nodes))):
        visit = Visit(at, i, upstream[i + 1], arrived)
        shares, own = wrong(visit)
        arrived = {**arrived, i: upstream[i + 1]}
        for k, share in zip(visit.node.inputs, shares, strict=True):
            upstream[k] = upstream[k] + share if k in upstream else share
        for name, value in own.items():
            full = visit.node.names[name]
            gradients[full] = gradients[full] + value if full in gradients else value
    return gradients
