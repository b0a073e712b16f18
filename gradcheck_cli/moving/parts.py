"""Follow a perturbed part of a value up to the outputs, and evaluate only the parts of values that change.

`part_moves` computes the losses after such a perturbation, and `part_rises` their changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.network.part import Fixed, Input, Part, Resting, Valued
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Outputs:
    """What a perturbation changes at the outputs. The changes add up.

    shape: the shape of the outputs in all copies, (B, *outputs).
    parts: the changed part of the outputs, if the steps were evaluated up to them.
    through_end: the changes through the affine end, (B, …) each.
    """

    shape: Shape
    parts: Sequence[Part]
    through_end: Sequence[Array]

    @property
    def rise(self) -> Array:
        """The changes of all outputs, (B, *outputs)."""
        rise = np.zeros(self.shape)
        for each in (*(part.whole_rise for part in self.parts), *self.through_end):
            rise += each.reshape(rise.shape)
        return rise

    @property
    def at_one_position(self) -> Part | None:
        """The changed part of the outputs, if only outputs of one position change in each copy."""
        if self.through_end or len(self.parts) != 1 or len(self.shape) == 2:
            return None
        (part,) = self.parts
        return part if all(index is not None for index in part.fixed[:-1]) else None


@dataclass(frozen=True)
class Parts:
    """Follows perturbed parts of the value with index `at` up to the outputs."""

    objective: AtRest
    at: int

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
        rest = self.resting(np.zeros(1, dtype=np.intp))
        start = Valued(rest, fixed, rest.at(fixed))
        return max((part.size for _, part, _ in self._above(start)), default=1)

    def resting(self, samples: Array) -> Resting:
        """Return the unperturbed value, as seen by B copies of samples.

        samples: the index of each copy's sample, (B,).
        """
        return Resting(self.objective.values[self.at], samples, self.objective.memories[self.at])

    def at_outputs(self, start: Part) -> tuple[Outputs, Array]:
        """Return what changes at the outputs, and a mask of the copies that cross a kink, (B,).

        start: the perturbed part, in B copies of samples.
        """
        crossed = np.zeros(len(start.held), dtype=bool)
        parts, through_end = list[Part](), list[Array]()
        last, end = len(self.objective.values) - 1, self.objective.affine_end
        for value, part, beyond in self._above(start):
            if beyond is not None:
                crossed |= beyond
            if value == last:
                parts.append(part)
            elif (rise := end.rise(value, part)) is not None:
                through_end.append(rise)
        return Outputs((len(crossed), *self.objective.output.shape[1:]), parts, through_end), crossed

    def _above(self, start: Part) -> Iterator[tuple[int, Part, Array | None]]:
        """Yield, for every value that changes, the value's index, its changed part, and a mask of copies.

        The mask marks the copies in which the step that computes the value crosses a kink. It is None if the
        step has no kinks, or certainly crosses none.
        """
        graph, resting, end = self.objective.graph, self._all_resting(start), self.objective.affine_end.nodes
        parts: dict[int, Part] = {self.at: start}
        yield self.at, start, None
        for i in graph.above(self.at):
            node = graph.nodes[i]
            if i in end or parts.keys().isdisjoint(node.inputs):
                continue
            inputs = [parts.get(k, resting[k]) for k in node.inputs]
            found = self._evaluated(i, inputs, resting[i + 1])
            if found is not None:
                parts[i + 1] = found
                yield i + 1, found, self._crossed(i, inputs[0], found)
            for k in node.inputs:
                if graph.readers[k][-1] == i:
                    parts.pop(k, None)  # reusing memory is faster

    def _all_resting(self, start: Part) -> list[Resting]:
        return [
            Resting(value, start.rest.samples, memory)
            for value, memory in zip(self.objective.values, self.objective.memories, strict=True)
        ]

    def _evaluated(self, i: int, inputs: Sequence[Input], output: Resting) -> Part | None:
        """Return the part of the output of node i that changes; None if nothing changes."""
        return self.objective.graph.nodes[i].step.part(self.objective.own[i], inputs, output)

    def _crossed(self, i: int, x: Input, output: Part) -> Array | None:
        """Return a mask, (B,), of the copies in which the first input x of node i crosses a kink, if any.

        output: the part of the output that changes.
        """
        step = self.objective.graph.nodes[i].step
        if not step.has_pieces or not isinstance(x, Part):
            return None
        return step.crossed(x, output, Resting(self.objective.pieces[i], x.rest.samples))
