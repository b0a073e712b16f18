"""Mistakes in the backward pass of dense layers and convolutions.

The mistakes are those that `table.py` lists for chains of layers, and two more: in the product, z takes the
place of the activation, or the values before dropout take the place of the values after it.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_cli.diagnose.families import DROPOUT, PRODUCT
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.site import Part
from gradcheck_cli.diagnose.sites import affine_site, result_of
from gradcheck_cli.diagnose.table import MISTAKES
from gradcheck_cli.diagnose.variant import Backward, Handed, Variant, Visit, gradient
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.convolution import Convolution
from gradcheck_cli.network.steps.dense import Dense
from gradcheck_cli.network.steps.dropout import Dropout, SampleDropout
from gradcheck_cli.types import Array

_OF_OTHERS = "another layer's"
"""The first words in the names of mistakes that count layers. Such mistakes apply only to chains."""


def _backward(mistake: Mistake) -> Backward:
    def backward(visit: Visit, value: float) -> Handed | None:
        if mistake.part is Part.BIAS and "bias" not in visit.node.names:
            return None
        result, (shares, gradients) = result_of(mistake, affine_site(visit), value), visit.right
        if result is None:
            return None
        if mistake.part is Part.BELOW:
            return (result.reshape(shares[0].shape),), gradients
        name = mistake.part.value
        return shares, {**gradients, name: result.reshape(gradients[name].shape)}

    return backward


def _of_chains(step: type[Step]) -> Iterator[Variant]:
    for part in (Part.BIAS, Part.WEIGHT, Part.BELOW):
        for mistake in MISTAKES[part]:
            if not mistake.kind.startswith(_OF_OTHERS) and mistake.solver is None:
                yield Variant(mistake, step, _backward(mistake))


def _of_undropped(visit: Visit) -> Array | None:
    """Return the weight's gradient computed from the input of the dropout below; None without a dropout."""
    below = visit.at.graph.nodes[visit.feeder] if visit.feeder >= 0 else None
    if below is None or not isinstance(below.step, Dropout | SampleDropout):
        return None
    x = visit.at.values[below.inputs[0]]
    return visit.step.vjp(visit.p, (x,), visit.output, visit.upstream)[1]["weight"]


def _of_pre_activation(visit: Visit) -> Array | None:
    """Return the weight's gradient with z in place of a = φ(z); None if no activation precedes the step."""
    below = visit.at.graph.nodes[visit.feeder] if visit.feeder >= 0 else None
    if below is None or not below.step.is_activation:
        return None
    z = visit.at.values[below.inputs[0]]
    return visit.step.vjp(visit.p, (z,), visit.output, visit.upstream)[1]["weight"]


PRE_ACTIVATION = Wrong(
    "pre-activation in place of the activation",
    PRODUCT,
    "in {where}, the product uses the input z of the activation below, not its output",
    "∂L/∂w = δᵀ z",
    "∂L/∂w = δᵀ a⁽ʰ⁾",
    "∂L/∂w",
)

UNDROPPED = Wrong(
    "dropout: mask not in backward",
    DROPOUT,
    "in {where}, the product uses the input of the dropout layer below, not that layer's output",
    "∂L/∂w = δᵀ a⁽ʰ⁾, a⁽ʰ⁾ without the mask",
    "∂L/∂w = δᵀ a⁽ʰ⁾",
    "∂L/∂w",
)

DENSE = tuple(
    variant
    for step in (Dense, Convolution)
    for variant in (
        Variant(PRE_ACTIVATION, step, gradient("weight", _of_pre_activation)),
        Variant(UNDROPPED, step, gradient("weight", _of_undropped)),
        *_of_chains(step),
    )
)
