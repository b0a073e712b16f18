"""Helpers for the layers of a spec that consist of several steps."""

from __future__ import annotations

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.step import UnfitError


def nodes_of(builder: Builder) -> Nodes:
    """Return the `Nodes` of the layer that is being built. Their parameters are named after the layer."""
    return Nodes(builder.add, f"{builder.layer}.")


def sequence_of(builder: Builder, value: int, kind: str, axes: str) -> tuple[int, int]:
    """Return the shape of a sample. Raises an `UnfitError` if a sample does not have two axes.

    axes: the names of the axes for the error, such as [steps, features].
    """
    features = builder.features(value)
    if len(features) == 2:
        return features[0], features[1]
    message = f"this layer needs samples of shape {axes}, but gets samples of shape {list(features)}"
    raise UnfitError(message, kind, f"write inputs: {axes}, or put an embedding before this layer")


def refuse_images(builder: Builder, value: int, key: str = "") -> None:
    """Raise an `UnfitError` if a layer that works over the last axis gets an image as its input."""
    if builder.is_image(value):
        image = " × ".join(str(size) for size in builder.features(value))
        raise UnfitError(f"this layer gets samples of {image} numbers", key, "put 'flatten' before it")
