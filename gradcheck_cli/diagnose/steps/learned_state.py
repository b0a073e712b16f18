"""Mistakes in the gradient of an initial state that is a parameter."""

from __future__ import annotations

from gradcheck_cli.diagnose.families import GATES, MORE_SAMPLES
from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.variant import Of, Variant, gradient
from gradcheck_cli.network.steps.learned_state import LearnedState

_ROWS: tuple[tuple[str, Of, str, str, str], ...] = (
    (
        "initial state averaged over samples",
        lambda v: v.upstream.mean(axis=0),
        "the gradient of the initial state is averaged over the samples, not summed",
        "∂L/∂h₀ = mean of ∂L/∂h₀ₙ over the samples",
        "dL_dh_0 = dL_dh.mean(axis=0, keepdims=True)",
    ),
    (
        "initial state's gradient from one sample",
        lambda v: v.upstream[-1],
        "the gradient of the initial state is that of the last sample alone (= instead of +=)",
        "∂L/∂h₀ = ∂L/∂h₀ₙ of the last sample",
        "dL_dh_0 = dL_dh[-1:]",
    ),
    (
        "initial state's gradient from one sample",
        lambda v: v.upstream[0],
        "the gradient of the initial state is that of the first sample alone",
        "∂L/∂h₀ = ∂L/∂h₀ₙ of the first sample",
        "dL_dh_0 = dL_dh[:1]",
    ),
)

LEARNED_STATE = tuple(
    Variant(
        Wrong(
            kind,
            GATES,
            f"in {{where}}, {sentence}",
            wrong,
            "∂L/∂h₀ = Σₙ ∂L/∂h₀ₙ",
            "∂L/∂h₀",
            code=code,
            shown_by=MORE_SAMPLES,
        ),
        LearnedState,
        gradient("weight", of),
    )
    for kind, of, sentence, wrong, code in _ROWS
)
