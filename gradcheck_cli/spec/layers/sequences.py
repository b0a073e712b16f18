"""The layers of a spec for sequences: recurrent layers, attention, and gated feed-forward layers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.composed.attention import GroupedAttention, MultiheadAttention
from gradcheck_cli.network.composed.gated import Gated
from gradcheck_cli.network.composed.nodes import Nodes
from gradcheck_cli.network.composed.recurrent import Cell, GruCell, LstmCell, Recurrent, RnnCell
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.model import MAX_NUMBERS, Size

MAX_STEPS = 1000
"""The largest number of unrolled time steps of a recurrent layer, summed over its levels and directions."""


def _nodes(builder: Builder) -> Nodes:
    return Nodes(builder.add, f"{builder.layer}.")


def _sequence(builder: Builder, value: int, kind: str, axes: str) -> tuple[int, int]:
    """Return the shape of a sample. Raises an `UnfitError` if it does not have two axes.

    axes: the names of the axes for the error, such as [steps, features].
    """
    features = builder.features(value)
    if len(features) == 2:
        return features[0], features[1]
    message = f"this layer needs samples {axes}, but gets samples of shape {list(features)}"
    raise UnfitError(message, kind, f"write inputs: {axes}, or put an embedding before it")


class RecurrentSpec(LayerItem):
    """A recurrent layer over samples [steps, features]. Its output is the hidden state h of every step.

    num_layers: The number of stacked recurrent layers. The states of one layer are the inputs of the next.
    bidirectional: Whether a second pass runs from the last step to the first, which doubles the outputs.
    """

    num_layers: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 1
    bidirectional: bool = False

    @property
    def hidden(self) -> int:
        """The number of units in the state."""
        raise NotImplementedError

    @property
    def cell(self) -> Cell:
        raise NotImplementedError

    def build(self, builder: Builder, value: int) -> int:
        steps, inputs = _sequence(builder, value, self.kind, "[steps, features]")
        unrolled = steps * self.num_layers * (1 + self.bidirectional)
        if unrolled > MAX_STEPS:
            message = f"this layer has {unrolled:,} time steps in all; at most {MAX_STEPS:,} are possible"
            raise UnfitError(message, self.kind, "check shorter sequences: the gradient code is the same")
        layer = Recurrent(self.cell, steps, inputs, self.hidden, self.num_layers, self.bidirectional)
        return layer.build(_nodes(builder), value)


class RnnSpec(RecurrentSpec):
    """A plain recurrent layer, h = φ(w_ih x + b_ih + w_hh h + b_hh), like torch.nn.RNN with batch_first.

    rnn: The number of units.
    nonlinearity: The function φ.
    """

    kind: ClassVar[str] = "rnn"

    rnn: Size
    nonlinearity: Literal["tanh", "relu"] = "tanh"

    @property
    def hidden(self) -> int:
        return self.rnn

    @property
    def cell(self) -> Cell:
        return RnnCell(self.nonlinearity)


class LstmSpec(RecurrentSpec):
    """An LSTM layer with the gates in the order i, f, g, o, like torch.nn.LSTM with batch_first.

    lstm: The number of units.
    """

    kind: ClassVar[str] = "lstm"

    lstm: Size

    @property
    def hidden(self) -> int:
        return self.lstm

    @property
    def cell(self) -> Cell:
        return LstmCell()


class GruSpec(RecurrentSpec):
    """A GRU layer with the gates in the order r, z, n, like torch.nn.GRU with batch_first.

    gru: The number of units.
    """

    kind: ClassVar[str] = "gru"

    gru: Size

    @property
    def hidden(self) -> int:
        return self.gru

    @property
    def cell(self) -> Cell:
        return GruCell()


class AttentionSpec(LayerItem):
    """Self-attention over samples [tokens, width], like torch.nn.MultiheadAttention with batch_first.

    attention: The number of heads. It must divide the width.
    causal: Whether a token attends only to itself and earlier tokens.
    bias: Whether the projections have biases.
    kv_heads: The number of key-value heads, for grouped-query attention. The weights are then q_proj, k_proj,
        v_proj and o_proj.
    """

    kind: ClassVar[str] = "attention"

    attention: Size
    causal: bool = False
    bias: bool = True
    kv_heads: Size | None = None

    def build(self, builder: Builder, value: int) -> int:
        tokens, width = _sequence(builder, value, self.kind, "[tokens, width]")
        heads = self.attention
        self._refuse_unfit(tokens, width)
        softmax = Softmax.causal(tokens) if self.causal else Softmax.plain()
        layer: MultiheadAttention | GroupedAttention
        if self.kv_heads is None:
            layer = MultiheadAttention(tokens, width, heads, softmax, self.bias)
        else:
            layer = GroupedAttention(tokens, width, heads, softmax, heads // self.kv_heads, bias=self.bias)
        return layer.build(_nodes(builder), value)

    def _refuse_unfit(self, tokens: int, width: int) -> None:
        heads, shared = self.attention, self.kv_heads or self.attention
        if width % heads:
            raise UnfitError(f"{heads} heads do not divide the width {width}", self.kind, _divisors(width))
        if heads % shared:
            message = f"{shared} heads of keys and values do not divide {heads} heads"
            raise UnfitError(message, "kv_heads", _divisors(heads))
        if heads * tokens * tokens > MAX_NUMBERS:
            scores = f"{heads} × {tokens:,} × {tokens:,} attention scores"
            message = f"{scores} are over the limit of {MAX_NUMBERS:,} numbers"
            raise UnfitError(message, self.kind, "check shorter sequences: the gradient code is the same")


def _divisors(number: int) -> str:
    fitting = [str(k) for k in range(1, min(number, 64) + 1) if number % k == 0]
    return f"choose one of {', '.join(fitting)}"


class GatedSpec(LayerItem):
    """A gated feed-forward layer over the last axis: (φ(x w_gateᵀ + b) ⊙ (x w_upᵀ + b)) w_downᵀ + b.

    bias: Whether each of the three projections has a bias.
    """

    bias: bool = True

    activation: ClassVar[str]

    @property
    def hidden(self) -> int:
        raise NotImplementedError

    def build(self, builder: Builder, value: int) -> int:
        if builder.is_image(value):
            image = " × ".join(str(size) for size in builder.features(value))
            raise UnfitError(
                f"this layer gets samples of {image} numbers", self.kind, "put 'flatten' before it"
            )
        layer = Gated(builder.features(value)[-1], self.hidden, self.activation, self.bias)
        return layer.build(_nodes(builder), value)


class SwigluSpec(GatedSpec):
    """A SwiGLU layer, as in LLaMA: gated with φ = silu, with weights gate_proj, up_proj and down_proj.

    swiglu: The number of hidden units.
    """

    kind: ClassVar[str] = "swiglu"
    activation: ClassVar[str] = "silu"

    swiglu: Size

    @property
    def hidden(self) -> int:
        return self.swiglu


class GegluSpec(GatedSpec):
    """A GeGLU layer: gated with φ = gelu, with weights gate_proj, up_proj and down_proj.

    geglu: The number of hidden units.
    """

    kind: ClassVar[str] = "geglu"
    activation: ClassVar[str] = "gelu"

    geglu: Size

    @property
    def hidden(self) -> int:
        return self.geglu
