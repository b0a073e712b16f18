"""Run backprop through one layer of a chain of layers, with some of its steps replaced by wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np

from gradcheck_cli.diagnose.mistake import Steps
from gradcheck_cli.diagnose.rows import Rows, in_rows
from gradcheck_cli.diagnose.site import RIGHT, Part, Site
from gradcheck_cli.diagnose.state import State
from gradcheck_cli.problem.problem import Problem
from gradcheck_cli.types import Array


class LayerBackprop:
    """Continues the backprop of a state through the next layer below it, with or without mistakes.

    found: the author's gradients, by parameter name.
    """

    def __init__(self, problem: Problem, found: Mapping[str, Array]) -> None:
        self.problem = problem
        self.found = found
        self._right_deltas: tuple[Array, ...] = ()
        self._latest: tuple[State, int, Site | None] | None = None

    @cached_property
    def right(self) -> list[Site]:
        """The sites of all layers in a backprop without mistakes, by layer index."""
        sites: list[Site] = []
        state = State()
        for i in reversed(range(len(self.problem.network.layers))):
            site = self.site(state, i, {}, 0.0)
            assert site is not None
            sites.insert(0, site)
            state = State(site=site)
        self._right_deltas = tuple(site.delta for site in sites)
        return [replace(site, right_deltas=self._right_deltas) for site in sites]

    def site(self, state: State, i: int, steps: Steps, value: float) -> Site | None:
        """Return layer i's site after these steps; None if any of the steps does not apply.

        value: the value of the steps' unknown.
        """
        nothing, above = np.empty(0), state.deltas

        def site(dL_da: Array = nothing, dL_dy: Array = nothing, delta: Array = nothing) -> Site:
            at = self.problem, self._activity, i, self.found
            return Site(*at, dL_da, dL_dy, delta, above, self._right_deltas)

        first = Part.BELOW if state.site else Part.LOSS
        dL_da = self._step(first, steps, state.site or site(), value)
        if dL_da is None:
            return None
        dL_dy = self._step(Part.ACTIVATION, steps, site(dL_da), value)
        if dL_dy is None:
            return None
        delta = self._step(Part.NORM, steps, site(dL_da, dL_dy), value)
        return None if delta is None else site(dL_da, dL_dy, delta)

    def plain(self, state: State, i: int) -> Site | None:
        """Return layer i's site with only the state's mistakes, which all lie above layer i."""
        if self._latest is None or self._latest[0] is not state or self._latest[1] != i:
            self._latest = state, i, self.site(state, i, {}, 0.0)
        return self._latest[2]

    def _step(self, part: Part, steps: Steps, site: Site, value: float) -> Array | None:
        return steps[part].made(site, value) if part in steps else RIGHT[part](site)

    @cached_property
    def _activity(self) -> Rows:
        return in_rows(self.problem)
