"""Mistakes in the gradient of a weight, ∂L/∂w = δᵀ a⁽ʰ⁾."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from gradcheck_cli.diagnose.families import PRODUCT, TRANSPOSED, Family
from gradcheck_cli.diagnose.mistake import Mistake
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.diagnose.wrong_activations import MISSING
from gradcheck_cli.types import Array

Of = Callable[[Site], Array | None]


def sum_row(
    part: Part,
    kind: str,
    family: Family,
    step: Of,
    sentence: str,
    wrong: str,
    code: str = "",
    alike: bool = False,
    shown_by: str = "",
    refined_by: frozenset[str] = frozenset(),
) -> Mistake:
    """Return a table row for a mistake in ∂L/∂w, ∂L/∂b or ∂L/∂a⁽ʰ⁾."""
    right, factor = FORMULAS[part]
    return Mistake(
        kind,
        family,
        f"in {{where}}, {sentence}",
        wrong,
        right,
        factor,
        code=code,
        shown_by=shown_by,
        refined_by=refined_by,
        part=part,
        step=lambda site, _: step(site),
        alike=alike,
    )


FORMULAS = {
    Part.WEIGHT: ("∂L/∂w = δᵀ a⁽ʰ⁾", "∂L/∂w"),
    Part.BIAS: ("∂L/∂b = Σₙ δₙ", "∂L/∂b"),
    Part.BELOW: ("∂L/∂a⁽ʰ⁾ = δ w", "δ"),
}
"""Maps each part to its correct formula and to the factor of the chain rule that the part computes."""


def before_activation(site: Site) -> Array | None:
    """Return the site's ∂L/∂a, or None if δ is the same array."""
    return None if site.dL_da is site.delta else site.dL_da


def _weight_before(site: Site) -> Array | None:
    dL_da = before_activation(site)
    return None if dL_da is None else dL_da.T @ site.a_h


# --- the weight --------------------------------------------------------------------------------------------


def _transposed(site: Site) -> Array:
    """Return a⁽ʰ⁾ᵀ δ, which is [in, out], reshaped to [out, in] instead of transposed."""
    return (site.a_h.T @ site.delta).reshape(site.w.shape)


def _transposed_of_in_out(site: Site) -> Array:
    """Return δᵀ a⁽ʰ⁾, which is [out, in], reshaped to [in, out] and then transposed."""
    return (site.delta.T @ site.a_h).reshape(site.w.shape[::-1]).T


_MOST_BEHIND = 32
"""Every shift of δ against a⁽ʰ⁾ by fewer samples than this is tried."""


def _reordered(order: Callable[[Array], Array]) -> Of:
    return lambda site: order(site.delta).T @ site.a_h if site.samples > 1 else None


_ORDERS: tuple[tuple[str, str, Callable[[Array], Array], str, bool], ...] = (
    (
        "the samples of δ are one ahead of those of a⁽ʰ⁾",
        "Σₙ δₙ₊₁ᵀ a⁽ʰ⁾ₙ",
        lambda d: np.roll(d, -1, axis=0),
        "np.roll(delta, -1, axis=0)",
        False,
    ),
    (
        "the samples of δ are one behind those of a⁽ʰ⁾",
        "Σₙ δₙ₋₁ᵀ a⁽ʰ⁾ₙ",
        lambda d: np.roll(d, 1, axis=0),
        "np.roll(delta, 1, axis=0)",
        False,
    ),
    (
        "the samples of δ are in reverse order",
        "Σₙ δᵀ a⁽ʰ⁾ₙ, with δ in reverse order",
        lambda d: d[::-1],
        "delta[::-1]",
        False,
    ),
    *(
        (
            f"the samples of δ are {by} behind those of a⁽ʰ⁾, wrapping around",
            f"Σₙ δₙ₋{by}ᵀ a⁽ʰ⁾ₙ",
            partial(np.roll, shift=by, axis=0),
            "",
            True,
        )
        for by in range(2, _MOST_BEHIND)
    ),
)


def _pre_activation(site: Site, of: Callable[[Site, int], Array]) -> Array | None:
    return None if site.i == 0 else site.delta.T @ of(site, site.i - 1)


def _other_input(by: int) -> Of:
    """Return a step that multiplies δ by the input of another layer.

    by: the distance to the other layer, in layers; negative if the other layer is below.
    """

    def step(site: Site) -> Array | None:
        inputs = (*site.activity.inputs, site.activity.output)
        j = site.i + by
        fits = by and 0 <= j < len(inputs) and inputs[j].shape == site.a_h.shape
        return site.delta.T @ inputs[j] if fits else None

    return step


def other_delta(by: int) -> Of:
    """Return a function of a site that returns δ of another layer, or None if the shapes differ.

    by: the distance to the other layer, in layers; negative if the other layer is below.
    """

    def delta(site: Site) -> Array | None:
        if by > 0:
            other = site.above[-by] if len(site.above) >= by else None
        else:
            other = site.right_deltas[site.i + by] if 0 <= site.i + by < len(site.right_deltas) else None
        return other if other is not None and other.shape == site.delta.shape else None

    return delta


FURTHER = tuple(
    (by, f"{near} layer{'s' if near > 1 else ''} {'above' if by > 0 else 'below'}")
    for near in range(1, 12)
    for by in (near, -near)
)
"""The distances to other layers, positive upwards, each with a description in words."""


def _weight_of(delta: Of) -> Of:
    def step(site: Site) -> Array | None:
        other = delta(site)
        return None if other is None else other.T @ site.a_h

    return step


def unless_zero(parameter: Array) -> Array | None:
    """Return the parameter, or None if it is all 0.

    A parameter of 0 would give a gradient of 0, which is a different kind of mistake.
    """
    return parameter if parameter.any() else None


_OUTER: tuple[tuple[Of, str, str, str], ...] = (
    (
        lambda s: np.outer(s.delta.sum(axis=0), s.a_h.mean(axis=0)),
        "the weight's gradient is the sum of δ times the mean input, not a sum of products",
        "(Σₙ δₙ)ᵀ mean a⁽ʰ⁾",
        "np.outer(delta.sum(axis=0), a_h.mean(axis=0))",
    ),
    (
        lambda s: np.outer(s.delta.sum(axis=0), s.a_h.sum(axis=0)),
        "the weight's gradient is the sum of δ times the sum of the inputs, not a sum of products",
        "(Σₙ δₙ)ᵀ Σₙ a⁽ʰ⁾ₙ",
        "np.outer(delta.sum(axis=0), a_h.sum(axis=0))",
    ),
    (
        lambda s: np.outer(s.delta.mean(axis=0), s.a_h.mean(axis=0)),
        "the weight's gradient is the mean of δ times the mean input, not a sum of products",
        "(mean δ)ᵀ mean a⁽ʰ⁾",
        "np.outer(delta.mean(axis=0), a_h.mean(axis=0))",
    ),
)
"""Products of sums over the batch, which code may use in place of sums of products.

Each row holds the step, a sentence, a formula and code.
"""


_weight = partial(sum_row, Part.WEIGHT)

SUM_MISTAKES: tuple[Mistake, ...] = (
    _weight(
        "transposed product",
        TRANSPOSED,
        _transposed,
        "the product is a⁽ʰ⁾ᵀ δ, read as if it were [out, in]",
        "∂L/∂w = a⁽ʰ⁾ᵀ δ",
        "dL_dw = (a_h.T @ delta).reshape(w.shape)",
    ),
    _weight(
        "transposed product",
        TRANSPOSED,
        _transposed_of_in_out,
        "the product is δᵀ a⁽ʰ⁾, read as if it were [in, out]",
        "∂L/∂w = (δᵀ a⁽ʰ⁾ reshaped to [in, out])ᵀ",
    ),
    *(
        _weight(
            "samples out of order",
            PRODUCT,
            _reordered(order),
            sentence,
            f"∂L/∂w = {wrong}",
            "" if alike else f"dL_dw = {code}.T @ a_h",
            alike,
            "samples that differ",
        )
        for sentence, wrong, order, code, alike in _ORDERS
    ),
    _weight(
        "pre-activation in place of the activation",
        PRODUCT,
        lambda s: _pre_activation(s, lambda s, j: s.activity.y[j]),
        "the product uses z of the layer below instead of its activation",
        "∂L/∂w = δᵀ z⁽ʰ⁾",
        "dL_dw = delta.T @ z_h",
    ),
    _weight(
        "pre-activation in place of the activation",
        PRODUCT,
        lambda s: _pre_activation(s, lambda s, j: s.activity.z[j]),
        "the product uses a wᵀ + b of the layer below instead of its activation",
        "∂L/∂w = δᵀ z⁽ʰ⁾",
    ),
    *(
        _weight(
            "another layer's activation",
            PRODUCT,
            _other_input(by),
            f"the input comes from {further}",
            "∂L/∂w = δᵀ a of another layer",
            "dL_dw = delta.T @ x",
            abs(by) > 1,
            "layers whose activations differ",
        )
        for by, further in FURTHER
    ),
    *(
        _weight(
            "another layer's delta",
            PRODUCT,
            _weight_of(other_delta(by)),
            f"δ comes from {further}",
            "∂L/∂w = (δ of another layer)ᵀ a⁽ʰ⁾",
            "dL_dw_h = delta.T @ x",
            abs(by) > 1,
        )
        for by, further in FURTHER
    ),
    *(
        _weight("outer product of sums", PRODUCT, outer, sentence, f"∂L/∂w = {wrong}", f"dL_dw = {code}")
        for outer, sentence, wrong, code in _OUTER
    ),
    _weight(
        "parameters in place of the gradient",
        PRODUCT,
        lambda s: unless_zero(s.w),
        "the weight's gradient is the weight itself",
        "∂L/∂w = w",
        "dL_dw = w",
    ),
    _weight(
        "delta before the activation",
        PRODUCT,
        _weight_before,
        "the weight's gradient uses ∂L/∂a instead of δ",
        "∂L/∂w = ∂L/∂aᵀ a⁽ʰ⁾",
        "dL_dw = dL_da.T @ a_h",
        refined_by=frozenset({MISSING}),
    ),
)
