"""A sweep of backprop over the nodes of a graph, made with certain mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gradcheck_cli.diagnose.loops import Repeated
from gradcheck_cli.diagnose.one_of_several import place_of
from gradcheck_cli.diagnose.state import Made, State
from gradcheck_cli.diagnose.variant import Variant, Visit
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class MadeAt(Made):
    """A mistake made in a graph.

    shows_in: the first parameters in backprop whose gradients the mistake changes.
    """

    shows_in: tuple[str, ...] = ()


def made_at(visit: Visit, variant: Variant, value: float | None, shows_in: tuple[str, ...]) -> MadeAt:
    """Return a mistake made at the visited node. A mistake that is made everywhere has no place."""
    place = "" if variant.everywhere else place_of(visit)
    return MadeAt(variant.wrong, visit.node.layer, value=value, place=place, shows_in=shows_in)


@dataclass(frozen=True)
class Swept:
    """An unfinished backprop, with certain mistakes, that has reproduced every gradient so far.

    upstream: the sum of the parts of ∂L/∂value that have arrived, by the index of the value.
    arrived: ∂L/∂output of each node visited, by the node's index.
    always: the mistake that is made at several nodes, in a tuple; empty if no such mistake was made.
    uses: for each parameter, the parts of its gradient computed so far, by the index of the node that uses
        the parameter.
    informed, apart, on_penalty: see `State`.
    """

    made: tuple[MadeAt, ...] = ()
    upstream: Mapping[int, Array] = field(default_factory=dict)
    arrived: Mapping[int, Array] = field(default_factory=dict)
    uses: Mapping[str, Mapping[int, Array]] = field(default_factory=dict)
    always: tuple[Repeated, ...] = ()
    informed: int = 0
    apart: float = 0.0
    on_penalty: bool = False

    @property
    def is_proven(self) -> bool:
        """Whether a gradient has confirmed the mistakes made so far; True if there are no mistakes."""
        return not self.made or self.informed > 0

    def with_made(self, *made: MadeAt) -> Swept:
        return replace(self, made=(*self.made, *made))

    def as_state(self) -> State:
        return State(self.made, None, self.informed, self.apart, self.on_penalty)
