"""The layers of a spec for sequences: recurrent layers, attention, and gated feed-forward layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from gradcheck_cli.network.builder import Builder
from gradcheck_cli.network.composed.gated import Gated
from gradcheck_cli.network.composed.recurrent import (
    Cell,
    GruCell,
    Initial,
    Known,
    KnownBySample,
    Learned,
    LstmCell,
    Recurrent,
    RnnCell,
    Zero,
)
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.spec.layers.composed import nodes_of, refuse_images, sequence_of
from gradcheck_cli.spec.layers.fixed import Fixed, InitialState, Key, given
from gradcheck_cli.spec.layers.item import LayerItem
from gradcheck_cli.spec.model import Size
from gradcheck_cli.types import Shape

MAX_STEPS = 1000
"""The largest number of unrolled time steps of a recurrent layer, over all its levels and directions."""


class RecurrentSpec(LayerItem):
    """A recurrent layer over samples [steps, features]. Its output is the hidden state h of every step.

    num_layers: The number of stacked recurrent layers. The states of one layer are the inputs of the next.
    bidirectional: Whether a second pass runs from the last step to the first, which doubles the outputs.
    h0: The state h before the first step. By default, it is 0. `parameter` makes it a trained parameter. An
        array [num_layers · directions, samples, units] fixes the state for each sample, and an array
        [num_layers · directions, units] fixes the state for all samples.
    """

    num_layers: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 1
    bidirectional: bool = False
    h0: InitialState | None = None

    @property
    def hidden(self) -> int:
        """The number of units in the state."""
        raise NotImplementedError

    @property
    def cell(self) -> Cell:
        raise NotImplementedError

    @property
    def states(self) -> Mapping[str, object]:
        """The initial states as the spec gives them, by key."""
        return {"h0": self.h0}

    @property
    def fixed(self) -> Mapping[Key, Fixed]:
        return given(**self.states)

    def build(self, builder: Builder, value: int) -> int:
        steps, inputs = sequence_of(builder, value, self.kind, "[steps, features]")
        unrolled = steps * self.num_layers * (1 + self.bidirectional)
        if unrolled > MAX_STEPS:
            message = f"this layer has {unrolled:,} time steps in all; at most {MAX_STEPS:,} are possible"
            raise UnfitError(message, self.kind, "check shorter sequences: the gradient code is the same")
        shape = (self.num_layers * (1 + self.bidirectional), self.hidden)
        initial = tuple(_initial(builder, key, state, shape) for key, state in self.states.items())
        layer = Recurrent(self.cell, steps, inputs, self.hidden, self.num_layers, self.bidirectional, initial)
        return layer.build(nodes_of(builder), value)


def _initial(builder: Builder, key: str, state: object, shape: Shape) -> Initial:
    """Return the source of an initial state: zeros, a trained parameter, or an array.

    key: the key of the state in the spec.  shape: (levels · directions, units).
    """
    array = builder.array(key)
    if array is None:
        return Zero() if state is None else Learned(key, shape)
    if array.shape == shape:
        return Known(array)
    if array.ndim != 3 or (array.shape[0], array.shape[2]) != shape:
        levels, units = shape
        message = f"{key} has shape {list(array.shape)}; [{levels}, samples, {units}] is needed"
        raise UnfitError(message, key, f"or [{levels}, {units}], for the same state in every sample")
    return KnownBySample(np.ascontiguousarray(array.swapaxes(0, 1)), key)


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
    c0: The state c before the first step, given in the same way as h0.
    """

    kind: ClassVar[str] = "lstm"

    lstm: Size
    c0: InitialState | None = None

    @property
    def states(self) -> Mapping[str, object]:
        return {"h0": self.h0, "c0": self.c0}

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
        refuse_images(builder, value, self.kind)
        layer = Gated(builder.features(value)[-1], self.hidden, self.activation, self.bias)
        return layer.build(nodes_of(builder), value)


class SwigluSpec(GatedSpec):
    """A SwiGLU layer, as in LLaMA: gated with φ = silu. Its weights are gate_proj, up_proj and down_proj.

    swiglu: The number of hidden units.
    """

    kind: ClassVar[str] = "swiglu"
    activation: ClassVar[str] = "silu"

    swiglu: Size

    @property
    def hidden(self) -> int:
        return self.swiglu


class GegluSpec(GatedSpec):
    """A GeGLU layer: gated with φ = gelu. Its weights are gate_proj, up_proj and down_proj.

    geglu: The number of hidden units.
    """

    kind: ClassVar[str] = "geglu"
    activation: ClassVar[str] = "gelu"

    geglu: Size

    @property
    def hidden(self) -> int:
        return self.geglu
