"""The upstream gradient that backward starts from: the weights in the loss, and the layout in memory.

An upstream of ones hides a backward that ignores it, and a contiguous one hides a backward that assumes
contiguous memory. So the loss is weighted at random, and backward also runs with its upstream in other
layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck_cli.types import Array

Tensor = Any
Node = Any
"""A step of backward: a torch.autograd.graph.Node."""

Layout = Callable[[Tensor], Tensor]
"""A function that returns the same numbers, possibly in another memory layout."""

# --- how the loss is weighted -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """The weights in the loss that is checked, a weighted sum of the author's loss terms and of the outputs.

    terms: one weight per loss term; a loss with another number of terms is left unweighted.
    outputs: one weight per output, or None if the outputs are not added.
    factor: multiplies the whole loss.
    """

    terms: Array
    outputs: Tensor | None = None
    factor: float = 1.0

    def weigh(self, output: Any, terms: Tensor) -> Tensor:
        """Return the S terms of the weighted loss."""
        if len(self.terms) != len(terms) or not terms.is_floating_point():
            return terms
        if (self.terms != 1.0).any():
            terms = terms * terms.new_tensor(self.terms)
        if self.outputs is not None:
            weighted = output * self.outputs.to(output.device, output.dtype)
            terms = terms + weighted.reshape(len(terms), -1).sum(dim=1)
        return terms if self.factor == 1.0 else terms * self.factor

    @property
    def told(self) -> Iterator[str]:
        """One sentence for each way in which the weighted loss differs from its author's."""
        if (self.terms != 1.0).any():
            yield f"The {len(self.terms)} loss terms are weighted at random."
        if self.outputs is not None:
            yield "The loss has the same upstream for every output, so the outputs are weighted at random."
        if self.factor != 1.0:
            yield f"The loss is multiplied by {self.factor:g}."


AS_IT_IS = Weights(np.ones(0))
"""The author's loss, with any number of terms."""


def plain_weights(terms: int) -> Weights:
    """Return the weights of the author's loss."""
    return Weights(np.ones(terms))


def random_weights(terms: int, upstream: Tensor | None) -> Weights:
    """Return random weights for the terms and, if the upstream is the same for all outputs, for the outputs.

    upstream: the gradient of the loss with respect to the output, if it is known. The weights have few binary
    digits, so they are the same numbers in every floating-point type.
    """
    rng = np.random.default_rng(0)
    of_terms = _drawn(rng, terms) if terms > 1 else np.ones(1)
    if upstream is None or not _is_uniform(upstream) or not _has_rows(upstream, terms):
        return Weights(of_terms)
    drawn = upstream.new_tensor(_drawn(rng, upstream.numel())).reshape(upstream.shape)
    return Weights(of_terms, upstream * (drawn - 1.0))


def _drawn(rng: np.random.Generator, count: int) -> Array:
    """Draw weights between ½ and 2, all different as long as there are enough distinct ones."""
    grid = np.arange(32, 129) / 64.0
    return rng.choice(grid, count, replace=count > len(grid))


def _is_uniform(upstream: Tensor) -> bool:
    return bool(upstream.numel() > 1 and upstream.any() and (upstream == upstream.reshape(-1)[0]).all())


def _has_rows(upstream: Tensor, terms: int) -> bool:
    return terms == 1 or (upstream.ndim > 0 and len(upstream) == terms)


# --- how it lies in memory ---------------------------------------------------------------------------------


def as_it_comes(upstream: Tensor) -> Tensor:
    """Return the upstream as it is, in the layout that the steps above chose."""
    return upstream


def contiguous(upstream: Tensor) -> Tensor:
    """Return a copy in which the numbers lie row by row in fresh memory."""
    return upstream.clone().contiguous()


def strided(upstream: Tensor) -> Tensor:
    """Return a copy with numbers column by column and gaps between them, like a slice of a transpose."""
    turned = tuple(reversed(range(upstream.ndim)))
    columns = upstream.permute(turned)
    pairs = upstream.new_empty((*columns.shape, 2))
    pairs[..., 0], pairs[..., 1] = columns, -1.0 - columns
    return pairs[..., 0].permute(turned)


@dataclass(frozen=True)
class Upstream:
    """The upstream gradient that backward starts from. Its text says what is unusual about it."""

    weights: Weights
    layout: Layout = as_it_comes

    def lay_out(self, nodes: Sequence[Node]) -> None:
        """Make the given steps of backward receive their upstream in the layout `self.layout`."""
        if self.layout is as_it_comes:
            return
        for node in nodes:
            node.register_prehook(lambda grads: tuple(map(self._laid_out, grads)))

    def _laid_out(self, grad: Tensor | None) -> Tensor | None:
        return grad if grad is None or "strided" not in str(grad.layout) else self.layout(grad)

    def times(self, factor: float) -> Upstream:
        """Return the upstream of the same loss multiplied by a factor."""
        return replace(self, weights=replace(self.weights, factor=factor * self.weights.factor))

    def __str__(self) -> str:
        told = list(self.weights.told)
        if told:
            told.append("The gradients shown are those of that loss.")
        if self.layout is not as_it_comes:
            told.append("Backward is handed its upstream in another memory layout.")
        return " ".join(told)


def own_nodes(torch: Any, terms: Tensor) -> list[Node]:
    """Return the steps of backward that are not part of torch: autograd functions in Python or C++."""
    seen: set[Node] = set()
    left, own = [terms.grad_fn], []
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction) or "CppNode" in node.name():
            own.append(node)
        left += [below for below, _ in node.next_functions]
    return own
