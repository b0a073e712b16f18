"""Compute losses after single elements of a value are perturbed, by evaluating only the parts that change.

`at_rest.AtRest.above` evaluates whole samples, and returns the same losses more slowly. This module handles
float64 and samples that do not affect each other. Only `AtRest.above` handles conventions for kinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.moving.at_rest import NEAR
from gradcheck_cli.moving.parts import Parts
from gradcheck_cli.moving.position_losses import PositionLosses, position_losses
from gradcheck_cli.network.part import Fixed, Valued
from gradcheck_cli.numerical.objective import Moved
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class PartMoves(Parts):
    """Perturbs parts of the value with index `at`, and evaluates only the parts that change.

    output_rounding: the rounding error of the outputs of N samples, (N, *outputs), in units of machine
        epsilon.
    """

    output_rounding: Array

    def move(self, samples: Array, features: Array, to: Array) -> Moved:
        """Return the losses (B,) after setting one element in each of B copies of samples.

        samples: the index of each copy's sample, (B,).
        features: the flat index of the element to set in each copy, (B,).
        to: the new value of that element, (B,).
        """
        start = np.unravel_index(features, self.objective.graph.value_features[self.at])
        return self.move_part(samples, tuple(start), to)

    def move_part(self, samples: Array, fixed: Fixed, to: Array) -> Moved:
        """Return the losses (B,) after setting part of the value in each of B copies of samples.

        fixed: the position of the part.  to: the new elements, (B, *free).

        samples: as in `move`.
        """
        objective = self.objective
        outputs, crossed = self.at_outputs(Valued(self.resting(samples), fixed, to))
        if self._positions and (part := outputs.at_one_position) is not None:
            return self._positions.move(part, crossed)
        rise = outputs.rise
        output = objective.output[samples]
        output += rise
        if np.abs(rise).max(initial=0.0) > NEAR:
            return objective.ended(output, samples, self.output_rounding, crossed, np.zeros_like(crossed))
        return self._ended_nearby(output, samples, crossed)

    def _ended_nearby(self, output: Array, samples: Array, crossed: Array) -> Moved:
        """Return the losses for outputs that have hardly changed, with the rounding error at rest."""
        objective, network = self.objective, self.objective.network
        losses, target = network.loss.value(output, objective.target[samples]), objective.target[samples]
        if objective.loss_pieces is not None and network.loss.pieces is not None:
            changed = network.loss.pieces(output, target) != objective.loss_pieces[samples]
            changed = changed | objective.past_tip(output, samples)
            crossed = crossed | changed.reshape(len(crossed), -1).any(axis=-1)
        losses = network.coefficient * losses
        return Moved(losses, np.maximum(self._rounding_at_rest[samples], np.abs(losses)), crossed)

    @cached_property
    def _rounding_at_rest(self) -> Array:
        """The rounding error of the unperturbed losses, (N,), in units of machine epsilon."""
        objective = self.objective
        return abs(objective.network.coefficient) * objective.loss_rounding(self.output_rounding)

    @cached_property
    def _positions(self) -> PositionLosses | None:
        return position_losses(self.objective, self.output_rounding)
