"""Limit worst-case rounding bounds by rounding errors that are observed in gradcheck's own backprop.

The errors are observed by running backprop in a narrow floating-point type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.network.graph import Node
from gradcheck_cli.network.network import Network, gradients
from gradcheck_cli.network.step import Arrays, Inputs
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Array

_SAMPLES = 8
_NUDGE = 2.0**13
"""The relative distance between the points where rounding is observed, in units of machine epsilon.

The distance is large enough for the rounding errors at these points to be independent, and so small that the
gradients hardly change, even below a saturated softmax.
"""

_UNLIKE = 5.0
"""Other authors' formulas may have rounding errors this many times as large as gradcheck's formulas."""

_STEADY = 0.5
"""Samples say nothing if the gradient itself changes by more than this share of its size between them."""

_FLOOR = 3e-6
"""No bound is reduced below this share of a tensor's largest entry, since bounds this small do no harm."""


@dataclass(frozen=True)
class _Seen:
    """A gradient in a narrow type and in a wider one, at several points: (points, …).

    The last point is the parameters. The others are nearby, or the parameters again.
    """

    narrow: Array
    wide: Array

    @property
    def cap(self) -> Array:
        """The largest rounding error to expect in each entry; infinite if the points do not tell."""
        cap = self._cap
        # No rounding was observed if everything is exactly 0.
        return np.where((cap > 0) & self._is_steady, cap, np.inf).astype(np.float64)

    @property
    def largest(self) -> Array:
        """The largest rounding error of each entry at any of the points; 0 if the points do not tell."""
        return np.where(self._is_steady, self._error, 0.0).astype(np.float64)

    @cached_property
    def _error(self) -> Array:
        error: Array = np.fmax.reduce(np.abs(self.narrow - self.wide), axis=0)
        return error

    @cached_property
    def _cap(self) -> Array:
        whole, size = np.sqrt(np.mean(np.square(self._error))), float(np.abs(self.wide).max())
        return np.maximum(_UNLIKE * np.maximum(self._error, whole), _FLOOR * size)

    @cached_property
    def _is_steady(self) -> bool:
        change = float(np.abs(self.wide - self.wide[-1]).max())
        return change <= max(_STEADY * float(np.abs(self.wide[-1]).max()), float(self._cap.max()))


@dataclass(frozen=True)
class Observed:
    """The rounding errors of each gradient, by name, that were observed near the parameters.

    limits: the largest rounding error to expect in each entry; infinite if observations do not tell.
    largest: the largest rounding error that was observed in each entry; 0 if observations do not tell.
    precision: the machine epsilon of the wider type, in units of that of the narrow one.
    """

    limits: dict[str, Array]
    largest: dict[str, Array]
    precision: float

    def limited(self, bounds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the bounds in the narrow type, reduced to what observations make plausible.

        The gradients in the wider type have rounding errors, too. A term that is lost in both types, as next
        to a 1 in softmax, looks as if it had no error at all. So no bound is reduced below the bound in the
        wider type.
        """
        return {
            name: np.minimum(bound, np.maximum(self.limits[name], self.precision * bound))
            for name, bound in bounds.items()
        }


def observed_rounding(
    network: Network,
    parameters: Arrays,
    x: Array,
    target: Array,
    dtype: np.dtype[Any],
    wider: np.dtype[Any],
) -> Observed:
    """Return the rounding errors of each gradient that are observed at the parameters and near them.

    The first-order analysis assumes the worst case of every rounding. Through a stack of normalisations or
    attention, its bounds grow to the size of the gradients themselves and would excuse any mistake. If common
    formulas for an activation lose digits that gradcheck's formula keeps, its rounding error is
    added.

    dtype: the type of the gradients.
    wider: a type with far smaller rounding errors.
    """
    rng = np.random.default_rng(0)
    rough, both = _with_common_formulas(network, rng), []
    nearby = _NUDGE * float(np.finfo(dtype).eps)
    for by, nudge in (*((rough, nearby),) * _SAMPLES, (rough, 0.0), (network, 0.0)):
        at = {
            name: (value * (1.0 + nudge * rng.uniform(-1, 1, value.shape))).astype(dtype)
            for name, value in parameters.items()
        }
        narrow = gradients(by, at, x.astype(dtype), target.astype(dtype))
        x_wide, target_wide = (array.astype(dtype).astype(wider) for array in (x, target))
        wide = gradients(network, {n: value.astype(wider) for n, value in at.items()}, x_wide, target_wide)
        both.append((narrow, wide))
    seen = {
        name: _Seen(*(np.stack([each[name].astype(wider) for each in of]) for of in zip(*both, strict=True)))
        for name in both[0][0]
    }
    return Observed(
        {name: each.cap for name, each in seen.items()},
        {name: each.largest for name, each in seen.items()},
        float(np.finfo(wider).eps / np.finfo(dtype).eps),
    )


@dataclass(frozen=True)
class _Rough(Pointwise):
    """An activation that rounds like a common formula, which loses digits that gradcheck's formula keeps."""

    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def forward(self, p: Arrays, *inputs: Array) -> Array:
        (y,) = inputs
        lost = 0.0 if self.row.absolute is None else self.row.absolute(y)
        return super().forward(p, y) + self._rounding(y, lost)

    def vjp(
        self, p: Arrays, inputs: Inputs, output: Array, upstream: Array
    ) -> tuple[Inputs, dict[str, Array]]:
        (y,), ((delta,), _) = inputs, super().vjp(p, inputs, output, upstream)
        lost = float(self.row.bounded) + (0.0 if self.row.absolute is None else self.row.absolute(y))
        return (delta + self._rounding(y, lost) * upstream,), {}

    def _rounding(self, y: Array, lost: Array | float) -> Array:
        """Return errors of ± `lost` with random signs, in units of machine epsilon."""
        signs = self.rng.choice([-1.0, 1.0], y.shape)
        return np.asarray(float(np.finfo(y.dtype).eps) * lost * signs, dtype=y.dtype)


def _with_common_formulas(network: Network, rng: np.random.Generator) -> Network:
    """Return the network with activations that round like common formulas."""

    def rough(node: Node) -> Node:
        step = node.step
        is_one = isinstance(step, Pointwise) and not step.row.coupled
        return replace(node, step=_Rough(step.row, step.is_activation, rng)) if is_one else node  # type: ignore[attr-defined]

    nodes = tuple(rough(node) for node in network.graph.nodes)
    return replace(network, graph=replace(network.graph, nodes=nodes))
