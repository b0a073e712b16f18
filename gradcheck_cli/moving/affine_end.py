"""The affine steps at the end of a network, as one matrix product for each value that enters them.

Pooling, a mean over tokens, residual sums and dense layers are affine. If such steps are the last ones, the
rise of the outputs is the sum of the rises of the values that enter these steps, each multiplied by a matrix
that is known at rest. A matrix is computed with the steps' own forward pass, from one rise of 1 per feature.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.moving.small_products import product
from gradcheck_cli.network.graph import Graph
from gradcheck_cli.network.part import Input, Part, Resting, Risen, alike, shared_index
from gradcheck_cli.network.step import Arrays
from gradcheck_cli.types import Array

_LARGEST = 2**17
"""The largest number of elements in a matrix; larger ones would need more memory than a block of moves."""

_ELEMENT = 16
"""The cost of computing an element of a step's output, in multiplications of a matrix product."""


_FEWEST = 8
"""A group of copies with one position is multiplied alone if the groups have this many copies on average."""


@dataclass(frozen=True)
class AffineEnd:
    """The affine steps at the end of a graph that are cheaper to evaluate as matrix products.

    own: the parameters of each node, under the names that the node's step uses.
    values: the unperturbed values of the graph.
    """

    graph: Graph
    own: Sequence[Arrays]
    values: Sequence[Array]

    @cached_property
    def nodes(self) -> frozenset[int]:
        """The indices of the affine nodes at the end. The set is empty if products would not be cheaper."""
        nodes = self._affine
        while len(nodes) > 1 and not self._is_cheaper(nodes):
            nodes = nodes[1:]
        return frozenset(nodes if len(nodes) > 1 else ())

    @property
    def _affine(self) -> list[int]:
        """The nodes from which only affine nodes lead to the output, in order of evaluation."""
        found: set[int] = set()
        for i in reversed(range(len(self.graph.nodes))):
            if self.graph.nodes[i].step.is_affine and found.issuperset(self.graph.readers[i + 1]):
                found.add(i)
        return sorted(found)

    def _is_cheaper(self, nodes: Sequence[int]) -> bool:
        features = self.graph.value_features
        sizes = [math.prod(features[value]) * self._outputs for value in self._entering(nodes)]
        steps = ((i, self.graph.nodes[i]) for i in nodes)
        cost = sum(
            node.step.multiplications(*(features[k] for k in node.inputs))
            + _ELEMENT * math.prod(features[i + 1])
            for i, node in steps
        )
        return max(sizes) <= _LARGEST and sum(sizes) <= cost

    def _entering(self, nodes: Sequence[int]) -> set[int]:
        """Return the values that the nodes read and do not compute."""
        return {k for i in nodes for k in self.graph.nodes[i].inputs if k - 1 not in nodes}

    @property
    def _outputs(self) -> int:
        return math.prod(self.graph.value_features[-1])

    @cached_property
    def _matrices(self) -> dict[int, Array | None]:
        return {}

    def rise(self, value: int, part: Part) -> Array | None:
        """Return the rise of the outputs, (B, outputs), through the affine end alone.

        Returns None if the value does not enter the affine end, or does not affect the outputs.

        value: the index of the perturbed value.  part: its perturbed part in B copies.
        """
        if self.nodes.isdisjoint(self.graph.readers[value]):
            return None
        if value not in self._matrices:
            matrix = self._matrix(value)
            self._matrices[value] = _without_copies(matrix) if matrix.any() else None
        matrix_or_none = self._matrices[value]
        return None if matrix_or_none is None else _times(part, matrix_or_none)

    def _matrix(self, value: int) -> Array:
        """Return the rises of the outputs after a rise of 1 in each feature, (*features, outputs)."""
        features = self.graph.value_features[value]
        size = math.prod(features)
        matrix = np.zeros((size, self._outputs))
        block = max(1, _LARGEST // max(math.prod(self.graph.value_features[i + 1]) for i in self.nodes))
        for start in range(0, size, block):
            rows = np.eye(min(block, size - start), size, start).reshape(-1, *features)
            for part in self._outputs_of(value, rows):
                matrix[start : start + block] = part.whole_rise.reshape(len(rows), -1)
        return matrix.reshape(*features, -1)

    def _outputs_of(self, value: int, rise: Array) -> Iterator[Part]:
        """Yield the part of the outputs that changes after a rise of a whole value, if any changes."""
        samples = np.zeros(len(rise), dtype=np.intp)
        resting = [Resting(each, samples) for each in self.values]
        parts: dict[int, Part] = {value: Risen(resting[value], resting[value].all, rise)}
        for i in sorted(self.nodes):
            node = self.graph.nodes[i]
            if parts.keys().isdisjoint(node.inputs):
                continue
            inputs: list[Input] = [parts.get(k, resting[k]) for k in node.inputs]
            part = node.step.part(self.own[i], inputs, resting[i + 1])
            if part is not None:
                parts[i + 1] = part
        if len(self.values) - 1 in parts:
            yield parts[len(self.values) - 1]


def _without_copies(matrix: Array) -> Array:
    """Return the matrix, (*features, outputs), with one row along each axis on which it does not depend."""
    for axis in range(matrix.ndim - 1):
        first = matrix.take([0], axis)
        matrix = first if (matrix == first).all() else matrix
    return matrix


def _times(part: Part, matrix: Array) -> Array:
    """Return the products of the changes of B copies with a matrix, (B, outputs).

    matrix: the matrix, (*features, outputs), without copies.
    """
    same = tuple(axis for axis, size in enumerate(matrix.shape[:-1]) if size == 1)
    kept = tuple(index for axis, index in enumerate(part.fixed) if axis not in same)
    rows = matrix.squeeze(same)
    if not part.free:
        return rows[kept] * part.rise[:, None]
    groups = alike(kept, len(part.held))
    if len(groups) > max(1, len(part.held) // _FEWEST):
        return _times(part.freed(set(range(len(part.fixed))).difference(same)), matrix)
    rise = _summed(part, same)
    products = [
        product(rise[group], rows[shared_index(kept, group)].reshape(rise.shape[1], -1)) for group in groups
    ]
    return products[0] if len(products) == 1 else np.concatenate(products)


def _summed(part: Part, axes: Collection[int]) -> Array:
    """Return the changes of B copies, (B, elements), summed over those of the axes that are free."""
    left = [0, *(part.along(axis) for axis in part.free if axis not in axes)]
    rise = part.rise
    summed = rise if len(left) == rise.ndim else np.einsum(rise, list(range(rise.ndim)), left)
    return summed.reshape(len(rise), -1)
