"""Mistakes that leave samples out of the loss, a product or a sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_cli.diagnose.families import SAMPLES
from gradcheck_cli.diagnose.mistake import Mistake, Step, Wrong
from gradcheck_cli.diagnose.site import RIGHT, Part, Site
from gradcheck_cli.diagnose.subsets import Samples, kept
from gradcheck_cli.diagnose.wrong_biases import NOT_SUMMED
from gradcheck_cli.diagnose.wrong_sums import Of, sum_row
from gradcheck_cli.types import Array

SOME, LAST_LOST, FIRST_LOST = "batch subset", "last sample lost", "first sample lost"

REFINED = frozenset({LAST_LOST, FIRST_LOST, NOT_SUMMED})
"""The kinds of mistakes that say more precisely than "batch subset" which samples are included."""


class Subset(NamedTuple):
    """A subset of the samples that code may use by mistake.

    kind, sentence, wrong: see `Wrong`.
    samples: a function that takes the number of samples and returns the slice to keep.
    code: the slice in numpy.
    """

    kind: str
    samples: Samples
    sentence: str
    wrong: str
    code: str
    refined_by: frozenset[str] = frozenset()


SUBSETS: tuple[Subset, ...] = (
    Subset(
        LAST_LOST,
        lambda n: slice(0, n - 1),
        "the last sample is left out",
        "without the last sample",
        ":-1",
    ),
    Subset(
        FIRST_LOST,
        lambda n: slice(1, n),
        "the first sample is left out",
        "without the first sample",
        "1:",
    ),
    Subset(SOME, lambda n: slice(0, 1), "only the first sample counts", "of the first sample", ":1", REFINED),
    Subset(
        SOME, lambda n: slice(n - 1, n), "only the last sample counts", "of the last sample", "-1:", REFINED
    ),
    Subset(
        SOME,
        lambda n: slice(0, n // 2),
        "only the first half of the samples counts",
        "over n < N/2",
        ": N // 2",
        REFINED,
    ),
    Subset(
        SOME,
        lambda n: slice(n // 2, n),
        "only the second half of the samples counts",
        "over n ≥ N/2",
        "N // 2 :",
        REFINED,
    ),
    Subset(
        SOME,
        lambda n: slice(0, n, 2),
        "only every other sample counts",
        "over every other sample",
        "::2",
        REFINED,
    ),
    Subset(
        SOME,
        lambda n: slice(1, n, 2),
        "only every other sample counts",
        "over every other sample",
        "1::2",
        REFINED,
    ),
)

_SOME = SOME, SAMPLES, "{it} is summed over {place} only"
SOME_OF_LOSS = Wrong(*_SOME, "L = c Σₙ ℓₙ over these", "L = c Σₙ ℓₙ", "∂L/∂a", refined_by=REFINED)
SOME_OF_TENSOR = Wrong(*_SOME, "Σₙ over these samples", "Σₙ", "", refined_by=REFINED)
"""The mistake of including only some samples in a single product or sum.

`SOME_OF_LOSS` is the mistake of including only some samples in the loss.
"""


def _only(samples: Samples, mean: bool) -> Step:
    """Return a step that computes the gradient of a loss over only the samples in `samples`.

    mean: whether the mean is taken over these samples, not over all samples.
    """

    def step(site: Site, _: float) -> Array | None:
        some = kept(site.samples, samples)
        if some is None:
            return None
        return RIGHT[Part.LOSS](site) * some * (site.samples / float(some.sum()) if mean else 1.0)

    return step


SAMPLE_MISTAKES = tuple(
    Mistake(
        subset.kind,
        SAMPLES,
        subset.sentence + (", and the mean is taken over the samples that remain" if mean else ""),
        f"L = c Σₙ ℓₙ {subset.wrong}",
        "L = c Σₙ ℓₙ",
        "∂L/∂a",
        refined_by=subset.refined_by,
        part=Part.LOSS,
        step=_only(subset.samples, mean),
    )
    for mean in (False, True)
    for subset in SUBSETS
)


def _weight_of_some(samples: Samples) -> Of:
    def weight(site: Site) -> Array | None:
        some = kept(site.samples, samples)
        return None if some is None else (site.delta * site.of_rows(some)).T @ site.a_h

    return weight


def _bias_of_some(samples: Samples) -> Of:
    def bias(site: Site) -> Array | None:
        some = kept(site.samples, samples)
        return None if some is None else (site.delta * site.of_rows(some)).sum(axis=0)

    return bias


def _subset_rows(subset: Subset) -> Iterator[Mistake]:
    yield sum_row(
        Part.WEIGHT,
        subset.kind,
        SAMPLES,
        _weight_of_some(subset.samples),
        f"{subset.sentence} in the weight's gradient",
        f"∂L/∂w = δᵀ a⁽ʰ⁾ {subset.wrong}",
        f"dL_dw = delta[{subset.code}].T @ a_h[{subset.code}]",
        refined_by=subset.refined_by,
    )
    yield sum_row(
        Part.BIAS,
        subset.kind,
        SAMPLES,
        _bias_of_some(subset.samples),
        f"{subset.sentence} in the bias's gradient",
        f"∂L/∂b = Σₙ δₙ {subset.wrong}",
        refined_by=subset.refined_by,
    )


SUBSET_MISTAKES = tuple(row for subset in SUBSETS for row in _subset_rows(subset))
