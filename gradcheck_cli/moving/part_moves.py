"""Compute losses after single elements of a value are perturbed, by evaluating only the parts that change.

`at_rest.AtRest.above` evaluates whole samples, and returns the same losses more slowly. This module handles
float64 and samples that do not affect each other. Only `AtRest.above` handles conventions for kinks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.moving.affine_end import AffineEnd
from gradcheck_cli.moving.at_rest import NEAR, AtRest
from gradcheck_cli.moving.position_losses import PositionLosses, is_at_one_position, position_losses
from gradcheck_cli.network.part import Fixed, Input, Part, Resting, Valued
from gradcheck_cli.numerical.objective import Moved
from gradcheck_cli.types import Array


@dataclass(frozen=True)
class PartMoves:
    """Perturbs parts of the value with index `at`, and evaluates only the parts that change.

    output_rounding: the rounding error of the outputs of N samples, (N, *outputs), in units of machine
        epsilon.
    """

    objective: AtRest
    at: int
    output_rounding: Array

    @cached_property
    def plain(self) -> bool:
        """Whether parts can be used: only in float64, without a convention, and with independent samples."""
        objective = self.objective
        one_by_one = objective.convention is None and not objective.graph.couples_above(self.at)
        return one_by_one and objective.x.dtype == np.float64

    @cached_property
    def widest(self) -> int:
        """The size of the largest part that a single perturbed element changes."""
        first = np.zeros(1, dtype=np.intp)
        return self.widest_of((first,) * len(self.objective.graph.value_features[self.at]))

    def widest_of(self, fixed: Fixed) -> int:
        """Return the size of the largest part that changes if the part at a position is perturbed.

        fixed: the position in a single copy of a sample.
        """
        first = np.zeros(1, dtype=np.intp)
        parts = self._parts(first, fixed, Resting(self.objective.values[self.at], first).at(fixed))
        return max((part.size for _, part, _ in parts), default=1)

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
        objective, crossed = self.objective, np.zeros(len(to), dtype=bool)
        outputs, through_end = list[Part](), list[Array]()
        last, end = len(objective.values) - 1, self._end
        for value, part, beyond in self._parts(samples, fixed, to):
            if beyond is not None:
                crossed |= beyond
            if value == last:
                outputs.append(part)
            elif (rise := end.rise(value, part)) is not None:
                through_end.append(rise)
        if outputs and not through_end and self._positions and is_at_one_position(outputs[0]):
            return self._positions.move(outputs[0], crossed)
        rise = np.zeros((len(to), *objective.output.shape[1:]))
        for each in (*(part.whole_rise for part in outputs), *through_end):
            rise += each.reshape(rise.shape)
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

    @property
    def _end(self) -> AffineEnd:
        return self.objective.affine_end

    def _parts(self, samples: Array, fixed: Fixed, to: Array) -> Iterator[tuple[int, Part, Array | None]]:
        """Yield, for every value that changes, the value's index, its changed part, and a mask of copies.

        The mask marks the copies in which the step that computes the value crosses a kink. It is None if the
        step has no kinks.
        """
        graph, resting, end = self.objective.graph, self._resting(samples), self._end.nodes
        parts: dict[int, Part] = {self.at: Valued(resting[self.at], fixed, to)}
        yield self.at, parts[self.at], None
        for i in graph.above[self.at]:
            node = graph.nodes[i]
            if i in end or parts.keys().isdisjoint(node.inputs):
                continue
            inputs = [parts.get(k, resting[k]) for k in node.inputs]
            found = node.step.part(self.objective.own[i], inputs, resting[i + 1])
            if found is not None:
                parts[i + 1] = found
                yield i + 1, found, self._crossed(i, inputs[0])
            for k in node.inputs:
                if graph.readers[k][-1] == i:
                    parts.pop(k, None)  # reusing memory is faster

    def _resting(self, samples: Array) -> list[Resting]:
        return [
            Resting(value, samples, memory)
            for value, memory in zip(self.objective.values, self.objective.memories, strict=True)
        ]

    def _crossed(self, i: int, x: Input) -> Array | None:
        """Return a mask, (B,), of the copies in which the first input x of node i crosses a kink, if any."""
        step = self.objective.graph.nodes[i].step
        if not step.has_pieces or not isinstance(x, Part):
            return None
        rest, samples = self.objective.pieces[i], x.rest.samples
        if step.couples == "nothing":
            changed = step.pieces(x.value) != Resting(rest, samples).at(x.fixed)
        else:
            changed = step.pieces(x.whole) != rest[samples]
        return np.asarray(changed.reshape(len(x.value), -1).any(axis=-1))
