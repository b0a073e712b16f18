"""A sweep of backprop over the nodes of a graph, with certain mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gradcheck_cli.diagnose.loops import Repeated
from gradcheck_cli.diagnose.state import Made, State
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class MadeAt(Made):
    """A mistake in a graph. shows_in: the parameters whose gradients it changes first."""

    shows_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class Swept:
    """A sweep with certain mistakes that has reproduced every gradient so far.

    upstream: what has arrived so far at each value, by the value's index.
    arrived: ∂L/∂output of each node visited.
    always: a mistake that is made at several nodes; empty if there is none.
    uses: the parts so far of each parameter's gradient, one for each node that uses it.
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
        """Whether some gradient found has confirmed every mistake so far."""
        return not self.made or self.informed > 0

    def with_made(self, *made: MadeAt) -> Swept:
        return replace(self, made=(*self.made, *made))

    def as_state(self) -> State:
        return State(self.made, None, self.informed, self.apart, self.on_penalty)
