"""Mistakes in the backward pass of weight normalisation."""

from __future__ import annotations

from gradcheck_cli.diagnose.families import WEIGHT_NORM as WEIGHT_NORM_FAMILY
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, gradient, share
from gradcheck_cli.network.steps.weight_norm import WeightNorm, direction, norm, row_sums
from gradcheck_cli.types import Array

_RIGHT_G = "∂L/∂g = Σ ∂L/∂w v / ‖v‖"
_RIGHT_V = "∂L/∂v = g / ‖v‖ (∂L/∂w − v / ‖v‖ · ∂L/∂g)"


def _of_w(visit: Visit) -> Array:
    """Return ∂L/∂w for the weight w = g v / ‖v‖."""
    step = visit.step
    assert isinstance(step, WeightNorm)
    _, of = step.plain.vjp(step.own(visit.p), visit.inputs, visit.output, visit.upstream)
    return of["weight"]


def _v(visit: Visit) -> Array:
    return visit.p["weight_v"]


def _scale(visit: Visit) -> Array:
    scale: Array = visit.p["weight_g"] / norm(_v(visit))
    return scale


def _along(visit: Visit) -> Array:
    """Return the part of ∂L/∂w along v."""
    unit = direction(_v(visit))
    part: Array = unit * row_sums(_of_w(visit) * unit)
    return part


def _through_v(visit: Visit) -> Array:
    """Return ∂L/∂x computed with v in place of w."""
    step = visit.step
    assert isinstance(step, WeightNorm)
    own = {**step.own(visit.p), "weight": _v(visit)}
    return step.plain.vjp(own, visit.inputs, visit.output, visit.upstream)[0][0]


_OF_V: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "norm held constant",
        lambda v: _scale(v) * _of_w(v),
        "the gradient of v holds ‖v‖ constant: the part along v is not subtracted",
        "∂L/∂v = g / ‖v‖ ∂L/∂w",
        "dL_dv = g / length * dL_dweight",
    ),
    (
        "gradient of w",
        _of_w,
        "the gradient of v is that of w",
        "∂L/∂v = ∂L/∂w",
        "dL_dv = dL_dweight",
    ),
    (
        "scale forgotten",
        lambda v: _of_w(v) - _along(v),
        "the gradient of v lacks g / ‖v‖",
        "∂L/∂v = ∂L/∂w − v / ‖v‖ · ∂L/∂g",
        "dL_dv = dL_dweight - unit * along",
    ),
    (
        "g forgotten",
        lambda v: (_of_w(v) - _along(v)) / norm(_v(v)),
        "the gradient of v lacks g",
        "∂L/∂v = (∂L/∂w − v / ‖v‖ · ∂L/∂g) / ‖v‖",
        "dL_dv = (dL_dweight - unit * along) / length",
    ),
    (
        "v not divided by its norm",
        lambda v: _scale(v) * (_of_w(v) - _v(v) * row_sums(_of_w(v) * direction(_v(v)))),
        "the gradient of v subtracts v ∂L/∂g, with v not divided by ‖v‖",
        "∂L/∂v = g / ‖v‖ (∂L/∂w − v · ∂L/∂g)",
        "dL_dv = g / length * (dL_dweight - v * along)",
    ),
)

_OF_G: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "v not divided by its norm",
        lambda v: row_sums(_of_w(v) * _v(v)),
        "the gradient of g uses v, not v / ‖v‖",
        "∂L/∂g = Σ ∂L/∂w v",
        "dL_dg = (dL_dweight * v).sum(axis=1, keepdims=True)",
    ),
    (
        "gradient of w",
        lambda v: row_sums(_of_w(v)),
        "the gradient of g is the sum of the gradient of w, without v / ‖v‖",
        "∂L/∂g = Σ ∂L/∂w",
        "dL_dg = dL_dweight.sum(axis=1, keepdims=True)",
    ),
)


def _wrong(kind: str, sentence: str, wrong: str, right: str, factor: str, code: str) -> Wrong:
    name, words = f"weight norm: {kind}", f"in {{where}}, {sentence}"
    return Wrong(name, WEIGHT_NORM_FAMILY, words, wrong, right, factor, code=code)


WEIGHT_NORM: tuple[Variant, ...] = (
    *(
        Variant(_wrong(kind, sentence, wrong, _RIGHT_V, "∂L/∂v", code), WeightNorm, gradient("weight_v", of))
        for kind, of, sentence, wrong, code in _OF_V
    ),
    *(
        Variant(_wrong(kind, sentence, wrong, _RIGHT_G, "∂L/∂g", code), WeightNorm, gradient("weight_g", of))
        for kind, of, sentence, wrong, code in _OF_G
    ),
    Variant(
        _wrong(
            "passed down through v",
            "the gradient is passed down through v, not through w",
            "∂L/∂x = δ v",
            "∂L/∂x = δ w, w = g v / ‖v‖",
            "δ",
            "dL_dx = y @ v",
        ),
        WeightNorm,
        share(_through_v),
    ),
)
