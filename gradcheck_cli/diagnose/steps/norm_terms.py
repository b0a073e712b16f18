"""Mistakes in one of the two means of a normalisation: its sign, or the axis that it averages."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.steps.normalise import MEANS, NORMS, RIGHT_DELTA, Mean, Norm, step_of
from gradcheck_cli.diagnose.variant import Backward, Variant, Visit, share, variant
from gradcheck_cli.network.steps.normalise import Normalise
from gradcheck_cli.types import Array

_SIGNS = (
    (1.0, -1.0, "variance", "δ = (g − mean g + ẑ mean(g ẑ)) / √(var z + eps)", "- {} + z_hat * {}"),
    (-1.0, 1.0, "mean", "δ = (g + mean g − ẑ mean(g ẑ)) / √(var z + eps)", "+ {} - z_hat * {}"),
)
"""The signs of the two terms, the term with the wrong sign, the wrong formula, and its numpy code."""

_BATCH_MEANS = "g.mean(axis=0)", "(g * z_hat).mean(axis=0)"


def _terms(visit: Visit) -> tuple[Array, Array]:
    """Return mean g and mean(g ẑ) of the normalisation."""
    step, g = step_of(visit), visit.upstream
    return step.mean_of(g), step.of_variance(g * visit.output)


def _handed(visit: Visit, of_g: Array, along: Array) -> Array:
    handed: Array = (visit.upstream - of_g - visit.output * along) / step_of(visit).deviation(visit.inputs[0])
    return handed


def _signed(norm: Norm, of_mean: float, of_variance: float) -> Backward:
    def of(visit: Visit) -> Array | None:
        if not norm.includes(step_of(visit)):
            return None
        of_g, along = _terms(visit)
        return _handed(visit, of_mean * of_g, of_variance * along)

    return share(of)


def _over(norm: Norm, mean: Mean, is_first: bool) -> Backward:
    """Return a `vjp` in which only mean g, or only mean(g ẑ), is a mean over the wrong entries."""

    def of(visit: Visit) -> Array | None:
        if not norm.includes(step_of(visit)):
            return None
        other = mean(visit, visit.upstream if is_first else visit.upstream * visit.output)
        of_g, along = _terms(visit)
        if other is None:
            return None
        return _handed(visit, other, along) if is_first else _handed(visit, of_g, other)

    return share(of)


def _of_signs(norm: Norm) -> Iterator[Variant]:
    for of_mean, of_variance, term, formula, code in _SIGNS:
        wrong = Wrong(
            "batch norm: sign of a term",
            norm.family,
            f"in {{where}}, batch normalisation's backward pass has the wrong sign before the {term} term",
            formula,
            RIGHT_DELTA,
            "δ",
            code=f"delta_h = (g {code.format(*_BATCH_MEANS)}) / deviation",
        )
        yield Variant(norm.told(wrong), Normalise, _signed(norm, of_mean, of_variance))


def _of_one_mean(norm: Norm) -> Iterator[Variant]:
    for is_first, which in ((True, "g"), (False, "g ẑ")):
        for mean, over, _ in MEANS:
            yield variant(
                Normalise,
                f"{norm.name}: over the wrong axis",
                norm.family,
                _over(norm, mean, is_first),
                f"{norm.words}'s backward pass takes the mean of {which} over {over}",
                f"δ = (g − mean g − ẑ mean(g ẑ)) / √(…), with the mean of {which} over {over}",
                RIGHT_DELTA,
            )


NORM_TERMS: tuple[Variant, ...] = tuple(
    each for norm in NORMS for each in (*_of_signs(norm), *_of_one_mean(norm))
)
