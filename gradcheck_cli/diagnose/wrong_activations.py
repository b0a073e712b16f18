"""Mistakes in the factor ∂a/∂z: the factor is missing, applied twice, or evaluated at the wrong point."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gradcheck_cli.diagnose.families import DERIVATIVE, Family
from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.network.activations import Activation
from gradcheck_cli.network.functions import sigmoid
from gradcheck_cli.types import Array


def activation_row(
    kind: str, family: Family, step: Step, sentence: str, wrong: str, code: str = "", *, shown_by: str = ""
) -> Mistake:
    """Return a table row for a mistake in δ = ∂L/∂a · φ'(z)."""
    return Mistake(
        kind,
        family,
        sentence,
        wrong,
        "δ = ∂L/∂a · {phi}",
        "∂a/∂z",
        code=code,
        shown_by=shown_by,
        part=Part.ACTIVATION,
        step=step,
    )


def negative_slope_of(activation: Activation) -> float:
    """Return the slope of a leaky_relu (or relu) below 0."""
    return float(activation.derivative(np.array(-1.0)))


def alpha_of(activation: Activation) -> float:
    """Return the alpha of an elu, which is its slope just below 0."""
    return float(activation.derivative(np.array(-np.finfo(float).tiny)))


def _at_a(site: Site, _: float) -> Array:
    return site.layer.activation.vjp(site.a, site.dL_da)


def _at_input(site: Site, _: float) -> Array | None:
    if site.layer.units != site.layer.inputs:
        return None
    return site.layer.activation.vjp(site.a_h, site.dL_da)


def _without_bias(site: Site, _: float) -> Array | None:
    z = site.y_without_bias
    return None if z is None else site.layer.activation.vjp(z, site.dL_da)


def _twice(site: Site, _: float) -> Array:
    vjp = site.layer.activation.vjp
    return vjp(site.y, vjp(site.y, site.dL_da))


MISSING = "activation derivative missing"

OfA = Callable[[Array, Site], Array]

_OF_A: Mapping[str, OfA] = {
    "sigmoid": lambda a, site: site.dL_da * a * (1.0 - a),
    "tanh": lambda a, site: site.dL_da * (1.0 - a * a),
    "elu": lambda a, site: site.dL_da * np.where(a > 0, 1.0, a + alpha_of(site.layer.activation)),
    "silu": lambda a, site: site.dL_da * (sigmoid(site.y) + a * sigmoid(-site.y)),
    "softplus": lambda a, site: site.dL_da * -np.expm1(-a),
    "softmax": lambda a, site: a * (site.dL_da - (site.dL_da * a).sum(axis=-1, keepdims=True)),
}
"""Maps each activation to a function that computes ∂L/∂z with the textbook formula for φ' in terms of `a`."""


def _z_for_a(site: Site, _: float) -> Array | None:
    formula = _OF_A.get(site.layer.activation.name)
    return None if formula is None else formula(site.y, site)


def _input_for_a(site: Site, _: float) -> Array | None:
    formula = _OF_A.get(site.layer.activation.name)
    fits = site.layer.units == site.layer.inputs
    return formula(site.a_h, site) if formula and fits else None


def _mask_of_gradient(site: Site, _: float) -> Array | None:
    if site.layer.activation.name not in ("relu", "leaky_relu"):
        return None
    slope = negative_slope_of(site.layer.activation)
    return site.dL_da * np.where(site.dL_da > 0, 1.0, slope)


def _own_slope(site: Site) -> Array:
    """Return φ'(z) for all samples and units. For softmax, return its Jacobian's diagonal, aᵢ (1 − aᵢ)."""
    activation = site.layer.activation
    return site.a * (1.0 - site.a) if activation.coupled else activation.derivative(site.y)


def _averaged_slope(site: Site, _: float) -> Array | None:
    """Return c φ'(z). The loss's factor c survives if the code divides by the number of samples only later.

    Returns None if c is 1, because another row of the table covers that case.
    """
    c = site.problem.network.coefficient
    return None if c == 1.0 else c * _own_slope(site)


def _with_flat_spot(site: Site, offset: float) -> Array | None:
    if site.layer.activation.name == "identity" or site.layer.activation.coupled:
        return None
    return site.layer.activation.vjp(site.y, site.dL_da) + offset * site.dL_da


MISPLACED_MISTAKES = (
    activation_row(
        MISSING,
        DERIVATIVE,
        lambda site, _: site.dL_da,
        "in {where}, the derivative of {activation} is missing",
        "δ = ∂L/∂a",
        "delta = dL_da",
    ),
    activation_row(
        "activation derivative at a",
        DERIVATIVE,
        _at_a,
        "in {where}, the derivative of {activation} is evaluated at its output a, not at its input z",
        "δ = ∂L/∂a · φ'(a)",
        "delta = dL_da * sigmoid(a) * (1 - sigmoid(a))",
    ),
    activation_row(
        "activation derivative at z instead of a",
        DERIVATIVE,
        _z_for_a,
        "in {where}, the derivative of {activation}, {phi}, is evaluated at z instead of a",
        "δ = ∂L/∂a · {phi} with a = z",
        "delta = dL_da * z * (1 - z)",
    ),
    activation_row(
        "activation derivative at the input",
        DERIVATIVE,
        _at_input,
        "in {where}, the derivative of {activation} is evaluated at the layer's input, not at z",
        "δ = ∂L/∂a · φ'(a⁽ʰ⁾)",
        "delta = dL_da * (1 - np.tanh(a_h) ** 2)",
    ),
    activation_row(
        "activation derivative at the input",
        DERIVATIVE,
        _input_for_a,
        "in {where}, the derivative of {activation}, {phi}, is evaluated at the layer's input instead of a",
        "δ = ∂L/∂a · {phi} with a = a⁽ʰ⁾",
    ),
    activation_row(
        "activation derivative without the bias",
        DERIVATIVE,
        _without_bias,
        "in {where}, the derivative of {activation} is evaluated at z without the bias b",
        "δ = ∂L/∂a · φ'(z − b)",
        "delta_h = dL_da_h * (x @ w_h.T > 0)",
        shown_by="biases that are not 0, and pre-activations on both sides of 0",
    ),
    activation_row(
        "activation derivative twice",
        DERIVATIVE,
        _twice,
        "in {where}, the derivative of {activation} is applied twice",
        "δ = ∂L/∂a · φ'(z)²",
        "delta = dL_da * (a * (1 - a)) ** 2",
    ),
    activation_row(
        "mask of the gradient",
        DERIVATIVE,
        _mask_of_gradient,
        "in {where}, the mask of {activation} is ∂L/∂a > 0, not z > 0",
        "δ = ∂L/∂a where ∂L/∂a > 0",
        "delta_h = dL_da_h * (dL_da_h > 0)",
    ),
)

FLAT_SPOT = Mistake(
    "flat spot added",
    DERIVATIVE,
    "in {where}, {value} is added to the derivative of {activation}, a trick to escape its flat regions",
    "δ = ∂L/∂a · ({phi} + {value})",
    "δ = ∂L/∂a · {phi}",
    "∂a/∂z",
    "flat spot",
    "delta = dL_da * (a * (1 - a) + 0.1)",
    freedom=1,
    part=Part.ACTIVATION,
    step=_with_flat_spot,
    planted=0.1,
)

DROPPED_MISTAKES = (
    activation_row(
        "upstream gradient dropped",
        DERIVATIVE,
        lambda site, _: _own_slope(site),
        "in {where}, the upstream gradient ∂L/∂a is dropped: δ is the derivative of {activation} alone",
        "δ = {phi}",
        "delta = a * (1 - a)",
    ),
    activation_row(
        "upstream gradient dropped",
        DERIVATIVE,
        _averaged_slope,
        "in {where}, the upstream gradient ∂L/∂a is dropped except for the loss's factor c: "
        "δ is c times the derivative of {activation}",
        "δ = c · {phi}",
    ),
)
