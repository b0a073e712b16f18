"""Compute how much the losses change after short changes of the outputs, and which changes cross a kink."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.network.loss import Loss
from gradcheck_cli.network.loss_rounding import loss_of_position
from gradcheck_cli.network.rise import AtRest as RestOfRise
from gradcheck_cli.network.rise import Rise
from gradcheck_cli.types import Array

Crossed = Array | bool
"""A mask of the changes that cross a kink; False if none can."""


@dataclass(frozen=True)
class LossRises:
    """Computes the rises of the losses after changes of the outputs, if the loss has a rise."""

    objective: AtRest

    @cached_property
    def row(self) -> Loss:
        """The loss of one position, or of a sample if the outputs have no positions."""
        loss = self.objective.network.loss
        return loss_of_position(loss) or loss

    @property
    def known(self) -> bool:
        """Whether the loss has a rise."""
        return self.row.rise is not None

    @property
    def rise(self) -> Rise:
        """The rise of the loss of one position, or of a sample if the outputs have no positions."""
        rise = self.row.rise
        assert isinstance(rise, Rise)
        return rise

    @cached_property
    def at_rest(self) -> RestOfRise:
        """What the rise of the loss needs, as arrays (N, *positions, C), for C outputs of N samples."""
        return self.rise.at_rest(self.objective.output, self.objective.target)

    def after(self, d: Array, at: Any) -> tuple[Array, Crossed]:
        """Return the rises of the losses, (…, *positions), and a mask of the changes that cross a kink.

        d: the changes of the outputs, (…, *positions, C). They may be overwritten.
        at: the index of their samples or, for changes at single positions, of their samples and positions.
        """
        at_rest, crossed = tuple(each[at] for each in self.at_rest), self._crossed(d, at)
        return self.objective.network.coefficient * self.rise.after(at_rest, d), crossed

    def _crossed(self, d: Array, at: Any) -> Crossed:
        at_rest, pieces = self.objective.loss_pieces, self.row.pieces
        if at_rest is None or pieces is None:
            return False
        moved = pieces(self.objective.output[at] + d, self.objective.target[at])
        return np.asarray((moved != at_rest[at]).any(axis=-1))

    def after_singles(self, d: Array, outputs: Array, at: Any) -> tuple[Array, Crossed]:
        """Return the rises of the losses after changes of single outputs, and a mask of crossed kinks.

        Both results have the shape of d. The outputs have no positions.

        d: the change of each output.
        outputs: the indices of the outputs, which broadcast to the shape of d.
        at: the index of the outputs and that of the samples in arrays of the shape (C, N).
        """
        loss = self.objective.network.loss
        if loss.per_output and (loss.alone or loss.pieces is None):
            return self._after_alone(d[..., None], at)
        changed = np.arange(self.objective.output.shape[-1]) == outputs[..., None]
        return self.after(np.where(changed, d[..., None], 0.0), at[1])

    def _after_alone(self, d: Array, at: Any) -> tuple[Array, Crossed]:
        objective, crossed, pieces = self.objective, False, self.row.pieces
        if objective.loss_pieces is not None and pieces is not None:
            arrays = objective.output, objective.target, objective.loss_pieces
            output, target, rest = (each.T[at][..., None] for each in arrays)
            crossed = (pieces(output + d, target) != rest)[..., 0]
        at_rest = tuple(each.T[at][..., None] for each in self.at_rest)
        return objective.network.coefficient * self.rise.after(at_rest, d), crossed
