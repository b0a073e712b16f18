"""Mistakes in the gradient of a bias, ∂L/∂b = Σₙ δₙ."""

from __future__ import annotations

from functools import partial

import numpy as np

from gradcheck_cli.diagnose.families import BIAS, PRODUCT
from gradcheck_cli.diagnose.mistake import Mistake
from gradcheck_cli.diagnose.site import Part, Site
from gradcheck_cli.diagnose.wrong_activations import MISSING
from gradcheck_cli.diagnose.wrong_sums import (
    FURTHER,
    Of,
    before_activation,
    other_delta,
    sum_row,
    unless_zero,
)
from gradcheck_cli.types import Array


def _wrong_axis(site: Site) -> Array:
    return np.resize(site.delta.sum(axis=1), site.layer.units)


AVERAGED, NOT_SUMMED = "bias averaged", "bias not summed"
_ONE_ALONE = "samples whose δ differ"

_bias = partial(sum_row, Part.BIAS)

_BIASES: tuple[Mistake, ...] = (
    _bias(
        AVERAGED,
        BIAS,
        lambda s: s.delta.mean(axis=0),
        "the bias's gradient is averaged over the samples, not summed",
        "∂L/∂b = mean δₙ",
        "dL_db = delta.mean(axis=0)",
    ),
    _bias(
        NOT_SUMMED,
        BIAS,
        lambda s: s.delta[-1],
        "the bias's gradient is δ of the last sample alone",
        "∂L/∂b = δ of the last sample",
        "dL_db = delta[-1]",
        shown_by=_ONE_ALONE,
    ),
    _bias(
        NOT_SUMMED,
        BIAS,
        lambda s: s.delta[0],
        "the bias's gradient is δ of the first sample alone",
        "∂L/∂b = δ of the first sample",
        "dL_db = delta[0]",
        shown_by=_ONE_ALONE,
    ),
    _bias(
        "bias summed along the wrong axis",
        BIAS,
        _wrong_axis,
        "the bias's gradient is summed over the units, not over the samples",
        "∂L/∂b = Σⱼ δₙⱼ",
        "dL_db = delta.sum(axis=1)",
    ),
    _bias(
        "bias summed along the wrong axis",
        BIAS,
        lambda s: np.resize(s.delta.mean(axis=1), s.layer.units),
        "the bias's gradient is averaged over the units, not summed over the samples",
        "∂L/∂b = mean over j of δₙⱼ",
        "dL_db = delta.mean(axis=1)",
    ),
    _bias(
        "bias summed over everything",
        BIAS,
        lambda s: np.full(s.layer.units, s.delta.sum()),
        "the bias's gradient is a single sum over all samples and units",
        "∂L/∂b = Σₙ Σⱼ δₙⱼ",
        "dL_db = np.full(C, delta.sum())",
    ),
    _bias(
        "bias summed over everything",
        BIAS,
        lambda s: np.full(s.layer.units, s.delta.mean()),
        "the bias's gradient is a single mean over all samples and units",
        "∂L/∂b = mean of all δ",
        "dL_db = np.full(C, delta.mean())",
    ),
    _bias(
        "bias gradient summed over the inputs",
        BIAS,
        lambda s: s.delta.T @ s.a_h.sum(axis=1),
        "the bias's gradient is the weight's gradient summed over the inputs, but the bias's own input is 1",
        "∂L/∂b = Σᵢ (δᵀ a⁽ʰ⁾)ᵢ",
        "dL_db = (delta.T @ a_h).sum(axis=1)",
    ),
)


def _bias_before(site: Site) -> Array | None:
    dL_da = before_activation(site)
    return None if dL_da is None else dL_da.sum(axis=0)


def _bias_of(delta: Of) -> Of:
    def step(site: Site) -> Array | None:
        other = delta(site)
        return None if other is None else other.sum(axis=0)

    return step


BIAS_MISTAKES: tuple[Mistake, ...] = (
    *_BIASES,
    _bias(
        "delta before the activation",
        PRODUCT,
        _bias_before,
        "the bias's gradient is the sum of ∂L/∂a, not of δ",
        "∂L/∂b = Σₙ ∂L/∂aₙ",
        "dL_db = dL_da.sum(axis=0)",
        refined_by=frozenset({MISSING}),
    ),
    _bias(
        "parameters in place of the gradient",
        PRODUCT,
        lambda s: unless_zero(s.problem.parameters[s.layer.bias]),
        "the bias's gradient is the bias itself",
        "∂L/∂b = b",
        "dL_db = b",
    ),
    *(
        _bias(
            "another layer's delta",
            PRODUCT,
            _bias_of(other_delta(by)),
            f"δ comes from {further}",
            "∂L/∂b = Σₙ δₙ of another layer",
            "dL_db_h = delta.sum(axis=0)",
            abs(by) > 1,
        )
        for by, further in FURTHER
    ),
)
