"""Mistakes that were made, and a backprop that has come down so far with them."""

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
    """A mistake that was made: where, with which value of its unknown, and in which entries.

    early: whether it spoilt the data's part alone, and the penalty was added afterwards.
    """

    wrong: Wrong
    layer: str
    tensor: str = ""
    value: float | None = None
    place: str = ""
    early: bool = False

    def is_like(self, other: Made) -> bool:
        """Whether both are the same mistake, made in two places."""
        if self.wrong.kind != other.wrong.kind:
            return False
        if self.wrong.unknown == "factor" and bool(self.tensor) != bool(other.tensor):
            return False  # one goes on into all layers below, the other does not
        if self.value is None or other.value is None or not self.wrong.unknown:
            return True
        return math.isclose(self.value, other.value, rel_tol=1e-5, abs_tol=1e-8)


def number_of(made: Sequence[Made]) -> int:
    """How many mistakes these are; the same one in several layers is one."""
    if len(made) < 2:
        return len(made)
    return sum(not any(each.is_like(before) for before in made[:i]) for i, each in enumerate(made))


@dataclass(frozen=True)
class State:
    """A backprop that has come down to `site` with these mistakes, and reproduced everything above.

    informed: how many entries tell it from the right one.  apart: the largest distance from what was found.
    on_penalty: whether a factor bears on penalties, too.
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
    """One of each set of mistakes."""
    seen: dict[object, State] = {}
    for state in states:
        key = tuple(
            (id(m.wrong), m.layer, m.tensor, m.place, m.value and float(f"{m.value:.6g}")) for m in state.made
        )
        seen.setdefault(key, state)
    return list(seen.values())
