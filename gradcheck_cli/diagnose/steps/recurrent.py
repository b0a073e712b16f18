"""Mistakes in the order of gates in recurrent layers, or of q, k and v in a joint projection.

Here q, k and v stand for queries, keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradcheck_cli.diagnose.families import ATTENTION, GATES
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Backward, Handed, Pass, Variant, Visit
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


def _parts(at: Pass, i: int) -> str:
    """Return the symbols of the parts into which the output of node i is split, in the order of its rows.

    The parts are gates, or queries, keys and values. Returns an empty string if the output is not split.
    """
    nodes, value = at.graph.nodes, i + 1
    for _ in range(2):  # the sums of an LSTM are split after an addition
        takers = [k for k, _ in at.consumers(value)]
        starts = {step.start: k for k in takers if isinstance(step := nodes[k].step, Slice)}
        if starts or len(takers) != 1 or not isinstance(nodes[takers[0]].step, Add):
            return "".join(_symbol(at, k) for _, k in sorted(starts.items()))
        value = takers[0] + 1
    return ""


def _symbol(at: Pass, i: int) -> str:
    """Return the first letter of the symbol of node i or, if it has none, of the nodes that follow it."""
    nodes = at.graph.nodes
    while not nodes[i].symbol:
        takers = at.consumers(i + 1)
        if len(takers) != 1:
            return "?"
        i = takers[0][0]
    return nodes[i].symbol[0]


def _reordered(array: Array, order: Order, axis: int) -> Array:
    blocks = np.split(array, len(order), axis=axis)
    return np.concatenate([blocks[k] for k in order], axis=axis)


def _upstream(names: Sequence[str], order: Order) -> Backward:
    def backward(visit: Visit, _: float) -> Handed | None:
        if _parts(visit.at, visit.i) != "".join(names):
            return None
        upstream = _reordered(visit.upstream, order, -1)
        return visit.step.vjp(visit.p, visit.inputs, visit.output, upstream)

    return backward


def _gradients(names: Sequence[str], order: Order) -> Backward:
    def backward(visit: Visit, _: float) -> Handed | None:
        if _parts(visit.at, visit.i) != "".join(names):
            return None
        shares, gradients = visit.right
        return shares, {name: _reordered(value, order, 0) for name, value in gradients.items()}

    return backward


_JOINED = "the gradients of the gates are joined"


def _joined(names: Sequence[str], order: Order) -> str:
    """Return the code that joins an LSTM's gates in another order, or an empty string for other layers."""
    if names != _LSTM[0]:
        return ""
    return f"dz_gates = np.concatenate([{', '.join(f'd_{names[k]}' for k in order)}], axis=1)"


def _gate_rows(names: Sequence[str], orders: Sequence[Order]) -> Iterator[Variant]:
    right = " ".join(names)
    for order in orders:
        found = " ".join(names[k] for k in order)
        for backward, what in (
            (_upstream(names, order), _JOINED),
            (_gradients(names, order), "the rows of the weights' gradients are"),
        ):
            sentence = f"in {{where}}, {what} in the order {found}, not {right}"
            wrong = Wrong(
                "gates in another order",
                GATES,
                sentence,
                f"δ = [{found}]",
                f"δ = [{right}]",
                "δ",
                code=_joined(names, order) if what == _JOINED else "",
            )
            yield Variant(wrong, Dense, backward, everywhere=True)


_QKV = (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1), (1, 0, 2)


def _projection_rows() -> Iterator[Variant]:
    for order in _QKV:
        found = " ".join("qkv"[k] for k in order)
        joined = (_upstream("qkv", order), "the gradients of queries, keys and values are joined")
        for backward, what in (
            *((joined,) if order != (1, 0, 2) else ()),  # "factors swapped" covers this order
            (_gradients("qkv", order), "the rows of the joint projection's gradients are"),
        ):
            sentence = f"in {{where}}, {what} in the order {found}, not q k v"
            parts = {"q": "joined(dL_dq)", "k": "joined(dL_dk)", "v": "dL_dv_joined"}
            code = f"dL_dqkv = np.concatenate([{', '.join(parts[each] for each in found.split())}], axis=2)"
            wrong = Wrong(
                "projections in another order",
                ATTENTION,
                sentence,
                f"δ = [{found}]",
                "δ = [q k v]",
                "δ",
                code=code if backward is joined[0] else "",
            )
            yield Variant(wrong, Dense, backward)


RECURRENT = (*_gate_rows(*_LSTM), *_gate_rows(*_GRU), *_projection_rows())


def gates_in_other_orders(at: Pass) -> Iterator[Variant]:
    """Yield the mistakes in the order of the gates if a layer has its gates in another order than torch."""
    found = {_parts(at, i) for i, node in enumerate(at.graph.nodes) if isinstance(node.step, Dense)}
    for names, orders in (_LSTM, _GRU):
        for parts in sorted(found - {"".join(names)}):
            if sorted(parts) == sorted(names):
                yield from _gate_rows(tuple(parts), orders)
