"""Gated feed-forward layers, such as SwiGLU: out = (φ(x w_gateᵀ + b) ⊙ (x w_upᵀ + b)) w_downᵀ + b.

φ is silu in SwiGLU, gelu in GeGLU, and sigmoid in the original GLU. Each product has its own bias b.
(N. Shazeer, "GLU variants improve transformer", 2020.)
"""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.steps.gates import Multiply


@dataclass(frozen=True)
class Gated:
    """A gated feed-forward layer over the last axis, with weights gate_proj, up_proj and down_proj.

    bias: whether each of the three projections has a bias.
    """

    width: int
    hidden: int
    activation: str = "silu"
    bias: bool = True

    def build(self, nodes: Nodes, x: int) -> int:
        """Add the layer's nodes and return the index of its output, which has the shape of x.

        x: the index of the input (…, width).
        """
        gate, up = (
            nodes.dense(x, self.width, self.hidden, f"{name}.weight", f"{name}.bias" * self.bias, symbol)
            for name, symbol in (("gate_proj", "gate"), ("up_proj", "up"))
        )
        hidden = nodes.add(Multiply(), nodes.activation(self.activation, gate), up, symbol="h")
        return nodes.dense(hidden, self.hidden, self.width, "down_proj.weight", "down_proj.bias" * self.bias)
