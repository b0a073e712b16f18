"""Mistakes in ∂a/∂z: missing, taken at the wrong point, or another formula's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.model.activations import ACTIVATIONS, Activation
from gradcheck_cli.model.network import Layer
from gradcheck_cli.model.special import Array, normal_cdf, normal_pdf, sigmoid

DERIVATIVE = "activation derivative"
FORMULA = "activation formula"

Slope = Callable[[Array, Array, Layer], Array]
"""A wrong φ'(z) of y, a and the layer."""


def _row(kind: str, family: str, step: Step, sentence: str, wrong: str) -> Mistake:
    right, factor = "δ = ∂L/∂a · {phi}", "∂a/∂z"
    return Mistake(kind, family, sentence, wrong, right, factor, part=Part.ACTIVATION, step=step)


# --- the right formula at the wrong place ------------------------------------------------------------------


def _at_a(site: Site, _: float) -> Array:
    return site.layer.activation.vjp(site.a, site.dL_da)


def _at_input(site: Site, _: float) -> Array | None:
    if site.layer.units != site.layer.inputs:
        return None
    return site.layer.activation.vjp(site.a_h, site.dL_da)


def _twice(site: Site, _: float) -> Array:
    vjp = site.layer.activation.vjp
    return vjp(site.y, vjp(site.y, site.dL_da))


OfA = Callable[[Array, Site], Array]

_OF_A: Mapping[str, OfA] = {
    "sigmoid": lambda a, site: site.dL_da * a * (1.0 - a),
    "tanh": lambda a, site: site.dL_da * (1.0 - a * a),
    "elu": lambda a, site: site.dL_da * np.where(a > 0, 1.0, a + _alpha(site.layer.activation)),
    "silu": lambda a, site: site.dL_da * (sigmoid(site.y) + a * sigmoid(-site.y)),
    "softplus": lambda a, site: site.dL_da * -np.expm1(-a),
    "softmax": lambda a, site: a * (site.dL_da - (site.dL_da * a).sum(axis=-1, keepdims=True)),
}
"""∂L/∂z with a derivative that textbooks write in terms of a."""


def _z_for_a(site: Site, _: float) -> Array | None:
    formula = _OF_A.get(site.layer.activation_name)
    return None if formula is None else formula(site.y, site)


def _input_for_a(site: Site, _: float) -> Array | None:
    formula = _OF_A.get(site.layer.activation_name)
    fits = site.layer.units == site.layer.inputs
    return formula(site.a_h, site) if formula and fits else None


def _mask_of_gradient(site: Site, _: float) -> Array | None:
    if site.layer.activation_name not in ("relu", "leaky_relu"):
        return None
    slope = _negative_slope(site.layer.activation)
    return site.dL_da * np.where(site.dL_da > 0, 1.0, slope)


MISPLACED_MISTAKES = (
    _row(
        "activation derivative missing",
        DERIVATIVE,
        lambda site, _: site.dL_da,
        "in {where} the derivative of {activation} is missing",
        "δ = ∂L/∂a",
    ),
    _row(
        "activation derivative at a",
        DERIVATIVE,
        _at_a,
        "in {where} the derivative of {activation} is taken at a, which has been through it, not at z",
        "δ = ∂L/∂a · φ'(a)",
    ),
    _row(
        "activation derivative of z taken for a",
        DERIVATIVE,
        _z_for_a,
        "in {where} the derivative of {activation}, {phi}, is given z in place of a",
        "δ = ∂L/∂a · {phi} with a = z",
    ),
    _row(
        "activation derivative at the input",
        DERIVATIVE,
        _at_input,
        "in {where} the derivative of {activation} is taken at the layer's input, not at z",
        "δ = ∂L/∂a · φ'(a⁽ʰ⁾)",
    ),
    _row(
        "activation derivative at the input",
        DERIVATIVE,
        _input_for_a,
        "in {where} the derivative of {activation}, {phi}, is given the layer's input in place of a",
        "δ = ∂L/∂a · {phi} with a = a⁽ʰ⁾",
    ),
    _row(
        "activation derivative twice",
        DERIVATIVE,
        _twice,
        "in {where} the derivative of {activation} is multiplied in twice",
        "δ = ∂L/∂a · φ'(z)²",
    ),
    _row(
        "mask of the gradient",
        DERIVATIVE,
        _mask_of_gradient,
        "in {where} {activation} lets through where ∂L/∂a > 0, not where z > 0",
        "δ = ∂L/∂a where ∂L/∂a > 0",
    ),
)


# --- an option of the activation ---------------------------------------------------------------------------


def _negative_slope(activation: Activation) -> float:
    return float(activation.derivative(np.array(-1.0)))


def _alpha(activation: Activation) -> float:
    return float(activation.derivative(np.array(-np.finfo(float).tiny)))


def _leaky(site: Site, slope: float) -> Array | None:
    if site.layer.activation_name not in ("relu", "leaky_relu"):
        return None
    return site.dL_da * np.where(site.y > 0, 1.0, slope)


def _elu(site: Site, alpha: float) -> Array | None:
    if site.layer.activation_name != "elu":
        return None
    return site.dL_da * np.where(site.y > 0, 1.0, alpha * np.exp(np.minimum(site.y, 0.0)))


def _elu_of_a(site: Site, alpha: float) -> Array | None:
    """a + alpha with another alpha than that of a."""
    if site.layer.activation_name != "elu":
        return None
    return site.dL_da * np.where(site.y > 0, 1.0, site.a + alpha)


def _option(name: str, step: Step, wrong: str, planted: float) -> Mistake:
    return Mistake(
        "activation option",
        FORMULA,
        f"in {{where}} the derivative of {{activation}} has {name} = {{value}}, unlike the forward pass",
        wrong,
        "δ = ∂L/∂a · {phi}",
        "∂a/∂z",
        name,
        part=Part.ACTIVATION,
        step=step,
        planted=planted,
    )


_OPTIONS = (
    _option("negative_slope", _leaky, "δ = ∂L/∂a · (1 if z > 0, else {value})", 0.2),
    _option("alpha", _elu, "δ = ∂L/∂a · (1 if z > 0, else {value} eᶻ)", 0.5),
    _option("alpha", _elu_of_a, "δ = ∂L/∂a · (1 if z > 0, else a + {value})", 0.5),
)


# --- a slip in the formula ---------------------------------------------------------------------------------


def _tanh_gelu_inner(z: Array) -> Array:
    return np.tanh(np.sqrt(2.0 / np.pi) * (z + 0.044715 * z * z * z))


_SLIPS: Mapping[str, Mapping[str, Slope]] = {
    "sigmoid": {
        "a": lambda z, a, _: a,
        "1 − a": lambda z, a, _: 1.0 - a,
        "a (1 + a)": lambda z, a, _: a * (1.0 + a),
        "1 − a²": lambda z, a, _: 1.0 - a * a,
        "a²": lambda z, a, _: a * a,
        "a² (1 − a)": lambda z, a, _: a * a * (1.0 - a),
        "a (1 − a)²": lambda z, a, _: a * (1.0 - a) ** 2,
        "z (1 − a)": lambda z, a, _: z * (1.0 - a),
        "a (1 − z)": lambda z, a, _: a * (1.0 - z),
        "e⁻ᶻ / (1 + e⁻ᶻ)": lambda z, a, _: sigmoid(-z),
        "1 / (1 + e⁻ᶻ)²": lambda z, a, _: a * a,
        "e⁻ᶻ": lambda z, a, _: np.exp(-z),
    },
    "tanh": {
        "1 − a": lambda z, a, _: 1.0 - a,
        "1 + a": lambda z, a, _: 1.0 + a,
        "1 + a²": lambda z, a, _: 1.0 + a * a,
        "a (1 − a)": lambda z, a, _: a * (1.0 - a),
        "(1 − a)²": lambda z, a, _: (1.0 - a) ** 2,
        "a²": lambda z, a, _: a * a,
        "a": lambda z, a, _: a,
        "1 − 2a²": lambda z, a, _: 1.0 - 2.0 * a * a,
    },
    "relu": {
        "1 if z < 0, else 0": lambda z, a, _: (z < 0).astype(float),
        "1 if z ≤ 0, else 0": lambda z, a, _: (z <= 0).astype(float),
        "sign(z)": lambda z, a, _: np.sign(z),
        "z if z > 0, else 0": lambda z, a, _: a,
        "1 if z > 1, else 0": lambda z, a, _: (z > 1).astype(float),
    },
    "leaky_relu": {
        "negative_slope if z > 0, else 1": lambda z, a, layer: np.where(
            z > 0, _negative_slope(layer.activation), 1.0
        ),
        "1 if z > 0, else −negative_slope": lambda z, a, layer: np.where(
            z > 0, 1.0, -_negative_slope(layer.activation)
        ),
        "1 if z > 0, else negative_slope z": lambda z, a, _: np.where(z > 0, 1.0, a),
    },
    "elu": {
        "1 if z > 0, else a": lambda z, a, _: np.where(z > 0, 1.0, a),
        "1 if z > 0, else a + 1": lambda z, a, _: np.where(z > 0, 1.0, a + 1.0),
        "1 if z > 0, else eᶻ": lambda z, a, _: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0.0))),
        "1 if z > 0, else eᵃ": lambda z, a, _: np.where(z > 0, 1.0, np.exp(np.minimum(a, 0.0))),
        "1 if z > 0, else alpha eᵃ": lambda z, a, layer: np.where(
            z > 0, 1.0, _alpha(layer.activation) * np.exp(np.minimum(a, 0.0))
        ),
        "1 if z > 0, else alpha (eᶻ − 1) + 1": lambda z, a, _: np.where(z > 0, 1.0, a + 1.0),
        "1 if z > 0, else −alpha eᶻ": lambda z, a, layer: np.where(
            z > 0, 1.0, -_alpha(layer.activation) * np.exp(np.minimum(z, 0.0))
        ),
        "z if z > 0, else alpha eᶻ": lambda z, a, layer: np.where(
            z > 0, z, _alpha(layer.activation) * np.exp(np.minimum(z, 0.0))
        ),
    },
    "gelu": {
        "Φ(z)": lambda z, a, _: normal_cdf(z),
        "z Φ'(z)": lambda z, a, _: z * normal_pdf(z),
        "Φ(z) − z Φ'(z)": lambda z, a, _: normal_cdf(z) - z * normal_pdf(z),
        "Φ(z) + Φ'(z)": lambda z, a, _: normal_cdf(z) + normal_pdf(z),
        "Φ'(z)": lambda z, a, _: normal_pdf(z),
        "σ(1.702 z)": lambda z, a, _: sigmoid(1.702 * z),
        "σ(1.702 z) (1 + 1.702 z (1 − σ(1.702 z)))": lambda z, a, _: (
            sigmoid(1.702 * z) * (1.0 + 1.702 * z * sigmoid(-1.702 * z))
        ),
        "½ (1 + tanh(…))": lambda z, a, _: 0.5 * (1.0 + _tanh_gelu_inner(z)),
        "½ (1 + tanh(…)) + ½ z (1 − tanh²(…))": lambda z, a, _: (
            0.5 * (1.0 + _tanh_gelu_inner(z)) + 0.5 * z * (1.0 - _tanh_gelu_inner(z) ** 2)
        ),
        "½ (1 + tanh(…)) + ½ z (1 − tanh²(…)) √(2/π)": lambda z, a, _: (
            0.5 * (1.0 + _tanh_gelu_inner(z))
            + 0.5 * z * (1.0 - _tanh_gelu_inner(z) ** 2) * np.sqrt(2.0 / np.pi)
        ),
    },
    "silu": {
        "σ(z)": lambda z, a, _: sigmoid(z),
        "σ(z) (1 − σ(z))": lambda z, a, _: sigmoid(z) * sigmoid(-z),
        "z σ(z) (1 − σ(z))": lambda z, a, _: a * sigmoid(-z),
        "σ(z) + σ(z) (1 − σ(z))": lambda z, a, _: sigmoid(z) + sigmoid(z) * sigmoid(-z),
        "σ(z) + a": lambda z, a, _: sigmoid(z) + a,
        "σ(z) + a σ(z)": lambda z, a, _: sigmoid(z) + a * sigmoid(z),
        "σ(z) + z (1 − σ(z))": lambda z, a, _: sigmoid(z) + z * sigmoid(-z),
        "σ(z) − a (1 − σ(z))": lambda z, a, _: sigmoid(z) - a * sigmoid(-z),
        "a + σ(z) (1 − σ(z))": lambda z, a, _: a + sigmoid(z) * (1.0 - sigmoid(z)),
        "σ(z) (1 − a)": lambda z, a, _: sigmoid(z) * (1.0 - a),
        "a (1 − a)": lambda z, a, _: a * (1.0 - a),
    },
    "softplus": {
        "σ(−z)": lambda z, a, _: sigmoid(-z),
        "σ(a)": lambda z, a, _: sigmoid(a),
        "−σ(−z)": lambda z, a, _: -sigmoid(-z),
        "eᶻ": lambda z, a, _: np.exp(z),
        "eᶻ − 1": lambda z, a, _: np.exp(z) - 1.0,
        "1 / (1 + eᶻ)²": lambda z, a, _: sigmoid(-z) ** 2,
    },
}
"""By activation: wrong formulas of its derivative, as they are written."""


def _slip(name: str, formula: str, slope: Slope) -> Mistake:
    def step(site: Site, _: float) -> Array | None:
        if site.layer.activation_name != name:
            return None
        return site.dL_da * slope(site.y, site.a, site.layer)

    return _row(
        "slip in the activation's formula",
        FORMULA,
        step,
        f"in {{where}} the derivative of {{activation}} is written {formula}",
        f"δ = ∂L/∂a · ({formula})",
    )


# --- another activation's formula --------------------------------------------------------------------------


def _another(name: str, activation: Activation) -> Mistake:
    def step(site: Site, _: float) -> Array | None:
        if site.layer.activation_name == name:  # with another option, which is solved for
            return None
        return site.dL_da * activation.derivative(site.y)

    return _row(
        "another activation's derivative",
        FORMULA,
        step,
        f"in {{where}} the derivative is that of {name}, and the forward pass takes {{activation}}",
        f"δ = ∂L/∂a · {name}'(z)",
    )


def _others() -> Iterator[Mistake]:
    for name, row in ACTIVATIONS.items():
        if name == "gelu":
            yield _another("the exact gelu", row.with_options(approximate="none"))
            yield _another("gelu's tanh approximation", row.with_options(approximate="tanh"))
        elif name != "identity" and not row.coupled:
            yield _another(name, row.with_options())


# --- softmax -----------------------------------------------------------------------------------------------


def _coupled(step: Callable[[Array, Array], Array]) -> Step:
    return lambda site, _: step(site.a, site.dL_da) if site.layer.activation.coupled else None


_SOFTMAX = (
    _row(
        "softmax diagonal only",
        FORMULA,
        _coupled(lambda a, dL_da: dL_da * a * (1.0 - a)),
        "in {where} only the diagonal of softmax's Jacobian is used, as if every output had its own z alone",
        "δᵢ = ∂L/∂aᵢ · aᵢ (1 − aᵢ)",
    ),
    _row(
        "slip in the activation's formula",
        FORMULA,
        _coupled(lambda a, dL_da: dL_da * a),
        "in {where} softmax's Jacobian lacks its product of two outputs, −aᵢ aⱼ",
        "δᵢ = ∂L/∂aᵢ · aᵢ",
    ),
    _row(
        "slip in the activation's formula",
        FORMULA,
        _coupled(lambda a, dL_da: a * (dL_da + (dL_da * a).sum(axis=-1, keepdims=True))),
        "in {where} softmax's Jacobian has + aᵢ aⱼ for − aᵢ aⱼ",
        "δⱼ = Σᵢ ∂L/∂aᵢ · aᵢ (1[i=j] + aⱼ)",
    ),
    _row(
        "slip in the activation's formula",
        FORMULA,
        _coupled(lambda a, dL_da: -a * ((dL_da * a).sum(axis=-1, keepdims=True) - dL_da * a)),
        "in {where} softmax's Jacobian lacks its diagonal",
        "δⱼ = −Σᵢ ∂L/∂aᵢ · aᵢ aⱼ over i ≠ j",
    ),
)


FORMULA_MISTAKES: tuple[Mistake, ...] = (
    *_SOFTMAX,
    *(_slip(name, formula, slope) for name, slips in _SLIPS.items() for formula, slope in slips.items()),
    *_others(),
    *_OPTIONS,
)
