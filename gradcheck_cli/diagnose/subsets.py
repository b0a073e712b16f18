"""Which samples people leave out, or are left with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

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


_MOST_SAMPLES = 512


def kept_samples(sums: Sequence[tuple[Array, Array, Array]]) -> Array | None:
    """Which samples these sums Σₙ sₙ δₙᵀ fₙ are over, (N, 1): 0, and 1 or N over their number; else None.

    sums: what was found (out, in), δ (N, out) and f (N, in) of each. sₙ is solved for by least squares. The
    products of the normal equations are ⟨δₙᵀ fₙ, δₘᵀ fₘ⟩ = (δₙ · δₘ) (fₙ · fₘ), so that no sum of a single
    sample need ever be written out.
    """
    if not sums or not all(np.isfinite(found).all() for found, _, _ in sums):
        return None
    count = len(sums[0][1])
    if not 1 < count <= _MOST_SAMPLES:
        return None
    if sum(found.size for found, _, _ in sums) < count:
        return _tried_one_by_one(sums, count)
    # Each sum in units of its own size: of what is small the digits count as much.
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
    if some.all() or not counts[~some].any():
        return None
    for weight in (1.0, count / np.count_nonzero(some)):
        if np.abs(share - weight * some).max() < _NEAR * weight:
            return weight * some[:, None]
    return None


_MOST_TO_TRY = 12
"""So many samples have 4,096 subsets, of which a few equations choose; of more, only the ends are tried."""

_MOST_ENTRIES = 32

_FEWEST = 3
"""Of fewer numbers some subset comes near by chance."""


def _tried_one_by_one(sums: Sequence[tuple[Array, Array, Array]], count: int) -> Array | None:
    """The subset whose sums come nearest to what was found, where these are too few to solve for it."""
    found, delta, f = max(sums, key=lambda each: each[0].size)
    if not (np.isfinite(delta).all() and np.isfinite(f).all()) or found.size < _FEWEST:
        return None
    i, j = np.unravel_index(np.arange(min(found.size, _MOST_ENTRIES)), found.shape)
    of_samples = delta[:, i] * f[:, j]
    if count <= _MOST_TO_TRY:
        subsets = (np.arange(1, 2**count - 1)[:, None] >> np.arange(count)) & 1
    else:
        first = np.tri(count - 1, count, dtype=int)
        subsets = np.vstack([first, 1 - first])
    best, least = None, np.inf
    for weight in (1.0, count / subsets.sum(axis=1, keepdims=True)):
        off = np.abs(weight * (subsets @ of_samples) - found.reshape(-1)[:_MOST_ENTRIES]).max(axis=1)
        k = int(off.argmin())
        if off[k] < least:
            least, best = float(off[k]), (np.broadcast_to(weight, (len(subsets), 1))[k] * subsets[k])[:, None]
    return best


_WELL_CONDITIONED = 1e12
_NEAR = 1e-3
"""So near is near enough: what follows from it is held against the whole gradient."""


MOST_NAMED = 12
"""Of more rows, columns, samples or entries only the number is told."""


_PLURALS = {"entry": "entries", "index": "indices"}


def numbered(noun: str, mask: Array) -> str:
    """Name the lines of a mask: ``rows 3, 7 and 9``, or ``15 rows``."""
    which = [str(i) for i in np.flatnonzero(mask)]
    several = _PLURALS.get(noun, f"{noun}s")
    named = noun if len(which) == 1 else several
    return f"{named} {listed(which)}" if len(which) <= MOST_NAMED else f"{len(which)} {named}"


def listed(words: Sequence[str]) -> str:
    """Join words: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def as_sentence(text: str, names: Collection[str] = ()) -> str:
    """With a full stop, and a capital letter unless it begins with a symbol or one of these names."""
    begins = text.split(" ", 1)[0].rstrip(",")
    is_word = begins.isalpha() and begins.isascii() and begins not in names
    return f"{text[0].upper() if is_word else text[0]}{text[1:]}."
