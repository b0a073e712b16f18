"""Find a vector of zeros and ones that solves a system of linear equations, mᵀ A = b.

With as many independent equations as unknowns, least squares finds m. With fewer equations, the bounds
0 ≤ m ≤ 1 still determine m if there are clearly more than half as many equations as unknowns (D. L. Donoho
and J. Tanner, "Counting the faces of randomly-projected hypercubes and orthants", 2010). A short m is found
by comparing the sums of all subsets of both halves. Every solution is verified.
"""

from __future__ import annotations

import numpy as np

from gradcheck_cli.types import Array

_NEARLY = 1e-7
"""The largest error of a verified equation, relative to the sum of the absolute values of its terms."""

_ROUNDS = 400
"""The number of projections after which the search within the bounds gives up."""

_SHORT = 30
"""The largest number of unknowns for which all subsets are compared."""

_FOR_EACH_EQUATION = 12
"""The largest number of unknowns per equation at which a solution by subsets is hardly ever a coincidence."""

_CLOSEST = 8
"""The number of pairs of subsets, with the closest sums, that are verified."""

_DETERMINED = 0.65
"""The share of independent equations per unknown above which the bounds are expected to determine m."""


def zeros_and_ones(terms: Array, sums: Array) -> Array | None:
    """Return m, (n,), with entries 0 and 1 and m @ terms = sums; None if none is found.

    terms: the matrix A, (n, K).
    sums: the right-hand side b, (K,).
    """
    low, high = np.minimum(terms, 0.0).sum(axis=0), np.maximum(terms, 0.0).sum(axis=0)
    allowed = _NEARLY * np.abs(terms).sum(axis=0)
    if not ((sums >= low - allowed) & (sums <= high + allowed)).all():
        return None
    for simple in (np.zeros(len(terms)), np.ones(len(terms))):
        if solves(simple, terms, sums):
            return simple
    found = _within_bounds(terms, sums)
    return _by_halves(terms, sums) if found is None and _is_short(terms) else found


def are_determined(terms: Array) -> bool:
    """Return whether `zeros_and_ones` can be expected to find the solution for this matrix, (n, K)."""
    return _is_short(terms) or bool(np.linalg.matrix_rank(terms) >= _DETERMINED * len(terms))


def _is_short(terms: Array) -> bool:
    few = min(_SHORT, _FOR_EACH_EQUATION * terms.shape[1])
    return len(terms) <= few and len(terms) <= _FOR_EACH_EQUATION * np.linalg.matrix_rank(terms)


def solves(m: Array, terms: Array, sums: Array) -> bool:
    """Return whether m @ terms = sums, for m (n,), terms (n, K) and sums (K,), up to rounding."""
    return bool((np.abs(m @ terms - sums) <= _NEARLY * np.abs(terms).sum(axis=0)).all())


def _within_bounds(terms: Array, sums: Array) -> Array | None:
    """Search by Douglas–Rachford splitting between the equations and the bounds 0 ≤ m ≤ 1."""
    left, sizes, right = np.linalg.svd(terms, full_matrices=False)
    rank = int((sizes > 1e-10 * sizes[0]).sum())
    rows = left[:, :rank]
    least = rows @ (right[:rank] @ sums / sizes[:rank])
    x = least + 0.5 - rows @ (rows.T @ np.full(len(terms), 0.5))  # the solution closest to ½
    for number in range(_ROUNDS):
        inside = np.clip(x, 0.0, 1.0)
        if number % 20 == 0 and solves(np.rint(inside), terms, sums):
            return np.asarray(np.rint(inside))
        reflected = 2.0 * inside - x
        x = x + (reflected - rows @ (rows.T @ reflected) + least) - inside
    return None


def _by_halves(terms: Array, sums: Array) -> Array | None:
    """Compare the sums of all subsets of both halves along one random combination of the equations."""
    along = np.random.default_rng(0).normal(size=len(sums))
    sizes, half = terms @ along, len(terms) // 2
    one, other = _subsets(sizes[:half]), _subsets(sizes[half:])
    order = np.argsort(one)
    needed = float(sums @ along) - other
    nearest = np.clip(np.searchsorted(one[order], needed), 1, len(one) - 1)
    pairs = [(order[nearest - shift], np.abs(one[order[nearest - shift]] - needed)) for shift in (0, 1)]
    for chosen, apart in pairs:
        for k in np.argsort(apart)[:_CLOSEST]:
            m = np.concatenate([_bits(chosen[k], half), _bits(k, len(terms) - half)])
            if solves(m, terms, sums):
                return m
    return None


def _subsets(sizes: Array) -> Array:
    """Return the sum of each subset. Bit i of a subset's index says whether it contains number i."""
    found = np.zeros(1)
    for size in sizes:
        found = np.concatenate([found, found + size])
    return found


def _bits(number: int, count: int) -> Array:
    return np.array([(int(number) >> i) & 1 for i in range(count)], dtype=np.float64)
