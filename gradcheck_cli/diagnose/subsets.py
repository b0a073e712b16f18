"""Which samples people leave out, or are left with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck_cli.model.special import Array

Samples = Callable[[int], slice]

SUBSETS: tuple[tuple[str, Samples, str, str], ...] = (
    ("last sample lost", lambda n: slice(0, n - 1), "the last sample is left out", "without the last sample"),
    ("first sample lost", lambda n: slice(1, n), "the first sample is left out", "without the first sample"),
    ("batch subset", lambda n: slice(0, 1), "only the first sample counts", "of the first sample"),
    ("batch subset", lambda n: slice(n - 1, n), "only the last sample counts", "of the last sample"),
    ("batch subset", lambda n: slice(0, n // 2), "only the first half of the samples counts", "over n < N/2"),
    (
        "batch subset",
        lambda n: slice(n // 2, n),
        "only the second half of the samples counts",
        "over n ≥ N/2",
    ),
    ("batch subset", lambda n: slice(0, n, 2), "only every other sample counts", "over every other sample"),
    ("batch subset", lambda n: slice(1, n, 2), "only every other sample counts", "over every other sample"),
)
"""Kind, which samples of n are kept, and the words for it."""


def kept(count: int, samples: Samples) -> Array | None:
    """1 for the samples that are kept, else 0, (count, 1); None where none is, or all are."""
    mask = np.zeros((count, 1))
    mask[samples(count)] = 1.0
    return mask if 0 < mask.sum() < count else None
