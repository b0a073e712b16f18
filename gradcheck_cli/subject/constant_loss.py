"""Notice that the loss of the user's code is the same at any parameters, as if it came from a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gradcheck_cli.code.function import Function
from gradcheck_cli.code.objective import length
from gradcheck_cli.code.refusals import is_refusal
from gradcheck_cli.comparison import Comparison
from gradcheck_cli.types import Array

_POINTS = 3
"""The number of points at which the loss must be the same."""

_CONSTANT = (
    "The loss is {:.6g} at any parameters: it stays the same even if all parameters change a lot. Either the "
    "code returns a result that it kept from an earlier call, or the loss does not use the parameters"
)


def sentence_on_constant_loss(function: Function, comparisons: Sequence[Comparison]) -> str:
    """Return a sentence without its full stop if the loss is constant; empty otherwise.

    comparisons: the tensors that were checked. The code is called only if all their derivatives are 0.
    """
    if any((np.abs(c.numerical) > c.bar).any() for c in comparisons):
        return ""
    try:
        here = function.losses(function.parameters)
        there = [function.losses(_far_from(function.parameters, seed)) for seed in range(_POINTS)]
    except Exception as error:
        if not is_refusal(error):
            raise
        return ""
    same = all(np.array_equal(losses, here) for losses in there)
    return _CONSTANT.format(here.sum()) if same else ""


def _far_from(parameters: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Return a random point, in which each entry has moved by up to the length of its unit step."""
    rng = np.random.default_rng(seed)
    return {
        name: array + rng.uniform(-1.0, 1.0, array.shape) * length(array.ravel()).reshape(array.shape)
        for name, array in parameters.items()
    }
