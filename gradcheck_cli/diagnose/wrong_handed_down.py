"""Mistakes in ∂L/∂a⁽ʰ⁾ = δ w, the gradient that a layer passes to the layer below."""

from __future__ import annotations

from functools import partial

import numpy as np

from gradcheck_cli.diagnose.families import EARLY, PRODUCT, TRANSPOSED
from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.rows import parameter
from gradcheck_cli.diagnose.site import Part, Site, penalty_terms
from gradcheck_cli.diagnose.wrong_activations import MISSING
from gradcheck_cli.diagnose.wrong_sums import (
    FORMULAS,
    FURTHER,
    Of,
    before_activation,
    sum_row,
)
from gradcheck_cli.types import Array


def _updated(with_penalty: bool) -> Step:
    def step(site: Site, rate: float) -> Array | None:
        terms = penalty_terms(site.problem, site.layer.weight)
        if not with_penalty and not terms:
            return None
        gradient = site.weight_gradient
        used = gradient if with_penalty else gradient - sum(terms.values())
        return site.handed_down(site.delta, site.w - rate * used)

    return step


def _early(with_penalty: bool) -> Mistake:
    right, _ = FORMULAS[Part.BELOW]
    return Mistake(
        "weights updated first",
        EARLY,
        "the weights of {where} are updated (learning rate {value}) before δ is passed down through them",
        "∂L/∂a⁽ʰ⁾ = δ (w − {value} ∂L/∂w)",
        right,
        "∂L/∂a",
        "learning rate",
        "w = w - 0.1 * dL_dw\ndL_da_h = delta @ w",
        part=Part.BELOW,
        step=_updated(with_penalty),
        planted=0.1,
    )


def _square(of: Of) -> Of:
    return lambda site: of(site) if site.layer.units == site.layer.inputs else None


def _through_another(by: int) -> Of:
    """Return a step that passes δ down through the weight of another layer.

    by: the distance to the other layer, in layers; negative if the other layer is below.
    """

    def step(site: Site) -> Array | None:
        j = site.i + by
        layers = site.problem.network.layers
        if not 0 <= j < len(layers):
            return None
        w = parameter(site.problem, layers[j].weight)
        return site.handed_down(site.delta, w) if w.shape == site.w.shape else None

    return step


def _below_before(site: Site) -> Array | None:
    dL_da = before_activation(site)
    return None if dL_da is None else site.handed_down(dL_da, site.w)


def _summed_over_units(site: Site) -> Array | None:
    """Return Σⱼ δⱼ of each sample, repeated for every input of the layer.

    Returns None if the terms cancel in every sample, as for a softmax, because the sum would be only rounding
    error.
    """
    total = site.delta.sum(axis=1, keepdims=True)
    if (np.abs(total) <= _CANCELLED * np.abs(site.delta).sum(axis=1, keepdims=True)).all():
        return None
    return np.repeat(total, site.layer.inputs, axis=1)


_CANCELLED = 1e-12
"""A sum smaller than this fraction of the size of its terms is only rounding error."""


_ASYMMETRIC = "a weight that is not symmetric"

_below = partial(sum_row, Part.BELOW)

_HANDED_DOWN: tuple[Mistake, ...] = (
    _below(
        "transposed weights",
        TRANSPOSED,
        _square(lambda s: s.delta @ s.w.T),
        "δ is passed down through wᵀ, not w",
        "∂L/∂a⁽ʰ⁾ = δ wᵀ",
        "dL_da_h = delta @ w.T",
        shown_by=_ASYMMETRIC,
    ),
    _below(
        "transposed weights",
        TRANSPOSED,
        lambda s: s.delta @ s.w.T.reshape(s.w.shape),
        "δ is passed down through wᵀ reshaped to the shape of w",
        "∂L/∂a⁽ʰ⁾ = δ wᵀ reshaped",
        shown_by=_ASYMMETRIC,
    ),
    _below(
        "delta before the activation",
        PRODUCT,
        _below_before,
        "∂L/∂a is passed to the layer below instead of δ",
        "∂L/∂a⁽ʰ⁾ = ∂L/∂a w",
        refined_by=frozenset({MISSING}),
    ),
    _below(
        "weights left out on the way down",
        PRODUCT,
        _square(lambda s: s.delta),
        "δ is passed down without the weights",
        "∂L/∂a⁽ʰ⁾ = δ",
        "dL_da_h = delta",
    ),
    _below(
        "weights left out on the way down",
        PRODUCT,
        _summed_over_units,
        "δ is summed over the units and passed down without the weights",
        "∂L/∂a⁽ʰ⁾ᵢ = Σⱼ δⱼ",
    ),
    _below(
        "absolute weights on the way down",
        PRODUCT,
        lambda s: s.delta @ np.abs(s.w),
        "δ is passed down through |w|, not w",
        "∂L/∂a⁽ʰ⁾ = δ |w|",
        "dL_da_h = delta @ np.abs(w)",
    ),
    *(
        _below(
            "another layer's weights",
            PRODUCT,
            _through_another(by),
            f"δ is passed down through the weights from {further}",
            "∂L/∂a⁽ʰ⁾ = δ w of another layer",
            "dL_da_h = delta @ w_h",
            abs(by) > 1,
        )
        for by, further in FURTHER
    ),
)


HANDED_DOWN_MISTAKES: tuple[Mistake, ...] = (
    _early(with_penalty=True),
    _early(with_penalty=False),
    *_HANDED_DOWN,
)
