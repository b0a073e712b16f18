"""Bound the rounding errors of slopes that come from rises.

The losses are followed downwards, from the outputs to a value, with two numbers per element. The first is the
size of the terms of the losses' rises per change of the element. The second is a bound on the error of the
slope, in units of machine epsilon. A slope has two kinds of rounding errors:

- each step rounds the rises themselves, by a few units in the last place of their terms;
- the values at rest are rounded, too, so that the slope is the slope at a slightly different point. To bound
  this, the arguments at rest are nudged by their rounding errors, and the change of the slope is observed.

The bounds do not depend on the length of the step, since both kinds of errors are proportional to it.
"""

from __future__ import annotations

import operator
from functools import cached_property, reduce

import numpy as np

from gradcheck_cli.moving.at_rest import AtRest
from gradcheck_cli.moving.errors_at_rest import are_loose, carried_errors, in_wide_floats, measured_errors
from gradcheck_cli.moving.loss_rises import LossRises
from gradcheck_cli.network.activations import Activation
from gradcheck_cli.network.arithmetic import NUDGED
from gradcheck_cli.network.rise import AtRest as RestOfRise
from gradcheck_cli.network.rise import Rise
from gradcheck_cli.network.row_rounding import FUNCTION_ULPS, largest_change
from gradcheck_cli.network.sensitivity import UNDERFLOW
from gradcheck_cli.network.step import Known, Sensitivity
from gradcheck_cli.network.steps.pointwise import Pointwise
from gradcheck_cli.types import Array

_SHORT = 2.0**-30
"""The change from which a slope is observed."""


class RiseRounding:
    """Bounds on the rounding errors of slopes from rises, for every value of a network.

    What the rises need at rest is kept here, because all sites share it.
    """

    def __init__(self, objective: AtRest) -> None:
        self.objective = objective
        self.loss = LossRises(objective)
        self.shares: dict[int, float] = {}
        self._known: dict[int, Sensitivity] = {}
        self._inputs: dict[int, tuple[Sensitivity, ...]] = {}
        self._at_rest: dict[int, RestOfRise] = {}
        self._clear: dict[int, float] = {}

    def of(self, value: int) -> Sensitivity:
        """Return the sensitivity of the losses to the elements of a value.

        Every step above the value is an activation with a rise, or `Step.rises`.
        """
        if value not in self._known:
            above = (i + 1 for i in reversed(self.objective.graph.above(value)))
            for each in (*above, value):  # from the top, so that a long recurrent layer needs no recursion
                if each not in self._known:
                    self._known[each] = self._below(each)
        return self._known[value]

    def at_rest(self, i: int) -> RestOfRise:
        """Return what the rise of activation i needs, as arrays (N, F) for F features of N samples."""
        if i not in self._at_rest:
            node = self.objective.graph.nodes[i]
            assert isinstance(node.step, Pointwise)
            self._at_rest[i] = rise_of(node.step.row).at_rest(_flat(self.objective.values[node.inputs[0]]))
        return self._at_rest[i]

    def _below(self, value: int) -> Sensitivity:
        readers = self.objective.graph.readers[value]
        if not readers:
            return self._of_output
        each = [self._through(i, k) for i in readers for k in self._places(i, value)]
        return reduce(operator.add, each)

    def _places(self, i: int, value: int) -> list[int]:
        """Return the inputs of node i at which it reads a value."""
        return [k for k, each in enumerate(self.objective.graph.nodes[i].inputs) if each == value]

    def _through(self, i: int, k: int) -> Sensitivity:
        """Return the sensitivity to input k of node i, through this node alone."""
        step = self.objective.graph.nodes[i].step
        if isinstance(step, Pointwise) and step.row.rise is not None:
            return self._below_activation(i)
        return self._below_step(i)[k]

    def _below_step(self, i: int) -> tuple[Sensitivity, ...]:
        """Return the sensitivity to each input of node i, which has no `Rise`, through this node."""
        if i not in self._inputs:
            step, own = self.objective.graph.nodes[i].step, self.objective.own[i]
            known = self._known_at_rest(i)
            below = step.sensitivities(own, known, self.of(i + 1).reshape(*known.output.shape))
            self._inputs[i] = tuple(each.reshape(len(known.output), -1) for each in below)
        return self._inputs[i]

    def _known_at_rest(self, i: int) -> Known:
        """Return the unperturbed inputs and output of node i, with errors in units of machine epsilon."""
        values, read = self.objective.values, self.objective.graph.nodes[i].inputs
        errors = tuple(self._error(k) for k in read)
        return Known(tuple(values[k] for k in read), values[i + 1], errors, self._error(i + 1))

    def clear(self, i: int) -> float:
        """Return a distance by which all inputs of node i may change without crossing a kink."""
        if i not in self._clear:
            node = self.objective.graph.nodes[i]
            self._clear[i] = node.step.distance_to_kinks(self.objective.values[node.inputs[0]])
        return self._clear[i]

    def _below_activation(self, i: int) -> Sensitivity:
        step, (value,) = self.objective.graph.nodes[i].step, self.objective.graph.nodes[i].inputs
        assert isinstance(step, Pointwise)
        rise, z, at_rest = rise_of(step.row), _flat(self.objective.values[value]), self.at_rest(i)
        sizes, slopes, above = rise.sizes(at_rest), _slopes(rise, at_rest), self.of(i + 1)

        def nudged(z: Array) -> Array:
            return _slopes(rise, rise.at_rest(z))

        off = largest_change(nudged, z, self._nudge(value), False, step.row.pieces, slopes)
        own = FUNCTION_ULPS * sizes + off / NUDGED.eps + np.where(sizes > 0, UNDERFLOW, 0.0)
        return Sensitivity(sizes * above.terms, sizes * above.error + own * above.terms)

    @cached_property
    def _of_output(self) -> Sensitivity:
        """The sensitivity of the losses to the outputs.

        A loss that couples its outputs has terms whose sizes change at least as much as its slopes.
        """
        row, rise, pieces = self.loss.row, self.loss.rise, self.loss.row.pieces
        output, target = self.objective.output, self.objective.target

        def sizes(a: Array) -> Array:
            return rise.sizes(rise.at_rest(a, target))

        def slopes(a: Array) -> Array:
            at_rest = (each[..., None] for each in rise.at_rest(a, target))
            return rise.after(tuple(at_rest), np.full((*a.shape, 1), _SHORT)) / _SHORT

        nudge = self._nudge(len(self.objective.values) - 1).reshape(output.shape)
        if row.per_output:
            own_side = pieces and (lambda a: pieces(a, target))
            off = largest_change(slopes, output, nudge, False, own_side) / NUDGED.eps
        else:
            off = largest_change(sizes, output, nudge, True) / NUDGED.eps
        terms, size = rise.sizes(self.loss.at_rest), abs(self.objective.network.coefficient)
        return Sensitivity(size * _flat(terms), size * _flat(FUNCTION_ULPS * terms + off))

    def _nudge(self, value: int) -> Array:
        """Return the rounding errors of a value at rest, (N, F), in the arithmetic `NUDGED`."""
        return NUDGED.eps * _flat(self._error(value))

    def _error(self, value: int) -> Array:
        """Return bounds on the errors of a value at rest, (N, *features), in units of machine epsilon."""
        return self._errors[value] + np.abs(self.objective.values[value])

    @cached_property
    def _errors(self) -> tuple[Array, ...]:
        carried = carried_errors(self.objective)
        wide = self.wide if are_loose(carried) else None
        return carried if wide is None else measured_errors(self.objective, wide, carried)

    @cached_property
    def wide(self) -> AtRest | None:
        """The same network in the widest floats; None if a forward pass would take too long."""
        return in_wide_floats(self.objective)


def rise_of(row: Activation) -> Rise:
    """Return the rise of an activation that has one."""
    assert row.rise is not None
    return row.rise


def _slopes(rise: Rise, at_rest: RestOfRise) -> Array:
    return rise.after(at_rest, np.full(at_rest[0].shape, _SHORT)) / _SHORT


def _flat(value: Array) -> Array:
    return value.reshape(len(value), -1)
