"""All plants: each pattern with the functions in which it is planted, and other mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from planted_patterns.branches import detached, wrong_rules
from planted_patterns.calls import kept_from_the_first_call, parts_of_outputs, parts_of_samples
from planted_patterns.case import Array, Case, Change, drawn_by, each, first, unchanged
from planted_patterns.matrices import (
    MATRICES,
    NOT_SYMMETRIC,
    half_off_diagonal,
    half_sums,
    sum_of_both,
    symmetric_in_code,
    symmetrised,
    twice,
)
from planted_patterns.products import missing_conjugates, other_complex_mistakes, transposed_factors
from planted_patterns.steps import flat_places, staircases
from planted_patterns.tensors import of_a_tensor, tensors


def _zero_slice(axis: int, which: slice) -> Change:
    def change(g: Array) -> Array:
        wrong = g.copy()
        wrong[(slice(None),) * axis + (which,)] = 0.0
        return wrong

    return first(change)


def _swap(one: int, other: int) -> Change:
    return first(lambda g: np.swapaxes(g, one, other))


Planted = Iterator[tuple[Case, Change]]


def _stairs() -> Planted:
    return ((case, unchanged) for case in staircases())


def _symmetric_moves() -> Planted:
    for matrix in MATRICES:
        yield matrix.of_lower_triangle().case(), each(symmetrised)
    for matrix in NOT_SYMMETRIC:
        yield matrix.case(), each(symmetrised)
    yield from ((case, unchanged) for case in symmetric_in_code())


def _off_diagonal() -> Planted:
    for matrix in MATRICES:
        yield matrix.case(), each(twice)
        yield matrix.of_lower_triangle().case(), each(half_off_diagonal)


def _half_sums() -> Planted:
    for matrix in NOT_SYMMETRIC:
        yield sum_of_both(matrix), unchanged
    yield from ((case, unchanged) for case in half_sums())


def _detached() -> Planted:
    return ((case, unchanged) for case in detached())


def _parts() -> Planted:
    return ((case, unchanged) for case in parts_of_samples())


def _outputs() -> Planted:
    return ((case, unchanged) for case in parts_of_outputs())


def _kept() -> Planted:
    return ((case, unchanged) for case in kept_from_the_first_call())


def _transposed() -> Planted:
    return ((case, unchanged) for case in transposed_factors())


def _conjugates() -> Planted:
    return ((case, unchanged) for case in missing_conjugates())


def _swapped_axes() -> Planted:
    places = (("k", 1, 2), ("c", 2, 3), ("q", 0, 2), ("q", 1, 2), ("t", 0, 1))
    return ((case, _swap(*pair)) for name, *pair in places for case in of_a_tensor(name))


def _zero_slices() -> Planted:
    last, firsts = slice(-1, None), slice(0, 2)
    places = (("b", 0, firsts), ("b", 0, slice(-3, None)), ("k", 0, last), ("k", 2, firsts), ("c", 1, last))
    places = (*places, ("c", 3, firsts), ("q", 1, last), ("t", 2, last))
    return ((case, _zero_slice(*where)) for name, *where in places for case in of_a_tensor(name))


PLANTS: Mapping[str, Callable[[], Planted]] = {
    "straight-through estimate": _stairs,
    "right along symmetric moves": _symmetric_moves,
    "off-diagonal factor": _off_diagonal,
    "half of a sum": _half_sums,
    "detached branch": _detached,
    "part of the samples": _parts,
    "part of the outputs": _outputs,
    "earlier call": _kept,
    "transposed factor": _transposed,
    "missing conjugate": _conjugates,
    "axes swapped": _swapped_axes,
    "slice of zeros": _zero_slices,
}
"""The functions in which each pattern is planted, each with the change of its gradient that plants it."""


def _noise(g: Array) -> Array:
    return g * (1 + 0.01 * drawn_by(40).normal(size=g.shape))


def _one_off(g: Array) -> Array:
    wrong = g.copy()
    wrong.flat[g.size // 2] += 0.1 + abs(wrong.flat[g.size // 2])
    return wrong


def _zero_entries(g: Array) -> Array | None:
    if g.ndim == 1:
        return None  # any entries of a vector are slices
    return np.where(drawn_by(41).uniform(size=g.shape) < 0.4, 0.0, g)


OTHERS: Mapping[str, Change] = {
    "factor": each(lambda g: 1.3 * g),
    "half": each(lambda g: 0.5 * g),
    "twice": each(lambda g: 2.0 * g),
    "sign": each(lambda g: -g),
    "noise": first(_noise),
    "one entry": first(_one_off),
    "absolute": first(np.abs),
    "zero entries": first(_zero_entries),
    "lower triangle": first(lambda g: np.tril(g) if g.ndim == 2 else None),
    "upper triangle doubled": first(lambda g: g + np.triu(g, 1) if g.ndim == 2 else None),
    "diagonal doubled": first(
        lambda g: g + g * np.eye(len(g)) if g.ndim == 2 and g.shape[0] == g.shape[1] else None
    ),
    "reversed": first(lambda g: g[::-1].copy()),
    "transposed": first(lambda g: g.T.copy() if g.ndim == 2 and g.shape[0] == g.shape[1] else None),
    "a constant added": first(lambda g: g + 0.3),
    "squared": first(lambda g: g * np.abs(g)),
    "last row times 3": first(
        lambda g: g * np.where(np.arange(len(g)) == len(g) - 1, 3.0, 1.0).reshape(-1, *[1] * (g.ndim - 1))
    ),
}


def others() -> Iterator[tuple[str, Case, Change]]:
    """Yield other mistakes in functions of matrices and tensors, each with its name."""
    matrices = [m for each in MATRICES for m in (each, each.of_symmetric_part(), each.of_lower_triangle())]
    rights = [*(matrix.case() for matrix in matrices), *tensors()]
    yield from ((name, case, change) for case in rights for name, change in OTHERS.items())


def in_other_places() -> Iterator[tuple[str, Case, Change]]:
    yield from (("flat", case, unchanged) for case in flat_places())
    yield from (("rule", case, unchanged) for case in wrong_rules())
    yield from (("complex", case, unchanged) for case in other_complex_mistakes())
