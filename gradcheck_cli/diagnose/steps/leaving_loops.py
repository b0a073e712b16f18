"""Loops in a backward pass that end after their first iteration, as if the body contained a `return`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradcheck_cli.diagnose.branches import shares_parameters
from gradcheck_cli.diagnose.families import LOOPS
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Backward, Handed, Variant, Visit, gradient
from gradcheck_cli.diagnose.wrong_entries import ROW, UNIT_ZEROED
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.conv_transpose2d import ConvTranspose2d
from gradcheck_cli.network.steps.convolution import Convolution
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.max_pool2d import MaxPool2d
from gradcheck_cli.network.steps.pooling import AvgPool
from gradcheck_cli.network.steps.rearrange import Concatenate, Stack
from gradcheck_cli.types import Array

ENDS_EARLY = "returned inside the loop"
"""The kind of mistake that ends a loop of the backward pass after its first iteration."""

_ALL, _FIRST = slice(None), slice(0, 1)
_CHANNEL = "the first channel"

_LOOPS: tuple[tuple[tuple[slice, ...], int, str], ...] = (
    ((_FIRST,), 0, "the first sample"),
    ((_FIRST, _FIRST), 0, "the first channel of the first sample"),
    ((_ALL, _FIRST), 0, _CHANNEL),
    ((_FIRST, _ALL, _FIRST), 3, "the first position of the first sample"),
    ((_FIRST, _FIRST, _FIRST), 3, "the first entry of the first sample"),
    ((_ALL, _ALL, _FIRST), 3, "the first position"),
    ((_FIRST, _ALL, _FIRST), 4, "the first row of the first sample"),
    ((_FIRST, _ALL, _FIRST, _FIRST), 4, "the first position of the first sample"),
    ((_FIRST, _FIRST, _FIRST), 4, "the first row of the first channel of the first sample"),
    ((_FIRST, _FIRST, _FIRST, _FIRST), 4, "the first entry of the first sample"),
    ((_ALL, _ALL, _FIRST), 4, "the first row"),
    ((_ALL, _ALL, _FIRST, _FIRST), 4, "the first position"),
)
"""The parts of δ that a loop covers if it ends after its first iteration.

Each row holds the part, the number of axes that δ must have (0 for any), and the words for the part.
"""


def _part(upstream: Array, kept: tuple[slice, ...], axes: int) -> Array | None:
    """Return δ with 0 outside the part `kept`.

    Returns None if the part is all of δ, or if δ does not have the number of axes that the part needs.
    """
    if (axes and upstream.ndim != axes) or upstream[kept].size == upstream.size:
        return None
    only = np.zeros_like(upstream)
    only[kept] = upstream[kept]
    return only


def _first_round(kept: tuple[slice, ...], axes: int, with_bias: bool) -> Backward:
    """Return a `vjp` that uses only the part `kept` of δ.

    with_bias: whether the bias's gradient uses only this part, too. If not, that gradient is correct.
    """

    def backward(visit: Visit, _: float) -> Handed | None:
        part = _part(visit.upstream, kept, axes)
        if part is None or (not with_bias and "bias" not in visit.right[1]):
            return None
        shares, gradients = visit.step.vjp(visit.p, visit.inputs, visit.output, part)
        right: dict[str, Any] = {} if with_bias else {"bias": visit.right[1]["bias"]}
        return shares, {**gradients, **right}

    return backward


def _wrong(which: str) -> Wrong:
    return Wrong(
        ENDS_EARLY,
        LOOPS,
        f"in {{where}}, a loop of the backward pass ends after its first iteration: only {which} counts",
        f"Σ over {which} alone",
        "Σ over all iterations of the loop",
        "δ",
        refined_by=frozenset({UNIT_ZEROED, ROW}) if which == _CHANNEL else frozenset(),
    )


def _of_windows() -> Iterator[Variant]:
    for kept, axes, which in _LOOPS:
        for kind in (Convolution, ConvTranspose2d, MaxPool2d, AvgPool):
            yield Variant(_wrong(which), kind, _first_round(kept, axes, with_bias=True))
        for affine in (Convolution, ConvTranspose2d):
            yield Variant(_wrong(which), affine, _first_round(kept, axes, with_bias=False))


_LAST, _BUT_LAST = slice(-1, None), slice(0, -1)

_LAST_ROUNDS: tuple[tuple[tuple[slice, ...], int, str], ...] = (
    ((_LAST,), 0, "the last sample"),
    ((_LAST, _ALL, _LAST), 3, "the last position of the last sample"),
    ((_ALL, _ALL, _LAST), 3, "the last position"),
    ((_LAST, _ALL, _LAST, _LAST), 4, "the last position of the last sample"),
    ((_ALL, _ALL, _LAST, _LAST), 4, "the last position"),
)
"""The parts of δ that count if each iteration of a loop overwrites the result of the one before."""

_WITHOUT_LAST: tuple[tuple[tuple[slice, ...], int, str], ...] = (
    ((_ALL, _ALL, _BUT_LAST), 3, "the last position"),
    ((_ALL, _ALL, _BUT_LAST), 4, "the last row"),
    ((_ALL, _ALL, _ALL, _BUT_LAST), 4, "the last column"),
)
"""The parts of δ that a loop covers if it ends before its last iteration."""


def _of_last_round(kept: tuple[slice, ...], axes: int) -> Backward:
    def of(visit: Visit) -> Array | None:
        part = _part(visit.upstream, kept, axes)
        if part is None:
            return None
        return visit.step.vjp(visit.p, visit.inputs, visit.output, part)[1]["weight"]

    return gradient("weight", of)


def _overwritten(which: str) -> Wrong:
    return Wrong(
        "windows overwritten",
        LOOPS,
        f"in {{where}}, each iteration of a loop overwrites the kernel's gradient (= instead of +=): only "
        f"{which} counts",
        f"∂L/∂w = δᵀ a⁽ʰ⁾ of {which}",
        "∂L/∂w = Σ δᵀ a⁽ʰ⁾",
        "∂L/∂w",
    )


def _without(which: str) -> Wrong:
    return Wrong(
        ENDS_EARLY,
        LOOPS,
        f"in {{where}}, a loop of the backward pass ends before its last iteration: {which} is left out",
        f"Σ without {which}",
        "Σ over all iterations of the loop",
        "δ",
    )


def _of_last_rounds() -> Iterator[Variant]:
    for kept, axes, which in _LAST_ROUNDS:
        yield Variant(_overwritten(which), Convolution, _of_last_round(kept, axes))
    for kept, axes, which in _WITHOUT_LAST:
        for kind in (Convolution, ConvTranspose2d, MaxPool2d, AvgPool):
            yield Variant(_without(which), kind, _first_round(kept, axes, with_bias=True))
        for affine in (Convolution, ConvTranspose2d):
            yield Variant(_without(which), affine, _first_round(kept, axes, with_bias=False))


# --- a loop over time --------------------------------------------------------------------------------------


def _topmost_uses(visit: Visit) -> bool:
    """Return whether no node above uses the parameters of this node."""
    own = set(visit.node.names.values())
    return not any(own & set(node.names.values()) for node in visit.at.graph.nodes[visit.i + 1 :])


def _last_step_alone(visit: Visit, _: float) -> Handed | None:
    if not shares_parameters(visit) or _topmost_uses(visit):
        return None
    shares, gradients = visit.right
    nothing = tuple(np.zeros_like(each) for each in shares)
    return nothing, {name: np.zeros_like(value) for name, value in gradients.items()}


def _of_time(step: type[Step]) -> Variant:
    wrong = Wrong(
        ENDS_EARLY,
        LOOPS,
        "in {where}, the loop back through time ends after its first iteration: only the last step counts",
        "∂L/∂w = δ at the last step",
        "∂L/∂w = Σ δ over all steps",
        "δ",
        code="dL_dh = dz @ w_hh\nbreak",
    )
    return Variant(wrong, step, _last_step_alone, everywhere=True)


def _without_first_step(visit: Visit, _: float) -> Handed | None:
    """Return nothing for each node of the first time step.

    The state before that step gets the gradient that arrives at the state after it.
    """
    if visit.i not in visit.at.first_round:
        return None
    shares, gradients = visit.right
    handed = [np.zeros_like(share) for share in shares]
    for slot, value in _next_states(visit):
        arrived = _carried_to(visit, value)
        if arrived is not None and arrived.shape == handed[slot].shape:
            handed[slot] = arrived
    return tuple(handed), {name: np.zeros_like(value) for name, value in gradients.items()}


def _next_states(visit: Visit) -> Iterator[tuple[int, int]]:
    """Yield each input of a product of the first time step that takes a state.

    Together with the position of the input comes the index of the state that the second step takes there.
    """
    nodes, first = visit.at.graph.nodes, visit.at.first_round
    for i, slot in visit.at.carried:
        is_same = type(nodes[i].step) is type(visit.step) and nodes[i].names == visit.node.names
        value = nodes[i].inputs[slot]
        if is_same and isinstance(visit.step, Dense | Concatenate) and value - 1 in first:
            yield slot, value


def _carried_to(visit: Visit, value: int) -> Array | None:
    """Return the part of ∂L/∂hₜ that the next time step hands back; None if hₜ is not an output.

    value: the index of hₜ.
    """
    nodes = visit.at.graph.nodes
    stack = next((i for i, _ in visit.at.consumers(value) if isinstance(nodes[i].step, Stack)), -1)
    if stack not in visit.arrived or value - 1 not in visit.arrived:
        return None
    inputs = tuple(visit.at.values[k] for k in nodes[stack].inputs)
    own, _ = nodes[stack].step.vjp({}, inputs, visit.at.values[stack + 1], visit.arrived[stack])
    carried: Array = visit.arrived[value - 1] - own[nodes[stack].inputs.index(value)]
    return carried


_LEFT_OUT = Variant(
    Wrong(
        ENDS_EARLY,
        LOOPS,
        "in {where}, the loop back through time ends before its last iteration: the first step is left out",
        "∂L/∂w = Σ δ over all steps but the first",
        "∂L/∂w = Σ δ over all steps",
        "δ",
    ),
    Step,
    _without_first_step,
    everywhere=True,
)

LEAVING_LOOPS: tuple[Variant, ...] = (*_of_windows(), *_of_last_rounds(), _of_time(Dense), _LEFT_OUT)
