"""Mistakes in which one use of a value or a parameter is missing from the sum over all its uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gradcheck_cli.diagnose.families import BRANCHES
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Backward, Handed, Pass, Variant, Visit
from gradcheck_cli.network.graph import Graph, Node
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.add import Add
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.rearrange import Concatenate

_LOST = "∂L/∂a = Σ over all uses of a but one", "∂L/∂a = Σ over all uses of a"

_TIME_LOST = "gradient not carried back"

BRANCH_LOST = Wrong(
    "branch forgotten",
    BRANCHES,
    "a value is used several times, but the gradient from {where} is lost, as if by = instead of +=",
    *_LOST,
    "δ",
    code="dL_da_1 = y",
    refined_by=frozenset({_TIME_LOST}),
)
SKIP_LOST = Wrong(
    "skip connection forgotten",
    BRANCHES,
    "one input of the sum in {where} gets no gradient, as if there were no skip connection",
    *_LOST,
    "δ",
    code="dL_da_1 = of_norm",
)
TIME_LOST = Wrong(
    _TIME_LOST,
    BRANCHES,
    "in {where}, the gradient does not flow back through the product with the state hₜ₋₁",
    "∂L/∂hₜ₋₁ lacks ∂L/∂zₜ · ∂zₜ/∂hₜ₋₁",
    "∂L/∂hₜ₋₁ = … + ∂L/∂zₜ · ∂zₜ/∂hₜ₋₁",
    "δ",
    code="dL_dh = np.zeros((N, 3))",
)
STATE_LOST = Wrong(
    _TIME_LOST,
    BRANCHES,
    "in {where}, no gradient flows from a time step to the preceding one: a step learns from its own output",
    "∂L/∂hₜ₋₁ = ∂L/∂outₜ₋₁",
    "∂L/∂hₜ₋₁ = ∂L/∂outₜ₋₁ + what time step t hands back",
    "δ",
)
USE_LOST = Wrong(
    "shared parameter used once",
    BRANCHES,
    "{tensor} is used several times, but its gradient lacks the part from {place}",
    "∂L/∂w = Σ over all uses of w but one",
    "∂L/∂w = Σ over all uses of w",
)
ONE_USE = Wrong(
    "shared parameter used once",
    BRANCHES,
    "{tensor} is used several times, but its gradient comes from {place} alone",
    "∂L/∂w of one use of w",
    "∂L/∂w = Σ over all uses of w",
    code="dL_dw_both = y.T @ a_1",
)


BRANCH_MISTAKES = (BRANCH_LOST, SKIP_LOST, TIME_LOST, STATE_LOST, USE_LOST, ONE_USE)


def owners(graph: Graph) -> dict[str, str]:
    """Return the layer of each parameter, by parameter name.

    A parameter that several layers share is assigned to the first of these layers.
    """
    first = ((name, node.layer) for node in reversed(graph.nodes) for name in node.names.values())
    return dict(first)


def lost_variants(nodes: Sequence[Node]) -> Iterator[Variant]:
    """Yield, for each input of each kind of step, a `Variant` that passes no gradient to that input."""
    kinds = dict.fromkeys((type(node.step), slot) for node in nodes for slot in range(len(node.inputs)))
    for kind, slot in kinds:
        yield Variant(SKIP_LOST if issubclass(kind, Add) else BRANCH_LOST, kind, _lost(slot, _branches))
    yield Variant(STATE_LOST, Step, _state_lost, everywhere=True)
    yield Variant(TIME_LOST, Dense, _lost(0, _multiplies_state))
    yield from (Variant(TIME_LOST, kind, _state_lost, everywhere=True) for kind in (Dense, Concatenate))


def _lost(slot: int, applies: Callable[[Visit, int], bool]) -> Backward:
    def backward(visit: Visit, _: float) -> Handed | None:
        shares, gradients = visit.right
        if slot >= len(shares) or not applies(visit, slot):
            return None
        return (*shares[:slot], np.zeros_like(shares[slot]), *shares[slot + 1 :]), gradients

    return backward


def _state_lost(visit: Visit, _: float) -> Handed | None:
    """Return the correct gradients, with 0 for each input that holds the state of an earlier time step."""
    shares, gradients = visit.right
    lost = [(visit.i, slot) in visit.at.carried for slot in range(len(shares))]
    if not any(lost):
        return None
    kept = (np.zeros_like(share) if is_lost else share for share, is_lost in zip(shares, lost, strict=True))
    return tuple(kept), gradients


def multiplies_state(at: Pass, i: int, slot: int) -> bool:
    """Return whether the parameters of node i multiply the state hₜ₋₁ at some time step."""
    nodes, own = at.graph.nodes, at.graph.nodes[i].names
    return bool(own) and any(taken == slot and nodes[k].names == own for k, taken in at.carried)


def _multiplies_state(visit: Visit, slot: int) -> bool:
    return multiplies_state(visit.at, visit.i, slot)


def _branches(visit: Visit, slot: int) -> bool:
    value = visit.node.inputs[slot]
    if shares_parameters(visit):
        return False
    return value > 0 and any(use != (visit.i, slot) for use in visit.at.consumers(value))


def shares_parameters(visit: Visit) -> bool:
    """Return whether another node with the same kind of step uses the same parameters, as in a time loop."""
    own, kind = set(visit.node.names.values()), type(visit.step)
    others = (node for i, node in enumerate(visit.at.graph.nodes) if i != visit.i)
    return any(own & set(node.names.values()) for node in others if type(node.step) is kind)
