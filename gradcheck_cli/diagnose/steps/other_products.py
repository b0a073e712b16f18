"""Mistakes in a product a wᵀ of a layer with several products, which use the weight or input of another one.

The projections of attention, the branches of a gated layer, and the products with x and h in a recurrent
layer are such products.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_cli.diagnose.families import PRODUCT
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Backward, Variant, Visit, gradient, share
from gradcheck_cli.network.graph import Node
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.gates import Multiply
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.network.steps.rearrange import Slice
from gradcheck_cli.types import Array


def _products(visit: Visit) -> list[int]:
    """Return the dense steps of the visited layer, in order of evaluation."""
    nodes, layer = visit.at.graph.nodes, visit.node.layer
    return [i for i, node in enumerate(nodes) if node.layer == layer and isinstance(node.step, Dense)]


# --- the weight of another product -------------------------------------------------------------------------


def _of_same_input(visit: Visit) -> list[Node]:
    """Return the dense steps of the layer with the visited one's input and shape, in order of evaluation."""
    nodes = (visit.at.graph.nodes[i] for i in _products(visit))
    step, inputs = visit.step, visit.node.inputs
    return [node for node in nodes if node.inputs == inputs and node.step.shapes == step.shapes]


def _through(visit: Visit, other: Node) -> Array:
    p = {**visit.p, "weight": visit.at.problem.parameters[other.names["weight"]]}
    return visit.step.vjp(p, visit.inputs, visit.output, visit.upstream)[0][0]


def _exchanged(first: int, second: int) -> Backward:
    """Return a `vjp` in which two products of the same input pass δ down through each other's weights."""

    def of(visit: Visit) -> Array | None:
        alike = _of_same_input(visit)
        if second >= len(alike):
            return None
        here = next(k for k, node in enumerate(alike) if node.names == visit.node.names)
        return _through(visit, alike[first + second - here]) if here in (first, second) else None

    return share(of)


def _by_another(further: int) -> Backward:
    """Return a `vjp` that passes δ down through the weight of another product of the same input.

    further: the number of products from this one to the other one; after the last one comes the first.
    """

    def of(visit: Visit) -> Array | None:
        alike = _of_same_input(visit)
        if further >= len(alike):
            return None
        here = next(k for k, node in enumerate(alike) if node.names == visit.node.names)
        return _through(visit, alike[(here + further) % len(alike)])

    return share(of)


_HANDED_DOWN = "∂L/∂x = δ w of the other product", "∂L/∂x = δ w"


def _weights() -> Iterator[Variant]:
    kind = "weight of another product"
    for pair in ((0, 1), (0, 2), (1, 2)):
        sentence = "two products of the same input pass δ down through each other's weight"
        code = "dL_dx = dL_dgate @ w_up + dL_dup @ w_gate" if pair == (0, 1) else ""
        wrong = Wrong(kind, PRODUCT, f"in {{where}}, {sentence}", *_HANDED_DOWN, "δ", code=code)
        yield Variant(wrong, Dense, _exchanged(*pair), everywhere=True)
    for further in (1, 2):
        sentence = "a product passes δ down through the weight of another product of the same input"
        code = "dL_dx = dL_dgate @ w_gate + dL_dup @ w_gate" if further == 1 else ""
        wrong = Wrong(kind, PRODUCT, f"in {{where}}, {sentence}", *_HANDED_DOWN, "δ", code=code)
        yield Variant(wrong, Dense, _by_another(further))


# --- the input of another product --------------------------------------------------------------------------


def _input_nearby(visit: Visit) -> Array | None:
    """Return the weight's gradient with the input of the nearest product with another weight that fits."""
    nodes, own = visit.at.graph.nodes, visit.node.inputs[0]
    others = (i for i in _products(visit) if nodes[i].names != visit.node.names)
    near = sorted(others, key=lambda i: abs(i - visit.i))
    values = (nodes[i].inputs[0] for i in near)
    fitting = (k for k in values if k != own and visit.at.values[k].shape == visit.inputs[0].shape)
    other = next(fitting, -1)
    return None if other < 0 else _weight_gradient(visit, visit.at.values[other])


def _cell_state(visit: Visit) -> Array | None:
    """Return the weight's gradient with the cell state cₜ₋₁ of an LSTM in place of the product's input."""
    nodes, values, reached = visit.at.graph.nodes, visit.at.values, [visit.i + 1]
    for value in reached:
        for i, slot in visit.at.consumers(value):
            if isinstance(nodes[i].step, Add | Slice | Pointwise):
                reached.append(i + 1)
            elif isinstance(nodes[i].step, Multiply):
                other = nodes[i].inputs[1 - slot]
                is_state = other <= visit.i and other != visit.node.inputs[0]
                if is_state and values[other].shape == visit.inputs[0].shape:
                    return _weight_gradient(visit, values[other])
    return None


def _weight_gradient(visit: Visit, x: Array) -> Array:
    return visit.step.vjp(visit.p, (x,), visit.output, visit.upstream)[1]["weight"]


_INPUTS = (
    Variant(
        Wrong(
            "input of another product",
            PRODUCT,
            "in {where}, the weight's gradient uses the input of another product of the layer",
            "∂L/∂w = δᵀ a of the other product",
            "∂L/∂w = δᵀ a⁽ʰ⁾",
            "∂L/∂w",
            code='dL_dw_out, dL_db_out = np.einsum("nto,nti->oi", y, x), y.sum(axis=(0, 1))',
        ),
        Dense,
        gradient("weight", _input_nearby),
    ),
    Variant(
        Wrong(
            "cell state in place of the hidden state",
            PRODUCT,
            "in {where}, the weight's gradient uses the cell state cₜ₋₁, not the product's own input",
            "∂L/∂w = Σₜ δₜᵀ cₜ₋₁",
            "∂L/∂w = Σₜ δₜᵀ hₜ₋₁",
            "∂L/∂w",
            code="dL_dw_hh += dz_gates.T @ c[t]",
        ),
        Dense,
        gradient("weight", _cell_state),
    ),
)

OTHER_PRODUCTS: tuple[Variant, ...] = (*_weights(), *_INPUTS)
