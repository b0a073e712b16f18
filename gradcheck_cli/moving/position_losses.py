"""Compute losses after the outputs of one position have changed, if the loss is a sum over positions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.moving.at_rest import NEAR, AtRest
from gradcheck_cli.network.loss_rounding import loss_and_rounding, loss_of_position
from gradcheck_cli.network.part import Part
from gradcheck_cli.numerical.objective import Moved
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class PositionLosses:
    """Computes the loss of the changed position alone. The losses of all other positions are as at rest.

    row: the loss of one position.
    output_rounding: the rounding error of the outputs of N samples, (N, *positions, C), in units of machine
        epsilon.
    """

    objective: AtRest
    row: Any
    output_rounding: Array

    def move(self, part: Part, crossed: Array) -> Moved:
        """Return the losses, (B,), after a change of the outputs of one position in each of B copies.

        part: the changed outputs.
        crossed: a mask of the copies that have crossed a kink below the outputs.
        """
        objective, samples, c = self.objective, part.rest.samples, self.objective.network.coefficient
        at = (samples, *part.fixed[:-1])
        rise = part.freed([len(part.fixed) - 1]).rise
        output, target = objective.output[at] + rise, objective.target[at]
        if self.row.pieces is not None and objective.loss_pieces is not None:
            changed = self.row.pieces(output, target) != objective.loss_pieces[at]
            changed = changed | objective.past_tip(output, at)
            crossed = crossed | changed.reshape(len(crossed), -1).any(axis=-1)
        before, rounding_before = (each[at] for each in self._at_rest)
        if np.abs(rise).max(initial=0.0) <= NEAR:
            losses, rounding = self.row.value(output, target), rounding_before
        else:
            losses, rounding = loss_and_rounding(self.row, output, target, self.output_rounding[at])
        whole = objective.losses[samples] + c * (losses - before)
        whole_rounding = self._whole_rounding[samples] + abs(c) * (rounding - rounding_before)
        return Moved(whole, np.maximum(whole_rounding, np.abs(whole)), crossed)

    @cached_property
    def _at_rest(self) -> tuple[Array, Array]:
        """The unperturbed loss of each position and its rounding error, (N, *positions) each."""
        objective = self.objective
        return loss_and_rounding(self.row, objective.output, objective.target, self.output_rounding)

    @cached_property
    def _whole_rounding(self) -> Array:
        """The rounding error of the unperturbed loss of each of N samples, (N,)."""
        _, rounding = self._at_rest
        total: Array = abs(self.objective.network.coefficient) * rounding.reshape(len(rounding), -1).sum(
            axis=1
        )
        return total


def position_losses(objective: AtRest, output_rounding: Array) -> PositionLosses | None:
    """Return a `PositionLosses`, or None if the loss is not a sum over positions."""
    row = loss_of_position(objective.network.loss)
    return None if row is None else PositionLosses(objective, row, output_rounding)
