"""Build the graph of a network from its spec, and refuse impossible networks before allocating memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradcheck_cli.arrays.shapes import listed
from gradcheck_cli.errors import Complaint, InputError, Location, bad_input
from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.graph import INPUT, Graph, Node
from gradcheck_cli.network.losses import LOSSES
from gradcheck_cli.network.network import Network
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.problem.fixed import read_fixed
from gradcheck_cli.spec.model import MAX_NUMBERS
from gradcheck_cli.spec.network import NetworkSpec

FLOAT64 = np.dtype(np.float64)


def graph_of(spec: NetworkSpec, dtype: np.dtype[np.floating] = FLOAT64) -> Graph:
    """Return the graph of the network, with the nodes of all layers.

    dtype: the type of the network's numbers.

    Raises an `InputError` that points at the first layer that does not fit its input, or at the list of
    layers if no layer has parameters.
    """
    arrays = read_fixed(spec, dtype)
    builder = Builder(spec.features, spec.names, float(np.finfo(dtype).eps), arrays)
    try:
        builder.through(spec.layers, INPUT)
    except UnfitError as error:
        raise bad_input(str(error), "network", "layers", *error.place, help=error.help) from None
    graph = builder.graph()
    if not graph.shapes:
        message = "there is nothing to check: no layer has parameters"
        raise bad_input(message, "network", "layers", help="add a dense layer, {units: N}")
    return graph


def refuse_impossible(spec: NetworkSpec, network: Network) -> None:
    """Raise an `InputError` that lists every error in the network that does not depend on the data.

    Such errors are ambiguous names, too many parameters, and outputs that do not fit the loss or its class
    weights.
    """
    complaints = [*_ambiguous_names(spec), *_too_large(network.graph)]
    outputs = network.outputs[-1]
    for key, weights in (("weight", spec.loss.weight), ("pos_weight", spec.loss.pos_weight)):
        if isinstance(weights, tuple) and len(weights) != outputs:
            named = "class weights" if key == "weight" else "weights of positive targets"
            message = f"there are {len(weights)} {named}, but {outputs} outputs"
            complaints.append(Complaint(message, ("network", "loss", key)))
    vectors = LOSSES[spec.loss.name].vectors
    if vectors and outputs % len(vectors):
        message = (
            f"{spec.loss.name} splits the outputs into {listed(vectors)} of equal width, "
            f"which is impossible for {outputs} outputs"
        )
        help = f"the number of units in the last layer must be a multiple of {len(vectors)}"
        complaints.append(Complaint(message, size_of(network.graph.nodes[-1]), help))
    if complaints:
        raise InputError(*complaints)


def _ambiguous_names(spec: NetworkSpec) -> Iterator[Complaint]:
    seen = set()
    for place, name in spec.names.items():
        if name in seen:
            yield Complaint(f"two layers are named '{name}'", ("network", "layers", *place, "name"))
        seen.add(name)


def _too_large(graph: Graph) -> Iterator[Complaint]:
    total = 0
    for name, uses in graph.uses.items():
        shape = graph.shapes[name]
        total += math.prod(shape)
        if total > MAX_NUMBERS:
            size = " × ".join(f"{number:,}" for number in shape)
            message = f"a weight of {size} brings the parameters over the limit of {MAX_NUMBERS:,} numbers"
            yield Complaint(message, size_of(graph.nodes[uses[0][0]]))
            return


def size_of(node: Node) -> Location:
    """Return the place in the spec that sets the size of the node's layer."""
    return ("network", "layers", *node.place)


def widest_nodes(graph: Graph) -> dict[str, int]:
    """Return, for every layer, the index of the node in it with the largest output.

    The keys are the names of the layers, in order from the input to the output.
    """
    widest: dict[str, int] = {}
    for i, node in enumerate(graph.nodes):
        there = widest.get(node.layer)
        if there is None or size_after(graph, i) > size_after(graph, there):
            widest[node.layer] = i
    return widest


def size_after(graph: Graph, i: int) -> int:
    """Return the number of elements in the output of node i for one sample."""
    return math.prod(graph.value_features[i + 1])


def refuse_too_many(graph: Graph, samples: int) -> None:
    """Raise an `InputError` if the activations of all layers for this many samples would be too large."""
    total = 0
    for i in widest_nodes(graph).values():
        numbers = size_after(graph, i)
        total += samples * numbers
        if total > MAX_NUMBERS:
            message = (
                f"{samples:,} samples of {numbers:,} units bring the activations over the limit of "
                f"{MAX_NUMBERS:,} numbers"
            )
            raise bad_input(message, *size_of(graph.nodes[i]), help="check a smaller batch")


def refuse_too_few(graph: Graph, samples: int) -> None:
    """Raise an `InputError` if a layer would need the unbiased variance of a single number."""
    for i, node in enumerate(graph.nodes):
        step = node.step
        if isinstance(step, Normalise) and step.unbiased:
            features = graph.value_features[i]
            if step.count((samples, *features)) == 1:
                message = "a single number has no unbiased variance"
                place = ("network", "layers", *node.place[:-1], "batch_norm", "unbiased")
                raise bad_input(message, *place, help="check more samples, or leave 'unbiased' out")
