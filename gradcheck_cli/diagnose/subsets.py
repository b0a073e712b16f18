"""Find out which samples were left out of a sum, and name lists of indices in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache

import numpy as np

from gradcheck_cli.types import Array

Samples = Callable[[int], slice]


def kept(count: int, samples: Samples) -> Array | None:
    """Return an array, (count, 1), with 1 for each sample that is kept and 0 for all others.

    Returns None if all samples are kept, or if no sample is.
    """
    mask = np.zeros((count, 1))
    mask[samples(count)] = 1.0
    return mask if 0 < mask.sum() < count else None


_MOST_SAMPLES = 512


def kept_samples(sums: Sequence[tuple[Array, Array, Array]]) -> Array | None:
    """Return the weights sₙ of the N samples, (N, 1), for which every sum equals Σₙ sₙ δₙᵀ fₙ.

    A sample that is left out has the weight 0. All other samples have the same weight: 1, or N divided by
    their number. The weights are solved for by least squares. The normal equations need only the inner
    products ⟨δₙᵀ fₙ, δₘᵀ fₘ⟩ = (δₙ · δₘ) (fₙ · fₘ), so no product δₙᵀ fₙ is formed. Returns None if no proper
    subset of the samples fits, or if the sums do not determine the subset.

    sums: for each sum, the author's value (out, in), the factor δ (N, out) and the factor f (N, in).
    """
    if not sums or not all(np.isfinite(found).all() for found, _, _ in sums):
        return None
    count = len(sums[0][1])
    if not 1 < count <= _MOST_SAMPLES:
        return None
    if sum(found.size for found, _, _ in sums) < count:
        return _tried_one_by_one(sums, count)
    # Each sum is scaled by its own size, so that small gradients count as much as large ones.
    sizes = [float(np.square(found).sum()) or 1.0 for found, _, _ in sums]
    products = sum(
        (delta @ delta.T) * (f @ f.T) / size for (_, delta, f), size in zip(sums, sizes, strict=True)
    )
    right_hand = sum(
        ((delta @ found) * f).sum(axis=1) / size for (found, delta, f), size in zip(sums, sizes, strict=True)
    )
    counts = np.diag(products) > 0
    finite = np.isfinite(products).all() and np.isfinite(right_hand).all()
    if not finite or np.count_nonzero(counts) < 2:
        return None
    if np.linalg.cond(products[np.ix_(counts, counts)]) > _WELL_CONDITIONED:
        return _tried_one_by_one(sums, count)
    share = np.ones(count)
    share[counts] = np.linalg.solve(products[np.ix_(counts, counts)], right_hand[counts])
    some = np.abs(share) > 0.5 * np.abs(share).max()
    if not some.any() or some.all() or not counts[~some].any():
        return None
    for weight in (1.0, count / np.count_nonzero(some)):
        if np.abs(share - weight * some).max() < _NEAR * weight:
            return weight * some[:, None]
    return None


_MOST_TO_TRY = 12
"""The largest number of samples (4,096 subsets) for which every subset is tried.

For more samples, only the subsets at either end are tried.
"""

_MOST_ENTRIES = 32

_FEWEST = 3
"""If a sum has fewer entries than this, some subset of the samples would match it by chance."""


def _tried_one_by_one(sums: Sequence[tuple[Array, Array, Array]], count: int) -> Array | None:
    """Return the samples' weights, (count, 1), that best reproduce the sum with the most entries.

    The subsets of the samples are tried one by one, since the sums have too few entries to solve for the
    weights. Returns None if no subset is near, if even the largest sum has fewer than `_FEWEST` entries, or
    if δ or f is not finite.
    """
    found, delta, f = max(sums, key=lambda each: each[0].size)
    if not (np.isfinite(delta).all() and np.isfinite(f).all()) or found.size < _FEWEST:
        return None
    i, j = np.unravel_index(np.arange(min(found.size, _MOST_ENTRIES)), found.shape)
    of_samples, wanted = delta[:, i] * f[:, j], found.reshape(-1)[:_MOST_ENTRIES]
    members = _all_subsets(count) if count <= _MOST_TO_TRY else _both_ends(count)
    best, least = None, np.inf
    at_first = members @ of_samples[:, 0]  # excludes nearly all subsets, at the cost of one entry
    tolerance = _NEAR * (np.abs(of_samples[:, 0]).sum() + abs(wanted[0]))
    for weights in (np.ones(len(members)), count / members.sum(axis=1)):
        near = np.flatnonzero(np.abs(weights * at_first - wanted[0]) <= tolerance)
        off = np.abs(weights[near, None] * (members[near] @ of_samples) - wanted).max(axis=1, initial=0.0)
        if len(near) and off.min() < least:
            k = near[off.argmin()]
            least, best = float(off.min()), (weights[k] * members[k])[:, None]
    return best


@cache
def _all_subsets(count: int) -> Array:
    """Return all subsets of `count` samples except the empty and the full one, each as a row of 0 and 1."""
    return ((np.arange(1, 2**count - 1)[:, None] >> np.arange(count)) & 1).astype(float)


@cache
def _both_ends(count: int) -> Array:
    """Return the subsets at either end of the samples, each as a row of 0 and 1.

    The rows select the first 1, 2, … and count − 1 samples. The complements of these subsets follow.
    """
    first = np.tri(count - 1, count)
    return np.vstack([first, 1 - first])


_WELL_CONDITIONED = 1e12
_NEAR = 1e-3
"""The largest relative error of the weights. The gradient that results is compared exactly afterwards."""


MOST_NAMED = 12
"""The largest number of rows, columns, samples or entries to list. A larger number is only counted."""


_PLURALS = {"entry": "entries", "index": "indices"}


def numbered(noun: str, mask: Array) -> str:
    """Name the true indices of a mask, such as ``rows 3, 7 and 9``; if there are many, count them."""
    which = [str(i) for i in np.flatnonzero(mask)]
    several = _PLURALS.get(noun, f"{noun}s")
    named = noun if len(which) == 1 else several
    return f"{named} {listed(which)}" if len(which) <= MOST_NAMED else f"{len(which)} {named}"


def listed(words: Sequence[str]) -> str:
    """Join words into a list: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def as_sentence(text: str, names: Collection[str] = ()) -> str:
    """Return the text as a sentence, with a full stop and a capital letter.

    If the first word is a symbol or one of `names`, its first letter stays as it is.
    """
    begins = text.split(" ", 1)[0].rstrip(",")
    is_word = begins.isalpha() and begins.isascii() and begins not in names
    return f"{text[0].upper() if is_word else text[0]}{text[1:]}."
