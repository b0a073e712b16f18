"""Multi-head self-attention over tokens: softmax(q kᵀ / √d) v in each head, as in torch.

    scores = q kᵀ / √d        a = softmax(scores)        out = a v

`MultiheadAttention` has torch's parameters: one weight computes q, k and v. `GroupedAttention` has separate
weights for q, k and v; several heads may share keys and values. In both, q and k may be rotated, and some
keys of each sample may be padding.
(A. Vaswani et al., "Attention is all you need", 2017; J. Ainslie et al., "GQA", 2023.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.steps.matmul import Matmul
from gradcheck_cli.network.steps.offset import Offset
from gradcheck_cli.network.steps.rearrange import Permute, Repeat, Reshape, Slice
from gradcheck_cli.network.steps.rotary import Rotary
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.types import Shape


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that both kinds of attention have.

    bias: whether the projections have biases.
    out_proj: whether a dense layer mixes the outputs of the heads.
    rotations: the steps of the rotary embedding of q and k; empty if q and k are not rotated.
    offsets: the steps that add a mask to the scores; empty if the mask only leaves scores out.
    padding: the index of the value that marks the padding in each sample; empty if no key is padding.
    """

    bias: bool = True
    out_proj: bool = True
    rotations: Sequence[Rotary] = ()
    offsets: Sequence[Offset] = ()
    padding: Sequence[int] = ()

    def turned(self, nodes: Nodes, value: int) -> int:
        """Add the nodes that rotate q or k, if there are any, and return the index of the result.

        value: the index of q or k, (heads, tokens, d), with d features per head.
        """
        for rotation in self.rotations:
            value = nodes.add(rotation, value)
        return value


@dataclass(frozen=True)
class MultiheadAttention(Options):
    """Self-attention over samples (tokens, width), with the parameters of torch.nn.MultiheadAttention.

    The parameters are in_proj_weight, (3 width, width), out_proj.weight, (width, width), and, if `bias` is
    set, in_proj_bias and out_proj.bias.
    """

    tokens: int
    width: int
    heads: int
    softmax: Softmax

    def build(self, nodes: Nodes, x: int) -> int:
        """Add the layer's nodes and return the index of its output, which has the shape of x.

        x: the index of the input (tokens, width).
        """
        width, d = self.width, self.width // self.heads
        joint = nodes.dense(x, width, 3 * width, "in_proj_weight", "in_proj_bias" * self.bias, "qkv")
        parts = (nodes.add(Slice(2, 1, k * width, (k + 1) * width), joint) for k in range(3))
        shape = (self.tokens, self.heads, d)
        q, k, v = (_by_head(nodes, part, shape, name) for part, name in zip(parts, "qkv", strict=True))
        return _mixed(nodes, self, self.turned(nodes, q), self.turned(nodes, k), v, "out_proj")


@dataclass(frozen=True)
class GroupedAttention(Options):
    """Self-attention with separate weights q_proj, k_proj, v_proj and o_proj.

    shared: the number of query heads that share each key-value head; 1 if no heads share.
    """

    tokens: int
    width: int
    heads: int
    softmax: Softmax
    shared: int = 1

    def build(self, nodes: Nodes, x: int) -> int:
        """Add the layer's nodes and return the index of its output, which has the shape of x.

        x: the index of the input (tokens, width).
        """
        units = self.width // self.shared
        q = self.turned(nodes, self._projected(nodes, x, "q_proj", self.width))
        k = self.turned(nodes, self._projected(nodes, x, "k_proj", units))
        v = self._projected(nodes, x, "v_proj", units)
        if self.shared > 1:
            k, v = (nodes.add(Repeat(3, 0, self.shared), each) for each in (k, v))
        return _mixed(nodes, self, q, k, v, "o_proj")

    def _projected(self, nodes: Nodes, x: int, name: str, units: int) -> int:
        projected = nodes.dense(x, self.width, units, f"{name}.weight", f"{name}.bias" * self.bias)
        d = self.width // self.heads
        return _by_head(nodes, projected, (self.tokens, units // d, d), name[0])


def _by_head(nodes: Nodes, value: int, shape: Shape, symbol: str) -> int:
    """Add the nodes that split a value into heads, from (tokens, heads · d) to (heads, tokens, d).

    shape: (tokens, heads, d), with d features per head.
    symbol: the symbol of the result in a derivation.
    """
    return nodes.add(Permute(3, (1, 0, 2)), nodes.add(Reshape(2, shape), value), symbol=symbol)


def _mixed(
    nodes: Nodes, of: MultiheadAttention | GroupedAttention, q: int, k: int, v: int, projection: str
) -> int:
    """Add the nodes that compute the layer's output, (tokens, width), from q, k and v.

    q, k, v: the indices of the queries, keys and values, (heads, tokens, d), with d features per head.
    projection: the name of the output projection.
    """
    scale = 1.0 / math.sqrt(of.width // of.heads)
    scores = nodes.add(Matmul(transposed=True, scale=scale), q, k, symbol="s")
    for offset in of.offsets:
        scores = nodes.add(offset, scores)
    heads = nodes.add(Matmul(), nodes.add(of.softmax, scores, *of.padding, symbol="a"), v, symbol="o")
    joined = nodes.add(Reshape(3, (of.tokens, of.width)), nodes.add(Permute(3, (1, 0, 2)), heads))
    if not of.out_proj:
        return joined
    return nodes.dense(joined, of.width, of.width, f"{projection}.weight", f"{projection}.bias" * of.bias)
