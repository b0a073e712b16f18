"""The upstream gradient that backward starts from, with its random weights and its memory layout.

An upstream of ones hides the mistake of a backward that ignores its upstream. A contiguous upstream hides the
mistake of a backward that assumes contiguous memory. So the loss is weighted at random, and backward also
runs with its upstream in other layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck_cli.code.drawn import drawn
from gradcheck_cli.types import Array

Tensor = Any
Node = Any
"""Stands for torch.autograd.graph.Node, a step of backward, because torch is imported only if needed."""

Layout = Callable[[Tensor], Tensor]
"""A function that returns a tensor with the same entries, possibly in another memory layout."""

# --- how the loss is weighted -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """The weights that turn the author's loss into the loss to check.

    The loss to check is a weighted sum of the author's loss terms and, possibly, of the outputs.

    terms: one weight per loss term. A loss with a different number of terms is left unweighted.
    outputs: one weight per output, or None if the outputs are not added to the loss.
    factor: a factor that multiplies the whole loss.
    """

    terms: Array
    outputs: Tensor | None = None
    factor: float = 1.0

    def weigh(self, output: Any, terms: Tensor) -> Tensor:
        """Return the S terms of the weighted loss, (S,).

        output: the module's output.
        terms: the terms of the author's loss, (S,).
        """
        if len(self.terms) != len(terms) or not terms.is_floating_point():
            return terms
        if (self.terms != 1.0).any():
            terms = terms * terms.new_tensor(self.terms)
        if self.outputs is not None:
            weighted = output * self.outputs.to(output.device, output.dtype)
            terms = terms + weighted.reshape(len(terms), -1).sum(dim=1)
        return terms if self.factor == 1.0 else terms * self.factor

    def multiplied(self, factors: Array) -> Weights:
        """Return the weights of the loss in which each of the S terms is multiplied by its factor.

        factors: one factor for each term, (S,).
        """
        outputs = self.outputs
        if outputs is not None:
            shape = (len(factors), *[1] * (outputs.ndim - 1)) if len(factors) > 1 else ()
            outputs = outputs * outputs.new_tensor(factors).reshape(shape)
        return replace(self, terms=self.terms * factors, outputs=outputs)

    def redrawn(self) -> Weights | None:
        """Return other weights, drawn at random with both signs; None if the loss has a single term."""
        if len(self.terms) < 2:
            return None
        return replace(self, terms=self.terms * drawn(self.terms.shape, np.random.default_rng(1)))

    def plus(self, other: Weights) -> Weights:
        """Return the weights of the sum of two losses whose outputs have the same weights."""
        outputs = None if self.outputs is None else 2.0 * self.outputs
        return replace(self, terms=self.terms + other.terms, outputs=outputs)

    @property
    def told(self) -> Iterator[str]:
        """Sentences that describe how the weighted loss differs from the author's."""
        if (self.terms != 1.0).any():
            yield f"The {len(self.terms)} loss terms are weighted at random."
        if self.outputs is not None:
            yield "The loss has the same gradient for every output, so the outputs are weighted at random."
        if self.factor != 1.0:
            yield f"The loss is multiplied by {self.factor:g}."


AS_IT_IS = Weights(np.ones(0))
"""Weights that leave the author's loss unchanged, regardless of its number of terms."""


def plain_weights(terms: int) -> Weights:
    """Return weights of 1 for this many loss terms. They leave the author's loss unchanged."""
    return Weights(np.ones(terms))


def random_weights(terms: int, upstream: Tensor | None) -> Weights:
    """Return random weights for the loss terms and, if the upstream is uniform, also for the outputs.

    The weights have few binary digits, so every floating-point type represents them exactly.

    terms: the number of loss terms.
    upstream: the gradient of the loss with respect to the output, or None if it is unknown.
    """
    rng = np.random.default_rng(0)
    of_terms = _drawn(rng, terms) if terms > 1 else np.ones(1)
    if upstream is None or not _is_uniform(upstream) or not _has_rows(upstream, terms):
        return Weights(of_terms)
    factors = upstream.new_tensor(_drawn(rng, upstream.numel())).reshape(upstream.shape)
    return Weights(of_terms, upstream * (factors - 1.0))


def _drawn(rng: np.random.Generator, count: int) -> Array:
    """Draw `count` weights out of 97 numbers between ½ and 2. Repeat a number only if `count` exceeds 97."""
    grid = np.arange(32, 129) / 64.0
    return rng.choice(grid, count, replace=count > len(grid))


def _is_uniform(upstream: Tensor) -> bool:
    return bool(upstream.numel() > 1 and upstream.any() and (upstream == upstream.reshape(-1)[0]).all())


def _has_rows(upstream: Tensor, terms: int) -> bool:
    return terms == 1 or (upstream.ndim > 0 and len(upstream) == terms)


# --- how it lies in memory ---------------------------------------------------------------------------------


def as_it_comes(upstream: Tensor) -> Tensor:
    """Return the upstream unchanged, in the memory layout that torch chose for it."""
    return upstream


def contiguous(upstream: Tensor) -> Tensor:
    """Return a copy that is stored row by row, without gaps."""
    return upstream.clone().contiguous()


def strided(upstream: Tensor) -> Tensor:
    """Return a copy stored column by column, with gaps between the elements, like a slice of a transpose."""
    turned = tuple(reversed(range(upstream.ndim)))
    columns = upstream.permute(turned)
    pairs = upstream.new_empty((*columns.shape, 2))
    pairs[..., 0], pairs[..., 1] = columns, -1.0 - columns
    return pairs[..., 0].permute(turned)


@dataclass(frozen=True)
class Upstream:
    """The upstream gradient that backward starts from. `str()` says what is unusual about it.

    weights: the weights in the loss, which determine the upstream.
    layout: a function that changes the memory layout of the gradients that nodes outside torch receive.
    """

    weights: Weights
    layout: Layout = as_it_comes

    def lay_out(self, nodes: Sequence[Node]) -> None:
        """Make these backward nodes receive their upstream gradients in this memory layout."""
        if self.layout is as_it_comes:
            return
        for node in nodes:
            node.register_prehook(lambda grads: tuple(map(self._laid_out, grads)))

    def _laid_out(self, grad: Tensor | None) -> Tensor | None:
        return grad if grad is None or "strided" not in str(grad.layout) else self.layout(grad)

    def times(self, factor: float) -> Upstream:
        """Return the upstream that results if the loss is multiplied by `factor`."""
        return replace(self, weights=replace(self.weights, factor=factor * self.weights.factor))

    def redrawn(self) -> Upstream | None:
        """Return an upstream with other random weights; None if the loss has a single term."""
        weights = self.weights.redrawn()
        return None if weights is None else replace(self, weights=weights)

    def plus(self, other: Upstream) -> Upstream:
        """Return the sum of two upstreams that have the same memory layout."""
        return replace(self, weights=self.weights.plus(other.weights))

    def __str__(self) -> str:
        told = list(self.weights.told)
        if told:
            told.append("The gradients shown are those of that loss.")
        if self.layout is not as_it_comes:
            told.append("Backward receives its upstream gradient in another memory layout.")
        return " ".join(told)


def own_nodes(torch: Any, terms: Tensor) -> list[Node]:
    """Return the backward nodes that do not belong to torch, but to autograd functions in Python or C++.

    terms: the loss terms, from which to follow the graph back.
    """
    autograd = torch.autograd.function.BackwardCFunction
    return [node for node in _nodes(terms) if isinstance(node, autograd) or "CppNode" in node.name()]


def leaf_tensors(terms: Tensor) -> list[Tensor]:
    """Return the leaf tensors that require a gradient and that the loss terms depend on."""
    return [node.variable for node in _nodes(terms) if hasattr(node, "variable")]


def _nodes(terms: Tensor) -> Iterator[Node]:
    """Yield every node of the backward graph once, following the graph back from the loss terms."""
    seen: set[Node] = set()
    left = [terms.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        left += [below for below, _ in node.next_functions]
