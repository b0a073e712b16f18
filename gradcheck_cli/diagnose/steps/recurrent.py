"""Mistakes in the backward pass of recurrent layers: gates in the wrong order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradcheck_cli.diagnose.branches import shares_parameters
from gradcheck_cli.diagnose.families import GATES
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Backward, Handed, Variant, Visit
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.rearrange import Slice
from gradcheck_cli.types import Array

_LSTM = (
    ("i", "f", "g", "o"),
    ((0, 1, 3, 2), (1, 0, 2, 3), (1, 0, 3, 2), (0, 3, 2, 1), (0, 2, 1, 3), (3, 1, 2, 0)),
)
_GRU = ("r", "z", "n"), ((1, 0, 2), (2, 1, 0), (0, 2, 1))

Order = tuple[int, ...]


def _gates(visit: Visit) -> int:
    """Return the number of gates in the rows of a recurrent layer's weight; 0 if it has no gates."""
    value = visit.i + 1
    for _ in range(2):  # the sums of an LSTM are split after an addition
        takers = [(i, visit.at.graph.nodes[i].step) for i, _ in visit.at.consumers(value)]
        parts = [step for _, step in takers if isinstance(step, Slice)]
        if parts or len(takers) != 1 or not isinstance(takers[0][1], Add):
            return len(parts)
        value = takers[0][0] + 1
    return 0


def _reordered(array: Array, order: Order, axis: int) -> Array:
    blocks = np.split(array, len(order), axis=axis)
    return np.concatenate([blocks[k] for k in order], axis=axis)


def _applies(visit: Visit, order: Order) -> bool:
    return shares_parameters(visit) and _gates(visit) == len(order)


def _upstream(order: Order) -> Backward:
    def backward(visit: Visit, _: float) -> Handed | None:
        if not _applies(visit, order):
            return None
        upstream = _reordered(visit.upstream, order, -1)
        return visit.step.vjp(visit.p, visit.inputs, visit.output, upstream)

    return backward


def _gradients(order: Order) -> Backward:
    def backward(visit: Visit, _: float) -> Handed | None:
        if not _applies(visit, order):
            return None
        shares, gradients = visit.right
        return shares, {name: _reordered(value, order, 0) for name, value in gradients.items()}

    return backward


def _rows(names: Sequence[str], orders: Sequence[Order]) -> Iterator[Variant]:
    right = " ".join(names)
    for order in orders:
        found = " ".join(names[k] for k in order)
        for backward, what in (
            (_upstream(order), "the gradients of the gates are joined"),
            (_gradients(order), "the rows of the weights' gradients are"),
        ):
            sentence = f"in {{where}} {what} in the order {found}, not {right}"
            wrong = Wrong("gates in another order", GATES, sentence, f"δ = [{found}]", f"δ = [{right}]", "δ")
            yield Variant(wrong, Dense, backward, everywhere=True)


RECURRENT = (*_rows(*_LSTM), *_rows(*_GRU))
