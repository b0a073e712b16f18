"""Mistakes that leave out samples: in the loss, in a product or in a sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gradcheck_cli.diagnose.mistake import Mistake, Step
from gradcheck_cli.diagnose.site import RIGHT, Part, Site
from gradcheck_cli.diagnose.subsets import SUBSETS, Samples, kept
from gradcheck_cli.diagnose.wrong_sums import sum_row
from gradcheck_cli.types import Array

SAMPLES = "samples"


def _only(samples: Samples, mean: bool) -> Step:
    """Return a step for a loss over these samples only.

    mean: whether the loss is averaged over these samples instead of all.
    """

    def step(site: Site, _: float) -> Array | None:
        some = kept(site.samples, samples)
        if some is None:
            return None
        return RIGHT[Part.LOSS](site) * some * (site.samples / float(some.sum()) if mean else 1.0)

    return step


SAMPLE_MISTAKES = tuple(
    Mistake(
        kind,
        SAMPLES,
        sentence + (", and the mean is over the samples that remain" if mean else ""),
        f"L = c Σₙ ℓₙ {wrong}",
        "L = c Σₙ ℓₙ",
        "∂L/∂a",
        part=Part.LOSS,
        step=_only(samples, mean),
    )
    for mean in (False, True)
    for kind, samples, sentence, wrong, _ in SUBSETS
)


def _subset_rows() -> Iterator[Mistake]:
    for kind, samples, sentence, wrong, some_of in SUBSETS:

        def weight(site: Site, samples: Callable[[int], slice] = samples) -> Array | None:
            some = kept(site.samples, samples)
            return None if some is None else (site.delta * site.of_rows(some)).T @ site.a_h

        def bias(site: Site, samples: Callable[[int], slice] = samples) -> Array | None:
            some = kept(site.samples, samples)
            return None if some is None else (site.delta * site.of_rows(some)).sum(axis=0)

        yield sum_row(
            Part.WEIGHT,
            kind,
            SAMPLES,
            weight,
            f"{sentence} in the weight's gradient",
            f"∂L/∂w = δᵀ a⁽ʰ⁾ {wrong}",
            f"dL_dw = delta[{some_of}].T @ a_h[{some_of}]",
        )
        yield sum_row(
            Part.BIAS, kind, SAMPLES, bias, f"{sentence} in the bias's gradient", f"∂L/∂b = Σₙ δₙ {wrong}"
        )


SUBSET_MISTAKES = tuple(_subset_rows())
