"""Choose smooth pieces at the kinks that affect the gradient of a parameter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from gradcheck_cli.moving.kinks import Convention, Numbered
from gradcheck_cli.types import Array

_MOST_CHOICES = 128
"""The largest number of choices of pieces to try at kinks. More would take too many evaluations."""

Choice = tuple[tuple[int, int], ...]
"""A choice of pieces for groups of kinks, as pairs: the number of a group and the number of its piece."""


@dataclass(frozen=True)
class Choices:
    """A choice of sides for the shared groups of kinks, and the choices for all other kinks.

    base: the convention with every other kink on its first piece.
    single: for each other kink, the conventions that differ from `base` only at this kink.
    """

    base: Convention
    single: tuple[tuple[Convention, ...], ...]


def choices_at(numbered: Numbered, first: float) -> Iterator[Choices]:
    """Yield every choice of sides for the shared groups of kinks. Yield nothing if there are too many.

    first: the side of the loss on its first piece.
    """
    pieces, shared = numbered.pieces, numbered.shared
    single = _single_choices(numbered)
    corners = math.prod(pieces[:shared])
    if single is None or corners * (1 + sum(map(len, single))) > _MOST_CHOICES:
        return
    for on in product(*(range(count) for count in pieces[:shared])):
        at_shared = tuple(enumerate(on))
        yield Choices(
            _convention(at_shared, numbered, first),
            tuple(tuple(_convention(at_shared + each, numbered, first) for each in of) for of in single),
        )


def _single_choices(numbered: Numbered) -> Sequence[Sequence[Choice]] | None:
    """Return the choices of pieces for single kinks in which not every kink is on its first piece.

    Returns None if there are too many choices.

    Each item lists choices that exclude each other. Choices from different items can be combined, and their
    effects add up.
    """
    numbers = range(numbered.shared, len(numbered.pieces))
    pieces = [range(numbered.pieces[number]) for number in numbers]
    if numbered.parallel:
        return [[((number, k),) for k in of[1:]] for number, of in zip(numbers, pieces, strict=True)]
    if math.prod(map(len, pieces)) > _MOST_CHOICES:
        return None
    _, *choices = (tuple(zip(numbers, on, strict=True)) for on in product(*pieces))
    return [choices]


def _convention(choice: Choice, numbered: Numbered, first: float) -> Convention:
    def chosen(groups: Array) -> Array:
        pieces = np.full(groups.shape, -1)
        for number, piece in choice:
            pieces[groups == number] = piece
        return pieces

    of_nodes = {i: chosen(groups) for i, groups in numbered.of_nodes.items()}
    return Convention(loss=first, pieces=of_nodes, of_loss=chosen(numbered.of_loss))
