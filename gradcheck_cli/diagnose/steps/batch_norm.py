"""Mistakes in the backward pass of batch and layer normalisation.

They are the normalisation mistakes that `table.py` lists for chains of layers, and one more: a forgotten γ.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from gradcheck_cli.diagnose.families import LAYER_NORM as LAYER_NORM_FAMILY
from gradcheck_cli.diagnose.families import NORM
from gradcheck_cli.diagnose.mistake import Mistake, Wrong
from gradcheck_cli.diagnose.norm_sites import Averaged, norm_below, norm_site, scale_site
from gradcheck_cli.diagnose.site import Part
from gradcheck_cli.diagnose.sites import result_of
from gradcheck_cli.diagnose.table import MISTAKES
from gradcheck_cli.diagnose.variant import Backward, Handed, Variant, Visit, share
from gradcheck_cli.network.steps.normalise import Normalise, Scale
from gradcheck_cli.types import Array


def _is_over_samples(visit: Visit) -> bool:
    """Return whether the visited normalisation averages over the samples, as batch normalisation does."""
    assert isinstance(visit.step, Normalise)
    return Averaged.of(visit.step, visit.inputs[0]).is_over_samples


def _of_norm(mistake: Mistake, over_samples: bool) -> Backward:
    def backward(visit: Visit, value: float) -> Handed | None:
        assert isinstance(visit.step, Normalise)
        averaged = Averaged.of(visit.step, visit.inputs[0])
        if averaged.is_over_samples != over_samples:
            return None
        delta = result_of(mistake, norm_site(visit, averaged), value)
        return None if delta is None else ((averaged.array(delta),), {})

    return backward


def _of_scale(mistake: Mistake, over_samples: bool) -> Backward:
    def backward(visit: Visit, value: float) -> Handed | None:
        below, site = norm_below(visit), scale_site(visit)
        if below is None or site is None or _is_over_samples(below) != over_samples:
            return None
        result, (shares, gradients) = result_of(mistake, site, value), visit.right
        gamma, beta = visit.step.shapes
        name = gamma if mistake.part is Part.GAMMA else beta
        return (
            None if result is None else (shares, {**gradients, name: result.reshape(gradients[name].shape)})
        )

    return backward


def _without_gamma(over_samples: bool) -> Backward:
    def of(visit: Visit) -> Array | None:
        below = norm_below(visit)
        return visit.upstream if below is not None and _is_over_samples(below) == over_samples else None

    return share(of)


W = TypeVar("W", bound=Wrong)

GAMMA_FORGOTTEN = Wrong(
    "batch norm: gamma forgotten",
    NORM,
    "in {where} batch normalisation's backward pass lacks γ",
    "∂L/∂ẑ = ∂L/∂y",
    "∂L/∂ẑ = γ ∂L/∂y",
    "δ",
)


def _of_layer_norm(wrong: W) -> W:
    """Return a batch-normalisation mistake reworded for layer normalisation."""
    kind, sentence = wrong.kind.replace("batch norm", "layer norm"), wrong.sentence
    words = sentence.replace("batch normalisation", "layer normalisation").replace("N − 1", "n − 1")
    return replace(wrong, kind=kind, family=LAYER_NORM_FAMILY, sentence=words)


_NORM = tuple(mistake for mistake in MISTAKES[Part.NORM] if mistake.solver is None)
_SCALE = (*MISTAKES[Part.GAMMA], *MISTAKES[Part.BETA])

BATCH_NORM = (
    Variant(GAMMA_FORGOTTEN, Scale, _without_gamma(True)),
    *(Variant(mistake, Normalise, _of_norm(mistake, True)) for mistake in _NORM),
    *(Variant(mistake, Scale, _of_scale(mistake, True)) for mistake in _SCALE),
)
LAYER_NORM = (
    Variant(_of_layer_norm(GAMMA_FORGOTTEN), Scale, _without_gamma(False)),
    *(Variant(_of_layer_norm(mistake), Normalise, _of_norm(mistake, False)) for mistake in _NORM),
    *(Variant(_of_layer_norm(mistake), Scale, _of_scale(mistake, False)) for mistake in _SCALE),
)
