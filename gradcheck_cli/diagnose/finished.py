"""Mistakes that alter a tensor's gradient after it has been computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck_cli.diagnose.fit import projected
from gradcheck_cli.diagnose.mistake import Spoilt, Wrong, WrongTensor
from gradcheck_cli.diagnose.state import Made
from gradcheck_cli.diagnose.table import TENSOR_FACTOR
from gradcheck_cli.diagnose.target import Target
from gradcheck_cli.diagnose.wrong_scales import is_round
from gradcheck_cli.types import Array

Candidate = tuple[tuple[Made, ...], Array]
"""Mistakes in a single tensor, with the gradient that results from these mistakes."""


def scaled_to(
    wrong: Wrong, layer: str, target: Target, factor: float, candidate: Array
) -> Iterator[Candidate]:
    """Yield the mistake that turns one tensor's gradient into `candidate` by scaling it.

    The mistake's value is the factor or, if the mistake is clipping, the resulting norm. Clipping is yielded
    only if that norm is a round number.
    """
    if wrong is TENSOR_FACTOR:
        yield (Made(wrong, layer, target.name, factor),), candidate
    elif 0 < factor < 1 and is_round(norm := float(np.linalg.norm(target.found))):
        yield (Made(wrong, layer, target.name, norm),), candidate


def tensor_factors(target: Target, data: Array, penalty: Array) -> Iterator[tuple[float, Array]]:
    """Yield the best factor on the whole gradient, then the best factor on all but the penalty term.

    Each factor comes with the gradient that results. The second factor is left out if there is no penalty.
    """
    factor = projected(target.found, data + penalty)
    yield factor, factor * (data + penalty)
    if penalty.any() and not target.without(penalty).is_nothing:
        factor = projected(target.found - penalty, data)
        yield factor, factor * data + penalty


def fitted(wrong: WrongTensor, target: Target, data: Array, penalty: Array) -> Iterator[tuple[Spoilt, bool]]:
    """Yield the fit of a mistake to the whole gradient, then to the gradient before its penalty is added.

    Each fit comes with a flag: False for the whole gradient, and True for the gradient before its penalty.
    The second fit is tried only if there is a penalty and the first fit does not match.
    """
    spoilt = wrong.fits(target, data + penalty)
    if spoilt is not None:
        yield spoilt, False
    if not penalty.any() or (spoilt is not None and target.matches(spoilt.gradient)):
        return
    spoilt = wrong.fits(target.without(penalty), data)
    if spoilt is not None:
        yield spoilt._replace(gradient=spoilt.gradient + penalty), True
