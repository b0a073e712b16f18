"""Present a normalisation, or the scale above it, as a `Site` with one mean for each column."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck_cli.diagnose.site import Part
from gradcheck_cli.diagnose.sites import NOTHING, NodeSite, SeenLayer, seen
from gradcheck_cli.diagnose.variant import Visit
from gradcheck_cli.network.steps.group_norm import GroupNormalise
from gradcheck_cli.network.steps.normalise import Normalise, Normalised
from gradcheck_cli.types import Array, Shape


@dataclass(frozen=True)
class Averaged:
    """Reshapes a normalisation's arrays to matrices, (R, M): each of the M means is taken over R rows.

    axes: the axes that the means are taken over.
    shape: the shape that the arrays are first reshaped to. In a group normalisation, one axis of this shape
        is for the groups.
    original: the shape of the arrays in the network.
    """

    axes: tuple[int, ...]
    shape: Shape
    original: Shape

    @classmethod
    def of(cls, norm: Normalise, z: Array) -> Averaged:
        if isinstance(norm, GroupNormalise):
            return cls((2,), (len(z), norm.groups, z[0].size // norm.groups), z.shape)
        axes = tuple(k for k, size in enumerate(norm.deviation(z).shape) if size == 1)
        return cls(axes, z.shape, z.shape)

    @property
    def _order(self) -> tuple[int, ...]:
        return (*self.axes, *(k for k in range(len(self.shape)) if k not in self.axes))

    def rows(self, array: Array) -> Array:
        count = math.prod(self.shape[k] for k in self.axes)
        return np.transpose(array.reshape(self.shape), self._order).reshape(count, -1)

    def array(self, rows: Array) -> Array:
        """Turn rows back into an array of the original shape."""
        ordered = rows.reshape([self.shape[k] for k in self._order])
        return np.transpose(ordered, np.argsort(self._order)).reshape(self.original)


@dataclass(frozen=True, kw_only=True)
class NormSite(NodeSite):
    """The site of a normalisation, or of the scale above it, with arrays of the shape (rows, units).

    A scale has one unit for each entry of γ, and a normalisation has one unit for each mean.
    """

    norm: Normalise
    normalised_rows: Normalised
    scale: Array

    @property
    def layer(self) -> Any:
        return SeenLayer(self.visit.node, (), batch_norm=self.norm.eps)

    @property
    def y(self) -> Array:
        return self.dL_da

    @property
    def normalised(self) -> Normalised | None:
        return self.normalised_rows

    @property
    def gamma(self) -> Array:
        return self.scale

    def shape_of(self, part: Part) -> tuple[int, ...]:
        return self.dL_dy.shape if part is Part.NORM else self.scale.shape


def norm_site(visit: Visit, averaged: Averaged) -> NormSite:
    """Return a `NormSite` for a visit to a normalisation. Its upstream gradient is g = ∂L/∂ẑ."""
    norm, at, g = visit.step, visit.at, averaged.rows(visit.upstream)
    assert isinstance(norm, Normalise)
    (z,), over_rows = visit.inputs, replace(Normalise.over_batch(norm.eps), unbiased=norm.unbiased)
    deviation = averaged.rows(np.broadcast_to(norm.deviation(z), z.shape))[:1]
    known = Normalised(averaged.rows(visit.output), deviation, over_rows)
    activity, ones = seen(z=(averaged.rows(z),)), np.ones(g.shape[1])
    arrays = averaged.rows(visit.output), g, NOTHING
    return NormSite(
        at.problem, activity, 0, at.found, *arrays, visit=visit, norm=norm, normalised_rows=known, scale=ones
    )


def norm_below(visit: Visit) -> Visit | None:
    """Return the visit to the normalisation below a scale, after the scale's correct `vjp`.

    Returns None if the node below the scale is not a normalisation.
    """
    below = visit.feeder
    if below < 0 or not isinstance(visit.at.graph.nodes[below].step, Normalise):
        return None
    return Visit(visit.at, below, visit.right[0][0], visit.arrived)


def scale_site(visit: Visit) -> NormSite | None:
    """Return a `NormSite` for a visit to a scale y = γ ẑ + β. Its upstream gradient is ∂L/∂y.

    Returns None if ẑ is not the output of a normalisation.
    """
    below = norm_below(visit)
    if below is None:
        return None
    at, rows, norm = visit.at, _by_unit(visit), below.step
    assert isinstance(norm, Normalise)
    (z,) = below.inputs
    deviation = rows(np.broadcast_to(norm.deviation(z), z.shape))
    known = Normalised(rows(visit.inputs[0]), deviation, Normalise.over_batch(norm.eps))
    arrays = rows(visit.output), rows(visit.upstream), rows(below.right[0][0])
    gamma, _ = visit.step.shapes
    return NormSite(
        at.problem,
        seen(z=(rows(z),)),
        0,
        at.found,
        *arrays,
        visit=visit,
        norm=norm,
        normalised_rows=known,
        scale=visit.p[gamma].ravel(),
    )


def _by_unit(visit: Visit) -> Callable[[Array], Array]:
    """Return a function that reshapes an array of the output's shape to (rows, entries of γ)."""
    gamma, beta = visit.step.shapes
    size = visit.p[gamma].size
    numbers = np.arange(1.0, 1.0 + size).reshape(visit.p[gamma].shape)
    units = visit.step.forward({gamma: numbers, beta: 0.0 * numbers}, np.ones(visit.output.shape))
    order = np.argsort(units, axis=None, kind="stable")
    return lambda array: array.ravel()[order].reshape(size, -1).T
