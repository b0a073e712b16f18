"""Multi-head self-attention over tokens: softmax(q kᵀ / √d) v in each head, as in torch.

    scores = q kᵀ / √d        a = softmax(scores)        out = a v

`MultiheadAttention` has torch's parameters: one weight computes q, k and v. `GroupedAttention` has separate
weights for q, k and v; several heads may share keys and values, and q and k may be rotated.
(A. Vaswani et al., "Attention is all you need", 2017; J. Ainslie et al., "GQA", 2023.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.steps.matmul import Matmul
from gradcheck_cli.network.steps.rearrange import Permute, Repeat, Reshape, Slice
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.types import Shape


@dataclass(frozen=True)
class MultiheadAttention:
    """Self-attention over samples (tokens, width), with the parameters of torch.nn.MultiheadAttention.

    The parameters are in_proj_weight (3 width, width), out_proj.weight (width, width) and, if `bias` is set,
    in_proj_bias and out_proj.bias.
    """

    tokens: int
    width: int
    heads: int
    softmax: Softmax
    bias: bool = True

    def build(self, nodes: Nodes, x: int) -> int:
        """Add the layer's nodes and return the index of its output, whose shape is that of x.

        x: the index of the input (tokens, width).
        """
        width, d = self.width, self.width // self.heads
        joint = nodes.dense(x, width, 3 * width, "in_proj_weight", "in_proj_bias" * self.bias)
        parts = (nodes.add(Slice(2, 1, k * width, (k + 1) * width), joint) for k in range(3))
        q, k, v = (_by_head(nodes, part, (self.tokens, self.heads, d)) for part in parts)
        value = _joined(nodes, _attended(nodes, q, k, v, d, self.softmax), self.tokens, width)
        return nodes.dense(value, width, width, "out_proj.weight", "out_proj.bias" * self.bias)


@dataclass(frozen=True)
class GroupedAttention:
    """Self-attention with separate weights q_proj, k_proj, v_proj and o_proj.

    bias: whether each of these four has a bias.

    shared: the number of query heads that share each key-value head; 1 if none share.
    rotations: the steps of the rotary embedding of q and k; empty if q and k are not rotated.
    """

    tokens: int
    width: int
    heads: int
    softmax: Softmax
    shared: int = 1
    rotations: Sequence[Rotary] = ()
    bias: bool = True

    def build(self, nodes: Nodes, x: int) -> int:
        """Add the layer's nodes and return the index of its output, whose shape is that of x.

        x: the index of the input (tokens, width).
        """
        d = self.width // self.heads
        q = self._turned(nodes, self._projected(nodes, x, "q_proj", self.width))
        k = self._turned(nodes, self._projected(nodes, x, "k_proj", self.width // self.shared))
        v = self._projected(nodes, x, "v_proj", self.width // self.shared)
        if self.shared > 1:
            k, v = (nodes.add(Repeat(3, 0, self.shared), each) for each in (k, v))
        value = _joined(nodes, _attended(nodes, q, k, v, d, self.softmax), self.tokens, self.width)
        return nodes.dense(value, self.width, self.width, "o_proj.weight", "o_proj.bias" * self.bias)

    def _projected(self, nodes: Nodes, x: int, name: str, units: int) -> int:
        projected = nodes.dense(x, self.width, units, f"{name}.weight", f"{name}.bias" * self.bias)
        d = self.width // self.heads
        return _by_head(nodes, projected, (self.tokens, units // d, d))

    def _turned(self, nodes: Nodes, value: int) -> int:
        for rotation in self.rotations:
            value = nodes.add(rotation, value)
        return value


def _by_head(nodes: Nodes, value: int, shape: Shape) -> int:
    """Split a value (tokens, heads · d) into heads (heads, tokens, d).

    shape: (tokens, heads, d).
    """
    return nodes.add(Permute(3, (1, 0, 2)), nodes.add(Reshape(2, shape), value))


def _joined(nodes: Nodes, value: int, tokens: int, width: int) -> int:
    """Join heads (heads, tokens, d) into one value (tokens, heads · d)."""
    return nodes.add(Reshape(3, (tokens, width)), nodes.add(Permute(3, (1, 0, 2)), value))


def _attended(nodes: Nodes, q: int, k: int, v: int, d: int, softmax: Softmax) -> int:
    scores = nodes.add(Matmul(transposed=True, scale=1.0 / math.sqrt(d)), q, k)
    return nodes.add(Matmul(), nodes.add(softmax, scores), v)
