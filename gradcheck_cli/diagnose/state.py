"""A mistake made in a specific place, and a state of the search: a partial backprop with mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gradcheck_cli.diagnose.mistake import Wrong
from gradcheck_cli.diagnose.site import Site
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class Made:
    """A mistake that was made in a specific place.

    layer: the layer's name; empty if unknown.
    tensor: the tensor's name if the mistake affects a single tensor, else empty.
    value: the value of the mistake's unknown.
    place: the units, samples or entries affected, in words; for swapped tensors, the other tensor.
    early: whether the mistake spoilt the gradient before the penalty was added.
    """

    wrong: Wrong
    layer: str
    tensor: str = ""
    value: float | None = None
    place: str = ""
    early: bool = False

    def is_like(self, other: Made) -> bool:
        """Return whether this and `other` are the same mistake, made in two different places."""
        if self.wrong.kind != other.wrong.kind:
            return False
        if self.wrong.unknown == "factor" and bool(self.tensor) != bool(other.tensor):
            return False  # a factor on ∂L/∂a also reaches the layers below
        if self.value is None or other.value is None or not self.wrong.unknown:
            return True
        return math.isclose(self.value, other.value, rel_tol=1e-5, abs_tol=1e-8)


def number_of(made: Sequence[Made]) -> int:
    """Return the number of distinct mistakes. A mistake that was made in several places counts once."""
    if len(made) < 2:
        return len(made)
    return sum(not any(each.is_like(before) for before in made[:i]) for i, each in enumerate(made))


@dataclass(frozen=True)
class State:
    """A backprop with certain mistakes that has reproduced every gradient down to `site`.

    informed: the number of entries in which the state's gradients clearly differ from the correct gradients.
    apart: the largest relative distance between the state's gradients and the author's.
    on_penalty: whether a factor also applies to penalties.
    """

    made: tuple[Made, ...] = ()
    site: Site | None = None
    informed: int = 0
    apart: float = 0.0
    on_penalty: bool = False

    @property
    def deltas(self) -> tuple[Array, ...]:
        return () if self.site is None else (*self.site.above, self.site.delta)

    @cached_property
    def number(self) -> int:
        return number_of(self.made)

    @cached_property
    def kinds(self) -> frozenset[str]:
        return frozenset(each.wrong.kind for each in self.made)


def distinct(states: Sequence[State]) -> list[State]:
    """Return the first state for each combination of mistakes."""
    seen: dict[object, State] = {}
    for state in states:
        key = tuple(
            (id(m.wrong), m.layer, m.tensor, m.place, m.value and float(f"{m.value:.6g}")) for m in state.made
        )
        seen.setdefault(key, state)
    return list(seen.values())
