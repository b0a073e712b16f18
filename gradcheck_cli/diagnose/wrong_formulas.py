"""Wrong formulas for ∂a/∂z: a wrong option, a slip, or the derivative of another activation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gradcheck_cli.diagnose.families import FORMULA
from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.diagnose.wrong_activations import activation_row, alpha_of, negative_slope_of
from gradcheck_cli.network.activations import ACTIVATIONS, Activation
from gradcheck_cli.network.functions import normal_cdf, normal_pdf, sigmoid
from gradcheck_cli.network.layer import Layer
from gradcheck_cli.types import Array

Slope = Callable[[Array, Array, Layer], Array]
"""A function that takes `y`, `a` and the layer they belong to, and returns a wrong φ'(z)."""


# --- an option of the activation ---------------------------------------------------------------------------


def _leaky(site: Site, slope: float) -> Array | None:
    if site.layer.activation.name not in ("relu", "leaky_relu"):
        return None
    return site.dL_da * np.where(site.y > 0, 1.0, slope)


def _elu(site: Site, alpha: float) -> Array | None:
    if site.layer.activation.name != "elu":
        return None
    return site.dL_da * np.where(site.y > 0, 1.0, alpha * np.exp(np.minimum(site.y, 0.0)))


def _elu_of_a(site: Site, alpha: float) -> Array | None:
    """Return ∂L/∂a · φ'(z) for an elu whose slope below 0 is `a + alpha`, with a wrong alpha."""
    if site.layer.activation.name != "elu":
        return None
    return site.dL_da * np.where(site.y > 0, 1.0, site.a + alpha)


def _option(name: str, step: Step, wrong: str, planted: float, code: str = "") -> Mistake:
    return Mistake(
        "activation option",
        FORMULA,
        f"in {{where}}, the derivative of {{activation}} has {name} = {{value}}, unlike the forward pass",
        wrong,
        "δ = ∂L/∂a · {phi}",
        "∂a/∂z",
        name,
        code,
        shown_by="pre-activations below 0",
        freedom=1,
        part=Part.ACTIVATION,
        step=step,
        planted=planted,
    )


_OPTIONS = (
    _option(
        "negative_slope",
        _leaky,
        "δ = ∂L/∂a · (1 if z > 0, else {value})",
        0.2,
        "delta_h = dL_da_h * np.where(z_h > 0, 1, 0.2)",
    ),
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
        "(1 − a)²": lambda z, a, _: (1.0 - a) ** 2,
        "a²": lambda z, a, _: a * a,
        "−a²": lambda z, a, _: -a * a,
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
            z > 0, negative_slope_of(layer.activation), 1.0
        ),
        "1 if z > 0, else −negative_slope": lambda z, a, layer: np.where(
            z > 0, 1.0, -negative_slope_of(layer.activation)
        ),
        "1 if z > 0, else negative_slope z": lambda z, a, _: np.where(z > 0, 1.0, a),
    },
    "elu": {
        "1 if z > 0, else a": lambda z, a, _: np.where(z > 0, 1.0, a),
        "1 if z > 0, else a + 1": lambda z, a, _: np.where(z > 0, 1.0, a + 1.0),
        "1 if z > 0, else eᶻ": lambda z, a, _: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0.0))),
        "1 if z > 0, else eᵃ": lambda z, a, _: np.where(z > 0, 1.0, np.exp(np.minimum(a, 0.0))),
        "1 if z > 0, else alpha eᵃ": lambda z, a, layer: np.where(
            z > 0, 1.0, alpha_of(layer.activation) * np.exp(np.minimum(a, 0.0))
        ),
        "1 if z > 0, else alpha (eᶻ − 1) + 1": lambda z, a, _: np.where(z > 0, 1.0, a + 1.0),
        "1 if z > 0, else −alpha eᶻ": lambda z, a, layer: np.where(
            z > 0, 1.0, -alpha_of(layer.activation) * np.exp(np.minimum(z, 0.0))
        ),
        "z if z > 0, else alpha eᶻ": lambda z, a, layer: np.where(
            z > 0, z, alpha_of(layer.activation) * np.exp(np.minimum(z, 0.0))
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
"""Common slips in the formula for the derivative of each activation."""


def _slip(name: str, formula: str, slope: Slope, code: str = "") -> Mistake:
    def step(site: Site, _: float) -> Array | None:
        if site.layer.activation.name != name:
            return None
        return site.dL_da * slope(site.y, site.a, site.layer)

    return activation_row(
        "slip in the activation's formula",
        FORMULA,
        step,
        f"in {{where}}, the derivative of {{activation}} is written as {formula}",
        f"δ = ∂L/∂a · ({formula})",
        code,
    )


# --- another activation's formula --------------------------------------------------------------------------


def _another(name: str, activation: Activation) -> Mistake:
    def step(site: Site, _: float) -> Array | None:
        if site.layer.activation.name == name:  # other rows solve for its options
            return None
        return site.dL_da * activation.derivative(site.y)

    return activation_row(
        "another activation's derivative",
        FORMULA,
        step,
        f"in {{where}}, the derivative is that of {name}, but the forward pass uses {{activation}}",
        f"δ = ∂L/∂a · {name}'(z)",
    )


def _others() -> Iterator[Mistake]:
    for name, row in ACTIVATIONS.items():
        if name == "gelu":
            yield _another("the exact gelu", row.with_options(approximate="none"))
            yield _another("gelu's tanh approximation", row.with_options(approximate="tanh"))
        elif name != "identity" and not row.coupled:
            yield _another(name, row.with_options())


_OF_A: tuple[tuple[str, str, Callable[[Array], Array], tuple[str, ...], str], ...] = (
    ("sigmoid", "a (1 − a)", lambda a: a * (1.0 - a), ("softmax",), "delta = dL_da * a * (1 - a)"),
    ("tanh", "1 − a²", lambda a: 1.0 - a * a, (), "delta = dL_da * (1 - a**2)"),
    ("softplus", "1 − exp(−a)", lambda a: -np.expm1(-a), (), "delta = dL_da * (1 - np.exp(-a))"),
    (
        "elu",
        "1 if a > 0, else a + 1",
        lambda a: np.where(a > 0, 1.0, a + 1.0),
        ("sigmoid", "relu", "softplus", "softmax"),
        "delta = dL_da * np.where(a > 0, 1, a + 1)",
    ),
)
"""Derivatives that are written in terms of the activation `a`.

Each row holds the activation, the formula, a function, the activations to skip, and numpy code. An activation
is skipped if it makes the formula equal to that of another mistake. For instance, if `a` is never negative,
the derivative of elu is 1, as if the derivative were missing.
"""


def _written_by_a(
    name: str, formula: str, slope: Callable[[Array], Array], not_of: tuple[str, ...], code: str
) -> Mistake:
    def step(site: Site, _: float) -> Array | None:
        return None if site.layer.activation.name in (name, *not_of) else site.dL_da * slope(site.a)

    return activation_row(
        "another activation's derivative",
        FORMULA,
        step,
        f"in {{where}}, the derivative is {formula}, that of {name}, "
        "but the forward pass uses {activation}",
        f"δ = ∂L/∂a · {formula if name == 'sigmoid' else f'({formula})'}",
        code,
    )


# --- softmax -----------------------------------------------------------------------------------------------


def _coupled(step: Callable[[Array, Array], Array]) -> Step:
    return lambda site, _: step(site.a, site.dL_da) if site.layer.activation.coupled else None


_SOFTMAX = (
    activation_row(
        "softmax diagonal only",
        FORMULA,
        _coupled(lambda a, dL_da: dL_da * a * (1.0 - a)),
        "in {where}, only the diagonal of softmax's Jacobian is used, "
        "as if each output depended only on its own z",
        "δᵢ = ∂L/∂aᵢ · aᵢ (1 − aᵢ)",
        "delta = dL_da * a * (1 - a)",
    ),
    activation_row(
        "slip in the activation's formula",
        FORMULA,
        _coupled(lambda a, dL_da: dL_da * a),
        "in {where}, softmax's Jacobian lacks the term −aᵢ aⱼ",
        "δᵢ = ∂L/∂aᵢ · aᵢ",
    ),
    activation_row(
        "slip in the activation's formula",
        FORMULA,
        _coupled(lambda a, dL_da: a * (dL_da + (dL_da * a).sum(axis=-1, keepdims=True))),
        "in {where}, softmax's Jacobian contains +aᵢ aⱼ instead of −aᵢ aⱼ",
        "δⱼ = Σᵢ ∂L/∂aᵢ · aᵢ (1[i=j] + aⱼ)",
    ),
    activation_row(
        "slip in the activation's formula",
        FORMULA,
        _coupled(lambda a, dL_da: -a * ((dL_da * a).sum(axis=-1, keepdims=True) - dL_da * a)),
        "in {where}, softmax's Jacobian lacks its diagonal",
        "δⱼ = −Σᵢ ∂L/∂aᵢ · aᵢ aⱼ over i ≠ j",
    ),
)


FORMULA_MISTAKES: tuple[Mistake, ...] = (
    *_SOFTMAX,
    _slip("sigmoid", "a (1 + a)", lambda z, a, _: a * (1.0 + a), "delta = dL_da * a * (1 + a)"),
    *(_slip(name, formula, slope) for name, slips in _SLIPS.items() for formula, slope in slips.items()),
    *(_written_by_a(*row) for row in _OF_A),
    *_others(),
    *_OPTIONS,
)
