"""Softmax over the keys of attention if some keys are padding, like torch with a key_padding_mask.

    a = softmax(z) over the keys that are not padding:    ∂L/∂z = a ⊙ (g − Σ g a), g = ∂L/∂a

A key that is padding has a = 0 and passes no gradient. If every key of a row is padding, the row has a = 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradcheck_cli.network.arithmetic import Arithmetic
from gradcheck_cli.network.formulas import Argument
from gradcheck_cli.network.part import Input, Part, Resting
from gradcheck_cli.network.step import Arrays, Inputs, Known, Upstream
from gradcheck_cli.network.steps.softmax import Softmax
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True, eq=False)
class PaddedSoftmax(Softmax):
    """Softmax of attention scores over the keys that are not padding.

    Its inputs for N samples are the scores, (…, N, *between, keys), and the padding, (…, N, keys), which is 1
    for a key that is padding and 0 for any other key.

    mask: a mask for all samples, such as a causal one, as in `Softmax`.
    between: the number of axes between the samples and the keys.
    """

    between: int = 2
    formulas = replace(
        Softmax.formulas,
        inputs=(*Softmax.formulas.inputs, Argument("padding", "0", "0")),
        where="with a = 0 where a key is padding, or masked out",
    )

    @property
    def label(self) -> str:
        return "softmax, padded"

    def kept(self, *inputs: Array) -> Array:
        _, padding = inputs
        axes = tuple(range(-1 - self.between, -1))
        kept: Array = self.mask & ~np.expand_dims(_is_padding(padding), axes)
        return kept

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        with np.errstate(invalid="ignore"):  # 0 / 0 in an empty row
            shares = super().forward(p, *inputs)
        empty = ~self.kept(*inputs).any(axis=-1, keepdims=True)
        return np.where(empty, 0.0, shares) if empty.any() else shares

    def part(self, p: Arrays, inputs: Sequence[Input], output: Resting) -> Part | None:
        scores, padding = inputs
        if not isinstance(padding, Part) or _marks_others(padding):
            return super().part(p, inputs, output)
        return super().part(p, (scores, padding.rest), output) if isinstance(scores, Part) else None

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        return (self._handed(output, upstream), np.zeros_like(inputs[1])), {}

    def vjp_error(
        self, p: Arrays, known: Known, upstream: Upstream, arithmetic: Arithmetic
    ) -> tuple[tuple[Upstream, ...], dict[str, Array]]:
        (below,), own = super().vjp_error(p, known, upstream, arithmetic)
        nothing = np.zeros(known.inputs[1].shape)
        return (below, Upstream(nothing, nothing, nothing)), own

    def masks(self, inputs: Inputs) -> Mapping[str, Array]:
        return {**super().masks(inputs), "key_padding_mask": inputs[1]}

    def heard(self, p: Arrays, features: tuple[Shape, ...], above: Array) -> tuple[Array, ...]:
        (scores,) = super().heard(p, features[:1], above)
        return scores, np.full(features[1], bool(above.any()))


def _is_padding(padding: Array) -> Array:
    marked: Array = padding.real >= 0.5
    return marked


def _marks_others(padding: Part) -> bool:
    """Return whether the change of the padding marks other keys."""
    return bool((_is_padding(padding.value) != _is_padding(padding.rest.at(padding.fixed))).any())
