"""Compute how much the losses change after short changes of parts of a value, without subtracting losses.

What travels upwards is the change of a part since rest. Affine steps add changes, and activations and the
loss turn them into exact changes of their values, as in `rises`. So convolutions and pooling need no ladder
of steps, either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.moving.parts import Parts
from gradcheck_cli.moving.rise_rounding import RiseRounding
from gradcheck_cli.network.part import Fixed, Input, Part, Resting, Risen, Valued
from gradcheck_cli.network.rise import AtRest as RestOfRise
from gradcheck_cli.network.rise import length
from gradcheck_cli.network.step import Step
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class PartRises(Parts):
    """Computes the rises of the losses after changes of parts of the value with index `at`.

    rounding: bounds on the rounding errors of slopes from rises, and what all sites share.
    """

    rounding: RiseRounding

    @cached_property
    def known(self) -> bool:
        """Whether the loss and every step above the value turn changes into changes without cancellation."""
        graph = self.objective.graph
        if not self.plain or not self.rounding.loss.known:
            return False
        return all(_keeps_changes(graph.nodes[i].step) for i in graph.above(self.at))

    def rise(self, samples: Array, fixed: Fixed, by: Array) -> tuple[Array, Array]:
        """Return the rises of the losses, (B,), and a mask of the changes that cross a kink, (B,).

        samples: the index of the sample of each of B copies, (B,).
        fixed: the position of the part that changes in each copy.
        by: the changes of its elements, (B, *free).
        """
        resting = self.resting(samples)
        outputs, crossed = self.at_outputs(Risen(resting, fixed, by))
        if (part := outputs.at_one_position) is not None:
            losses, beyond = self.rounding.loss.after(*_of_position(part))
            return losses, crossed | beyond
        rise, all_in_turn = outputs.rise, resting.takes_turns
        if all_in_turn:
            rise = rise.reshape(-1, *self.objective.output.shape)
        losses, beyond = self.rounding.loss.after(rise, slice(None) if all_in_turn else samples)
        if beyond is not False:
            crossed |= np.reshape(beyond, (len(samples), -1)).any(axis=1)
        return losses.reshape(len(samples), -1).sum(axis=1), crossed

    def _evaluated(self, i: int, inputs: Sequence[Input], output: Resting) -> Part | None:
        step, x = self.objective.graph.nodes[i].step, inputs[0]
        rise = step.row.rise if isinstance(step, Pointwise) and not step.row.keeps else None
        if rise is None or not isinstance(x, Part):
            return _as_changes(super()._evaluated(i, inputs, output))
        after, at_rest, shape = rise.after, self._at_rest(i), output.value.shape
        changes = x.rise.copy()  # the rise may overwrite it
        if x.rest.takes_turns and len(x.free) == len(x.fixed):  # then nothing needs to be gathered
            return Risen(output, x.fixed, after(at_rest, changes.reshape(-1, *shape)).reshape(changes.shape))
        own = tuple(Resting(each, x.rest.samples).at(x.fixed) for each in at_rest)
        return Risen(output, x.fixed, after(own, changes))

    def _at_rest(self, i: int) -> RestOfRise:
        """Return what the rise of activation i needs, in the shape of its value, (N, *features)."""
        shape = self.objective.values[i + 1].shape
        return tuple(each.reshape(shape) for each in self.rounding.at_rest(i))

    def _crossed(self, i: int, x: Input, output: Part) -> Array | None:
        step = self.objective.graph.nodes[i].step
        if step.has_pieces and isinstance(x, Part) and length(x.rise) < self.rounding.clear(i):
            return None
        return super()._crossed(i, x, output)


def _of_position(part: Part) -> tuple[Array, tuple[Array, ...]]:
    """Return the changes of all outputs of one position in each of B copies, (B, C), and their indices.

    The indices are those of the copy's sample and of the position.
    """
    last = len(part.fixed) - 1
    position = tuple(index for index in part.fixed[:last] if index is not None)
    return part.freed([last]).rise.copy(), (part.rest.samples, *position)


def _as_changes(part: Part | None) -> Part | None:
    """Return the part. If it holds values, its changes are too long for the step, and all of them are NaN."""
    if not isinstance(part, Valued):
        return part
    return Risen(part.rest, part.fixed, np.full_like(part.held, np.nan))


def _keeps_changes(step: Step) -> bool:
    return step.rises or (isinstance(step, Pointwise) and step.row.rise is not None)
