"""Mistakes in the loop of a recurrent layer: the state of another step, or φ' in the wrong place."""

from __future__ import annotations

from bisect import bisect_right

from gradcheck_cli.diagnose.branches import multiplies_state
from gradcheck_cli.diagnose.families import LOOPS
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Backward, Variant, Visit, gradient, share
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.network.steps.rearrange import Stack
from gradcheck_cli.types import Array


def _stack(visit: Visit) -> int:
    """Return the index of the node that stacks the output of the visited node; -1 if no node does."""
    takers = (i for i, _ in visit.at.consumers(visit.i + 1))
    return next((i for i in takers if isinstance(visit.at.graph.nodes[i].step, Stack)), -1)


def _state_before(visit: Visit) -> Array | None:
    """Return the state hₜ₋₁ if the visited node computes the state hₜ = tanh(zₜ)."""
    step, nodes = visit.step, visit.at.graph.nodes
    if not isinstance(step, Pointwise) or step.row.name != "tanh" or _stack(visit) < 0:
        return None
    below = (k for k in range(visit.i - 1, -1, -1) if multiplies_state(visit.at, k, 0))
    product = next(below, -1)
    before = visit.at.values[nodes[product].inputs[0]] if product >= 0 else None
    return before if before is not None and before.shape == visit.output.shape else None


def _derivative_before(visit: Visit) -> Array | None:
    before = _state_before(visit)
    return None if before is None else visit.upstream * (1.0 - before**2)


def _weight_of_new_state(visit: Visit) -> Array | None:
    """Return the recurrent weight's gradient, computed with hₜ in place of hₜ₋₁."""
    if not multiplies_state(visit.at, visit.i, 0):
        return None
    stacked = sorted(k for node in visit.at.graph.nodes if isinstance(node.step, Stack) for k in node.inputs)
    after = bisect_right(stacked, visit.i + 1)
    if after == len(stacked):
        return None
    state = visit.at.values[stacked[after]]
    if state.shape != visit.inputs[0].shape:
        return None
    return visit.step.vjp(visit.p, (state,), visit.output, visit.upstream)[1]["weight"]


def _carried_past(visit: Visit) -> Array | None:
    """Return ∂L/∂zₜ with φ' applied to the gradient of the step's output, but not to the carried gradient."""
    stack = _stack(visit)
    if stack not in visit.arrived or visit.step.couples != "nothing":
        return None
    node, values = visit.at.graph.nodes[stack], visit.at.values
    inputs = tuple(values[k] for k in node.inputs)
    shares, _ = node.step.vjp({}, inputs, values[stack + 1], visit.arrived[stack])
    own = shares[node.inputs.index(visit.i + 1)]
    (handed,), _ = visit.step.vjp(visit.p, visit.inputs, visit.output, own)
    passed: Array = handed + visit.upstream - own
    return passed


_RIGHT_DERIVATIVE = "∂L/∂zₜ = ∂L/∂hₜ ⊙ φ'(zₜ)"


def _row(
    step: type[Step], backward: Backward, kind: str, told: tuple[str, str, str, str], code: str
) -> Variant:
    """Return a `Variant`.

    told: the sentence, the wrong formula, the right formula, and the wrong factor.
    """
    sentence, wrong, right, factor = told
    said = Wrong(kind, LOOPS, f"in {{where}}, {sentence}", wrong, right, factor, code=code)
    return Variant(said, step, backward, everywhere=True)


STATES: tuple[Variant, ...] = (
    _row(
        Dense,
        gradient("weight", _weight_of_new_state),
        "state of another step",
        (
            "the recurrent weight's gradient uses the new state hₜ, but the weight multiplies hₜ₋₁",
            "∂L/∂w = Σₜ δₜᵀ hₜ",
            "∂L/∂w = Σₜ δₜᵀ hₜ₋₁",
            "∂L/∂w",
        ),
        "dL_dw_hh += dz.T @ h[t + 1]",
    ),
    _row(
        Pointwise,
        share(_derivative_before),
        "state of another step",
        (
            "the derivative of tanh uses the state hₜ₋₁, not hₜ",
            "∂L/∂zₜ = ∂L/∂hₜ ⊙ (1 − hₜ₋₁²)",
            "∂L/∂zₜ = ∂L/∂hₜ ⊙ (1 − hₜ²)",
            "δ",
        ),
        "dz = dL_da_t * (1 - h[t] ** 2)",
    ),
    _row(
        Pointwise,
        share(_carried_past),
        "carried gradient past the activation",
        (
            "the gradient from the next step is added after the multiplication by φ', not before it",
            "∂L/∂zₜ = ∂L/∂outₜ ⊙ φ'(zₜ) + what time step t + 1 hands back",
            _RIGHT_DERIVATIVE,
            "δ",
        ),
        "dz = y[:, t] * (1 - h[t + 1] ** 2) + dL_dh",
    ),
)
