"""Build the graph of a network from its layers, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gradcheck_cli.network.graph import INPUT, Graph, Node
from gradcheck_cli.network.step import Step, UnfitError
from gradcheck_cli.network.steps.given import Given
from gradcheck_cli.types import Array, Shape

Place = tuple[str | int, ...]
"""The path to a layer in the spec's list of layers.

The path ends with the layer's index. If the layer is inside another layer, the outer layer's index and key
come first.
"""


class Item(Protocol):
    """A layer as a spec describes it. It can build its own nodes."""

    @property
    def kind(self) -> str:
        """The spec's key for this kind of layer, such as `conv2d`."""

    def build(self, builder: Builder, value: int) -> int:
        """Add the layer's nodes to the builder, and return the index of the layer's output.

        value: the index of the layer's input.
        """


@dataclass
class Builder:
    """Collects the nodes of a graph in order of evaluation.

    features_of_x: the shape of one sample of x.
    names: the name of each layer, by its place.
    epsilon: the machine epsilon of the type in which the network computes.
    arrays: the arrays in the spec's layers. The key of each array is the place of its layer, followed by the
        keys of the array within that layer.
    place, kind: the place and the kind of the layer that is being built.
    nodes: the nodes that have been added.
    shapes: the shape of one sample of x, followed by the shape of one sample of each node's output.
    """

    features_of_x: Shape
    names: Mapping[Place, str]
    epsilon: float = 2.0**-52
    arrays: Mapping[Place, Array] = field(default_factory=dict)
    place: Place = ()
    kind: str = ""
    nodes: list[Node] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shapes.append(self.features_of_x)

    @property
    def layer(self) -> str:
        return self.names[self.place]

    def features(self, value: int) -> Shape:
        """Return the shape of one sample of the value with index `value`."""
        return self.shapes[value]

    def array(self, *key: str) -> Array | None:
        """Return the array under `key` in the layer that is being built; None if there is no such array."""
        return self.arrays.get((*self.place, *key))

    def given(self, array: Array, key: str) -> int:
        """Add the array under `key` in the layer as a value of the graph, and return the value's index.

        The array has one row for each sample.
        """
        return self.add(Given(array, key))

    @property
    def parameters(self) -> dict[str, Shape]:
        """The shape of every parameter of the nodes added so far, by name."""
        return {name: node.step.shapes[own] for node in self.nodes for own, name in node.names.items()}

    def add(
        self,
        step: Step,
        *inputs: int,
        layer: str | None = None,
        names: Mapping[str, str] | None = None,
        symbol: str = "",
    ) -> int:
        """Add a step that takes the values with the indices `inputs`, and return the index of its output.

        layer: the name of the layer that the step belongs to; by default, the layer that is being built.
        names: maps each parameter's name in the step to its name in the network, which is `layer.name` by
            default.
        symbol: the symbol of the output in a derivation, if the layer has many steps.
        """
        layer = self.layer if layer is None else layer
        names = {own: f"{layer}.{own}" for own in step.shapes} if names is None else names
        self.nodes.append(Node(step, layer, inputs, names, (*self.place, self.kind), symbol))
        self.shapes.append(step.out(*(self.shapes[value] for value in inputs)))
        return len(self.nodes)

    def through(self, items: Sequence[Item], value: int, *key: str) -> int:
        """Build layers one by one, each on top of the previous one, and return the index of the last output.

        value: the index of the first layer's input.
        key: for layers inside the layer that is being built, the key under which that layer lists the inner
            layers.

        Raises an `UnfitError` with the place of the first layer that does not fit its input.
        """
        outer = self.place, self.kind
        for i, item in enumerate(items):
            self.place, self.kind = (*outer[0], *key, i), item.kind
            try:
                value = item.build(self, value)
            except UnfitError as error:
                error.place = error.place or (*self.place, *((error.key,) if error.key else ()))
                raise
        self.place, self.kind = outer
        return value

    def is_image(self, value: int) -> bool:
        """Return whether the value with index `value` holds images [channels, height, width]."""
        while value != INPUT:
            node = self.nodes[value - 1]
            kept = node.step.keeps_axes and self.shapes[node.inputs[0]] == self.shapes[value]
            if node.step.makes_images or not kept:
                return node.step.makes_images
            value = node.inputs[0]
        return len(self.features_of_x) == 3

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes), self.features_of_x)
