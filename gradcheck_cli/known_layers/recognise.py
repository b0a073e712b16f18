"""Recognise a layer by its outputs, and look for the mistake in its backward function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from itertools import islice

import numpy as np

from gradcheck_cli.code.call import Call
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.diagnose.diagnosis import Diagnosis
from gradcheck_cli.diagnose.graph import diagnose_graph
from gradcheck_cli.diagnose.table import SWAPPED
from gradcheck_cli.diagnose.wrong_tensors import TENSOR_MISTAKES
from gradcheck_cli.known_layers.attention import attention
from gradcheck_cli.known_layers.images import convolution, pooling
from gradcheck_cli.known_layers.losses import loss
from gradcheck_cli.known_layers.norms import normalisation
from gradcheck_cli.known_layers.projected_attention import projected_attention
from gradcheck_cli.known_layers.recurrent import recurrent
from gradcheck_cli.known_layers.sketch import Form, Sketch
from gradcheck_cli.known_layers.vectors import dense, dropout, elementwise, embedding, gated
from gradcheck_cli.network.network import gradients
from gradcheck_cli.network.step import UnfitError
from gradcheck_cli.types import Array

Guess = Callable[[Call], Iterator[Sketch]]
"""A function that yields layers of one kind that may compute the outputs of a call."""

GUESSES: tuple[Guess, ...] = (
    dense,
    elementwise,
    embedding,
    gated,
    convolution,
    pooling,
    normalisation,
    attention,
    projected_attention,
    recurrent,
    loss,
    dropout,
)
"""All kinds of layers that can be recognised."""

_OF_ARRAYS = frozenset({SWAPPED.kind, *(wrong.kind for wrong in TENSOR_MISTAKES)})
"""The kinds of mistakes that the arrays show without any layer."""

_MOST = 3
"""The largest number of layers that are examined if several compute the same outputs."""

_RTOL = 1e-6
"""The tolerance of a numerical gradient, relative to the largest entry of the gradient of our layer."""


@np.errstate(all="ignore")
def diagnose_layer(calls: Sequence[Call], comparisons: Sequence[Comparison]) -> Diagnosis | None:
    """Return a diagnosis that explains the gradients by a mistake in a known layer.

    Returns None if no known layer computes the same outputs, or if none of its mistakes explains the
    gradients.

    calls: calls of forward.
    comparisons: all gradients that were checked.
    """
    if not any(comparison.analytic.any() for comparison in comparisons):
        return None  # the arrays alone show that no gradient arrives
    sketches = ((sketch, call) for call in calls for sketch in islice(recognised(call), _MOST))
    return next((found for each in sketches for found in _explained(*each, comparisons)), None)


def recognised(call: Call) -> Iterator[Sketch]:
    """Yield the known layers that compute the outputs of the call from the same arguments."""
    for guess in GUESSES:
        with suppress(UnfitError):
            yield from (sketch for sketch in guess(call) if sketch.computes(call))


def _explained(sketch: Sketch, call: Call, comparisons: Sequence[Comparison]) -> Iterator[Diagnosis]:
    if not all(c.name in sketch.forms and np.isfinite(c.analytic).all() for c in comparisons):
        return
    comparisons = [_in_form(c, sketch.forms[c.name]) for c in comparisons]
    problem = sketch.problem(call)
    right = gradients(problem.network, problem.parameters, problem.x, problem.target)
    if not all(_is_confirmed(c, right[c.name]) for c in comparisons):
        return
    found = diagnose_graph(problem, right, comparisons, _OF_ARRAYS, most=1)
    if found.answers:
        known = f"forward computes the same as {sketch.told}."
        yield replace(found, basis="a layer", layers=(), observations=(known,))


def _is_confirmed(comparison: Comparison, right: Array) -> bool:
    """Return whether our layer's gradient agrees with the differences of the user's forward function."""
    known = np.isfinite(comparison.error)
    largest = float(np.abs(right).max(initial=0.0))
    allowed = comparison.bar + comparison.rounding + _RTOL * largest
    return bool((np.abs(comparison.numerical - right) <= allowed)[known].all())


def _in_form(comparison: Comparison, form: Form) -> Comparison:
    """Return the comparison with all of its arrays in the form in which our layer has the tensor."""
    shape = comparison.analytic.shape
    values = {each.name: getattr(comparison, each.name) for each in fields(comparison)}
    arrays = {
        name: np.ascontiguousarray(form(value))
        for name, value in values.items()
        if isinstance(value, np.ndarray) and value.shape == shape
    }
    return Comparison(**{**values, **arrays})
