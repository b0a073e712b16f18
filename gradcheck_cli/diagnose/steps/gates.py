"""Mistakes in the backward pass of gates: products a ⊙ b and complements 1 − x."""

from __future__ import annotations

from gradcheck_cli.diagnose.families import GATES as GATES_FAMILY
from gradcheck_cli.diagnose.variant import Backward, Handed, Variant, Visit, share, variant
from gradcheck_cli.network.steps.gates import Complement, Multiply
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂a = g ⊙ b, ∂L/∂b = g ⊙ a"


def _swapped(visit: Visit, _: float) -> Handed | None:
    a, b = visit.right[0]
    return (b, a), {}


def _nothing(slot: int) -> Backward:
    return share(lambda visit: 0.0 * visit.right[0][slot], slot)


def _without_factor(slot: int) -> Backward:
    return share(lambda visit: visit.upstream, slot)


def _pre_activated(slot: int) -> Backward:
    """Return a `vjp` that multiplies g by the input, not the output, of the other factor's activation."""

    def of(visit: Visit) -> Array | None:
        other = visit.node.inputs[1 - slot] - 1
        node = visit.at.graph.nodes[other] if other >= 0 else None
        if node is None or not node.step.is_activation:
            return None
        product: Array = visit.upstream * visit.at.values[node.inputs[0]]
        return product

    return share(of, slot)


def _with_another_gate(slot: int, number: int) -> Backward:
    """Return a `vjp` that multiplies g by another gate than the other factor.

    number: which of the other gates, in the order of the nodes.
    """

    def of(visit: Visit) -> Array | None:
        own, other = visit.at.values[visit.node.inputs[slot]], visit.at.values[visit.node.inputs[1 - slot]]
        nodes = visit.at.graph.nodes
        gates = {
            node.symbol: visit.at.values[i + 1]
            for i, node in enumerate(nodes[: visit.i])
            if node.layer == visit.node.layer and node.symbol and isinstance(node.step, Pointwise)
        }
        fitting = [gate for gate in gates.values() if gate.shape == other.shape and gate is not other]
        fitting = [gate for gate in fitting if gate is not own]
        return visit.upstream * fitting[number] if number < len(fitting) else None

    return share(of, slot)


_INPUTS = (
    (0, "first", "a", "dL_dsilu, dL_dup = {}, dL_dproduct * silu"),
    (1, "second", "b", "dL_dsilu, dL_dup = dL_dproduct * up, {}"),
)

GATES: tuple[Variant, ...] = (
    variant(
        Multiply,
        "factors swapped",
        GATES_FAMILY,
        _swapped,
        "the gradients of the two factors of a ⊙ b are swapped",
        "∂L/∂a = g ⊙ a, ∂L/∂b = g ⊙ b",
        _RIGHT,
        code="dL_dsilu, dL_dup = dL_dproduct * silu, dL_dproduct * up",
    ),
    *(
        variant(
            Multiply,
            "factor's gradient lost",
            GATES_FAMILY,
            _nothing(slot),
            f"the {number} factor of a ⊙ b gets no gradient",
            f"∂L/∂{name} = 0",
            _RIGHT,
            code.format("0 * dL_dproduct"),
        )
        for slot, number, name, code in _INPUTS
    ),
    *(
        variant(
            Multiply,
            "other factor forgotten",
            GATES_FAMILY,
            _without_factor(slot),
            f"the gradient of the {number} factor of a ⊙ b lacks the other factor",
            f"∂L/∂{name} = g",
            _RIGHT,
            code.format("dL_dproduct"),
        )
        for slot, number, name, code in _INPUTS
    ),
    *(
        variant(
            Multiply,
            "factor before its activation",
            GATES_FAMILY,
            _pre_activated(slot),
            f"the gradient of the {number} factor of a ⊙ b uses z, but the other factor is φ(z)",
            f"∂L/∂{name} = g ⊙ z",
            _RIGHT,
            code,
        )
        for slot, number, name, code in (
            (1, "second", "b", "dL_dsilu, dL_dup = dL_dproduct * up, dL_dproduct * gate"),
            (0, "first", "a", ""),
        )
    ),
    *(
        variant(
            Multiply,
            "another gate",
            GATES_FAMILY,
            _with_another_gate(slot, number),
            f"the gradient of the {which} factor of a ⊙ b uses another gate in place of {other}",
            f"∂L/∂{name} = g ⊙ another gate",
            _RIGHT,
            code="dL_dh, dL_dc = dz_gates @ w_hh, dL_dc_t * i" if (slot, number) == (1, 0) else "",
        )
        for slot, which, name, other in ((0, "first", "a", "b"), (1, "second", "b", "a"))
        for number in range(3)
    ),
    variant(
        Complement,
        "complement's sign",
        GATES_FAMILY,
        share(lambda visit: visit.upstream),
        "the gradient of 1 − x lacks its minus sign",
        "∂L/∂x = g",
        "∂L/∂x = −g",
        code="dL_dupdate = dL_da_t * (h[t] + n)",
    ),
)
