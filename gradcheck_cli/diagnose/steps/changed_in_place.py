"""An upstream gradient that backward changes in place, so that a second call starts from the changed one.

A loop over time often runs `dout[:, t] += dh`, where dh is what step t + 1 hands back. The first call is
right. In a second call, dout already holds ∂L/∂hₜ of the first call.
"""

from __future__ import annotations

from gradcheck_cli.diagnose.families import LOOPS
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Handed, Variant, Visit
from gradcheck_cli.network.steps.rearrange import Stack
from gradcheck_cli.types import Array


def _of_second_call(visit: Visit, _: float) -> Handed | None:
    """Return ∂L/∂hₜ of the first call for each stacked state hₜ; None if no state is carried on."""
    at, states = visit.at, visit.node.inputs
    if not any(use in at.carried for state in states for use in at.consumers(state)):
        return None
    total = dict[int, Array]()
    _add(total, states, visit.right[0])
    for i in range(visit.i - 1, min(states) - 1, -1):
        if i + 1 in total:
            node = at.graph.nodes[i]
            below = Visit(at, i, total[i + 1], {})
            _add(total, node.inputs, below.right[0])
    return tuple(total[state] for state in states), {}


def _add(total: dict[int, Array], values: tuple[int, ...], shares: tuple[Array, ...]) -> None:
    for value, share in zip(values, shares, strict=True):
        total[value] = total[value] + share if value in total else share


CHANGED_IN_PLACE: tuple[Variant, ...] = (
    Variant(
        Wrong(
            "upstream changed in place",
            LOOPS,
            "in {where}, each step's upstream gradient already includes what the next step hands back, as in "
            "a second call of a backward pass that changes its upstream gradient in place",
            "∂L/∂hₜ = ∂L/∂hₜ of the first call + what time step t + 1 hands back",
            "∂L/∂hₜ = ∂L/∂outₜ + what time step t + 1 hands back",
            "δ",
            code=(
                "first = np.zeros((N, 3))  # what an earlier call has added to y[:, t]\n"
                "for s in range(T - 1, t, -1):\n"
                "    first = ((first + y[:, s]) * (1 - h[s + 1] ** 2)) @ w_hh\n"
                "dL_da_t = dL_dh + y[:, t] + first"
            ),
            shown_by="more than one time step",
        ),
        Stack,
        _of_second_call,
    ),
)
