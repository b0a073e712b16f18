"""Write both passes of every kind of layer, with the same formulas as `gradcheck explain`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from gradcheck_cli.explain.symbols import Writer
from gradcheck_cli.network.graph import Graph
from gradcheck_cli.problem.layers import graph_of
from gradcheck_cli.spec.network import NetworkSpec


class Example(NamedTuple):
    """A layer as a spec writes it, and the shape of one sample of its input."""

    layer: Any
    inputs: list[int]


IMAGE, STEPS = [2, 4, 4], [3, 4]

EXAMPLES = (
    Example({"units": 3, "activation": "tanh"}, [4]),
    Example({"units": 3, "batch_norm": True, "activation": "tanh"}, [4]),
    Example({"units": 3, "weight_norm": True, "activation": "tanh"}, [4]),
    Example({"maxout": 3, "pieces": 2}, [4]),
    Example({"conv1d": 3, "kernel": 2, "activation": "tanh"}, STEPS),
    Example({"conv2d": 3, "kernel": 2, "activation": "tanh"}, IMAGE),
    Example({"conv_transpose2d": 3, "kernel": 2, "activation": "tanh"}, IMAGE),
    Example({"max_pool1d": 2}, STEPS),
    Example({"max_pool2d": 2}, IMAGE),
    Example({"adaptive_max_pool1d": 2}, STEPS),
    Example({"adaptive_max_pool2d": 2}, IMAGE),
    Example({"avg_pool1d": 2}, STEPS),
    Example({"avg_pool2d": 2}, IMAGE),
    Example({"adaptive_avg_pool1d": 2}, STEPS),
    Example({"adaptive_avg_pool2d": 2}, IMAGE),
    Example("layer_norm", [4]),
    Example("rms_norm", [4]),
    Example({"group_norm": 2}, IMAGE),
    Example("instance_norm", IMAGE),
    Example("prelu", [4]),
    Example({"dropout": 0.5}, [4]),
    Example("softmax", [4]),
    Example("log_softmax", [4]),
    Example("flatten", IMAGE),
    Example({"reshape": [-1]}, IMAGE),
    Example({"permute": [1, 0]}, STEPS),
    Example("mean", STEPS),
    Example({"select": -1}, STEPS),
    Example({"rnn": 2}, STEPS),
    Example({"lstm": 2}, STEPS),
    Example({"gru": 2}, STEPS),
    Example({"attention": 1}, STEPS),
    Example("rotary", STEPS),
    Example({"swiglu": 3}, [4]),
    Example({"geglu": 3}, [4]),
    Example({"embedding": 5, "embedding_dim": 3}, [4]),
    Example("positional_embedding", STEPS),
    Example({"residual": [{"units": 4}]}, [4]),
)
"""An example of each kind of layer, in the order of the page."""


def page(*kinds: str) -> str:
    """Return the formulas of each kind of layer, and the names and shapes of its parameters.

    Neighbouring examples with the same formulas share a heading.
    """
    chosen = [example for example in EXAMPLES if _key(example) in kinds]
    groups = groupby(chosen, key=lambda example: (_options(example), _formulas(example)))
    return "\n\n".join(_section(options, formulas, list(alike)) for (options, formulas), alike in groups)


def graph(example: Example) -> Graph:
    """Return a network in which a dense layer follows the example."""
    layers = [example.layer, "flatten", {"units": 2}]
    described = {"inputs": example.inputs, "layers": layers, "loss": "mse"}
    return graph_of(NetworkSpec.model_validate(described))


def _section(options: str, formulas: str, examples: list[Example]) -> str:
    names = ", ".join(f"`{_key(example)}`" for example in examples)
    parameters = "\n\n".join(filter(None, map(_parameters, examples)))
    return f"### {names}{options}\n\n```text\n{formulas}\n```\n\n{parameters}".rstrip()


def _key(example: Example) -> str:
    """Return the spec's key for the kind of layer."""
    return example.layer if isinstance(example.layer, str) else next(iter(example.layer))


def _options(example: Example) -> str:
    given = (option for option in ("batch_norm", "weight_norm") if option in example.layer)
    return "".join(f" with `{option}`" for option in given)


def _writer(example: Example) -> Writer:
    network = graph(example)
    outermost = [node for node in network.nodes if node.place[0] == 0 and len(node.place) == 2]
    return Writer(network, outermost[-1].layer, "")


def _formulas(example: Example) -> str:
    return "\n".join(_lines(_writer(example)))


def _parameters(example: Example) -> str:
    """Return a table of the symbols, names and shapes of the example's parameters; empty without any."""
    writer = _writer(example)
    rows = [
        f"| {writer.parameter(*writer.use(name))} | `{name}` | `{list(writer.graph.shapes[name])}` |"
        for name in _names(writer)
    ]
    layer = json.dumps(example.layer).replace('"', "")
    heading = (
        f"| symbol | parameter of `{layer}` | shape if a sample is `{example.inputs}` |\n|---|---|---|\n"
    )
    return heading + "\n".join(rows) if rows else ""


def _names(writer: Writer) -> list[str]:
    """Return the names of the layer's parameters in the network."""
    return list(dict.fromkeys(name for i in writer.nodes for name in writer.graph.nodes[i].names.values()))


def _lines(writer: Writer) -> Iterator[str]:
    """Yield the definitions of a layer, an empty line, and ∂L/∂v for each value but the output."""
    shown = list(writer.shown())
    for i in shown:
        where = "" if writer.is_composed else writer.graph.nodes[i].step.formulas.where
        yield f"{writer.value(i + 1)} = {writer.forward(i)}      {where}".rstrip()
    yield ""
    inside = [i + 1 for i in reversed(shown) if i != writer.last]
    inputs = [value for value in writer.inputs if writer.readers(value)]
    yield from (f"{writer.gradient(value)} = {writer.formula(value)}" for value in inside)
    for name in _names(writer):
        yield f"∂L/∂{writer.parameter(*writer.use(name))} = {writer.of_every_use(name)}"
    yield from (f"{writer.gradient(value)} = {writer.formula(value)}" for value in inputs)
