"""The upstream that the backward function of a layer receives: the weights c in the loss L = Σ c · out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck_cli.code.drawn import SENTENCE, drawn
from gradcheck_cli.code.layer import Form, in_the_type_of
from gradcheck_cli.code.returned import plain, type_of
from gradcheck_cli.types import Array, Shape

Layout = Callable[[Array], Array]
"""A function that returns an array with the same entries, possibly in another memory layout."""


@dataclass(frozen=True)
class Upstream:
    """The gradient of the loss with respect to each output. `str()` says what is unusual about it.

    weights: one array per output.
    told: a sentence that says how the weights differ from the first draw; empty if they do not differ.
    layout: a function that changes the memory layout of the arrays that backward receives.
    """

    weights: tuple[Array, ...]
    told: str = ""
    layout: Layout = np.ascontiguousarray

    def given_to(self, outputs: Sequence[Any]) -> list[Any]:
        """Return the upstream of each output, in that output's dtype, as a fresh copy."""
        return [
            in_the_type_of(
                out, self.layout(np.array(c, (out if type(out) is np.ndarray else plain(out)).dtype))
            )
            if np.ndim(c)
            else _number(c, out)
            for c, out in zip(self.weights, outputs, strict=True)
        ]

    def times(self, factor: float) -> Upstream:
        """Return this upstream multiplied by `factor`."""
        return replace(
            self, weights=tuple(factor * c for c in self.weights), told=f"c is multiplied by {factor:g}."
        )

    def plus(self, other: Upstream) -> Upstream:
        """Return the sum of two upstreams."""
        both = zip(self.weights, other.weights, strict=True)
        return replace(self, weights=tuple(c + d for c, d in both), told="c is the sum of two random draws.")

    def __str__(self) -> str:
        layout = (
            "" if self.layout is np.ascontiguousarray else "Backward receives c in another memory layout."
        )
        return " ".join(filter(None, [SENTENCE, self.told, layout]))


def _number(c: Array, out: Any) -> Any:
    return in_the_type_of(out, np.array(c, dtype=plain(out).dtype)) if hasattr(out, "dtype") else float(c)


def drawn_for(outputs: Sequence[Any], form: Form) -> tuple[Array, ...]:
    """Return random weights for these outputs, rounded to types of forward's own if it has such types."""
    weights = weights_of([plain(out).shape for out in outputs], 0)
    if form is not in_the_type_of:
        return weights
    return tuple(c.astype(type_of(out)).astype(np.float64) for c, out in zip(weights, outputs, strict=True))


def weights_of(shapes: Sequence[Shape], seed: int) -> tuple[Array, ...]:
    """Return random weights, one array for each of these shapes."""
    rng = np.random.default_rng(seed)
    return tuple(drawn(shape, rng) for shape in shapes)


def strided(array: Array) -> Array:
    """Return a copy stored column by column, with gaps between the elements, like a slice of a transpose."""
    pairs = np.empty((*array.T.shape, 2), dtype=array.dtype)
    pairs[..., 0], pairs[..., 1] = array.T, -1.0 - array.T
    return pairs[..., 0].T
