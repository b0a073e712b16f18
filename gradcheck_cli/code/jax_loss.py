"""Losses as functions of jax arrays by name: the author's own, Σ c · out, or a projected gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from gradcheck_cli.code.drawn import MOST_TERMS, drawn, groups
from gradcheck_cli.errors import Location, bad_input
from gradcheck_cli.types import Array, Shape

JaxArray = Any
Leaves = Mapping[str, JaxArray]
Terms = Callable[..., JaxArray]
"""A function that takes (arrays by name, x, y) and returns the S terms of a loss, (S,)."""


def imported(where: Location) -> Any:
    """Import jax. Raises an `InputError` that points at `where` if jax is missing."""
    try:
        return import_module("jax")
    except ImportError as error:
        raise bad_input(f"jax cannot be imported: {error}", *where, help="pip install jax") from None


def in_float64(jax: Any) -> AbstractContextManager[Any]:
    """Return a context in which jax computes in float64."""
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else import_module("jax.experimental").enable_x64
    context: AbstractContextManager[Any] = enable(True)
    return context


@dataclass(frozen=True)
class Outputs:
    """A jax function, and the loss L that is made from its outputs.

    function: a function of (arrays by name, x, y).
    weights: the weights c, one array for each output, by the name of the output's upstream. There are none if
        the only output is a real number, which is the loss itself.
    """

    jax: Any
    function: Callable[..., Any]
    weights: Mapping[str, Array]

    def __call__(self, leaves: Leaves, x: Any, y: Any) -> JaxArray:
        """Return the terms of L.

        An array in `leaves` that has the name of an upstream replaces that upstream's weights.
        """
        outs = outputs_of(self.jax, self.function(leaves, x, y))
        if not self.weights:
            return outs[0].reshape(1)
        weights = [leaves.get(name, c) for name, c in self.weights.items()]
        return grouped(self.jax, [c * out for c, out in zip(weights, outs, strict=True)])


def drawn_upstreams(shapes: Sequence[Shape]) -> dict[str, Array]:
    """Draw the weights c of outputs with these shapes, by name.

    A single number is the loss itself and needs no c.
    """
    rng = np.random.default_rng(0)
    names = ["upstream"] if len(shapes) == 1 else [f"upstream.{i}" for i in range(len(shapes))]
    return {} if shapes == [()] else {name: drawn(s, rng) for name, s in zip(names, shapes, strict=True)}


def projected(jax: Any, terms: Terms, directions: Mapping[str, Array]) -> Terms:
    """Return g = ⟨∇L, v⟩ as a function of the arrays that L depends on.

    terms: the terms that add up to L.
    directions: v, as arrays by name. L is differentiated with respect to the arrays of these names.
    """

    def projection(leaves: Leaves, x: Any, y: Any) -> JaxArray:
        others = {name: leaf for name, leaf in leaves.items() if name not in directions}

        def loss(own: Leaves) -> JaxArray:
            return terms({**own, **others}, x, y).sum()

        gradients = jax.grad(loss)({name: leaves[name] for name in directions})
        return grouped(jax, [v * gradients[name] for name, v in directions.items()])

    return projection


def outputs_of(jax: Any, output: Any) -> list[JaxArray]:
    """Return the outputs that can have a gradient, as real arrays, however the function nests them.

    A complex output gets a last axis of two, for its real and its imaginary part.
    """
    numpy = jax.numpy
    arrays = [numpy.asarray(leaf) for leaf in jax.tree_util.tree_leaves(output)]
    return [
        numpy.stack([array.real, array.imag], axis=-1) if array.dtype.kind == "c" else array
        for array in arrays
        if numpy.issubdtype(array.dtype, numpy.inexact)
    ]


def grouped(jax: Any, products: Sequence[JaxArray]) -> JaxArray:
    """Return all entries of these arrays as one vector.

    If there are more than `MOST_TERMS` entries, they are added up in groups.
    """
    flat = jax.numpy.concatenate([product.reshape(-1) for product in products])
    if len(flat) <= MOST_TERMS:
        return flat
    return jax.ops.segment_sum(flat, groups(len(flat)), num_segments=MOST_TERMS)
