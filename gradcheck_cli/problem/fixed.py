"""Read the arrays that a spec gives to its layers, such as masks, and fit them to the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gradcheck_cli.errors import Gathered, Location, bad_input
from gradcheck_cli.network.builder import Place
from gradcheck_cli.network.graph import Graph, Node
from gradcheck_cli.network.steps.given import Given
from gradcheck_cli.spec.layers import in_order
from gradcheck_cli.spec.layers.fixed import ArrayInFile, Fixed
from gradcheck_cli.spec.network import NetworkSpec
from gradcheck_cli.types import Array

LAYERS: Location = ("network", "layers")


def read_fixed(spec: NetworkSpec, dtype: np.dtype[np.floating]) -> Mapping[Place, Array]:
    """Return the arrays in the spec's layers, by the place of each array among the layers.

    Raises an `InputError` that lists every array that cannot be read.

    dtype: the type of the network's numbers. The arrays are rounded to this type.
    """
    arrays, found = dict[Place, Array](), Gathered()
    for place, layer in in_order(spec.layers):
        for key, source in layer.fixed.items():
            with found:
                read = read_added if key[-1] in layer.added else read_one
                array = read(source, key[-1], (*LAYERS, *place, *key))
                arrays[*place, *key] = array.astype(dtype).astype(np.float64)
    found.raise_any()
    return arrays


def read_one(source: Fixed, name: str, where: Location) -> Array:
    """Return one array that the spec gives inline or in a file.

    Raises an `InputError` if the array cannot be read, or if its numbers are not finite.

    name: the array's name in the file, unless the spec sets another name.
    """
    name, array = _read(source, name, where)
    if not array.size or not np.isfinite(array).all():
        raise bad_input(f"array '{name}' must hold at least one number, and only finite numbers", *where)
    return array


def read_added(source: Fixed, name: str, where: Location) -> Array:
    """Return a mask that is added to numbers. True becomes −∞, and false becomes 0.

    Raises an `InputError` if the mask cannot be read, or if it holds NaN or +∞.
    """
    name, array = _read(source, name, where)
    added = np.where(array, -np.inf, 0.0) if array.dtype == bool else array
    if not added.size or not (added < np.inf).all():
        raise bad_input(f"array '{name}' must hold at least one number, and neither NaN nor +inf", *where)
    return added


def _read(source: Fixed, name: str, where: Location) -> tuple[str, Array]:
    """Return the name of an array, which the spec may set, and the array."""
    if isinstance(source, ArrayInFile):
        from gradcheck_cli.arrays.one_array import read_one_array  # only a spec that names a file needs it

        name, at = source.array or name, (*where, "array") if source.array else (*where, "file")
        array = read_one_array(source.file, name, (*where, "file"), at)
    else:
        array = _from_lists(source, where)
    if not array.ndim:
        raise bad_input(f"array '{name}' is a single number; a list of numbers is needed", *where)
    return name, array


def _from_lists(rows: object, where: Location) -> Array:
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        raise bad_input("the rows have different lengths", *where) from None


def for_batch(graph: Graph, first: int, samples: int) -> Graph:
    """Return the graph for one batch. Arrays with one row per sample keep only the rows of the batch.

    Raises an `InputError` that lists every array that does not fit the batch.

    first: the index of the batch's first sample in the data.
    """
    found, nodes = Gathered(), list[Node]()
    for node in graph.nodes:
        with found:
            nodes.append(_for_batch(node, first, samples))
    found.raise_any()
    return replace(graph, nodes=tuple(nodes))


def _for_batch(node: Node, first: int, samples: int) -> Node:
    if not isinstance(node.step, Given):
        return node
    step = node.step.for_batch(first, samples)
    if step is None:
        message = f"{node.step.key} has rows for {len(node.step.value)} samples; the batch has {samples}"
        where = (*LAYERS, *node.place[:-1], node.step.key)
        raise bad_input(message, *where, help="give a row for each sample of the batch or of the data file")
    return replace(node, step=step)
