"""Mistakes in the backward pass of softmax and log-softmax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnose.families import SOFTMAX as SOFTMAX_FAMILY
from gradcheck_cli.diagnose.variant import Of, Variant, Visit, share, variant
from gradcheck_cli.network.steps.padded_softmax import PaddedSoftmax
from gradcheck_cli.network.steps.softmax import LogSoftmax, Softmax
from gradcheck_cli.types import Array

_RIGHT = "∂L/∂z = a ⊙ (g − Σ g a)"


def _row_sum(array: Array) -> Array:
    total: Array = array.sum(axis=-1, keepdims=True)
    return total


def _unmasked(visit: Visit) -> Array:
    """Return ∂L/∂z for a softmax of the same scores z without the mask."""
    plain, scores = Softmax.plain(), visit.inputs[:1]
    return plain.vjp({}, scores, plain.forward({}, *scores), visit.upstream)[0][0]


def _without_padding(visit: Visit) -> Array | None:
    """Return ∂L/∂z with the mask that all samples share, but without each sample's padding mask."""
    if not isinstance(visit.step, PaddedSoftmax) or visit.step.mask.all():
        return None
    unpadded, scores = Softmax(visit.step.mask), visit.inputs[:1]
    return unpadded.vjp({}, scores, unpadded.forward({}, *scores), visit.upstream)[0][0]


def _with_padded_queries(visit: Visit) -> Array | None:
    """Return ∂L/∂z with 0 in the rows of padding tokens, not only in their columns."""
    if not isinstance(visit.step, PaddedSoftmax):
        return None
    padding = np.expand_dims(visit.inputs[1], 1)[..., None]
    return visit.right[0][0] * (1.0 - padding)


def _causal(visit: Visit, shift: int) -> Array | None:
    """Return the causal mask shifted by a number of tokens; None if the step has no causal mask."""
    mask = visit.step.mask  # type: ignore[attr-defined]
    if mask.ndim != 2 or len(mask) < 2 or not np.array_equal(mask, np.tri(len(mask), dtype=bool)):
        return None
    return np.tri(len(mask), k=shift, dtype=bool)


def _with_next_token(visit: Visit) -> Array | None:
    """Return ∂L/∂z for a softmax in which each token also attends to the next one."""
    mask = _causal(visit, 1)
    if mask is None or mask.all():  # `_unmasked` is the same without any mask
        return None
    shifted = replace(visit.step, mask=mask)  # type: ignore[type-var]
    return shifted.vjp({}, visit.inputs, shifted.forward({}, *visit.inputs), visit.upstream)[0][0]


def _without_own_token(visit: Visit) -> Array | None:
    """Return ∂L/∂z computed from a ⊙ mask, where the mask also leaves out each token's own score."""
    mask = _causal(visit, -1)
    if mask is None:
        return None
    a = visit.output * mask
    return a * (visit.upstream - _row_sum(visit.upstream * a))


def _summed_over(axis: int) -> Of:
    def of(visit: Visit) -> Array | None:
        a, g = visit.output, visit.upstream
        return None if a.ndim < 3 else a * (g - (g * a).sum(axis=axis, keepdims=True))

    return of


_SOFTMAX = (
    (
        "softmax's diagonal alone",
        lambda v: v.upstream * v.output * (1.0 - v.output),
        "softmax's backward pass uses only the diagonal of the Jacobian, as for an elementwise activation",
        "∂L/∂z = g ⊙ a ⊙ (1 − a)",
        "dL_ds = p * (1 - p) * dL_dp",
    ),
    (
        "softmax's sum missing",
        lambda v: v.upstream * v.output,
        "softmax's backward pass lacks the sum over the row",
        "∂L/∂z = a ⊙ g",
        "dL_ds = p * dL_dp",
    ),
    (
        "softmax's sum without a",
        lambda v: v.output * (v.upstream - _row_sum(v.upstream)),
        "softmax's backward pass subtracts Σ g, not Σ g a",
        "∂L/∂z = a ⊙ (g − Σ g)",
        "dL_ds = p * (dL_dp - dL_dp.sum(axis=-1, keepdims=True))",
    ),
    (
        "softmax's sum averaged",
        lambda v: v.output * (v.upstream - _row_sum(v.upstream * v.output) / v.output.shape[-1]),
        "softmax's backward pass subtracts the mean of g a over the row, not the sum",
        "∂L/∂z = a ⊙ (g − mean(g a))",
        "dL_ds = p * (dL_dp - (dL_dp * p).mean(axis=-1, keepdims=True))",
    ),
    (
        "softmax left out",
        lambda v: v.upstream,
        "softmax is left out of the backward pass",
        "∂L/∂z = g",
        "dL_ds = dL_dp",
    ),
    (
        "softmax over the wrong axis",
        _summed_over(-2),
        "softmax's backward pass sums over the rows, not within each row",
        "∂L/∂z = a ⊙ (g − Σ over rows of g a)",
        "dL_ds = p * (dL_dp - (dL_dp * p).sum(axis=-2, keepdims=True))",
    ),
    (
        "mask not in backward",
        _unmasked,
        "softmax's backward pass leaves out the mask",
        "∂L/∂z = a ⊙ (g − Σ g a), a without the mask",
        (
            "free = np.exp(s) / np.exp(s).sum(axis=-1, keepdims=True)\n"
            "dL_ds = free * (dL_dp - (dL_dp * free).sum(axis=-1, keepdims=True))"
        ),
    ),
    (
        "causal mask shifted",
        _with_next_token,
        "in softmax's backward pass, the causal mask is shifted by one: it also keeps the next token",
        "∂L/∂z = a ⊙ (g − Σ g a), a with a mask shifted by 1",
        (
            "e = np.exp(s) * np.tril(np.ones((T, T)), 1)\n"
            "seen = e / e.sum(axis=-1, keepdims=True)\n"
            "dL_ds = seen * (dL_dp - (dL_dp * seen).sum(axis=-1, keepdims=True))"
        ),
    ),
    (
        "causal mask shifted",
        _without_own_token,
        "in softmax's backward pass, the causal mask is shifted by one: it drops each token's own score",
        "∂L/∂z = a ⊙ (g − Σ g a), a without its diagonal",
        (
            "seen = p * np.tril(np.ones((T, T)), -1)\n"
            "dL_ds = seen * (dL_dp - (dL_dp * seen).sum(axis=-1, keepdims=True))"
        ),
    ),
    (
        "padding mask not in backward",
        _without_padding,
        "softmax's backward pass leaves out the padding mask, but not the causal one",
        "∂L/∂z = a ⊙ (g − Σ g a), a without the padding mask",
        (
            "e = np.exp(s) * causal\n"
            "p = e / e.sum(axis=-1, keepdims=True)\n"
            "dL_ds = p * (dL_dp - (dL_dp * p).sum(axis=-1, keepdims=True))"
        ),
    ),
    (
        "padding mask over queries",
        _with_padded_queries,
        "the padding mask leaves out queries in the backward pass, but keys in the forward pass",
        "∂L/∂z = 0 in the rows of padding",
        "dL_ds = dL_ds * kept[:, None, :, None]",
    ),
)

_LOG_SOFTMAX = (
    (
        "log-softmax's sum missing",
        lambda v: v.upstream,
        "log-softmax's backward pass lacks the sum over the row",
        "∂L/∂z = g",
        "dL_dlogits = y",
    ),
    (
        "log-softmax's sum missing",
        lambda v: v.upstream * (1.0 - np.exp(v.output)),
        "log-softmax's backward pass uses only the diagonal of the Jacobian",
        "∂L/∂z = g ⊙ (1 − eᵃ)",
        "dL_dlogits = y * (1 - np.exp(a))",
    ),
    (
        "log-softmax in place of softmax",
        lambda v: np.exp(v.output) * (v.upstream - _row_sum(v.upstream * np.exp(v.output))),
        "the backward pass is written for softmax, not for its logarithm",
        "∂L/∂z = eᵃ ⊙ (g − Σ g eᵃ)",
        "dL_dlogits = np.exp(a) * (y - (y * np.exp(a)).sum(axis=1, keepdims=True))",
    ),
)

SOFTMAX: tuple[Variant, ...] = (
    *(
        variant(Softmax, kind, SOFTMAX_FAMILY, share(of), sentence, wrong, _RIGHT, code)
        for kind, of, sentence, wrong, code in _SOFTMAX
    ),
    *(
        variant(LogSoftmax, kind, SOFTMAX_FAMILY, share(of), sentence, wrong, "∂L/∂z = g − eᵃ Σ g", code)
        for kind, of, sentence, wrong, code in _LOG_SOFTMAX
    ),
)
